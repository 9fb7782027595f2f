"""A run's videos against a memory budget: what each will use, how many objects go together, what cannot fit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from jointformer.data.sources import VideoSource
from jointformer.data.writer import BACKLOG
from jointformer.errors import ConfigError, DataError
from jointformer.model.network import JointFormer
from jointformer.ops import products
from jointformer.ops.label_maps import object_ids
from jointformer.ops.resize import network_size
from jointformer.track.budget import MemoryPlan, VideoSize, base_within, fit_budget, plan_memory, size_text
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View

#: Bytes for a pixel of an object whose soft scores are written: two float32 copies of a frame's, and in float16 those
#: that may wait (every other result), the one that comes, the one in work with a copy of it, and its compressed bytes.
_SCORE_BYTES = 2 * 4 + (BACKLOG // 2 + 4) * 2
#: Where oneDNN multiplies float32 it keeps code for each shape: for another size of frames 15 to 21 MB (`tiny` and
#: `base`, memory full), for all sizes what 1024 shapes of 0.6 MB take.
_ANOTHER_SIZE, _ALL_SIZES = 22 << 20, 640 << 20


def plan_videos(
    model: JointFormer,
    config: TrackerConfig,
    views: Sequence[View],
    videos: Iterable[VideoSize],
    budget: int,
    workers: int = 0,
    device: str = "",
) -> dict[str, MemoryPlan]:
    """Return each video's plan within a budget in bytes.

    workers: so many processes share what this one leaves; 0: it tracks the videos itself. device: the kind of device
    that they work on (default: the network's). On a GPU this process leaves all if its own network is on the CPU.

    Raises ConfigError with the estimate for the first video that cannot fit.
    """
    place = torch.device(device or model.device.type)
    videos = list(videos)
    elsewhere = place.type != model.device.type
    base, before = base_within(model, config, budget, place if elsewhere else model.device)
    base += _kept_products(model, views, videos, place)
    left = budget if elsewhere and place.type == "cuda" else budget - base
    share = max(1, left // workers) if workers else budget
    plans = {}
    for video in videos:
        try:
            plans[video.name] = _fit(model, config, views, video, share, base, before, place)
        except ConfigError as error:
            if not workers:
                raise
            got = f"{size_text(share)} for each process besides this one, of {size_text(budget)}"
            raise ConfigError(error.what, **{**error.parts, "got": got}) from None
    return plans


def _kept_products(model: JointFormer, views: Sequence[View], videos: Sequence[VideoSize], device: torch.device) -> int:
    """Return the bytes that a process keeps of products in the other sizes that it has seen, whatever the order."""
    if device.type != "cpu" or model.dtype != torch.float32 or not products.onednn_is_faster():
        return 0
    sizes = set()
    for video in videos:
        for view in views:
            with suppress(DataError):  # of one too narrow its own plan tells
                sizes.add(network_size(*video.size, view.size))
    return min(_ALL_SIZES, _ANOTHER_SIZE * max(0, len(sizes) - 1))


def _fit(
    model: JointFormer,
    config: TrackerConfig,
    views: Sequence[View],
    video: VideoSize,
    budget: int,
    base: int,
    before: int,
    device: torch.device,
) -> MemoryPlan:
    """Return the plan of a video seen in every view: the views' banks are there together, their steps are not."""
    itemsize = model.dtype.itemsize
    mean = (video.objects + 1) * video.size[0] * video.size[1] * 8 if len(views) > 1 else 0
    seen = [replace(config, size=view.size) for view in views]
    banks = [plan_memory(model.config, each, video, base=0, itemsize=itemsize).bank for each in seen]
    found = [
        fit_budget(
            model.config,
            each,
            video,
            budget,
            base=base + mean + sum(banks) - own,  # from the second frame on all views' banks are there in each step
            itemsize=itemsize,
            before=before,
            device=device.type,
        )
        for each, own in zip(seen, banks, strict=True)
    ]
    largest = max(found, key=lambda plan: plan.work + plan.pictures)
    passes = min((p.config.objects_per_pass or video.objects for p in found), default=1)
    return replace(
        largest,
        base=base,
        bank=sum(banks),
        work=largest.work + mean,
        config=replace(config, objects_per_pass=None if passes >= video.objects else passes, memory_limit=budget),
    )


def video_size(video: VideoSource, *, save_scores: bool = False) -> VideoSize:
    """Return what a plan has to know of a benchmark's video: its masks are read to count the objects."""
    objects = _count_objects(video)
    writing = score_bytes(video.output_size, objects) if save_scores else 0
    return VideoSize(video.name, video.tracked_frames, video.size, objects, writing)


def score_bytes(size: tuple[int, int], objects: int) -> int:
    """Return the bytes that writing the soft scores of so many objects at (H, W) takes, for a memory plan."""
    return objects * size[0] * size[1] * _SCORE_BYTES


def _count_objects(video: VideoSource) -> int:
    known: set[int] = set()
    for index in sorted(video.masks):
        known.update(object_ids(video.read_mask(index, known)))
    return max(1, len(known))
