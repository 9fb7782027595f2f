"""The stage `stills`: clips from moving stills, a curriculum, and the recipe of the embedded default."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import numpy as np

from jointformer.data.stills import Clip, ClipConfig, StillsClips, StillsPack
from jointformer.train.loop import RunConfig
from jointformer.train.optimiser import OptimiserConfig, WarmupCosine
from jointformer.train.plan import StepPlan
from jointformer.train.unroll import UnrollConfig

STEP = 0.05
"""Difficulties are rounded to this, so that clip makers can be kept between iterations."""
TRIES = 5
"""Clips made for one place until one fills the slots and keeps its objects in the window."""
APART = 1 << 32
"""Distance in the sequence of clips between these."""


class StillsSource:
    """Clips of a folder of stills for any plan; the same seed, index and plan give the same clip."""

    def __init__(self, folder: Path, seed: int, *, strict: bool = False) -> None:
        self.pack = StillsPack(folder, strict=strict)
        self.seed = seed
        self._maker = lru_cache(64)(self._build)

    def sample(self, index: int, plan: StepPlan) -> Clip:
        """The clip with this index, made as the plan wants it."""
        height, width = plan.shape
        difficulty = round(round(plan.difficulty / STEP) * STEP, 4)
        maker = self._maker(max(height, width), plan.frames, plan.slots, difficulty)
        rng = random.Random(f"{self.seed}:{index}")
        for attempt in range(TRIES):
            clip = _crop(maker.sample(index + attempt * APART), height, width, rng)
            # Empty slots cost as much as used ones, so most clips of an iteration fill all of them.
            if clip is not None and (clip.num_objects == plan.slots or rng.random() < 0.1):
                return clip
        return _crop(maker.sample(index), height, width, rng) or _middle(maker.sample(index), height, width)

    def _build(self, size: int, frames: int, slots: int, difficulty: float) -> StillsClips:
        config = ClipConfig(size=size, frames=frames, max_objects=slots, difficulty=difficulty)
        return StillsClips(self.pack, config, self.seed)


def _crop(clip: Clip, height: int, width: int, rng: random.Random) -> Clip | None:
    """A window of a square clip in which every object keeps a third of its first mask; None if none was found."""
    side = clip.frames.shape[1]
    if side == height == width:
        return clip
    wanted = np.bincount(clip.label_maps[0].ravel(), minlength=clip.num_objects + 1) / 3
    for _ in range(4):
        top, left = rng.randint(0, side - height), rng.randint(0, side - width)
        labels = clip.label_maps[:, top : top + height, left : left + width]
        kept = np.bincount(labels[0].ravel(), minlength=clip.num_objects + 1)
        if (kept[1:] >= wanted[1:]).all():
            return Clip(clip.frames[:, top : top + height, left : left + width], labels, clip.num_objects)
    return None


def _middle(clip: Clip, height: int, width: int) -> Clip:
    """The middle window of a square clip."""
    top, left = ((clip.frames.shape[1] - side) // 2 for side in (height, width))
    window = (slice(None), slice(top, top + height), slice(left, left + width))
    return Clip(clip.frames[window], clip.label_maps[window], clip.num_objects)


def stills_run(
    *, iterations: int | None, minutes: float | None, seed: int, precision: str, workers: int, checkpointing: bool
) -> RunConfig:
    """The settings of a stills run from scratch."""
    return RunConfig(
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        precision=precision,
        optimiser=OptimiserConfig(
            lr=6e-4, weight_decay=0.05, backbone_scale=1.0, decay_all=False, clip=1.0, betas=(0.9, 0.98)
        ),
        schedule=WarmupCosine(warmup=100),
        unroll=UnrollConfig(reference_frames=2, checkpointing=checkpointing),
        mean_over_frames=True,
        average=0.998,
        workers=workers,
    )
