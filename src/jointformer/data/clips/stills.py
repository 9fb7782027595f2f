"""Training clips from stills: moving pictures with cut-outs of others pasted over them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jointformer.data.clips.appearance import NoiseBank, apply_appearance, draw_appearance, draw_tones
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.cutouts import make_backdrop, make_sprite
from jointformer.data.clips.layers import ClipPlan
from jointformer.data.clips.motion import local_grids
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.plan import ClipPlanner
from jointformer.data.clips.render import Backdrop, Layer, Renderer
from jointformer.types import UInt8Array


@dataclass(frozen=True, eq=False)
class Clip:
    """`frames` (T,H,W,3) uint8 RGB, `label_maps` (T,H,W) uint8 with ids 1..num_objects, all in frame 0.

    `points` (T,H/16,W/16,3) float32, where the clip was drawn: what the middle of each 16x16 pixels shows, as the
    number of the layer and x, y of the point of that layer in pixels.
    """

    frames: UInt8Array
    label_maps: UInt8Array
    num_objects: int
    points: npt.NDArray[np.float32] | None = None


class StillsClips:
    """Clips by index: `sample(index)` depends on nothing but the pack, the settings, the seed and the index.

    Safe to call from several threads at once.
    """

    def __init__(self, pack: StillsPack, config: ClipConfig, seed: int = 0) -> None:
        self.pack, self.config, self.seed = pack, config, seed
        self.planner = ClipPlanner(pack, config)
        self.noise = NoiseBank(*config.shape)

    def sample(self, index: int) -> Clip:
        """The clip with this number. DataError when the stills give no clip (no region of a fit size)."""
        clips = (self._render(rng, plan) for rng, plan in self.planner.attempts(self.seed, index))
        return next(clip for clip in clips if clip is not None)

    def _render(self, rng: np.random.Generator, plan: ClipPlan) -> Clip | None:
        """The planned clip, or None if a target is hidden or too small in the first frame."""
        config = self.config
        renderer = self._renderer(rng, plan)
        if renderer is None:
            return None
        look = draw_appearance(rng, config.frames, config.side, config.difficulty)
        pictures = np.empty((config.frames, *config.shape, 3), np.uint8)
        label_maps = np.empty((config.frames, *config.shape), np.uint8)
        points = []
        for t in range(config.frames):
            frame, label_maps[t], seen = renderer.draw(t)
            points.append(seen)
            if t == 0:
                counts = np.bincount(label_maps[0].ravel(), minlength=plan.targets + 1)[1:]
                pixels = label_maps[0].size
                if counts.min() < max(1.0, config.smallest * pixels) or counts.max() > 0.75 * pixels:
                    return None
            pictures[t] = apply_appearance(frame, look, t, self.noise, rng)
        return Clip(pictures, label_maps, plan.targets, np.stack(points))

    def _renderer(self, rng: np.random.Generator, plan: ClipPlan) -> Renderer | None:
        config = self.config
        grids = local_grids(plan.motions, *config.shape, plan.spans)
        picture, labels, middle = make_backdrop(self.pack[plan.backdrop.still], plan.backdrop)
        backdrop = Backdrop(picture, labels, grids[0] + np.asarray(middle, np.float32), plan.smear[0])
        count = len(plan.cutouts)
        tones = draw_tones(rng, count, config.frames, fixed=0.1, drift=0.03 * config.difficulty)
        layers = []
        for number, cutout in enumerate(plan.cutouts):
            made = make_sprite(self.pack[cutout.still], cutout)
            if made is None:
                return None
            sprite, centre = made
            place = grids[1 + number] + np.asarray(centre, np.float32)
            layers.append(Layer(sprite, cutout.label, place, tones[number], plan.smear[1 + number]))
        return Renderer(backdrop, layers, *config.shape)
