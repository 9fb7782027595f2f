"""Label maps and overlays written as they are made: raw bytes, PNGs or a playable container, to a file or a pipe."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from time import monotonic
from typing import Any, BinaryIO, Protocol

import av
import numpy as np

from jointformer.data.masks import encode_mask, write_mask
from jointformer.data.stream_pipe import STANDARD, is_pipe
from jointformer.data.video_container import write_failure
from jointformer.data.video_pixels import encoder_frame, even_sides, say_colours
from jointformer.errors import ConfigError, OutputError
from jointformer.ops.drawing import OverlayStyle, overlay
from jointformer.system.files import atomic_write, make_dir, writing
from jointformer.system.stop import delay_signals
from jointformer.types import LabelMap, UInt8Array

#: Where masks go inside an output folder.
MASKS = "masks"
_CLOCK = 90_000  # ticks per second of times in containers
_AT_ONCE = getattr(select, "PIPE_BUF", 1 << 16)  # bytes that a pipe which can be written takes without blocking
_POLL = 0.1  # seconds between two looks at whether Ctrl-C came
_PATIENCE = 2.0  # seconds after Ctrl-C to wait for a pipe's reader
_SECOND_WISH = 1.0  # seconds after Ctrl-C from which another one means: at once


@dataclass(frozen=True)
class StreamLooks:
    """What the written frames are like: (H, W), frames per second, the ids' colours, the overlay's style.

    pixel_aspect: a pixel's width by its height when played.
    """

    size: tuple[int, int]
    fps: Fraction
    palette: UInt8Array
    style: OverlayStyle = "fill"
    pixel_aspect: Fraction = Fraction(1)


class FrameWriter(Protocol):
    """Takes results in order; each has left the program when `write` returns."""

    def write(self, name: str, time: Fraction, picture: UInt8Array, labels: LabelMap) -> None:
        """Write one frame's (H, W) labels, or its (H, W, 3) picture with them drawn in; `time` in seconds."""


class FolderWriter:
    """FOLDER/masks/<frame>.png, each there when it is whole."""

    def __init__(self, folder: Path, looks: StreamLooks) -> None:
        self._folder = make_dir(folder / MASKS)
        self._palette = looks.palette

    def write(self, name: str, time: Fraction, picture: UInt8Array, labels: LabelMap) -> None:
        """See `FrameWriter`. Raises OutputError."""
        write_mask(self._folder / f"{name}.png", labels, self._palette)


class _BytesWriter:
    """One block of bytes per frame."""

    def __init__(self, file: BinaryIO, encode: Callable[[LabelMap], bytes]) -> None:
        self._file, self._encode = file, encode

    def write(self, name: str, time: Fraction, picture: UInt8Array, labels: LabelMap) -> None:
        self._file.write(self._encode(labels))
        self._file.flush()


class _ContainerWriter:
    """One encoded picture per frame, in a container that needs no way back to its beginning."""

    def __init__(self, file: BinaryIO, container: str, codec: str, looks: StreamLooks, place: str) -> None:
        self._looks, self._place, self._overlay = looks, place, codec != "ffv1"
        self._pipe = _WriteOnly(file)
        self._last = -1
        # Every packet leaves at once; a Matroska cluster would otherwise be held back for seconds.
        options = {"flush_packets": "1"} | ({"cluster_time_limit": "0"} if container == "matroska" else {})
        self._container: Any = av.open(self._pipe, "w", format=container, options=options)
        self._stream = self._container.add_stream(codec, rate=looks.fps.limit_denominator(100_000))
        height, width = looks.size
        context = self._stream.codec_context
        if self._overlay:
            height, width = height + height % 2, width + width % 2
            self._stream.options = {"crf": "20", "preset": "veryfast", "tune": "zerolatency"}
            say_colours(context)
            if looks.pixel_aspect != 1:
                context.sample_aspect_ratio = looks.pixel_aspect
        self._stream.height, self._stream.width = height, width
        self._stream.pix_fmt = "yuv420p" if self._overlay else "gray"
        context.time_base = Fraction(1, _CLOCK)
        context.thread_count = 1  # threads that share out frames would each hold one back

    def write(self, name: str, time: Fraction, picture: UInt8Array, labels: LabelMap) -> None:
        if self._overlay:
            drawn = overlay(picture, labels, style=self._looks.style, palette=self._looks.palette)
            frame = encoder_frame(even_sides(drawn), "yuv420p")
        else:
            frame = av.VideoFrame.from_ndarray(_bytes(labels), format="gray")
        # Damaged streams repeat times or go back, which containers refuse.
        self._last = max(self._last + 1, round(time * _CLOCK))
        frame.pts, frame.time_base = self._last, Fraction(1, _CLOCK)
        with self._pipe.signals_delayed():
            self._mux(frame)

    def finish(self) -> None:
        """Write what the encoder still holds, and the container's end."""
        with self._pipe.signals_delayed():
            self._mux(None)
            self._container.close()

    def abandon(self) -> None:
        """Free the container without writing any more."""
        self._pipe.closed = True
        with self._pipe.signals_delayed():
            self._container.close()

    def _mux(self, frame: Any) -> None:
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise write_failure(error, self._place) from error


class _WriteOnly:
    """A file as FFmpeg sees a pipe: it can be written and nothing else.

    FFmpeg swallows what Ctrl-C raises in here. So it writes inside `signals_delayed`, and a packet is whole when
    Ctrl-C comes, unless nobody reads the pipe: it is closed then, and later packets vanish.
    """

    def __init__(self, file: BinaryIO) -> None:
        # Below Python's buffer, which does not tell how much of a packet an unread pipe has taken.
        self._fd = file.fileno()
        self._asked: float | None = None
        self.closed = False

    def signals_delayed(self) -> AbstractContextManager[None]:
        return delay_signals(self._hurry)

    def write(self, data: bytes) -> int:
        rest, taken_at = memoryview(data), monotonic()
        while rest and not self.closed:
            if os.name != "posix" or select.select([], [self._fd], [], _POLL)[1]:
                rest = rest[os.write(self._fd, rest[:_AT_ONCE]) :]
                taken_at = monotonic()
            elif self._asked is not None and monotonic() - max(self._asked, taken_at) > _PATIENCE:
                self.closed = True
        return len(data)

    def _hurry(self) -> None:
        if self._asked is None:
            self._asked = monotonic()
        elif monotonic() - self._asked >= _SECOND_WISH:
            self.closed = True


@dataclass(frozen=True)
class OutputFormat:
    """One row: what it is; for containers FFmpeg's name and codec."""

    text: str
    container: str = ""
    codec: str = ""


OUTPUT_FORMATS = {
    "folder": OutputFormat("a palette PNG per frame in OUT/masks"),
    "raw": OutputFormat("a byte per pixel, the object id; frame after frame without any header"),
    "png": OutputFormat("palette PNGs one after the other"),
    "nut": OutputFormat("label maps as lossless grey video (FFV1) in NUT", "nut", "ffv1"),
    "matroska": OutputFormat("the same in Matroska", "matroska", "ffv1"),
    "overlay": OutputFormat("the picture with the objects drawn in, H.264 in Matroska", "matroska", "libx264"),
    "overlay-mpegts": OutputFormat("the same in MPEG-TS, for broadcasting", "mpegts", "libx264"),
}


@contextmanager
def open_writer(target: str, format: str, looks: StreamLooks) -> Iterator[FrameWriter]:
    """The writer of a format to a folder, a file, a pipe or "-" (standard output).

    A file appears when the block ends well, a pipe gets every frame at once. Raises OutputError where nothing can be
    written, BrokenPipeError where nobody reads any more.
    """
    if format == "folder":
        yield FolderWriter(Path(target), looks)
        return
    row = OUTPUT_FORMATS[format]
    place = "standard output" if target == STANDARD else target
    with _opened(target, place) as file:
        if format == "raw":
            yield _BytesWriter(file, lambda labels: _bytes(labels).tobytes())
        elif format == "png":
            yield _BytesWriter(file, lambda labels: encode_mask(labels, looks.palette))
        else:
            try:
                writer = _ContainerWriter(file, row.container, row.codec, looks, place)
            except (av.FFmpegError, ValueError) as error:
                raise write_failure(error, place) from error
            try:
                yield writer
                writer.finish()
            except BaseException:
                writer.abandon()
                raise


@contextmanager
def _opened(target: str, place: str) -> Iterator[BinaryIO]:
    if target == STANDARD:
        if sys.stdout.isatty():
            raise ConfigError("standard output is a terminal", hint="pipe it into a program or a file")
        with writing(place):
            yield sys.stdout.buffer
    elif is_pipe(target):
        with writing(place), open(target, "wb") as file:
            yield file
    else:
        with atomic_write(target) as file:
            yield file


def _bytes(labels: LabelMap) -> UInt8Array:
    if labels.dtype != np.uint8 and labels.size and labels.max() > 255:
        raise OutputError("a byte holds object ids up to 255", got=int(labels.max()))
    return np.ascontiguousarray(labels.astype(np.uint8))
