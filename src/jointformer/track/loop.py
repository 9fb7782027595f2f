"""The one frame loop that every driver of a tracker shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from time import perf_counter
from typing import Any, Literal, Protocol, get_args

import torch

from jointformer.errors import ConfigError, DataError
from jointformer.track.frames import FrameLike, MasksLike, frame_size, stage_frame
from jointformer.track.segmentation import Segmentation
from jointformer.track.transfer import mark, on_gpu, one_behind, seconds_between
from jointformer.types import pixels_text

#: (frame index, ids tracked so far) -> masks given at that frame, or None.
MasksAt = Callable[[int, tuple[int, ...]], MasksLike | None]

#: What becomes of a frame that cannot be read: the video ends with its error; the frame has no result; the frame has
#: the result of the one before. Frames with a mask that cannot be read always end the video.
BadFramePolicy = Literal["stop", "skip", "hold"]
BAD_FRAME_POLICIES: tuple[BadFramePolicy, ...] = get_args(BadFramePolicy)


class Steps(Protocol):
    """A Tracker or an EnsembleTracker."""

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects being tracked."""

    @property
    def device(self) -> torch.device:
        """Where the model runs."""

    def step(self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False) -> Segmentation:
        """Return the next frame's segmentation."""


class Stopwatch:
    """Seconds spent in the model and the resize of its result, and its frames, as published figures count them.

    Of a GPU that works ahead they are by its own clock: most of them pass while the host reads and writes.
    bad_frames counts those that could not be read and were skipped or held.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.frames = 0
        self.bad_frames = 0

    @property
    def fps(self) -> float:
        """Frames per second; 0 before the first frame."""
        return self.frames / self.seconds if self.seconds else 0.0


def iter_segmentations(
    tracker: Steps,
    frames: Iterable[tuple[int, FrameLike | DataError]],
    masks: MasksAt,
    *,
    last: int | None = None,
    watch: Stopwatch | None = None,
    output_size: tuple[int, int] | None = None,
    on_bad_frame: BadFramePolicy = "stop",
    ahead: bool = False,
    before: Segmentation | None = None,
) -> Iterator[tuple[int, Segmentation]]:
    """Yield (frame index, segmentation) of frames given as (index, frame), each with its label map made.

    masks: asked at every frame what is given there. last: index of the frame that nothing follows. output_size: (H, W)
    of the label maps where it is not the frames' own. ahead: on a GPU, a frame is fetched and sent there while the one
    before is segmented, and a result is yielded when the next frame's step has begun, so that the GPU need not wait for
    what the caller does with it; not for callers that change the tracker in between or must have each result at once.
    On a CPU it changes nothing. Reading frames and what the caller does between two results is not counted on the
    watch. before: the result of the frame before the first one, which stands for it under "hold".

    A frame may be the error that reading it gave; on_bad_frame says what becomes of it and of frames of another size
    than the first. The tracker never sees them, so the next good frame goes on from the last good one. Raises the
    error under "stop", and under every policy where a mask is given at that frame.
    """
    if on_bad_frame not in BAD_FRAME_POLICIES:
        raise ConfigError("on_bad_frame", expected=f"one of {', '.join(BAD_FRAME_POLICIES)}", got=repr(on_bad_frame))
    watch = watch or Stopwatch()
    device = tracker.device
    ahead = ahead and on_gpu(device)
    if ahead:
        frames = one_behind(
            (index, frame if isinstance(frame, DataError) else stage_frame(frame, device)) for index, frame in frames
        )
    gpu = device if ahead else None
    results = _steps(tracker, frames, masks, last, watch, output_size, on_bad_frame, gpu, before)
    for index, result, marks in one_behind(results) if ahead else results:
        start = perf_counter()
        _ = result.label_map  # made here: the resize counts as the model's work, and the copy waits for the device
        watch.seconds += perf_counter() - start if marks is None else seconds_between(*marks)
        yield index, result


def _steps(
    tracker: Steps,
    frames: Iterable[tuple[int, FrameLike | DataError]],
    masks: MasksAt,
    last: int | None,
    watch: Stopwatch,
    output_size: tuple[int, int] | None,
    on_bad_frame: BadFramePolicy,
    gpu: torch.device | None,
    before: Segmentation | None,
) -> Iterator[tuple[int, Segmentation, tuple[Any, Any] | None]]:
    """Yield (frame index, segmentation, marks), each with its label map on its way; see `iter_segmentations`.

    gpu: where the marks of a step's beginning and end are set; None where the host's time counts, and there are none.
    """
    first_size: tuple[int, int] | None = None
    for index, frame in frames:
        given = masks(index, tracker.object_ids)
        if not isinstance(frame, DataError):
            size = frame_size(frame)
            first_size = first_size or size
            if size != first_size:
                frame = _size_changed(index, first_size, size)
        if isinstance(frame, DataError):
            if on_bad_frame == "stop" or given is not None or before is None:
                raise frame
            watch.bad_frames += 1
            if on_bad_frame == "hold":
                yield index, before, None
            continue
        start = perf_counter()
        begun = None if gpu is None else mark(gpu)
        result = tracker.step(frame, given, last=index == last)
        if output_size is not None and output_size != result.size:
            result = replace(result, size=output_size)
        result.begin_label_map()
        marks = None if gpu is None else (begun, mark(gpu))
        if marks is None:
            watch.seconds += perf_counter() - start
        watch.frames += 1
        before = result
        yield index, result, marks


def _size_changed(index: int, expected: tuple[int, int], got: tuple[int, int]) -> DataError:
    return DataError(
        "frame size changed within the video",
        where=f"frame {index}",
        expected=pixels_text(expected),
        got=pixels_text(got),
    )
