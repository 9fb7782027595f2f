"""The one frame loop that every driver of a tracker shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Protocol

import torch

from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.segmentation import Segmentation

#: (frame index, ids tracked so far) -> masks given at that frame, or None.
MaskSource = Callable[[int, tuple[int, ...]], MasksLike | None]


class Steps(Protocol):
    """A Tracker or an EnsembleTracker."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects being tracked."""

    def step(self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False) -> Segmentation:
        """Return the next frame's segmentation."""


class Stopwatch:
    """Seconds spent in the model and the resize of its result, and the frames they gave (inference.md, Timing)."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frames = 0

    @property
    def fps(self) -> float:
        """Frames per second; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds else 0.0


def iter_segmentations(
    tracker: Steps,
    frames: Iterable[tuple[int, FrameLike]],
    masks: MaskSource,
    *,
    last: int | None = None,
    watch: Stopwatch | None = None,
    output_size: tuple[int, int] | None = None,
) -> Iterator[tuple[int, Segmentation]]:
    """Yield (frame index, segmentation) of frames given as (index, frame), each with its label map made.

    masks: asked at every frame what is given there. last: index of the frame that nothing follows. output_size: (H, W)
    of the label maps where it is not the frames' own. Reading frames and what the caller does between two results is
    not counted on the watch.
    """
    for index, frame in frames:
        given = masks(index, tracker.object_ids)
        start = perf_counter()
        result = tracker.step(frame, given, last=index == last)
        if output_size is not None and output_size != result.size:
            result = replace(result, size=output_size)
        _ = result.label_map  # made here: the resize counts as the model's work, and the copy waits for the device
        if watch is not None:
            watch.seconds += perf_counter() - start
            watch.frames += 1
        yield index, result


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring the device's peak memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return peak bytes: allocated on a GPU since the last reset, else this process's largest resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
