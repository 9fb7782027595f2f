"""Videos as numbered RGB frames: files through PyAV, and folders of pictures.

`VideoFile` and `FolderVideo` are `VideoReader`. Frames are upright (rotation metadata
applied) and as stored otherwise: pixels that are not square stay so.
"""

from __future__ import annotations

import logging
import threading
from bisect import bisect_right
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, Protocol

import av

from jointformer.data.frames import list_pictures, picture_size, read_frame
from jointformer.data.video_container import (
    Upright,
    decoding,
    frame_index,
    frame_rate,
    open_container,
    say_if_hdr,
    shown_aspect,
    to_rgb,
    video_stream,
    without_head,
)
from jointformer.errors import ConfigError, DataError
from jointformer.types import UInt8Array

logger = logging.getLogger(__name__)

#: What files of videos are called, where a folder is searched for them; any other name may be given by itself.
VIDEO_SUFFIXES = frozenset(
    [
        ".mp4",
        ".mov",
        ".m4v",
        ".mkv",
        ".webm",
        ".avi",
        ".mpg",
        ".mpeg",
        ".m2ts",
        ".mts",
        ".ts",
        ".gif",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
        ".mxf",
        ".apng",
    ]
)
#: The rate of a folder of pictures, and of a video that tells none.
DEFAULT_FPS = Fraction(25)


class VideoReader(Protocol):
    """Numbered frames. `size` is (height, width); `fps` frames per second."""

    @property
    def size(self) -> tuple[int, int]: ...

    @property
    def fps(self) -> Fraction: ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame of a number 0..len-1."""
        ...

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order."""
        ...

    def name(self, index: int) -> str:
        """The name under which a frame's results are saved, without suffix."""
        ...

    def time(self, index: int) -> Fraction:
        """Seconds from the first frame to a frame."""
        ...


def open_video(path: str | Path, *, fps: Fraction = DEFAULT_FPS) -> VideoFile | FolderVideo:
    """The reader of a video file or of a folder of pictures (shown at `fps`). Raises `DataError`."""
    return FolderVideo(path, fps=fps) if Path(path).is_dir() else VideoFile(path)


def as_pictures(video: VideoReader) -> FolderVideo:
    """Return the video where it is a folder of pictures, which alone can be shown at any rate. Raises ConfigError."""
    if isinstance(video, FolderVideo):
        return video
    where = getattr(video, "path", None)
    raise ConfigError("--fps is for folders of pictures", where=where, got=f"a video of {float(video.fps):g} frames/s")


class FolderVideo:
    """A folder of pictures in natural order as a video. Raises `DataError` where it holds none."""

    def __init__(self, folder: str | Path, *, fps: Fraction = DEFAULT_FPS) -> None:
        self.path = Path(folder)
        self.fps = fps
        self.files = list_pictures(self.path)
        if not self.files:
            raise DataError("holds no pictures", where=self.path, expected="the frames of a video")
        self.size = picture_size(self.files[0])

    def __len__(self) -> int:
        return len(self.files)

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame. Raises `DataError` for a damaged file or another size."""
        frame = read_frame(self.files[_checked(index, len(self))])
        if frame.shape[:2] != self.size:
            raise _size_changed(self.files[index], self.size, (frame.shape[0], frame.shape[1]))
        return frame

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order."""
        for index in range(len(self))[start:end]:
            yield self.frame(index)

    def iter_readable(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array | DataError]:
        """The frames `start` up to (without) `end` in order; in place of a damaged one the error it gave."""
        for index in range(len(self))[start:end]:
            try:
                yield self.frame(index)
            except DataError as error:
                yield error

    def name(self, index: int) -> str:
        """The picture's name without suffix."""
        return self.files[index].stem

    def time(self, index: int) -> Fraction:
        """Seconds from the first frame to a frame, at the given rate."""
        return index / self.fps


def pixel_aspect(video: VideoReader) -> Fraction:
    """Return a pixel's width by its height; pictures have square ones."""
    return video.pixel_aspect if isinstance(video, VideoFile) else Fraction(1)


def clock_start(video: VideoReader) -> Fraction | None:
    """Seconds that the clock of a video's file, its sound's too, shows at the first frame; None where there is none."""
    return video.clock_start if isinstance(video, VideoFile) else None


class VideoFile:
    """A video file with exact access by frame number.

    Opening reads every packet's time once (no decoding), so numbers are exact with B-frames, variable rates
    and first times other than 0. Frames at the beginning that lack their key frame are left out. `frame` may be called
    from several threads; every `iter_frames` decodes on its own. Raises `DataError` for files that are missing, damaged
    or no video.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise DataError("is a folder" if self.path.is_dir() else "no such file", where=self.path)
        with decoding(self.path), open_container(self.path) as container:
            stream = video_stream(container, self.path)
            self._time_base: Fraction = stream.time_base
            times, keys = frame_index(container, stream)
        with decoding(self.path), open_container(self.path) as container:
            stream = video_stream(container, self.path)
            first = next(iter(container.decode(stream)), None)
            if first is None:
                raise DataError("no frame can be decoded", where=self.path)
            say_if_hdr(first, self.path)
            self._upright = Upright.of(first)
            self.pixel_aspect = shown_aspect(stream, self._upright)
            self._coded_size = (first.height, first.width)
            self._times, self._keys = without_head(times, keys, first.pts)
            self._count = len(self._times) if self._times else 1 + sum(1 for _ in container.decode(video=0))
            self.fps = frame_rate(stream, self._measured_rate()) or DEFAULT_FPS
        self.size = self._upright.size(*self._coded_size)
        #: Seconds on the file's own clock, which its sound has too, at the first frame; None where it has no times.
        self.clock_start = self._times[0] * self._time_base if self._times else None
        if left_out := len(times) - len(self._times):
            logger.warning("%s: it begins with %d frames that lack their key frame: left out", self.path, left_out)
        self._lock = threading.Lock()
        self._running: Iterator[tuple[int, UInt8Array]] | None = None
        self._last: tuple[int, UInt8Array] | None = None

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
        index = _checked(index, len(self))
        with self._lock:
            if self._last is not None and self._last[0] == index:
                return self._last[1].copy()
            if self._running is None or self._last is None or not self._near(self._last[0], index):
                self._drop()
                self._running = self._decode(index)
            for at, image in self._running:
                self._last = (at, image)
                if at == index:
                    return image.copy()
                if at > index:
                    break
            self._drop()
            raise self._damaged(index)

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order, decoded in one go.

        Raises `DataError` at the first frame that the file promises and does not deliver.
        """
        for frame in self.iter_readable(start, end):
            if isinstance(frame, DataError):
                raise frame
            yield frame

    def iter_readable(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array | DataError]:
        """The frames `start` up to (without) `end` in order; an error in place of each that is not delivered.

        Raises `DataError` where decoding cannot go on: the frame size changes, the file vanishes.
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

    def _drop(self) -> None:
        if self._running is not None:
            self._running.close()  # type: ignore[attr-defined]
        self._running = self._last = None

    def _near(self, last: int, index: int) -> bool:
        """Whether decoding on from `last` is no longer than seeking to the key frame before `index`."""
        return last < index and (not self._keys or self._key_before(index) <= last + 1)

    def _key_before(self, index: int) -> int:
        """The number of the last key frame up to `index`, 0 (the file's beginning) where there is none."""
        at = bisect_right(self._keys, index)
        return self._keys[at - 1] if at else 0

    def _decode(self, start: int) -> Iterator[tuple[int, UInt8Array]]:
        """(number, RGB frame) from `start` on; from earlier and earlier key frames until one suffices."""
        number = {time: k for k, time in enumerate(self._times)}
        key = self._key_before(start)
        while True:
            with decoding(self.path), open_container(self.path) as container:
                stream = video_stream(container, self.path)
                if key > 0:
                    container.seek(self._times[key], stream=stream, backward=True)
                begun = False
                for at, frame in self._numbered(container.demux(stream), number):
                    if at < start:
                        continue
                    if not begun and at > start and key > 0:
                        break  # the container landed behind the frame
                    begun = True
                    yield at, self._to_rgb(frame)
                if begun or key == 0:
                    return
            # Streams with imprecise seeking: go back much further, in the end to the first frame.
            key = self._key_before(key - 1) if key > len(self) // 2 else 0

    def _numbered(self, packets: Iterator[Any], number: dict[int, int]) -> Iterator[tuple[int, Any]]:
        """(number, decoded frame); a damaged packet's frame is left out, which its missing number tells."""
        count = -1
        for packet in packets:
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if number:
                    continue
                raise  # without times nobody could tell which frame is missing
            for frame in frames:
                count += 1
                yield number.get(frame.pts, -1) if number else count, frame

    def _to_rgb(self, frame: Any) -> UInt8Array:
        if (frame.height, frame.width) != self._coded_size:
            raise _size_changed(self.path, self._coded_size, (frame.height, frame.width))
        return self._upright.apply(to_rgb(frame))

    def _damaged(self, index: int) -> DataError:
        what = f"frame {index} of {len(self)} cannot be decoded"
        return DataError(what, where=self.path, hint="the file is damaged")

    def _measured_rate(self) -> Fraction | None:
        span = self.time_span()
        return Fraction(len(self) - 1) / span if span else None

    def time_span(self) -> Fraction:
        """Seconds from the first to the last frame; 0 where the file has no times."""
        return (self._times[-1] - self._times[0]) * self._time_base if self._times else Fraction(0)


def _checked(index: int, count: int) -> int:
    if not 0 <= index < count:
        raise IndexError(f"frame {index} of {count}")
    return index


def _size_changed(path: Path, expected: tuple[int, int], got: tuple[int, int]) -> DataError:
    return DataError(
        "the frame size changes",
        where=path,
        expected=f"{expected[1]}x{expected[0]} as the first frame",
        got=f"{got[1]}x{got[0]}",
    )
