"""A video's sound on its way into another container, copied or encoded anew."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av

from jointformer.data.video_container import LATEST, METADATA, write_failure

logger = logging.getLogger(__name__)

#: Sound that mp4 players understand and that is copied as it is; other codecs become AAC.
_COPIED = frozenset({"aac", "ac3", "eac3", "alac", "opus", "flac"})
_AAC_RATES = frozenset({8000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000, 64_000, 88_200, 96_000})
_LEAD = Fraction(1, 2)  # seconds of sound that are looked at before those that are wanted
_LEAP = Fraction(1, 2)  # seconds back in time, more than any order of packets
#: What damaged sound ends in: FFmpeg's errors, another format in its midst, times beyond 64 bits.
_DAMAGE = (av.FFmpegError, ValueError, OverflowError)


class Sound:
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

    def __enter__(self) -> Sound:
        self._input: Any = None
        try:
            name, options = f"file:{self._source.absolute()}", {"protocol_whitelist": "file"}
            self._input = av.open(name, options=options, **METADATA)
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
            # What an edit list hides goes back in time behind a cut; decoders need it, and give nothing of it.
            if packet.pts is not None and not packet.is_discard:
                if (latest - packet.pts) * track.time_base > _LEAP:
                    raise ValueError("recordings were joined: that of the first is kept")
                latest = max(latest, packet.pts)
            yield packet

    def _copied(self, track: Any, begin: Fraction) -> Iterator[Any]:
        shift = round(begin / track.time_base)
        before: list[Any] = []
        heard = False
        for packet in self._first_recording(track):
            if packet.pts is None or (packet.is_discard and heard):  # the latter between two edits
                continue
            packet.pts -= shift
            packet.dts = packet.pts if packet.dts is None else packet.dts - shift
            packet.stream = self._out
            heard |= not packet.is_discard
            # Decoders need the packet before the first that is heard; mp4 says that nothing is heard before 0.
            if packet.pts < 0:
                before = [one for one in (*before, packet) if one.pts + 2 * (one.duration or 0) >= 0]
            elif packet.is_discard:
                before = [packet]
            else:
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
                    frame.pts, frame.time_base = round(-early * frame.sample_rate), Fraction(1, frame.sample_rate)
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
