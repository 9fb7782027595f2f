"""Frames -> a video, by default an H.264 mp4 that every player shows, with the original's sound where it has one."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any

import av

from jointformer.data.video_container import LATEST
from jointformer.data.video_pixels import encoder_frame, even_sides, say_colours
from jointformer.errors import OutputError
from jointformer.system.files import atomic_path, output_error
from jointformer.types import UInt8Array

logger = logging.getLogger(__name__)

#: Sound that mp4 players understand and that is copied as it is; other codecs become AAC.
_COPIED = frozenset({"aac", "ac3", "eac3", "alac", "opus", "flac"})
_AAC_RATES = frozenset({8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000})
_LEAD = Fraction(1, 2)  # seconds of sound that are looked at before those that are wanted
_LEAP = Fraction(1, 2)  # seconds back in time, more than any order of packets
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
    `pixel_aspect`: a pixel's width by its height when played. Raises `OutputError` where writing fails.
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
            self._audio: _Audio | None = None
            if self._audio_from is not None:
                sound = _Audio(self._audio_from, self._container, self._audio_start, self._audio_zero, self.path)
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
        return stream

    def _mux(self, frame: Any) -> None:
        """Encode a frame (None: what the encoder still holds) into the container."""
        try:
            for packet in self._stream.encode(frame):
                self._container.mux(packet)
        except av.FFmpegError as error:
            raise write_failure(error, self.path) from error


def write_failure(error: Exception, path: Path | str) -> OutputError:
    """Return the one-line error for a video that cannot be written."""
    if isinstance(error, OSError):  # a full disk and the like
        return output_error(error, path)
    reason = getattr(error, "strerror", None) or str(error)
    return OutputError(f"the video cannot be written: {reason}", where=path)


#: What damaged sound ends in: FFmpeg's errors, another format in its midst, times beyond 64 bits.
_DAMAGE = (av.FFmpegError, ValueError, OverflowError)


class _Audio:
    """The first sound track of a file on its way into another container, in step with the picture."""

    def __init__(self, source: str | Path, target: Any, start: Fraction, zero: Fraction | None, path: Path) -> None:
        self._source = Path(source)
        self._target = target
        self._start = start
        self._zero = zero
        self._path = path
        self._damaged = False
        self._packets: Iterator[Any] = iter(())
        self._waiting: Any = None

    def __enter__(self) -> _Audio:
        self._input: Any = None
        try:
            self._input = av.open(f"file:{self._source.absolute()}", options={"protocol_whitelist": "file"})
            if self._input.streams.audio:
                self._begin()
        except _DAMAGE as error:
            self._leave_out(error)
        return self

    def __exit__(self, *_: object) -> None:
        if self._input is not None:
            self._input.close()

    def _begin(self) -> None:
        track = self._input.streams.audio[0]
        if track.codec_context is None:
            raise ValueError("unknown codec")
        begin = self._start + (self._first_picture() if self._zero is None else self._zero)
        if begin > _LEAD and self._zero is not None:  # without frame times a clock may come twice
            self._input.seek(int((begin - _LEAD) / track.time_base), stream=track, backward=True)
        copied = track.codec_context.name in _COPIED
        if copied:
            self._out = self._target.add_stream_from_template(track)
        else:
            rate = track.codec_context.sample_rate
            self._out = self._target.add_stream("aac", rate=rate if rate in _AAC_RATES else 48_000)
            # Raw sound may tell a number of channels without saying which; more than two are mixed down.
            self._out.codec_context.layout = "mono" if track.codec_context.channels == 1 else "stereo"
        self._packets = self._copied(track, begin) if copied else self._encoded(track, begin)

    def _first_picture(self) -> Fraction:
        """Seconds on the file's clock at its first frame, as FFmpeg has it from the first packets."""
        if not self._input.streams.video:
            return Fraction(0)
        video = self._input.streams.video[0]
        first = Fraction((video.start_time or 0) * video.time_base)
        return first if abs(first) <= LATEST else Fraction(0)

    def _first_recording(self, track: Any) -> Iterator[Any]:
        """The packets up to where their times begin anew: nobody could tell which pictures later ones belong to."""
        latest = -math.inf
        for packet in self._input.demux(track):
            if packet.pts is not None:
                if (latest - packet.pts) * track.time_base > _LEAP:
                    raise ValueError("recordings were joined: that of the first is kept")
                latest = max(latest, packet.pts)
            yield packet

    def _copied(self, track: Any, begin: Fraction) -> Iterator[Any]:
        shift = round(begin / track.time_base)
        before: list[Any] = []
        for packet in self._first_recording(track):
            if packet.pts is None:
                continue
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._out
            if packet.pts < 0:
                # Decoders need the packet before the first that is heard; mp4 says that nothing is heard before 0.
                before = [one for one in (*before, packet) if one.pts + 2 * (one.duration or 0) >= 0]
                continue
            yield from before
            yield packet
            before = []

    def _encoded(self, track: Any, begin: Fraction) -> Iterator[Any]:
        resampler = av.AudioResampler(format="fltp", layout=self._out.layout, rate=self._out.rate)
        for packet in self._first_recording(track):
            try:
                for frame in packet.decode():
                    # A frame that lies across the beginning is written whole; mp4 says that nothing is heard before 0.
                    if frame.pts is None:
                        continue
                    early = begin - frame.pts * frame.time_base
                    if early * frame.sample_rate >= frame.samples:
                        continue
                    frame.pts -= round(begin / frame.time_base)
                    for piece in resampler.resample(frame):
                        yield from self._out.encode(piece)
            except _DAMAGE as error:
                self._leave_out(error)
        for piece in resampler.resample(None):
            yield from self._out.encode(piece)
        yield from self._out.encode(None)

    def copy_until(self, end: Fraction) -> None:
        """Writes the sound that begins before `end` seconds. Raises `OutputError`."""
        while True:
            try:
                if self._waiting is None:
                    self._waiting = next(self._packets, None)
            except _DAMAGE as error:  # the file cannot be read on: the sound ends here
                self._leave_out(error)
            if self._waiting is None or self._waiting.pts * self._waiting.time_base >= end:
                return
            packet, self._waiting = self._waiting, None
            try:
                self._target.mux(packet)
            except OSError as error:
                raise write_failure(error, self._path) from error
            except _DAMAGE as error:
                self._leave_out(error)

    def _leave_out(self, error: Exception) -> None:
        """Say once that not all of the sound is there: pictures that took hours must not be lost for it."""
        if not self._damaged:
            reason = getattr(error, "strerror", None) or str(error)
            logger.warning("%s: some sound is damaged and left out (%s)", self._source, reason.lower())
        self._damaged = True
