"""Frames as they come: raw or encoded from a pipe, an address or a device; and recorded videos in the same form."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

import av

from jointformer.data.prefetch import prefetch
from jointformer.data.stream_pipe import STANDARD, Pipe, is_pipe
from jointformer.data.video import FolderVideo, as_pictures, open_video, pixel_aspect
from jointformer.data.video_container import (
    FORMATS,
    LATEST,
    METADATA,
    PATIENCE,
    Upright,
    decoded_packets,
    decoding,
    frame_rate,
    guesses_times,
    hold_nothing_back,
    say_what_changes,
    shown_aspect,
    silent,
    to_rgb,
    video_stream,
)
from jointformer.data.video_fields import whole_pictures
from jointformer.data.video_file import DEFAULT_FPS, VideoFile
from jointformer.errors import ConfigError, DataError
from jointformer.system.stop import delay_signals
from jointformer.types import UInt8Array

#: Pixels of raw frames, without any header, as FFmpeg calls them.
RAW_FORMATS = ("rgb24", "bgr24", "rgba", "bgra", "gray", "yuv420p", "yuv422p", "yuv444p", "yuyv422", "nv12")
#: FFmpeg's inputs that are no files: cameras, screens, generated pictures.
DEVICES = frozenset({"v4l2", "video4linux2", "avfoundation", "dshow", "gdigrab", "x11grab", "lavfi"})
#: Addresses that can be opened; a playlist found there leads to addresses only, never to files.
_PROTOCOLS = frozenset(["http", "https", "rtsp", "rtsps", "rtmp", "rtmps", "rtp", "udp", "tcp", "srt"])
_ALLOWED = ",".join([*sorted(_PROTOCOLS), "tls", "crypto", "data", "httpproxy", "srtp"])
_PICTURES = "png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,ppm_pipe,pgm_pipe,pam_pipe,image2pipe,mpjpeg,rawvideo"


@dataclass(frozen=True)
class StreamFrame:
    """One frame of a stream: its number from 0, seconds since the first, (H, W, 3) uint8 RGB or what went wrong."""

    index: int
    time: Fraction
    picture: UInt8Array | DataError


class Stream(Protocol):
    """Frames in order, once. `size` is (height, width); `live`: frames come whether or not they are taken.

    `pixel_aspect`: a pixel's width by its height when played. `length`: how many frames there are, None where no end is
    known.
    """

    size: tuple[int, int]
    fps: Fraction
    pixel_aspect: Fraction
    live: bool
    length: int | None

    def frames(self) -> Iterator[StreamFrame]:
        """The frames from the first on, those that cannot be decoded as errors."""

    def stop(self) -> None:
        """End `frames` soon, from any thread."""

    def name(self, index: int) -> str:
        """The name under which a frame's results are saved, without suffix."""


@dataclass(frozen=True)
class InputSettings:
    """How to read a stream that does not say it itself.

    format: one of RAW_FORMATS, one of DEVICES, or the name of a container (None: found out). size: (H, W) of raw
    frames, or wanted of a device. fps: rate of raw frames, or wanted of a device. Raises ConfigError.
    """

    format: str | None = None
    size: tuple[int, int] | None = None
    fps: Fraction | None = None

    def __post_init__(self) -> None:
        known = {*RAW_FORMATS, *DEVICES, *FORMATS.split(","), *_PICTURES.split(",")} - {"rawvideo"}
        if self.format is not None and self.format not in known:
            expected = f"{', '.join(RAW_FORMATS)}, a container such as matroska, mpegts, mjpeg, png_pipe, or v4l2 …"
            raise ConfigError("--input-format", expected=expected, got=repr(self.format))
        if self.raw and self.size is None:
            raise ConfigError("raw frames do not tell their size", hint=f"add --input-size WxH to {self.format}")
        if self.size is not None and not self.raw and not self.device:
            raise ConfigError("--input-size is for raw frames and devices", hint="other streams tell their size")

    @property
    def raw(self) -> bool:
        """Whether frames are bare pixels."""
        return self.format in RAW_FORMATS

    @property
    def device(self) -> bool:
        """Whether frames come from a device that FFmpeg knows by name."""
        return self.format in DEVICES


def is_stream(source: str) -> bool:
    """Whether a source can only be read as it comes: "-", an address, a named pipe or a device file."""
    return source == STANDARD or "://" in source or is_pipe(source)


@contextmanager
def open_stream(source: str, settings: InputSettings | None = None) -> Iterator[Stream]:
    """The frames of a source: "-" (standard input), an address, a device, a pipe, a file or a folder of pictures.

    Raises ConfigError for settings that do not fit the source, DataError for what cannot be opened.
    """
    settings = settings or InputSettings()
    if not settings.format and not is_stream(source):
        video = open_video(source, fps=settings.fps or DEFAULT_FPS)
        if settings.fps is not None:
            as_pictures(video)
        yield RecordedStream(video)
        return
    with ExitStack() as stack:
        yield DecodedStream(source, settings, stack)


class RecordedStream:
    """A video file or folder of pictures, frame after frame."""

    live = False

    def __init__(self, video: VideoFile | FolderVideo) -> None:
        self._video = video
        self._stopped = False
        self.size, self.fps, self.name = video.size, video.fps, video.name
        self.length: int | None = len(video)
        self.pixel_aspect = pixel_aspect(video)

    def frames(self) -> Iterator[StreamFrame]:
        """See `Stream`."""
        for index, picture in enumerate(self._video.iter_readable()):
            if self._stopped:
                return
            yield StreamFrame(index, self._video.time(index), picture)

    def stop(self) -> None:
        """See `Stream`."""
        self._stopped = True


class DecodedStream:
    """What FFmpeg decodes from a pipe, an address or a device. Rotation is applied, as for files.

    Opening waits for the first frame. What cannot be decoded before it is passed over (one may join a broadcast in the
    middle); later, it counts as a frame and is given as its error.
    """

    length: int | None = None

    def __init__(self, source: str, settings: InputSettings, stack: ExitStack) -> None:
        self.place = "standard input" if source == STANDARD else source
        self._settings = settings
        self._pipe: Pipe | None = None
        if "://" not in source and not settings.device:
            self._pipe = Pipe(source)
            stack.callback(self._pipe.close)
        self._stopped = False
        self._first: StreamFrame | None = None
        self.pixel_aspect = Fraction(1)
        if self._pipe is not None:
            with self._signals_delayed():
                self._begin(self._open(source), source)
        else:
            # FFmpeg would swallow Ctrl-C while it waits for an address: here it only leaves the thread that waits.
            for _ in prefetch(self._opened(source), patience=0):
                pass

    def frames(self) -> Iterator[StreamFrame]:
        """See `Stream`. Raises DataError where the stream breaks off."""
        first, self._first = self._first, None
        if first is not None:
            yield first
        with decoding(self.place), closing(self._decoded):
            while True:
                with self._signals_delayed():
                    frame = next(self._decoded, None)
                if frame is None:
                    return
                yield frame

    def stop(self) -> None:
        """See `Stream`."""
        self._stopped = True
        if self._pipe is not None:
            self._pipe.stop()

    def name(self, index: int) -> str:
        """The frame's number with 5 digits."""
        return f"{index:05d}"

    def _signals_delayed(self) -> AbstractContextManager[None]:
        """A block in which FFmpeg reads: Ctrl-C ends the pipe, and comes after FFmpeg, which would swallow it."""
        return nullcontext() if self._pipe is None else delay_signals(self._pipe.stop)

    def _opened(self, source: str) -> Iterator[None]:
        """Open the source and decode its first frame, as one item; closed where nobody waits for it any more."""
        self._begin(self._open(source), source)
        try:
            yield
        except GeneratorExit:
            self._decoded.close()
            raise

    def _begin(self, container: Any, source: str) -> None:
        """Decode the first frame, which tells the size and which way is up."""
        self.live = self._settings.device or _is_live(source, container)
        with decoding(self.place):
            stream = video_stream(container, self.place)
            hold_nothing_back(stream)
            self.fps = frame_rate(stream, stream.guessed_rate) or self._settings.fps or DEFAULT_FPS
            self._decoded = self._decode(container, stream)
            self._first = next(self._decoded, None)
        if self._first is None:
            raise DataError("no frame arrived", where=self.place, expected="a video or whole raw frames")
        assert not isinstance(self._first.picture, DataError)
        self.size: tuple[int, int] = self._first.picture.shape[:2]

    def _open(self, source: str) -> Any:
        settings = self._settings
        size = None if settings.size is None else f"{settings.size[1]}x{settings.size[0]}"
        wanted = {"video_size": size, "framerate": None if settings.fps is None else str(settings.fps)}
        if settings.raw:
            wanted["pixel_format"] = settings.format
        options = {key: value for key, value in wanted.items() if value is not None}
        file: Any = source if self._pipe is None else self._pipe
        if self._pipe is not None:
            options["format_whitelist"] = f"{FORMATS},{_PICTURES}"
        elif not settings.device:
            scheme = source.partition("://")[0].lower()
            if scheme not in _PROTOCOLS:
                raise ConfigError("an address of another kind", expected=", ".join(sorted(_PROTOCOLS)), got=scheme)
            options["protocol_whitelist"] = _ALLOWED
            if scheme == "rtsp":
                options["rtsp_transport"] = "tcp"  # lost packets of UDP are lost frames
        name = "rawvideo" if settings.raw else settings.format
        # A pipe may stay silent as long as it likes: Ctrl-C ends it. FFmpeg's own waiting must end by itself.
        timeout = PATIENCE if self._pipe is None else None
        try:
            return av.open(file, format=name, options=options, timeout=timeout, **METADATA)
        except (av.FFmpegError, OSError, ValueError) as error:
            raise self._not_opened(error) from error

    def _decode(self, container: Any, stream: Any) -> Generator[StreamFrame, None, None]:
        """The frames; the container is closed by the thread that reads it, which may be waiting inside it."""
        bare = self._settings.raw or self._settings.device
        with container:
            for (index, time, upright), frame in whole_pictures(self._numbered(container, stream), stream):
                picture = frame if isinstance(frame, DataError) else upright.apply(to_rgb(frame, bare=bare))
                yield StreamFrame(index, time, picture)

    def _numbered(self, container: Any, stream: Any) -> Iterator[tuple[tuple[int, Fraction, Upright], Any]]:
        """((number, seconds since the first, what sets it upright), decoded frame or error)."""
        count, begin = 0, None
        guessed = guesses_times(container, stream)
        upright = Upright(0, False)
        for _, found in decoded_packets(container, stream):
            if self._stopped:
                return
            if isinstance(found, av.FFmpegError):
                if count:
                    yield (count, Fraction(count) / self.fps, upright), self._damaged(count, found)
                    count += 1
                continue
            for frame in found:
                upright = Upright.of(frame)
                if not count:
                    say_what_changes(frame, stream, self.place)
                    self.pixel_aspect = shown_aspect(stream, upright)
                time = Fraction(count) / self.fps
                clock = None if guessed else _clock(frame)
                if clock is not None:
                    begin = clock if begin is None else begin
                    time = clock - begin
                yield (count, time, upright), frame
                count += 1

    def _damaged(self, index: int, error: av.FFmpegError) -> DataError:
        if self._settings.raw:
            expected = "whole frames of the given size and format"
            return DataError("the stream ends inside a frame", where=self.place, expected=expected)
        return DataError(f"frame {index} cannot be decoded", where=self.place, got=str(error.strerror).lower())

    def _not_opened(self, error: Exception) -> DataError:
        if isinstance(error, av.ExitError):  # what FFmpeg calls the end of its waiting
            return silent(self.place)
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        hint = None
        if self._pipe is not None and not self._pipe.head and isinstance(error, av.FFmpegError):
            return DataError("nothing arrived", where=self.place, expected="a video")
        if self._pipe is not None and self._pipe.head[4:8] == b"ftyp":
            hint = "an mp4 whose index is at its end needs a file; or send Matroska, NUT or MPEG-TS"
        elif self._pipe is not None and self._settings.format is None:
            hint = "raw frames need --input-format and --input-size"
        return DataError("the stream cannot be opened", where=self.place, got=reason, hint=hint)


def _clock(frame: Any) -> Fraction | None:
    """The frame's time on the stream's own clock, in seconds; None where it has none or a damaged one."""
    if frame.pts is None or not frame.time_base:
        return None
    time = frame.pts * frame.time_base
    return time if abs(time) <= LATEST else None


def _is_live(source: str, container: Any) -> bool:
    """Whether frames are lost if nobody takes them: broadcasts, but not recordings that a server waits to send."""
    scheme = source.partition("://")[0].lower() if "://" in source else ""
    return bool(scheme) and not (scheme in ("http", "https") and container.duration)
