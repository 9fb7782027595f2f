"""Clips from stills made in batches on a device: plans are drawn on the CPU, pixels computed where they are used."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.data.clips.appearance import (
    LONGEST_SMEAR,
    SHORTEST_SMEAR,
    Appearance,
    NoiseBank,
    draw_appearance,
    draw_tones,
)
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.device import DevicePack, dense_grids, device_grids, level_of
from jointformer.data.clips.device_look import apply_tones, compress, fill_holes, gaussian_blur, smear
from jointformer.data.clips.layers import BLOB_WAVES, ClipPlan, Cutout
from jointformer.data.clips.plan import ClipPlanner
from jointformer.data.clips.render import TOKEN


@dataclass(frozen=True, eq=False)
class TensorClips:
    """Clips on a device: frames (B,T,H,W,3) uint8 RGB, label_maps (B,T,H,W) uint8, num_objects (B,) int64.

    `points` (B,T,H/16,W/16,3) float32: layer, x, y of what the middle of each 16x16 pixels shows.
    """

    frames: Tensor
    label_maps: Tensor
    num_objects: Tensor
    points: Tensor


@dataclass(frozen=True, eq=False)
class _Drawn:
    """Everything random about one clip."""

    plan: ClipPlan
    look: Appearance
    tones: npt.NDArray[np.uint8]  # (L,T,256,3)
    noise_at: npt.NDArray[np.int64]  # (T,2)


@dataclass(frozen=True, eq=False)
class _Canvas:
    """What is drawn on: frames (B,T,3,H,W) float, label maps (B,T,H,W) uint8, points as in `TensorClips`."""

    frames: Tensor
    labels: Tensor
    points: Tensor


class StillsBatches:
    """Batches of clips on a device; the clip of an index depends on the pack, the settings, the seed and the index.

    The one exception: where no target of a clip is visible in its first frame, its neighbour in the batch
    takes its place (a clip on the CPU is drawn again instead; here that would stop the device).
    """

    def __init__(self, pack: DevicePack, config: ClipConfig, seed: int = 0) -> None:
        self.pack, self.config, self.seed = pack, config, seed
        self.planner = ClipPlanner(pack.pack, config)
        unit = NoiseBank(*config.shape).unit.astype(np.float32) / 16.0
        self.noise = torch.from_numpy(unit).to(pack.device, torch.float16)

    def sample(self, indices: Sequence[int]) -> TensorClips:
        """The clips with these numbers, in their order. DataError when the stills give no clip."""
        drawn = [self._draw(index) for index in indices]
        height, width = self.config.shape
        counts = [len(d.plan.cutouts) + 1 for d in drawn]
        first = np.concatenate([[0], np.cumsum(counts)])
        spans = self._tensor(np.concatenate([d.plan.spans for d in drawn]).astype(np.float32))
        grids = device_grids([d.plan.motions for d in drawn], spans, height, width, self.pack.device)
        canvas = self._backdrops(drawn, grids[self._tensor(first[:-1])])
        for depth in range(max(counts) - 1):
            there = [b for b, count in enumerate(counts) if count - 1 > depth]
            self._paste(drawn, there, depth, grids[self._tensor(first[there] + 1 + depth)], canvas)
        frames = self._develop(drawn, canvas.frames)
        return self._checked(frames, canvas, [d.plan.targets for d in drawn])

    def _draw(self, index: int) -> _Drawn:
        config = self.config
        rng, plan = next(self.planner.attempts(self.seed, index))
        drift = 0.03 * config.difficulty  # tones before looks, as on the CPU: the same clips result
        tones = draw_tones(rng, len(plan.cutouts), config.frames, fixed=0.1, drift=drift)
        look = draw_appearance(rng, config.frames, config.side, config.difficulty)
        noise_at = np.stack([rng.integers(0, s + 1, config.frames) for s in config.shape], -1)
        return _Drawn(plan, look, tones, noise_at)

    def _tensor(self, array: npt.NDArray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(array))
        if self.pack.device.type == "cuda":
            tensor = tensor.pin_memory()
        return tensor.to(self.pack.device, non_blocking=True)

    def _places(
        self, grids: Tensor, flips: list[bool], ratios: list[float], middles: list
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(levels (n,), places (n,T,H,W,2) in pixels of the level) of layers with these coarse grids.

        And (n,T,H/16,W/16,2) the points of the layers in the tokens' middles.
        """
        height, width = self.config.shape
        levels = np.asarray([level_of(ratio) for ratio in ratios])
        shrink = 0.5**levels
        scale = np.stack([np.where(flips, -1.0, 1.0), np.ones(len(flips))], -1) * (shrink / ratios)[:, None]
        origin = (np.asarray(middles) + 0.5) * shrink[:, None] - 0.5
        dense = dense_grids(grids, height, width)
        shape = (-1, 1, 1, 1, 2)
        scaled = dense * self._tensor(scale.astype(np.float32)).view(shape)
        places = scaled + self._tensor(origin.astype(np.float32)).view(shape)
        return self._tensor(levels), places, _in_tokens(dense)

    def _backdrops(self, drawn: list[_Drawn], grids: Tensor) -> _Canvas:
        """The backdrops alone."""
        backdrops = [d.plan.backdrop for d in drawn]
        flips, ratios = [v.flip for v in backdrops], [v.ratio for v in backdrops]
        levels, places, points = self._places(grids, flips, ratios, [v.middle for v in backdrops])
        holes, labels = np.zeros((2, len(backdrops), 256), np.float32)
        masks = [v.mask if v.hole is None else v.hole.mask for v in backdrops]
        for b, backdrop in enumerate(backdrops):
            if backdrop.hole is not None:
                holes[b] = backdrop.hole.table(1)
            if backdrop.labels is not None:
                labels[b] = backdrop.labels
        rows = self._tensor(np.asarray([self.pack.row(v.still, m) for v, m in zip(backdrops, masks, strict=True)]))
        colours, hole = self.pack.sample(rows, levels, places, self._tensor(holes), reflect=True)
        frames = colours.movedim(2, 1)
        lifted = [b for b, backdrop in enumerate(backdrops) if backdrop.hole is not None]
        if lifted:
            chosen = self._tensor(np.asarray(lifted))
            filled = fill_holes(frames[chosen].flatten(0, 1), hole[chosen].flatten(0, 1))
            frames = frames.index_copy(0, chosen, filled.view(len(lifted), *frames.shape[1:]))
        frames = self._smeared(frames, np.stack([d.plan.smear[0] for d in drawn]))
        own = self.pack.nearest(rows, levels, places, self._tensor(labels))
        points = torch.cat([torch.zeros_like(points[..., :1]), points], -1)
        return _Canvas(frames.contiguous(), own.to(torch.uint8), points)

    def _smeared(self, images: Tensor, shift: npt.NDArray[np.float64]) -> Tensor:
        """(n,T,C,H,W): images blurred along their motion where it is long enough to be seen."""
        length = np.hypot(shift[..., 0], shift[..., 1])
        rows = np.flatnonzero(length.reshape(-1) >= SHORTEST_SMEAR)
        if len(rows) == 0:
            return images
        bounded = (shift * np.minimum(1.0, LONGEST_SMEAR / np.maximum(length, 1e-6))[..., None]).reshape(-1, 2)[rows]
        chosen, flat = self._tensor(rows), images.flatten(0, 1)
        moved = smear(flat[chosen], self._tensor(bounded.astype(np.float32)))
        return flat.index_copy(0, chosen, moved).view(images.shape)

    def _paste(self, drawn: list[_Drawn], there: list[int], depth: int, grids: Tensor, canvas: _Canvas) -> None:
        """Lay the cut-outs of one depth over the clips `there`, in place."""
        cutouts = [drawn[b].plan.cutouts[depth] for b in there]
        ratios = [c.ratio for c in cutouts]
        levels, places, points = self._places(grids, [c.flip for c in cutouts], ratios, [c.middle for c in cutouts])
        values = np.stack([c.region.table(1).astype(np.float32) for c in cutouts])
        rows = self._tensor(np.asarray([self.pack.row(c.still, c.region.mask) for c in cutouts]))
        colours, alpha = self.pack.sample(rows, levels, places, self._tensor(values), reflect=False)
        alpha = self._with_blobs(cutouts, grids, alpha)
        layer = torch.cat([colours.movedim(2, 1), self._soft(alpha, cutouts)[:, :, None]], 2)
        layer = self._smeared(layer, np.stack([drawn[b].plan.smear[1 + depth] for b in there]))
        tones = self._tensor(np.stack([drawn[b].tones[depth] for b in there]))
        toned = apply_tones(layer[:, :, :3].flatten(0, 1), tones.flatten(0, 1)).view(
            *layer.shape[:2], 3, *layer.shape[3:]
        )
        chosen, cover = self._tensor(np.asarray(there)), layer[:, :, 3:]
        canvas.frames[chosen] = torch.lerp(canvas.frames[chosen], toned, cover)
        names = self._tensor(np.asarray([c.label for c in cutouts], np.uint8)).view(-1, 1, 1, 1)
        on_top = cover[:, :, 0] >= 0.5
        canvas.labels[chosen] = torch.where(on_top, names, canvas.labels[chosen])
        points = torch.cat([torch.full_like(points[..., :1], 1 + depth), points], -1)
        canvas.points[chosen] = torch.where(_in_tokens(on_top)[..., None], points, canvas.points[chosen])

    def _with_blobs(self, cutouts: list[Cutout], grids: Tensor, alpha: Tensor) -> Tensor:
        """`alpha` (n,T,H,W) with the shapes of those cut-outs that are blobs."""
        chosen = [(n, c) for n, c in enumerate(cutouts) if c.outline is not None]
        if not chosen:
            return alpha
        rows = self._tensor(np.asarray([n for n, _ in chosen]))
        waves = self._tensor(np.stack([c.outline for _, c in chosen if c.outline is not None]).astype(np.float32))
        half = np.asarray([[0.5 * c.span * (-1 if c.flip else 1), 0.5 * c.span] for _, c in chosen], np.float32)
        dense = dense_grids(grids[rows], *self.config.shape)
        x, y = (dense / self._tensor(half).view(-1, 1, 1, 1, 2)).unbind(-1)
        angle, limit = torch.atan2(y, x), torch.full_like(x, 0.68)
        for wave in range(BLOB_WAVES):
            cosine, sine = (waves[:, part, wave].view(-1, 1, 1, 1) for part in (0, 1))
            limit = limit + cosine * torch.cos((wave + 1) * angle) + sine * torch.sin((wave + 1) * angle)
        shapes = (torch.hypot(x, y) < limit.clamp(0.25, 0.97)).to(alpha.dtype)
        return alpha.index_copy(0, rows, shapes)

    def _soft(self, alpha: Tensor, cutouts: list[Cutout]) -> Tensor:
        """`alpha` with edges softened and drawn in, as `soft_alpha` does on the CPU."""
        sigma = self._tensor(np.asarray([max(c.feather, 0.3) for c in cutouts], np.float32))
        flat = gaussian_blur(alpha, sigma, radius=3)
        return ((flat * 255.0 - 70.0) / 170.0).clamp(0, 1)

    def _develop(self, drawn: list[_Drawn], frames: Tensor) -> Tensor:
        """(B,T,H,W,3) uint8: the frames with the clips' light, blur, noise and compression."""
        looks = [d.look for d in drawn]
        flat = apply_tones(frames.flatten(0, 1), self._tensor(np.stack([k.tones for k in looks])).flatten(0, 1))
        height, width = self.config.shape
        times = self.config.frames
        sigmas = np.concatenate([k.blur for k in looks]).astype(np.float32)
        radius = max(2, int(np.ceil(2.5 * float(sigmas.max()))))
        flat = _on_rows(
            flat,
            sigmas > 0.25,
            self._tensor,
            lambda part, rows: gaussian_blur(part, self._tensor(sigmas[rows]), radius),
        )
        noise = np.repeat([k.noise for k in looks], times).astype(np.float32)
        places = np.concatenate([d.noise_at for d in drawn])

        def noisy(part: Tensor, rows: npt.NDArray[np.int64]) -> Tensor:
            windows = [self.noise[y : y + height, x : x + width] for y, x in places[rows].tolist()]
            scale = self._tensor(noise[rows]).view(-1, 1, 1, 1)
            return part + scale * torch.stack(windows).float().movedim(-1, 1)

        flat = _on_rows(flat, noise > 0.5, self._tensor, noisy)
        flat = flat.clamp(0, 255)
        quality = np.repeat([k.quality for k in looks], times).astype(np.float32)
        flat = _on_rows(flat, quality > 0, self._tensor, lambda part, rows: compress(part, self._tensor(quality[rows])))
        done = flat.add(0.5).clamp(0, 255).to(torch.uint8)
        return done.view(len(drawn), times, 3, height, width).movedim(2, -1).contiguous()

    def _checked(self, frames: Tensor, canvas: _Canvas, targets: list[int]) -> TensorClips:
        """The clips with labels 1.. for the targets that the first frame shows, and no clip without any.

        `frames` are what the camera made of the canvas.
        """
        labels = canvas.labels
        pixels = labels[0, 0].numel()
        hits = F.one_hot(labels[:, 0].flatten(1).long(), max(targets) + 1).sum(1)
        fine = (hits >= max(1.0, self.config.smallest * pixels)) & (hits <= 0.75 * pixels)
        fine[:, 0] = False
        table = torch.where(fine, fine.cumsum(1), 0).to(torch.uint8)
        labels = table.gather(1, labels.flatten(1).long()).view(labels.shape)
        count = fine.sum(1)
        order = torch.arange(len(targets), device=labels.device)
        before = torch.where(count > 0, order, -1).cummax(0).values
        source = torch.where(before >= 0, before, (count > 0).int().argmax())
        return TensorClips(frames[source], labels[source], count[source], canvas.points[source])


def _in_tokens(x: Tensor) -> Tensor:
    """`x` (n,T,H,W,...) in the middle of every token."""
    rows, columns = (torch.arange(TOKEN // 2, size, TOKEN, device=x.device) for size in x.shape[2:4])
    return x.index_select(2, rows).index_select(3, columns)


def _on_rows(
    images: Tensor,
    where: npt.NDArray[np.bool_],
    tensor: Callable[[npt.NDArray], Tensor],
    change: Callable[[Tensor, npt.NDArray[np.int64]], Tensor],
) -> Tensor:
    """`images` with `change(images[rows], rows)` in the rows `where` it applies."""
    rows = np.flatnonzero(where)
    if len(rows) == 0:
        return images
    chosen = tensor(rows)
    return images.index_copy(0, chosen, change(images[chosen], rows))
