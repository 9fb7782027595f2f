"""Label frames as they come: a bounded queue before the tracker, results written at once, the delay measured."""

from __future__ import annotations

import queue
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, Literal, get_args

import numpy as np
from tqdm import tqdm

from jointformer.data.given_masks import GivenMasks, masks_by_frame
from jointformer.data.prefetch import NewestQueue, prefetch
from jointformer.data.stream import Stream, StreamFrame
from jointformer.data.stream_writer import StreamLooks, open_writer
from jointformer.errors import ConfigError, DataError
from jointformer.ops.drawing import OverlayStyle
from jointformer.system.stop import raise_if_asked
from jointformer.track.loop import BadFramePolicy, Steps, Stopwatch, iter_segmentations
from jointformer.types import UInt8Array

#: What happens where frames come faster than they are tracked: the source waits, or the oldest frame is dropped.
LatePolicy = Literal["wait", "drop"]
LATE_POLICIES: tuple[LatePolicy, ...] = get_args(LatePolicy)

#: Numbers of frames in streams, which have no known end, are below this.
NO_END = 2**31
_MEASURED = 10_000  # frames whose delays are kept, the newest
_PATIENCE = 2.0  # seconds to wait at the end for a source that is silent


@dataclass(frozen=True)
class QueueSettings:
    """The queue between reading and tracking. late: see LatePolicy. depth: frames that wait in it at most."""

    late: LatePolicy = "wait"
    depth: int = 4

    def __post_init__(self) -> None:
        if self.late not in LATE_POLICIES:
            raise ConfigError("--when-late", expected=" or ".join(LATE_POLICIES), got=repr(self.late))
        if not 1 <= self.depth <= 1024:
            raise ConfigError("--queue", expected="1 to 1024 frames", got=self.depth)

    @staticmethod
    def suited(stream: Stream, late: LatePolicy | None, depth: int | None) -> QueueSettings:
        """Return what is asked for; else a short queue that drops for live sources, one that waits for others."""
        late = late or ("drop" if stream.live else "wait")
        return QueueSettings(late, (1 if late == "drop" else 4) if depth is None else depth)


class StreamReport:
    """What happened so far: frames written, dropped and unreadable; seconds; each frame's delay.

    The delay is the time from a frame's arrival (decoded) until its result has left the program.
    """

    def __init__(self, settings: QueueSettings) -> None:
        self.settings = settings
        self.frames = self.dropped = self.bad_frames = 0
        self._began: float | None = None
        self._ended = 0.0
        self._delays: deque[float] = deque(maxlen=_MEASURED)

    def add(self, arrived: float) -> None:
        """Count a frame that was written just now."""
        self._ended = monotonic()
        self._began = arrived if self._began is None else self._began
        self.frames += 1
        self._delays.append(self._ended - arrived)

    def figures(self) -> dict[str, Any]:
        """Return the figures as JSON takes them; delays of the newest 10,000 frames, in milliseconds."""
        seconds = 0.0 if self._began is None else self._ended - self._began
        median, p95, most = np.percentile(self._delays, (50, 95, 100)) * 1000 if self._delays else (0.0, 0.0, 0.0)
        return {
            "frames": self.frames,
            "dropped": self.dropped,
            "bad_frames": self.bad_frames,
            "seconds": round(seconds, 3),
            "fps": round(self.frames / seconds, 3) if seconds else 0.0,
            "latency_ms": {"median": round(median, 1), "p95": round(p95, 1), "max": round(most, 1)},
            "when_late": self.settings.late,
            "queue": self.settings.depth,
        }

    def __str__(self) -> str:
        figures = self.figures()
        bad = f", {self.bad_frames} could not be read" if self.bad_frames else ""
        delay = figures["latency_ms"]
        return (
            f"{self.frames} frames ({self.dropped} dropped{bad}), {figures['fps']:.2f} frames/s, "
            f"latency {delay['median']:.0f} ms median, {delay['p95']:.0f} ms p95"
        )


def find_stream_masks(path: str | Path, stream: Stream, start: int, end: int) -> GivenMasks:
    """Return the masks of a stream's frames start to end (excluded): a file for `start`, or files named after frames.

    A name is a frame's name or its number from 0; of a stream without a known end, names are numbers. Raises DataError
    as `find_masks` does.
    """
    names = {stream.name(index): index for index in range(stream.length or 0)}
    length = stream.length or NO_END
    return masks_by_frame(Path(path), stream.size, range(start, max(min(end, length), start + 1)), names, length)


def label_stream(
    tracker: Steps,
    stream: Stream,
    masks: GivenMasks,
    target: str,
    format: str,
    report: StreamReport,
    *,
    end: int = NO_END,
    style: OverlayStyle = "fill",
    on_bad_frame: BadFramePolicy = "stop",
    progress: bool = True,
) -> None:
    """Track from the first mask to frame `end` (excluded) or the stream's end; write each result when it is there.

    Later masks bring new objects and correct known ones; frames with masks are never dropped. report: filled as it
    goes. What was written stays and is ended properly where the stream breaks off (DataError) or the user stops it
    (KeyboardInterrupt); both are raised then. Raises OutputError and BrokenPipeError where nothing can be written.
    """
    looks = StreamLooks(stream.size, stream.fps, masks.palette, style, stream.pixel_aspect)
    arrivals = _Arrivals(stream, masks, report.settings, end)
    watch = Stopwatch()
    ended_by: BaseException | None = None

    with open_writer(target, format, looks) as writer:
        try:
            results = iter_segmentations(
                tracker, arrivals.pictures(), masks.at, last=end - 1, watch=watch, on_bad_frame=on_bad_frame
            )
            with tqdm(results, unit="frame", disable=not progress) as bar:
                for index, result in bar:
                    writer.write(stream.name(index), arrivals.time, arrivals.picture, result.label_map)
                    report.add(arrivals.arrived)
                    raise_if_asked()  # numba's and LLVM's callbacks swallow what Ctrl-C raises in them
            if not report.frames:
                raise DataError(f"the stream ended before frame {masks.first}, which has the first mask")
        except (KeyboardInterrupt, DataError) as error:
            if not report.frames:
                raise
            ended_by = error
        finally:
            arrivals.close()
            report.dropped, report.bad_frames = arrivals.dropped, watch.bad_frames
    if ended_by is not None:
        raise ended_by


class _Arrivals:
    """A stream's frames by way of the queue; what is known of the one that is being tracked."""

    def __init__(self, stream: Stream, masks: GivenMasks, settings: QueueSettings, end: int) -> None:
        self.arrived = 0.0
        self.picture: UInt8Array = np.zeros((*stream.size, 3), np.uint8)
        self._stream, self._first, self._end = stream, masks.first, end
        self._frame: StreamFrame | None = None
        self._queue: queue.Queue[Any] = queue.Queue(settings.depth)
        if settings.late == "drop":
            self._queue = NewestQueue(settings.depth, lambda item: item[1].index in masks.files)
        self._begin = Fraction(0)
        self._items = prefetch(self._stamped(), through=self._queue, stop_source=stream.stop, patience=_PATIENCE)

    @property
    def time(self) -> Fraction:
        """Seconds from the first tracked frame to the present one."""
        assert self._frame is not None
        return self._frame.time - self._begin

    @property
    def dropped(self) -> int:
        """Frames that were dropped."""
        return getattr(self._queue, "dropped", 0)

    def pictures(self) -> Iterator[tuple[int, UInt8Array | DataError]]:
        """(index, picture or error) of the frames that are tracked."""
        for arrived, frame in self._items:
            self.arrived, self._frame = arrived, frame
            if frame.index == self._first:
                self._begin = frame.time
            # One of another size counts as unreadable: the picture before goes with what is held for it.
            if not isinstance(frame.picture, DataError) and frame.picture.shape == self.picture.shape:
                self.picture = frame.picture
            yield frame.index, frame.picture

    def close(self) -> None:
        """End the reading thread."""
        self._items.close()

    def _stamped(self) -> Iterator[tuple[float, StreamFrame]]:
        for frame in self._stream.frames():
            if frame.index >= self._first:
                yield monotonic(), frame
            if frame.index >= self._end - 1:
                return
