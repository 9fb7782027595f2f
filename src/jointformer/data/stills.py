"""Training clips from stills: moving pictures with cut-outs of others pasted over them."""

from __future__ import annotations

from dataclasses import dataclass, field

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clip_appearance import NoiseBank, apply_appearance, draw_appearance, draw_tones
from jointformer.data.clip_cutouts import INSTANCES, blob, choose_region, cut_out, fill_hole, soft_alpha
from jointformer.data.clip_motion import CELLS, MotionScale, draw_motion, warp_grid
from jointformer.data.clip_pack import Still, StillsPack
from jointformer.data.clip_render import Backdrop, Layer, render_frame
from jointformer.errors import ConfigError

__all__ = ["Clip", "ClipConfig", "StillsClips", "StillsPack"]

U8 = npt.NDArray[np.uint8]
OBJECT_MOTION = MotionScale(shift=0.06, zoom=0.07, turn=0.10, stretch=0.05, bend=0.02)
CAMERA_MOTION = MotionScale(shift=0.035, zoom=0.035, turn=0.03, stretch=0.012, bend=0.006, tilt=0.03)


@dataclass(frozen=True)
class ClipConfig:
    """What clips are like.

    ``size``: side in pixels, a multiple of 16; ``frames``: T; ``max_objects``: most targets of a clip;
    ``difficulty`` in [0,1]: 0 = nearly static, 1 = like videos of 24 frames per second sampled with skips 1–5;
    ``smallest``: least share of the first frame that each target covers; ``distractors``: mean number of
    pasted things that are not targets (at difficulty 1); ``own_share`` and ``lifted_share``: shares of clips
    whose targets are regions of the background still, moving with it, and apart from it;
    ``blob_share``: share of pasted things that are random shapes; ``leave_share``: share of pasted things that
    leave the picture and come back (at difficulty 1, clips of 4 frames and more).
    """

    size: int = 128
    frames: int = 3
    max_objects: int = 3
    difficulty: float = 1.0
    smallest: float = 0.005
    distractors: float = 0.8
    own_share: float = 0.15
    lifted_share: float = 0.15
    blob_share: float = 0.08
    leave_share: float = 0.1

    def __post_init__(self) -> None:
        if self.size < 32 or self.size % CELLS:
            raise ConfigError(
                "ClipConfig.size", expected=f"a multiple of {CELLS}, at least 32", got=self.size
            )
        if self.frames < 1:
            raise ConfigError("ClipConfig.frames", expected="at least 1", got=self.frames)
        if not 1 <= self.max_objects <= 8:
            raise ConfigError("ClipConfig.max_objects", expected="1..8", got=self.max_objects)
        for name in ("difficulty", "own_share", "lifted_share", "blob_share", "leave_share"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"ClipConfig.{name}", expected="0..1", got=value)
        if self.own_share + self.lifted_share > 1.0:
            got = self.own_share + self.lifted_share
            raise ConfigError("ClipConfig.own_share + lifted_share", expected="at most 1", got=got)
        if not 0.0 <= self.smallest <= 0.05:
            raise ConfigError("ClipConfig.smallest", expected="0..0.05", got=self.smallest)
        if not 0.0 <= self.distractors <= 8.0:
            raise ConfigError("ClipConfig.distractors", expected="0..8", got=self.distractors)


@dataclass(frozen=True, eq=False)
class Clip:
    """``frames`` (T,H,W,3) uint8 RGB, ``label_maps`` (T,H,W) uint8 with ids 1..num_objects, all in frame 0."""

    frames: U8
    label_maps: U8
    num_objects: int


@dataclass
class _Scene:
    """A clip in the making."""

    backdrop: Backdrop
    layers: list[Layer] = field(default_factory=list)
    targets: int = 0


class StillsClips:
    """Clips by index: ``sample(index)`` depends on nothing but the pack, the settings, the seed and the index.

    Safe to call from several threads at once.
    """

    def __init__(self, pack: StillsPack, config: ClipConfig, seed: int = 0) -> None:
        self.pack, self.config, self.seed = pack, config, seed
        self.noise = NoiseBank(config.size)
        self.backdrops = _weighted(pack, {"bsds500": 5.0, "coco_small": 3.0, "ccp": 1.5, "carparts": 1.0})
        self.sources = _weighted(pack, {"bsds500": 2.5, "ccp": 3.0, "coco_small": 2.0, "carparts": 1.2})

    def sample(self, index: int) -> Clip:
        """The clip with this number."""
        for attempt in range(24):
            rng = np.random.default_rng((self.seed, index, attempt))
            clip = self._attempt(rng, easy=attempt >= 12)
            if clip is not None:
                return clip
        return self._fallback(np.random.default_rng((self.seed, index, 24)))

    def _attempt(self, rng: np.random.Generator, easy: bool) -> Clip | None:
        config = self.config
        scene = self._draw_scene(rng, easy)
        if scene is None:
            return None
        return self._render(rng, scene, config.smallest)

    def _fallback(self, rng: np.random.Generator) -> Clip:
        """A clip of one blob in the middle: for packs whose regions hardly ever make an object."""
        still = self._still(rng, self.backdrops)
        scene = _Scene(self._backdrop(rng, still, None, 0.5), targets=1)
        scene.layers.append(
            self._layer(rng, blob(rng, still.picture, 0.4 * self.config.size, 0.8), 1, (0.5, 0.5), 0.2)
        )
        clip = self._render(rng, scene, 0.0)
        assert clip is not None
        return clip

    def _render(self, rng: np.random.Generator, scene: _Scene, smallest: float) -> Clip | None:
        size, frames = self.config.size, self.config.frames
        look = draw_appearance(rng, frames, size, self.config.difficulty)
        pictures = np.empty((frames, size, size, 3), np.uint8)
        label_maps = np.empty((frames, size, size), np.uint8)
        for t in range(frames):
            frame, label_maps[t] = render_frame(scene.backdrop, scene.layers, t, size)
            if t == 0:
                counts = np.bincount(label_maps[0].ravel(), minlength=scene.targets + 1)[1:]
                if counts.min() < smallest * size * size or counts.max() > 0.75 * size * size:
                    return None
            pictures[t] = apply_appearance(frame, look, t, self.noise, rng)
        return Clip(pictures, label_maps, scene.targets)

    def _draw_scene(self, rng: np.random.Generator, easy: bool) -> _Scene | None:
        config = self.config
        kind = rng.random()
        speed = config.difficulty * float(np.clip(np.exp(rng.normal(-0.25, 0.6)), 0.1, 2.2)) + 0.02
        wanted = (
            1 if easy else min(config.max_objects, int(rng.choice([1, 2, 3, 4], p=[0.45, 0.3, 0.2, 0.05])))
        )
        still = self._still(rng, self.backdrops)
        if kind < config.own_share and not easy:
            scene = self._own_scene(rng, still, wanted, speed)
        elif kind < config.own_share + config.lifted_share and not easy:
            scene = self._lifted_scene(rng, still, speed)
        else:
            scene = _Scene(self._backdrop(rng, still, None, speed))
        if scene is None:
            return None
        extra = 0 if easy else int(rng.poisson(config.distractors * (0.25 + 0.75 * config.difficulty)))
        missing = max(wanted - scene.targets, 0)
        if scene.targets and rng.random() < 0.6:
            missing = 0
        roles = [True] * missing + [False] * min(extra, 4)
        pasted = [self._pasted(rng, target, speed) for target in roles]
        if any(sprite is None for sprite, _ in pasted):
            return None
        self._arrange(
            rng, scene, [(sprite, target) for sprite, target in pasted if sprite is not None], speed
        )
        return scene if scene.targets else None

    def _arrange(
        self, rng: np.random.Generator, scene: _Scene, pasted: list[tuple[U8, bool]], speed: float
    ) -> None:
        """Give every pasted thing a label, a motion and a place in the order of depth."""
        if pasted and rng.random() < 0.15 * self.config.difficulty:
            sprite, _ = pasted[int(rng.integers(len(pasted)))]
            flip = sprite[:, ::-1] if rng.random() < 0.5 else sprite
            pasted.append((np.ascontiguousarray(flip), False))  # a look-alike that is no target
        for sprite, target in pasted:
            scene.targets += int(target)
            label = scene.targets if target else 0
            spread = 0.16 if target else 0.3
            start = np.clip(rng.normal(0.5, spread, 2), -0.1, 1.1)
            layer = self._layer(rng, sprite, label, (float(start[0]), float(start[1])), speed)
            scene.layers.insert(int(rng.integers(len(scene.layers) + 1)), layer)

    def _still(self, rng: np.random.Generator, odds: dict[str, float]) -> Still:
        source = str(rng.choice(list(odds), p=list(odds.values())))
        numbers = self.pack.by_source[source]
        return self.pack[numbers[int(rng.integers(len(numbers)))]]

    def _pasted(self, rng: np.random.Generator, target: bool, speed: float) -> tuple[U8 | None, bool]:
        """(sprite or None, target): a cut-out of a random still at a random size."""
        size = self.config.size
        low, high = (0.16, 0.62) if target else (0.1, 0.45)
        side = size * float(np.exp(rng.uniform(np.log(low), np.log(high))))
        still = self._still(rng, self.sources)
        feather = float(rng.uniform(0.5, 1.2)) * max(size / 256, 0.6)
        if rng.random() < self.config.blob_share:
            return blob(rng, still.picture, side, feather), target
        region = choose_region(rng, still)
        sprite = None if region is None else cut_out(still, region, side, feather)
        if sprite is not None and rng.random() < 0.5:
            sprite = np.ascontiguousarray(sprite[:, ::-1])
        return sprite, target

    def _backdrop(
        self,
        rng: np.random.Generator,
        still: Still,
        labels: U8 | None,
        speed: float,
        picture: U8 | None = None,
    ) -> Backdrop:
        """The still as a moving background, scaled to cover the picture with some to spare."""
        return self._framed(rng, still.picture if picture is None else picture, labels, speed)[0]

    def _framed(
        self, rng: np.random.Generator, picture: U8, labels: U8 | None, speed: float
    ) -> tuple[Backdrop, float, tuple[float, float]]:
        """(backdrop, scale from still to picture, the view's centre in backdrop pixels)."""
        size = self.config.size
        height, width = picture.shape[:2]
        ratio = size / min(height, width) * float(rng.uniform(1.0, 1.6))
        small = (round(width * ratio), round(height * ratio))
        how = cv2.INTER_AREA if ratio < 1.0 else cv2.INTER_LINEAR
        picture = np.asarray(cv2.resize(picture, small, interpolation=how), np.uint8)
        if labels is not None:
            labels = np.asarray(cv2.resize(labels, small, interpolation=cv2.INTER_NEAREST), np.uint8)
        if rng.random() < 0.5:
            picture = np.ascontiguousarray(picture[:, ::-1])
            labels = None if labels is None else np.ascontiguousarray(labels[:, ::-1])
        if labels is None:
            view = [float(rng.uniform(0.5 * size, max(0.5 * size, s - 0.5 * size))) for s in small]
        else:
            moments = cv2.moments(labels, binaryImage=True)
            mass = max(moments["m00"], 1.0)
            middle = (moments["m10"] / mass, moments["m01"] / mass)
            view = [
                float(np.clip(m + rng.normal(0.0, 0.12 * size), 0.5 * size, max(0.5 * size, s - 0.5 * size)))
                for m, s in zip(middle, small, strict=True)
            ]
        pace = speed * float(rng.uniform(0.2, 1.3))
        turn = float(rng.normal(0.0, 0.05))
        motion = draw_motion(rng, self.config.frames, CAMERA_MOTION.times(pace), (0.5, 0.5), turn)
        grids = warp_grid(motion, size, (float(size), float(size)), (view[0], view[1]))
        backdrop = Backdrop(picture, labels, grids, self._smear(rng, motion.centre))
        return backdrop, ratio, (view[0], view[1])

    def _smear(self, rng: np.random.Generator, centre: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """(T,2): pixels moved while a frame is exposed; 0 in most clips."""
        if len(centre) < 2 or rng.random() > 0.35:
            return np.zeros((len(centre), 2))
        return np.gradient(centre, axis=0) * self.config.size * float(rng.uniform(0.1, 0.5))

    def _layer(
        self, rng: np.random.Generator, sprite: U8, label: int, start: tuple[float, float], speed: float
    ) -> Layer:
        config, (height, width) = self.config, sprite.shape[:2]
        pace = OBJECT_MOTION.times(speed * float(rng.uniform(0.5, 1.2)))
        turn = float(rng.normal(0.0, 0.15)) if label or rng.random() < 0.7 else float(rng.uniform(-3.1, 3.1))
        motion = draw_motion(rng, config.frames, pace, start, turn)
        if config.frames >= 4 and rng.random() < config.leave_share * config.difficulty:
            direction = rng.uniform(0.0, 2.0 * np.pi)
            away = np.sin(np.pi * np.linspace(0.0, 1.0, config.frames)) ** 0.7 * rng.uniform(0.6, 1.1)
            motion.centre[:] += away[:, None] * np.asarray([np.cos(direction), np.sin(direction)])
        grids = warp_grid(
            motion, config.size, (float(width), float(height)), ((width - 1) / 2, (height - 1) / 2)
        )
        tones = draw_tones(rng, config.frames, fixed=0.1, drift=0.03 * config.difficulty)
        return Layer(sprite, label, grids, tones, self._smear(rng, motion.centre))

    def _own_scene(self, rng: np.random.Generator, still: Still, wanted: int, speed: float) -> _Scene | None:
        """A scene whose targets are regions of the background still, moving with it."""
        labels = np.zeros(still.picture.shape[:2], np.uint8)
        count = 0
        for _ in range(wanted):
            region = choose_region(rng, still, small=0.02)
            if region is None:
                continue
            free = (region > 0) & (labels == 0)
            if int(free.sum()) > 0.015 * labels.size:
                count += 1
                labels[free] = count
        if count == 0:
            return None
        return _Scene(self._backdrop(rng, still, labels, speed), targets=count)

    def _lifted_scene(self, rng: np.random.Generator, still: Still, speed: float) -> _Scene | None:
        """A scene whose target is an object of the background still that moves apart from its surroundings."""
        small = 0.03 if still.source in INSTANCES else 0.02
        region = choose_region(rng, still, small=small, large=0.35)
        if region is None or cv2.countNonZero(region) > 0.4 * region.size:
            return None
        backdrop, ratio, view = self._framed(rng, still.picture, region, speed)
        assert backdrop.labels is not None
        size = self.config.size
        feather = float(rng.uniform(0.5, 1.2)) * max(size / 256, 0.6)
        rgba = np.dstack([backdrop.picture, soft_alpha(backdrop.labels, feather)])
        left, top, width, height = cv2.boundingRect(backdrop.labels)
        sprite = np.asarray(
            cv2.copyMakeBorder(rgba[top : top + height, left : left + width], 3, 3, 3, 3, cv2.BORDER_CONSTANT)
        )
        centre = (left + 0.5 * width, top + 0.5 * height)
        start = (0.5 + (centre[0] - view[0]) / size, 0.5 + (centre[1] - view[1]) / size)
        filled = Backdrop(fill_hole(backdrop.picture, backdrop.labels), None, backdrop.grids, backdrop.smear)
        scene = _Scene(filled, targets=1)
        scene.layers.append(self._layer(rng, sprite, 1, start, speed))
        return scene


def _weighted(pack: StillsPack, weights: dict[str, float]) -> dict[str, float]:
    """Odds of the pack's sets; sets without a weight of their own count 0.7."""
    odds = {source: weights.get(source, 0.7) for source in pack.by_source}
    total = sum(odds.values())
    return {source: value / total for source, value in odds.items()}
