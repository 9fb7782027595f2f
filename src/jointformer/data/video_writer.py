"""Frames -> a video, by default an H.264 mp4 that every player shows, with the original's sound where it has one."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from jointformer.data.video_container import write_failure
from jointformer.data.video_pixels import encoder_frame, even_sides, say_colours
from jointformer.data.video_sound import Sound
from jointformer.errors import OutputError
from jointformer.system.files import atomic_path
from jointformer.types import UInt8Array

_CLOCK = 90_000  # ticks per second where frame times are given one by one
_THREADS = 4  # of the H.264 encoder, each with a frame of its own: about 12 bytes a pixel


@dataclass(frozen=True)
class Codec:
    """How frames are kept, in FFmpeg's words: container, encoder, pixels and the encoder's options."""

    container: str
    encoder: str
    pixels: str
    options: dict[str, str]
    channels: int = 3  # 4 with alpha
    even: bool = False  # colour at half resolution without a way to say that a side is odd


def h264(crf: int) -> Codec:
    """H.264 at a constant rate factor, lower is better."""
    # With macroblock trees x264's AVX-512 code gives the same frames other bytes in a few runs of a hundred.
    # A rate factor of 0 would be lossless, in a profile (High 4:4:4 Predictive) that few players know.
    options = {"crf": str(max(crf, 1)), "preset": "veryfast", "x264-params": "mbtree=0"}
    return Codec("mp4", "libx264", "yuv420p", options, even=True)


H264 = h264(20)


class VideoWriter:
    """Writes frames of one size to `path`; the file appears when the `with` block ends well.

    `size` is (height, width). In H.264 odd sides get one more row or column (a copy of the last one), because it
    stores colour at half resolution. `fps` is kept exactly; with `variable` it is each frame's own time instead.
    `audio_from`: a file whose sound is copied from `audio_start` seconds (after its first frame) on, as long as the
    video lasts; what is damaged in it is left out, with a warning in the log. `audio_zero`: seconds on that file's
    clock at its first frame (None: at the first that FFmpeg finds, be it one that cannot be decoded).
    `pixel_aspect`: a pixel's width by its height when played. `timecode`: the first frame's, in a track of its own for
    mov and mp4. Raises `OutputError` where writing fails.
    """

    def __init__(
        self,
        path: str | Path,
        fps: Fraction,
        size: tuple[int, int],
        *,
        variable: bool = False,
        audio_from: str | Path | None = None,
        audio_start: Fraction = Fraction(0),
        audio_zero: Fraction | None = None,
        codec: Codec = H264,
        pixel_aspect: Fraction = Fraction(1),
        timecode: str | None = None,
    ) -> None:
        self.path = Path(path)
        self.fps = Fraction(fps).limit_denominator(100_000)
        self.size = size
        self._variable = variable
        self._audio_from = audio_from
        self._audio_start = audio_start
        self._audio_zero = audio_zero
        self._codec = codec
        self._pixel_aspect = pixel_aspect
        self._timecode = timecode
        self._stack = ExitStack()
        self._end = Fraction(0)

    def __enter__(self) -> VideoWriter:
        with self._stack as stack:
            container = self._codec.container
            temporary = stack.enter_context(atomic_path(self.path, suffix=f".{container}"))
            options = {"movflags": "+faststart"} if container == "mp4" else {}
            try:
                opened = av.open(f"file:{temporary.absolute()}", "w", format=container, options=options)
                self._container = stack.enter_context(opened)
                self._stream = self._add_video_stream()
            except av.FFmpegError as error:
                raise write_failure(error, self.path) from error
            self._audio: Sound | None = None
            if self._audio_from is not None:
                sound = Sound(self._audio_from, self._container, self._audio_start, self._audio_zero, self.path)
                self._audio = stack.enter_context(sound)
            self._stack = stack.pop_all()
        return self

    def write(self, image: UInt8Array, time: Fraction | None = None) -> None:
        """Appends an (H, W, 3) uint8 RGB frame, (H, W, 4) where the codec has alpha.

        It is shown from `time` seconds on (None: after the last, at the rate).
        """
        shape = (*self.size, self._codec.channels)
        if image.shape != shape:
            raise ValueError(f"expected a frame of shape {shape}, got {image.shape}")
        frame = encoder_frame(even_sides(image) if self._codec.even else image, self._codec.pixels)
        if self._variable:
            if time is None:
                raise ValueError("a video of variable rate needs each frame's time")
            frame.pts, frame.time_base = round(time * _CLOCK), Fraction(1, _CLOCK)
            self._end = time + 1 / self.fps
        else:
            # A frame may be left out: the one before it is shown for longer then.
            number = round(max(self._end, time or 0) * self.fps)
            frame.pts, frame.time_base = number, 1 / self.fps
            self._end = (number + 1) / self.fps
        self._mux(frame)
        if self._audio is not None:
            self._audio.copy_until(self._end)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if kind is not None:
                # Unwinding with the caller's exception tells atomic_path to remove the file.
                self._stack.pop_all().__exit__(kind, error, trace)
                return
            if not self._end:
                raise OutputError("no frames for a video", where=self.path)
            self._mux(None)

    def _add_video_stream(self) -> Any:
        codec = self._codec
        stream: Any = self._container.add_stream(codec.encoder, rate=self.fps, options=codec.options)
        height, width = self.size
        stream.height, stream.width = height + codec.even * (height % 2), width + codec.even * (width % 2)
        stream.pix_fmt = codec.pixels
        if codec.encoder == "libx264":
            # Left to itself PyAV has each frame cut into slices, and whoever writes it waits until they are encoded.
            stream.codec_context.thread_type, stream.codec_context.thread_count = "FRAME", _THREADS
        stream.codec_context.time_base = Fraction(1, _CLOCK) if self._variable else 1 / self.fps
        if self._pixel_aspect != 1:
            stream.codec_context.sample_aspect_ratio = self._pixel_aspect
        say_colours(stream.codec_context)
        if self._timecode is not None:
            stream.metadata["timecode"] = self._timecode
        return stream

    def _mux(self, frame: Any) -> None:
        """Encode a frame (None: what the encoder still holds) into the container."""
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise write_failure(error, self.path) from error
