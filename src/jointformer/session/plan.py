"""What has to be tracked: pure functions of which frames have masks and results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from jointformer.errors import ConfigError, DataError

Direction = Literal["forward", "backward", "both"]
DIRECTIONS: tuple[Direction, ...] = get_args(Direction)

#: Bits: an object's mask in a frame comes from an earlier frame's, from a later frame's, or from both.
FORWARD, BACKWARD, JOINED = 1, 2, 3
#: A further bit of a result: the frame could not be read, and has the mask of the one beside it.
HELD = 4
Sides = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Known:
    """What is known of one object.

    drawn: frames where the user gave its mask, ascending. done: (T,) the sides that its up-to-date results come from.
    renewed: (T,) the same for those alone that a run which tracks all again has made before it was broken off.
    """

    drawn: tuple[int, ...]
    done: Sides
    renewed: Sides | None = None


@dataclass(frozen=True)
class Plan:
    """Frames to track. needs: {object id: (T,) sides its mask must come from}; blocks: [low, high] to be tracked."""

    needs: dict[int, Sides]
    blocks: tuple[tuple[int, int], ...]

    def steps(self) -> int:
        """Return how many frames go through the tracker; fewer where an interrupted run has seen them from one side."""
        return sum(
            len(piece) for block in self.blocks for bit in (FORWARD, BACKWARD) for piece in self.pieces(block, bit)
        )

    def pieces(self, block: tuple[int, int], bit: int) -> list[range]:
        """Return the runs of neighbouring frames of a block that some object needs from one side."""
        low, high = block
        wanted = np.zeros(high - low + 1, bool)
        for need in self.needs.values():
            wanted |= need[low : high + 1] & bit != 0
        return [range(low + a, low + b) for a, b in _runs(wanted)]

    def ids(self, frame: int, bit: int = JOINED) -> list[int]:
        """Return the objects that need this frame tracked from a side (any, by default)."""
        return [i for i, need in self.needs.items() if need[frame] & bit]

    def pair(self, frame: int) -> set[int]:
        """Return the objects whose mask in this frame is joined from both sides."""
        return {i for i, need in self.needs.items() if need[frame] == JOINED}


def make_plan(
    known: Mapping[int, Known], length: int, start: int | None, end: int | None, direction: Direction, *, again: bool
) -> Plan:
    """Return what to track in frames start to end (both included; None: the video's ends).

    Frames between two drawn ones of an object are tracked from both sides whatever the direction, which decides about
    the open ends. Without `again`, frames whose results are up to date are left alone, with it only those that were
    renewed. Raises ConfigError for a direction or range that is none, DataError where there is nothing to track from.
    """
    if direction not in DIRECTIONS:
        raise ConfigError("direction", expected=" | ".join(DIRECTIONS), got=repr(direction))
    low, high = _reach_all(known, *_checked_range(length, start, end), direction)
    needs = {i: _needed_sides(k, length, low, high, direction) for i, k in known.items()}
    dirty = np.zeros(length, bool)
    for i, need in needs.items():
        done = known[i].renewed if again else known[i].done
        dirty |= (need if done is None else need & ~done) != 0
    return Plan(needs, tuple((a, b - 1) for a, b in _runs(dirty)))


def neighbours(drawn: Sequence[int], frame: int) -> tuple[int | None, int | None]:
    """Return the nearest drawn frames before and after a frame."""
    before = max((f for f in drawn if f < frame), default=None)
    after = min((f for f in drawn if f > frame), default=None)
    return before, after


def distance_weight(drawn: Sequence[int], frame: int) -> float:
    """Return the weight in [0, 1] of the forward side in a frame between two drawn ones: linear in the distance."""
    before, after = neighbours(drawn, frame)
    if before is None or after is None:
        return 0.5
    return (after - frame) / (after - before)


def _checked_range(length: int, start: int | None, end: int | None) -> tuple[int, int]:
    low, high = 0 if start is None else start, length - 1 if end is None else end
    whole = all(isinstance(f, int | np.integer) and not isinstance(f, bool) for f in (low, high))
    if not whole or not 0 <= low <= high < length:
        raise ConfigError("frames to track", expected=f"start <= end within 0 to {length - 1}", got=f"{low} to {high}")
    return low, high


def _reach_masks(known: Mapping[int, Known], low: int, high: int, direction: Direction) -> tuple[int, int]:
    """Return the range, drawn out to the nearest drawn frame where it holds no mask to start from."""
    drawn = sorted({f for k in known.values() for f in k.drawn})
    if not drawn:
        raise DataError("no masks to track from", hint="draw or add the masks of one frame first")
    inside = any(low <= f <= high for f in drawn)
    before = max((f for f in drawn if f < low), default=None)
    after = min((f for f in drawn if f > high), default=None)
    from_low, from_high = _has_state(known, low, FORWARD), _has_state(known, high, BACKWARD)
    if direction == "both" and (inside or from_low or from_high):
        return low, high
    if direction != "backward" and before is not None and not from_low:
        return before, high
    if direction != "forward" and after is not None and not from_high:
        return low, after
    if not inside and not _has_state(known, low if direction == "forward" else high, JOINED):
        nearest = before if after is None else after
        raise DataError(
            f"no masks to track {direction} from", expected=f"masks in frames {low} to {high}", got=f"frame {nearest}'s"
        )
    return low, high


def _reach_all(known: Mapping[int, Known], low: int, high: int, direction: Direction) -> tuple[int, int]:
    """Return the range, drawn out for each object that lacks results in it to a mask of that object's own."""
    first, last = _reach_masks(known, low, high, direction)
    for i, one in known.items():
        try:
            begin, end = _reach_masks({i: one}, low, high, direction)
        except DataError:  # it has no mask on that side: others do
            continue
        missing = _needed_sides(one, len(one.done), begin, end, direction) & ~one.done
        if missing[low : high + 1].any():
            first, last = min(first, begin), max(last, end)
    return first, last


def _has_state(known: Mapping[int, Known], frame: int, sides: int) -> bool:
    return any(k.done[frame] & sides or frame in k.drawn for k in known.values())


def _needed_sides(known: Known, length: int, low: int, high: int, direction: Direction) -> Sides:
    need = np.zeros(length, np.uint8)
    frames = np.arange(length)
    drawn = np.asarray(known.drawn, np.int64)
    if not len(drawn):
        return need
    count = np.searchsorted(drawn, frames, side="right")
    before = np.where(count > 0, drawn[np.maximum(count - 1, 0)], -1)
    after = np.where(count < len(drawn), drawn[np.minimum(count, len(drawn) - 1)], length)
    # Outside the range nothing is tracked: a side counts where its mask lies inside, or an up-to-date result that comes
    # from that side. One that comes from the other side would be joined with itself.
    low_stands, high_stands = bool(known.done[low] & FORWARD), bool(known.done[high] & BACKWARD)
    left = (before >= low) | ((before >= 0) & low_stands)
    right = (after <= high) | ((after < length) & high_stands)
    need[left & right] = JOINED
    if direction != "backward":
        need[left & ~right] = FORWARD
    if direction != "forward":
        need[right & ~left] = BACKWARD
    need[drawn] = 0
    # A result that stands in for a mask at the range's edge stays as it is.
    if low_stands and 0 <= before[low] < low:
        need[low] = 0
    if high_stands and high < after[high] < length:
        need[high] = 0
    need[:low] = need[high + 1 :] = 0
    return need


def _runs(flags: npt.NDArray[np.bool_]) -> list[tuple[int, int]]:
    """[start, stop) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2])]
