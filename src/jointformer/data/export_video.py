"""Masks as videos: overlays with the original's sound, and cut-outs with an alpha channel."""

from __future__ import annotations

from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av
import cv2
import numpy as np

from jointformer.data.export_source import Selection
from jointformer.data.video import VideoFile, VideoReader, pixel_aspect
from jointformer.data.video_pixels import encoder_frame, say_colours
from jointformer.data.video_writer import VideoWriter, mux, write_failure
from jointformer.errors import OutputError
from jointformer.ops.drawing import overlay
from jointformer.system.files import atomic_path
from jointformer.types import UInt8Array

_CLOCK = 90_000


def write_overlay(selection: Selection, path: Path) -> None:
    """Writes an H.264 mp4 with the objects drawn over the frames; rate, times and sound are the video's."""
    options, video = selection.options, selection.video
    require_encoder("libx264", path)
    start = video.time(selection.frames.start)
    with VideoWriter(
        path,
        video.fps,
        video.size,
        variable=varies(video, selection.frames),
        audio_from=video.path if options.sound and isinstance(video, VideoFile) else None,
        audio_start=start,
        crf=options.quality,
        pixel_aspect=pixel_aspect(video),
    ) as writer:
        for frame, picture in selection.pictures():
            drawn = overlay(
                picture,
                selection.label_map(frame),
                style=options.style,
                opacity=options.opacity,
                labels=options.labels,
                palette=selection.palette,
            )
            writer.write(drawn, video.time(frame) - start)


def write_prores(selection: Selection, path: Path) -> None:
    """Writes a ProRes 4444 mov with alpha (10 bits, not premultiplied), for editing."""
    _write_alpha(selection, path, "mov", "prores_ks", "yuva444p10le", {"profile": "4444", "alpha_bits": "16"})


def write_webm(selection: Selection, path: Path) -> None:
    """Writes a VP9 WebM with alpha (8 bits, not premultiplied), for browsers."""
    options = {
        "crf": str(selection.options.quality),
        "b": "0",
        "deadline": "good",
        "cpu-used": "5",
        "row-mt": "1",
        "auto-alt-ref": "0",  # the encoder's hidden frames have no place in the alpha stream
    }
    _write_alpha(selection, path, "webm", "libvpx-vp9", "yuva420p", options)


def require_encoder(name: str, path: Path) -> None:
    """Raise OutputError where this PyAV was built without an encoder."""
    try:
        av.Codec(name, "w")
    except (ValueError, av.FFmpegError):
        hint = "install PyAV from its wheels on PyPI, or choose another format"
        raise OutputError(f"this PyAV's FFmpeg has no encoder {name}", where=path, hint=hint) from None


def varies(video: VideoReader, frames: range) -> bool:
    """Whether frames are shown at other times than their rate says, by half a frame or more."""
    start = video.time(frames.start)
    allowed = 1 / (2 * video.fps)
    return any(abs(video.time(f) - start - (f - frames.start) / video.fps) >= allowed for f in frames)


def _write_alpha(
    selection: Selection, path: Path, container: str, codec: str, pixels: str, options: dict[str, str]
) -> None:
    require_encoder(codec, path)
    video = selection.video
    start = video.time(selection.frames.start)
    rate = None if varies(video, selection.frames) else video.fps
    aspect = pixel_aspect(video)
    with _AlphaWriter(path, container, codec, pixels, options, video.size, video.fps, rate, aspect) as writer:
        for frame, picture in selection.pictures():
            alpha = selection.alpha(frame)
            writer.write(np.dstack([_near_objects(picture, alpha), alpha]), video.time(frame) - start)


def _near_objects(picture: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    """The picture around the objects, black elsewhere: codecs smear colours, and edges must not smear to black."""
    near = cv2.dilate(alpha, np.ones((17, 17), np.uint8)) > 0
    return np.where(near[..., None], picture, np.uint8(0))


class _AlphaWriter:
    """Writes (H, W, 4) frames; the file appears when the `with` block ends well."""

    def __init__(
        self,
        path: Path,
        container: str,
        codec: str,
        pixels: str,
        options: dict[str, str],
        size: tuple[int, int],
        fps: Fraction,
        rate: Fraction | None,
        aspect: Fraction,
    ) -> None:
        self._path, self._container, self._codec, self._pixels = path, container, codec, pixels
        self._options, self._size = options, size
        self._fps, self._rate, self._aspect = fps.limit_denominator(100_000), rate, aspect
        self._count = 0
        self._stack = ExitStack()

    def __enter__(self) -> _AlphaWriter:
        with self._stack as stack:
            temporary = stack.enter_context(atomic_path(self._path, suffix=f".{self._container}"))
            try:
                opened = av.open(f"file:{temporary.absolute()}", "w", format=self._container)
                self._file: Any = stack.enter_context(opened)
                self._stream = self._file.add_stream(self._codec, rate=self._fps, options=self._options)
            except av.FFmpegError as error:
                raise self._failed(error) from error
            self._stream.height, self._stream.width = self._size
            self._stream.pix_fmt = self._pixels
            context = self._stream.codec_context
            context.time_base = Fraction(1, _CLOCK) if self._rate is None else 1 / self._fps
            if self._aspect != 1:
                context.sample_aspect_ratio = self._aspect
            say_colours(context)
            self._stack = stack.pop_all()
        return self

    def write(self, rgba: UInt8Array, time: Fraction) -> None:
        """Appends a frame shown from `time` seconds on."""
        frame = encoder_frame(rgba, self._pixels)
        if self._rate is None:
            frame.pts, frame.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
        else:
            frame.pts, frame.time_base = self._count, 1 / self._fps
        self._count += 1
        self._mux(frame)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                self._stack.pop_all().__exit__(kind, error, trace)
                return
            self._mux(None)

    def _mux(self, frame: Any) -> None:
        mux(self._file, self._stream, frame, self._path)

    def _failed(self, error: Exception) -> OutputError:
        return write_failure(error, self._path)
