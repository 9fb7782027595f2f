"""The stage `stills`: clips from moving stills, a curriculum, and the recipe that the embedded default comes from."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import torch

from jointformer.data.clips.batches import StillsBatches
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.device import DevicePack
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.stills import Clip, StillsClips
from jointformer.train.config import RunConfig
from jointformer.train.optimiser import OptimiserConfig, WarmupCosine
from jointformer.train.plan import IterationPlan
from jointformer.train.unroll import ClipBatch, UnrollConfig

#: Weight of the matching loss.
MATCHING = 0.2
#: Difficulties are rounded to this, so that clip makers can be kept between iterations.
STEP = 0.05
#: Share of clips that fill all slots: empty slots cost as much as used ones.
FULL = 0.9
#: Shares of clips as `ClipConfig` has them: half of the targets are no foreign cut-outs but parts of the picture.
OWN, LIFTED, TWIN, CROSS, TRAVEL, MEET, GROW = 0.2, 0.3, 0.2, 0.8, 0.6, 0.5, 0.6


class StillsSource:
    """Clips of a folder of stills for any plan; the same seed, index and plan give the same clip."""

    def __init__(self, folder: Path, seed: int, *, strict: bool = False) -> None:
        self.pack = StillsPack(folder, strict=strict)
        self.seed = seed
        self._maker = lru_cache(64)(self._build)

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        """The clip with this index, made as the plan wants it."""
        return self._maker(clip_config(plan)).sample(index)

    def _build(self, config: ClipConfig) -> StillsClips:
        return StillsClips(self.pack, config, self.seed)


class DeviceStillsSource:
    """The same clips made in batches on a device, so that pictures never wait for the CPU."""

    def __init__(self, folder: Path, seed: int, device: torch.device, *, strict: bool = False) -> None:
        self.pack = DevicePack(StillsPack(folder, strict=strict), device)
        self.seed = seed
        self._maker = lru_cache(64)(self._build)

    def sample_batch(self, indices: range, plan: IterationPlan) -> ClipBatch:
        """The clips of these indices on the device."""
        clips = self._maker(clip_config(plan)).sample(indices)
        points = clips.points.flatten(2, 3)
        return ClipBatch(clips.frames, clips.label_maps, clips.num_objects, plan.slots, plan.blind, points)

    def _build(self, config: ClipConfig) -> StillsBatches:
        return StillsBatches(self.pack, config, self.seed)


def clip_config(plan: IterationPlan) -> ClipConfig:
    """The settings of the clips that a plan wants."""
    height, width = plan.shape
    difficulty = round(round(plan.difficulty / STEP) * STEP, 4)
    return ClipConfig(
        size=height, width=width, frames=plan.frames, max_objects=plan.slots, difficulty=difficulty, full_share=FULL,
        own_share=OWN, lifted_share=LIFTED, twin_share=TWIN, cross_share=CROSS,
        travel_share=TRAVEL, meet_share=MEET, grow_share=GROW,
    )  # fmt: skip


def stills_run(
    *, iterations: int | None, minutes: float | None, seed: int, precision: str, workers: int, checkpointing: bool,
    fine_tune: bool = False, lr: float | None = None,
) -> RunConfig:  # fmt: skip
    """The settings of a stills run from scratch, or of one that changes good weights with smaller steps."""
    if lr is None:
        lr = 3e-4 if fine_tune else 1e-3
    return RunConfig(
        iterations=iterations,
        minutes=minutes,
        seed=seed,
        precision=precision,
        optimiser=OptimiserConfig(
            lr=lr,
            weight_decay=0.05,
            backbone_scale=1.0,
            decay_all=False,
            clip=1.0,
            betas=(0.9, 0.98),
            muon=True,
        ),
        schedule=WarmupCosine(warmup=30 if fine_tune else 100),
        unroll=UnrollConfig(memory_frames=2, checkpointing=checkpointing, spoiled=0.3, matching=MATCHING),
        mean_over_frames=True,
        average=0.995 if fine_tune else 0.998,
        workers=workers,
    )
