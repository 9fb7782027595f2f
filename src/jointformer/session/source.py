"""The session's frames: a bounded cache over any reader, and arrays as a video."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path

import numpy as np

from jointformer.data.video import VideoReader, iter_readable, open_video
from jointformer.data.video_file import DEFAULT_FPS, VideoFile
from jointformer.errors import DataError
from jointformer.types import UInt8Array, pixels_text

#: What a session takes for a video: a path, a reader, or frames, (T, H, W, 3) uint8 or a sequence of (H, W, 3).
VideoLike = str | Path | VideoReader | Sequence[UInt8Array] | UInt8Array


#: Frames of a video file that one step back decodes, and how far from the last one a step goes and a jump begins.
_STRETCH, _NEAR = 12, 32


class ArrayVideo:
    """Frames in memory, (T, H, W, 3) uint8 or a sequence of (H, W, 3), as a video."""

    def __init__(self, frames: Sequence[UInt8Array] | UInt8Array, *, fps: Fraction = DEFAULT_FPS) -> None:
        if not len(frames):
            raise DataError("a video without frames")
        self._frames = frames = frames if isinstance(frames, np.ndarray) else tuple(frames)  # a list may yet grow
        self.fps = fps
        for index, frame in enumerate(frames):
            good = isinstance(frame, np.ndarray) and frame.dtype == np.uint8 and frame.ndim == 3
            if not good or frame.shape != (*frames[0].shape[:2], 3):
                expected = "uint8 (H, W, 3)" if not index else f"uint8 {(*frames[0].shape[:2], 3)}"
                got = f"{frame.dtype} {frame.shape}" if isinstance(frame, np.ndarray) else type(frame).__name__
                raise DataError(f"frame {index}", expected=expected, got=got)
        self.size = (int(frames[0].shape[0]), int(frames[0].shape[1]))
        if not all(self.size):
            got = f"frames of {pixels_text(self.size)}"
            raise DataError("a video without pixels", expected="frames of at least 1x1", got=got)

    def __len__(self) -> int:
        return len(self._frames)

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) frame; IndexError outside the video."""
        if not 0 <= index < len(self):
            raise IndexError(f"frame {index} of {len(self)}")
        return self._frames[index]

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order."""
        for index in range(len(self))[start:end]:
            yield self._frames[index]

    def name(self, index: int) -> str:
        """The frame's number with 5 digits."""
        return f"{index:05d}"

    def time(self, index: int) -> Fraction:
        """Seconds from the first frame to a frame."""
        return index / self.fps


def as_video(video: VideoLike) -> VideoReader:
    """Return a reader of a path, a reader as it is, or arrays as a video. Raises DataError."""
    if isinstance(video, str | Path):
        return open_video(video)
    if isinstance(video, np.ndarray | Sequence):
        return ArrayVideo(video)  # type: ignore[arg-type]  # mypy takes a str for a sequence of frames
    if not hasattr(video, "iter_frames"):
        expected = "a path, frames as uint8 arrays (H, W, 3), or a VideoReader"
        raise DataError("not a video", expected=expected, got=type(video).__name__)
    return video


class FrameCache:
    """A reader's frames in either direction, at most `budget` bytes of them kept. Safe for several threads.

    Videos decode forwards only; going backwards is done in stretches that are decoded once and kept. damaged: the
    frames of which `iter` has told that they cannot be read.
    """

    def __init__(self, video: VideoReader, budget: int = 192 * 2**20) -> None:
        self.video = video
        height, width = video.size
        self.capacity = max(4, budget // (height * width * 3))
        self._kept: OrderedDict[int, UInt8Array] = OrderedDict()
        self.damaged: set[int] = set()
        self._lock, self._decoding = threading.Lock(), threading.Lock()
        self._at = 0  # the last frame that `_decode` was asked for

    def __getitem__(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame, read-only."""
        frame = self._get(index)
        if frame is None and isinstance(self.video, VideoFile):
            with self._decoding:
                frame = self._get(index)  # another thread may have passed it meanwhile
                return self._decode(index) if frame is None else frame
        return self._keep(index, self.video.frame(index)) if frame is None else frame

    def readable(self, index: int) -> bool:
        """Whether a frame is not damaged."""
        try:
            _ = self[index]
        except DataError:
            return False
        return True

    def check(self, index: int) -> None:
        """Read a frame from the video itself, whether it is kept or not. Raises DataError where that is impossible."""
        with self._decoding:
            self.video.frame(index)

    def iter(self, frames: range) -> Iterator[tuple[int, UInt8Array | DataError]]:
        """(index, frame) of a range with step 1 or -1; in place of damaged frames their errors."""
        for index, frame in self._in_order(frames):
            (self.damaged.add if isinstance(frame, DataError) else self.damaged.discard)(index)
            yield index, frame

    def _in_order(self, frames: range) -> Iterator[tuple[int, UInt8Array | DataError]]:
        if frames.step == 1:
            yield from zip(frames, iter_readable(self.video, frames.start, frames.stop))
            return
        stretch = max(1, self.capacity // 2)
        indices = iter(frames)
        while part := list(islice(indices, stretch)):
            decoded = list(iter_readable(self.video, part[-1], part[0] + 1))
            yield from zip(part, reversed(decoded))

    def close(self) -> None:
        """Give the kept frames and a video file's decoder back; frames may be asked for again."""
        with self._decoding:
            if isinstance(self.video, VideoFile):
                self.video.close()
        with self._lock:
            self._kept.clear()

    def _decode(self, index: int) -> UInt8Array:
        """A frame of a video file. Near the last one, those before it are wanted next, or now by another thread."""
        first = index
        if abs(index - self._at) <= _NEAR:
            least = max(0, index + 1 - min(_STRETCH, self.capacity // 2))
            while first > least and self._get(first - 1) is None:
                first -= 1
        for at in range(first, index):
            with suppress(DataError):  # a damaged frame is told of when somebody asks for it
                self._keep(at, self.video.frame(at))
        self._at = index
        return self._keep(index, self.video.frame(index))

    def _get(self, index: int) -> UInt8Array | None:
        with self._lock:
            frame = self._kept.get(index)
            if frame is not None:
                self._kept.move_to_end(index)
            return frame

    def _keep(self, index: int, frame: UInt8Array) -> UInt8Array:
        frame = frame.view()
        frame.flags.writeable = False
        with self._lock:
            self._kept[index] = frame
            while len(self._kept) > self.capacity // 2:
                self._kept.popitem(last=False)
        return frame
