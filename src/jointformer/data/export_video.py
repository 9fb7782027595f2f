"""Masks as videos: overlays with the original's sound, and cut-outs with an alpha channel."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

from jointformer.data.export_selection import Selection
from jointformer.data.timecode import later_timecode
from jointformer.data.video import VideoReader, clock_start, pixel_aspect
from jointformer.data.video_file import VideoFile
from jointformer.data.video_writer import H264, Codec, VideoWriter, h264
from jointformer.errors import OutputError
from jointformer.ops.drawing import overlay
from jointformer.types import UInt8Array


def write_overlay(selection: Selection, path: Path) -> None:
    """Writes an H.264 mp4 with the objects drawn over the frames; rate, times and sound are the video's."""
    options, video = selection.options, selection.video
    require_encoder("libx264", path)
    start = video.time(selection.frames.start)
    with overlay_writer(video, selection.frames, path, sound=options.sound, codec=h264(options.quality)) as writer:
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


def overlay_writer(
    video: VideoReader, frames: range, path: Path, *, sound: bool = True, codec: Codec = H264
) -> VideoWriter:
    """Return the writer of an mp4 of some frames; rate, times, pixels, timecode and sound are the video's."""
    return VideoWriter(
        path,
        video.fps,
        video.size,
        variable=varies(video, frames),
        audio_from=video.path if sound and isinstance(video, VideoFile) else None,
        audio_start=video.time(frames.start),
        audio_zero=clock_start(video),
        codec=codec,
        pixel_aspect=pixel_aspect(video),
        timecode=start_timecode(video, frames),
    )


def write_prores(selection: Selection, path: Path) -> None:
    """Writes a ProRes 4444 mov with alpha (10 bits, not premultiplied), for editing."""
    # The finest quantiser (118 is FFmpeg's unit): the encoder's search through all of them ends there even for noise.
    options = {"profile": "4444", "alpha_bits": "16", "flags": "+qscale", "global_quality": "118"}
    _write_alpha(selection, path, Codec("mov", "prores_ks", "yuva444p10le", options, channels=4))


def write_webm(selection: Selection, path: Path) -> None:
    """Writes a VP9 WebM with alpha (8 bits, not premultiplied), for browsers; its pixels are square."""
    options = {
        "crf": str(selection.options.quality),
        "b": "0",
        "deadline": "good",
        "cpu-used": "5",
        "row-mt": "1",
        "auto-alt-ref": "0",  # the encoder's hidden frames have no place in the alpha stream
    }
    _write_alpha(selection, path, Codec("webm", "libvpx-vp9", "yuva420p", options, channels=4))


def require_encoder(name: str, path: Path) -> None:
    """Raise OutputError where this PyAV was built without an encoder."""
    try:
        av.Codec(name, "w")
    except (ValueError, av.FFmpegError):
        hint = "install PyAV from its wheels on PyPI, or choose another format"
        raise OutputError(f"this PyAV's FFmpeg has no encoder {name}", where=path, hint=hint) from None


def varies(video: VideoReader, frames: range) -> bool:
    """Whether frames are shown at other times than their rate says, by half a frame or more (slow ones: 20 ms)."""
    start = video.time(frames.start)
    allowed = min(1 / (2 * video.fps), Fraction(1, 50))
    return any(abs(video.time(f) - start - (f - frames.start) / video.fps) >= allowed for f in frames)


def start_timecode(video: VideoReader, frames: range) -> str | None:
    """The timecode of the first of some frames; None where the file has none, or a rate that varies."""
    if not isinstance(video, VideoFile) or video.timecode is None or varies(video, range(frames.stop)):
        return None
    return later_timecode(video.timecode, frames.start, video.fps)


def _write_alpha(selection: Selection, path: Path, codec: Codec) -> None:
    require_encoder(codec.encoder, path)
    video = selection.video
    start = video.time(selection.frames.start)
    size, aspect = video.size, pixel_aspect(video)
    if codec.container == "webm":  # PyAV cannot tell its muxer of other pixels than square ones
        size, aspect = _square_size(size, aspect), Fraction(1)
    with VideoWriter(
        path,
        video.fps,
        size,
        variable=varies(video, selection.frames),
        codec=codec,
        pixel_aspect=aspect,
        timecode=start_timecode(video, selection.frames) if codec.container == "mov" else None,
    ) as writer:
        for frame, picture in selection.pictures():
            alpha = selection.alpha(frame)
            rgba = np.dstack([_near_objects(picture, alpha), alpha])
            shown = rgba if size == video.size else cv2.resize(rgba, size[::-1], interpolation=cv2.INTER_LINEAR)
            writer.write(shown, video.time(frame) - start)


def _square_size(size: tuple[int, int], aspect: Fraction) -> tuple[int, int]:
    """The (height, width) at which square pixels show a picture as those of an aspect do, neither side shrunk."""
    height, width = size
    return (height, round(width * aspect)) if aspect > 1 else (round(height / aspect), width)


def _near_objects(picture: UInt8Array, alpha: UInt8Array) -> UInt8Array:
    """The picture around the objects, black elsewhere: codecs smear colours, and edges must not smear to black."""
    near = cv2.dilate(alpha, np.ones((17, 17), np.uint8)) > 0
    return np.where(near[..., None], picture, np.uint8(0))
