"""A video file as numbered RGB frames, through PyAV."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.codec.context import ThreadType

from jointformer.data.timecode import later_timecode, read_timecode
from jointformer.data.video_container import (
    Upright,
    decoded,
    decoded_packets,
    decoding,
    frame_rate,
    hold_nothing_back,
    open_container,
    say_what_changes,
    shown_aspect,
    to_rgb,
    video_stream,
)
from jointformer.data.video_fields import is_interlaced, whole_pictures
from jointformer.data.video_index import FrameIndex
from jointformer.errors import DataError
from jointformer.types import UInt8Array, pixels_text

logger = logging.getLogger(__name__)

#: The rate of a folder of pictures, and of a video that tells none.
DEFAULT_FPS = Fraction(25)


class VideoFile:
    """A video file with exact access by frame number.

    Opening reads every packet's time once, so numbers are exact with B-frames, variable rates and first times other
    than 0; it decodes only where times are missing, or packets may be no frames. Frames at the beginning that lack
    their key frame are left out. Interlaced frames are whole pictures, in which the neighbours have a part; they are
    the same in whatever order frames are read. `frame` may be called from several threads; every `iter_frames` decodes
    on its own. Raises `DataError` for files that are missing, damaged or no video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError("is a folder" if self.path.is_dir() else "no such file", where=self.path)
        #: Whether frames are decoded one after the other, not by threads that share them out.
        self._in_turn = False
        with self._opened() as (container, stream):
            self._time_base: Fraction = stream.time_base
            index = FrameIndex.read(container, stream)
        if index.doubtful:
            index = index.without(index.doubtful - self._shown_times())
        with self._opened(in_turn=True) as (container, stream):
            error: av.FFmpegError | None = None
            for first in decoded(container, stream):
                if not isinstance(first, av.FFmpegError):
                    break
                error = error or first  # from frames that lack their key frame, in VP9 for instance
            else:
                raise error or DataError("no frame can be decoded", where=self.path)
            say_what_changes(first, stream, self.path)
            self._interlaced = is_interlaced(first, stream)
            self._upright = Upright.of(first)
            self.pixel_aspect = shown_aspect(stream, self._upright)
            self._coded_size = (first.height, first.width)
            self._index = index.without_head(first.pts, damaged=error is not None)
            self._times = self._index.times
            self._count = len(self._times) or self._count_frames()
            self.fps = frame_rate(stream, self._measured_rate()) or DEFAULT_FPS
            timecode = read_timecode(container, stream)
        self.size = self._upright.size(*self._coded_size)
        #: Seconds on the file's own clock, which its sound has too, at the first frame; None where it has no times.
        self.clock_start = self._times[0] * self._time_base if self._times else None
        left_out = len(index.times) - len(self._times)
        #: The first frame's timecode, None where the file has none.
        self.timecode = None if timecode is None else later_timecode(timecode, left_out, self.fps)
        if left_out:
            logger.warning("%s: it begins with %d frames that lack their key frame: left out", self.path, left_out)
        self._lock = threading.Lock()
        self._running: Iterator[tuple[int, UInt8Array | DataError]] | None = None
        self._last: tuple[int, UInt8Array | DataError] | None = None

    def __len__(self) -> int:
        return self._count

    def name(self, index: int) -> str:
        """The frame's number with 5 digits."""
        return f"{index:05d}"

    def time(self, index: int) -> Fraction:
        """Seconds from the first frame to a frame, as the file says (rates may vary)."""
        if not self._times:
            return index / self.fps
        return (self._times[index] - self._times[0]) * self._time_base

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame of a number. Raises `DataError` where it cannot be decoded."""
        index = checked_index(index, len(self))
        with self._lock:
            try:
                picture = self._picture(index)
            except BaseException:  # what an interruption leaves of the decoder would call the next frame damaged
                self._drop()
                raise
        if isinstance(picture, DataError):
            raise picture
        return picture.copy()

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order, decoded in one go.

        Raises `DataError` at the first frame that the file promises and does not deliver, or has in another size.
        """
        for frame in self.iter_readable(start, end):
            if isinstance(frame, DataError):
                raise frame
            yield frame

    def iter_readable(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array | DataError]:
        """The frames `start` up to (without) `end` in order; errors in place of damaged ones and those of another size.

        Raises `DataError` where decoding cannot go on: the file vanishes, for instance.
        """
        wanted = range(len(self))[start:end]
        if not wanted:
            return
        decoded = self._decode(wanted.start)
        try:
            ahead = next(decoded, None)
            for index in wanted:
                while ahead is not None and ahead[0] < index:
                    ahead = next(decoded, None)
                if ahead is not None and ahead[0] == index:
                    yield ahead[1]
                else:
                    yield self._damaged(index)
        finally:
            decoded.close()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Frees the decoder with its threads, once no other thread decodes; the next `frame` opens it anew."""
        with self._lock:
            self._drop()

    def _picture(self, index: int) -> UInt8Array | DataError:
        """A frame or its error, decoded on from the last one where that is no longer than from a key frame."""
        if self._last is not None and self._last[0] == index:
            return self._last[1]
        if self._running is None or self._last is None or not self._near(self._last[0], index):
            self._drop()
            self._running = self._decode(index)
        for found in self._running:
            self._last = found
            if found[0] >= index:
                break
        if self._last is None or self._last[0] != index:
            self._drop()
            return self._damaged(index)
        return self._last[1]

    def _drop(self) -> None:
        if self._running is not None:
            self._running.close()  # type: ignore[attr-defined]
        self._running = self._last = None

    def _near(self, last: int, index: int) -> bool:
        """Whether decoding on from `last` is no longer than seeking to the key frame before `index`."""
        keys, at = self._index.keys, self._index.key_before(index)
        return last < index and (at < 0 or keys[at] <= last + 1)

    @contextmanager
    def _opened(self, *, in_turn: bool = False) -> Iterator[tuple[Any, Any]]:
        """The file's container and its stream; in_turn: see `_in_turn`. FFmpeg's errors become `DataError`."""
        with decoding(self.path), open_container(self.path) as container:
            stream = video_stream(container, self.path)
            if in_turn:
                hold_nothing_back(stream)
            yield container, stream

    def _shown_times(self) -> set[int | None]:
        """The times of all frames that decoding gives, and of those that are damaged."""
        times: set[int | None] = set()
        with self._opened(in_turn=True) as (container, stream):
            for packet, found in decoded_packets(container, stream):
                if isinstance(found, av.FFmpegError):
                    times.add(packet.pts)
                else:
                    times.update(frame.pts for frame in found)
        return times

    def _count_frames(self, *, in_turn: bool = False) -> int:
        """How many frames there are, of a file without times: the damaged ones count, as in a stream."""
        packets = frames = damaged = 0
        with self._opened(in_turn=in_turn) as (container, stream):
            for packet, found in decoded_packets(container, stream):
                packets += packet.size > 0
                if isinstance(found, av.FFmpegError):
                    damaged += 1
                else:
                    frames += len(found)
        if not in_turn and (damaged or frames < packets):  # what threads kept back may be lost
            return self._count_frames(in_turn=True)
        self._in_turn = damaged > 0
        return frames + damaged

    def _decode(self, start: int) -> Iterator[tuple[int, UInt8Array | DataError]]:
        """(number, RGB frame or error) from `start` on; from earlier and earlier key frames until one suffices."""
        number = {time: k for k, time in enumerate(self._times)}
        earlier = max(start - 1, 0)
        at, step = self._index.key_before(earlier if self._interlaced else start), 1
        while True:
            with self._opened(in_turn=self._in_turn) as (container, stream):
                if at > 0:
                    container.seek(self._index.places[at], stream=stream, backward=True)
                wanted = earlier if self._interlaced else start
                numbered = self._numbered(container, stream, number, earlier, wanted)
                first = next(numbered, None)
                # Whole pictures of interlaced frames need the frame before; that there are such may turn out only now.
                needed = earlier if self._interlaced else start
                if at <= 0 or (first is not None and first[0] <= needed):
                    for index, frame in whole_pictures(chain([first] if first else [], numbered), stream):
                        if index >= start:
                            bad = isinstance(frame, DataError)
                            yield index, frame if bad else self._upright.apply(to_rgb(frame))
                    return
            # Streams with imprecise seeking, damage: go back further and further, in the end to the first frame.
            at, step = at - step, 2 * step

    def _numbered(
        self, container: Any, stream: Any, number: dict[int, int], start: int, wanted: int
    ) -> Iterator[tuple[int, Any]]:
        """(number, decoded frame, or the error of one of another size) from `start` on; what is damaged is left out.

        With it, threads that share out frames may lose good ones: where the first from `wanted` on is missing behind
        one that came, they end, and decoding goes on without them.
        """
        shared = number and stream.codec_context.thread_type & ThreadType.FRAME
        count = last = -1
        for frame in decoded(container, stream):
            count += 1
            if isinstance(frame, av.FFmpegError):
                continue
            at = number.get(frame.pts, -1) if number else count
            if shared and 0 <= last < wanted < at:
                break
            last = max(last, at)
            if at < start:
                continue
            wanted = max(wanted, at + 1)
            if (frame.height, frame.width) == self._coded_size:
                self._interlaced |= is_interlaced(frame, stream)
                yield at, frame
            else:
                yield at, size_changed(self.path, self._coded_size, (frame.height, frame.width))
        if shared and last >= 0 and wanted < len(self):
            yield from self._in_turn_from(wanted, number)

    def _in_turn_from(self, start: int, number: dict[int, int]) -> Iterator[tuple[int, Any]]:
        """What `_numbered` gives, by decoding one frame after the other."""
        with self._opened(in_turn=True) as (container, stream):
            # From the key frame before the nearest one: it may be that which is damaged.
            at = self._index.key_before(start) - 1
            if at > 0:
                container.seek(self._index.places[at], stream=stream, backward=True)
            yield from self._numbered(container, stream, number, start, start)

    def _damaged(self, index: int) -> DataError:
        what = f"frame {index} of {len(self)} cannot be decoded"
        return DataError(what, where=self.path, hint="the file is damaged")

    def _measured_rate(self) -> Fraction | None:
        span = self.time_span()
        return Fraction(len(self) - 1) / span if span else None

    def time_span(self) -> Fraction:
        """Seconds from the first to the last frame; 0 where the file has no times."""
        return (self._times[-1] - self._times[0]) * self._time_base if self._times else Fraction(0)


def checked_index(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise IndexError(f"frame {index} of {count}")
    return index


def size_changed(path: Path, expected: tuple[int, int], got: tuple[int, int]) -> DataError:
    return DataError(
        "the frame size changes",
        where=path,
        expected=f"{pixels_text(expected)} as the first frame",
        got=pixels_text(got),
    )
