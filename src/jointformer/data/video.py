"""Videos as numbered RGB frames: files through PyAV, and folders of pictures.

`VideoFile` and `FolderVideo` are `VideoReader`. Frames are upright (rotation metadata
applied), whole pictures where they are stored in fields, and as stored otherwise: pixels
that are not square stay so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from jointformer.data.frames import is_hidden, list_folder, list_pictures, natural_key, picture_size, read_frame
from jointformer.data.video_file import DEFAULT_FPS, VideoFile, checked_index, size_changed
from jointformer.errors import ConfigError, DataError
from jointformer.types import UInt8Array

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
        ".m2t",
        ".mts",
        ".ts",
        ".gif",
        ".wmv",
        ".flv",
        ".3gp",
        ".ogv",
        ".mxf",
        ".apng",
        ".dv",
        ".vob",
    ]
)


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
            raise _no_pictures(self.path)
        self.size = picture_size(self.files[0])

    def __len__(self) -> int:
        return len(self.files)

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame. Raises `DataError` for a damaged file or another size."""
        frame = read_frame(self.files[checked_index(index, len(self))])
        if frame.shape[:2] != self.size:
            raise size_changed(self.files[index], self.size, (frame.shape[0], frame.shape[1]))
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


def video_title(video: VideoReader) -> str:
    """Return a video's name in files that need one: a file's without suffix, a folder's as it is, else "video"."""
    path = getattr(video, "path", None)
    if path is None:
        return "video"
    # A folder may be given as "." or "..", and dots in its name begin no suffix.
    return (Path(os.path.abspath(path)).name or "video") if isinstance(video, FolderVideo) else Path(path).stem


def iter_readable(video: VideoReader, start: int, end: int) -> Iterator[UInt8Array | DataError]:
    """The frames `start` up to (without) `end` in order; in place of a damaged one its error, if the reader goes on."""
    return getattr(video, "iter_readable", video.iter_frames)(start, end)


def pixel_aspect(video: VideoReader) -> Fraction:
    """Return a pixel's width by its height; pictures have square ones."""
    return video.pixel_aspect if isinstance(video, VideoFile) else Fraction(1)


def clock_start(video: VideoReader) -> Fraction | None:
    """Seconds that the clock of a video's file, its sound's too, shows at the first frame; None where there is none."""
    return video.clock_start if isinstance(video, VideoFile) else None


def _no_pictures(folder: Path) -> DataError:
    """The error for a folder without frames; phones' HEIC, cameras' raw pictures and EXR are the usual reason."""
    others = [path for path in list_folder(folder) if path.suffix and not is_hidden(path) and path.is_file()]
    if not others:
        return DataError("holds no pictures", where=folder, expected="the frames of a video")
    first = min(others, key=lambda path: natural_key(path.name))
    got = first.name if len(others) == 1 else f"{first.name} and {len(others) - 1} more"
    what, expected = "holds no pictures that can be read", "JPEG, PNG, WebP, TIFF …"
    return DataError(what, where=folder, expected=expected, got=got, hint="convert them")
