"""Where the frames of a video file are: their times in display order, and the key frames where decoding can begin."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Set
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from jointformer.data.video_alpha import is_key
from jointformer.data.video_container import LATEST, guesses_times

#: Containers that FFmpeg searches for the time at which a packet is decoded; others know when key frames are shown.
_SEARCHED = frozenset({"mpegts", "mpeg"})
#: The bit of a VP8 packet's first byte that is 0 in those which are only referred to (RFC 6386, 9.1).
_SHOWN = 0x10
#: A packet of MPEG-4 that only says "not coded" has so many bytes at most (FFmpeg's MAX_NVOP_SIZE).
_NOT_CODED = 19


@dataclass(frozen=True)
class FrameIndex:
    """Frames by number; empty where a file's packets carry no times that make sense.

    times: of all frames in display order, in ticks of the stream. keys: numbers of key frames, ascending (below 0: of
    one that begins a refresh before the first frame); places: the time to seek to for each of them. doubtful: those of
    the times at which decoding may show that there is no frame.
    """

    times: list[int]
    keys: list[int]
    places: list[int]
    doubtful: frozenset[int] = frozenset()

    @staticmethod
    def read(container: Any, stream: Any) -> FrameIndex:
        """The index of an opened file, of its packets alone: nothing is decoded."""
        nothing = FrameIndex([], [], [])
        if guesses_times(container, stream):
            return nothing
        searched = container.format.name in _SEARCHED
        times: set[int] = set()
        keys: dict[int, int] = {}
        doubtful: set[int] = set()
        latest: float = -math.inf
        field: Any = None
        for packet in container.demux(stream):
            if not packet.size or packet.is_discard or _is_hidden(packet, stream.codec_context):
                continue
            if field is not None and _completes(packet, field):
                field = None
                continue
            if packet.pts is None or abs(packet.pts * stream.time_base) > LATEST:
                return nothing
            if packet.pts in times or (packet.is_keyframe and packet.pts < latest):
                return nothing  # files joined end to end begin their times anew, and no two frames may share one
            times.add(packet.pts)
            latest = max(latest, packet.pts)
            if is_key(packet, stream):
                keys[packet.pts] = packet.dts if searched and packet.dts is not None else packet.pts
            if packet.size <= _NOT_CODED and stream.codec_context.name == "mpeg4":
                doubtful.add(packet.pts)
            field = packet if searched and _is_field(packet, stream.codec_context) else None
        return FrameIndex._of(sorted(times), keys, frozenset(doubtful))

    @staticmethod
    def _of(times: list[int], places: Mapping[int, int], doubtful: frozenset[int] = frozenset()) -> FrameIndex:
        keys = [number for number, time in enumerate(times) if time in places]
        return FrameIndex(times, keys, [places[times[number]] for number in keys], doubtful)

    def without(self, nothing: Set[int]) -> FrameIndex:
        """The index without the times at which there is no frame, now beyond doubt."""
        places = {self.times[number]: place for number, place in zip(self.keys, self.places, strict=True)}
        return FrameIndex._of([time for time in self.times if time not in nothing], places)

    def without_head(self, first: int | None, *, damaged: bool) -> FrameIndex:
        """The index without the frames that lack their key frame.

        first: the time of the first decoded frame; damaged: whether errors came before it. Recordings of broadcasts and
        parts cut out of files begin so, and no player shows those frames. An error behind the first key frame is
        damage, and keeps its number; without any, the key frame begins a refresh, at whose end pictures are whole.
        """
        if not self.keys or first is None or first < self.times[self.keys[0]]:
            return self
        head = self.keys[0] if damaged or first not in self.times else self.times.index(first)
        return FrameIndex(self.times[head:], [number - head for number in self.keys], self.places)

    def key_before(self, number: int) -> int:
        """Which of `keys` is the last one up to a frame; -1 where there is none."""
        return bisect_right(self.keys, number) - 1


def _is_hidden(packet: Any, context: Any) -> bool:
    """Whether a packet is no frame, but what later frames are made of (VP8's alternate references)."""
    return context.name == "vp8" and not memoryview(packet)[0] & _SHOWN


def _is_field(packet: Any, context: Any) -> bool:
    """Whether a packet is one of a frame's two fields: broadcasts and AVCHD may send H.264 so, and it is shown for half
    a frame's time."""
    if context.name != "h264" or not context.framerate or not packet.duration:
        return False
    return packet.duration * packet.time_base * context.framerate < Fraction(3, 4)


def _completes(packet: Any, field: Any) -> bool:
    """Whether a packet is the second field of a frame, at no time of its own or at the next field's."""
    if packet.pts is None:
        return packet.dts is None and packet.duration == field.duration
    return packet.duration == field.duration and 0 < packet.pts - field.pts < 3 * field.duration // 2
