"""What a session's cells mean: objects, the user's masks, results, halves. Everything read is checked."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from jointformer.errors import ConfigError, DataError
from jointformer.ops.label_maps import LARGEST_ID
from jointformer.ops.palette import colour_of
from jointformer.session.packing import SoftMaps, pack_mask, unpack_mask
from jointformer.session.plan import FORWARD, HELD, JOINED, Known, Sides
from jointformer.session.store import Cell, Kind, Store
from jointformer.types import Colour, Mask

_LONGEST_NAME = 200
_JOINERS = "\u200c\u200d"  # within Persian and Indic words, and within emoji


def is_printable(text: str) -> bool:
    """Whether a text is letters, signs and blanks of any script, without characters that steer the line."""
    # str.isprintable knows one blank: full-width ones are what Japanese keyboards type.
    return all(c.isprintable() or c in _JOINERS or unicodedata.category(c) == "Zs" for c in text)


@dataclass(frozen=True)
class ObjectInfo:
    """One object: its id, and the name and (red, green, blue) colour that people see. Raises ConfigError."""

    id: int
    name: str
    colour: Colour

    def __post_init__(self) -> None:
        if isinstance(self.id, bool) or not isinstance(self.id, int) or not 1 <= self.id <= LARGEST_ID:
            raise ConfigError("object id", expected=f"an integer from 1 to {LARGEST_ID}", got=repr(self.id))
        if not isinstance(self.name, str) or not is_printable(self.name) or len(self.name) > _LONGEST_NAME:
            expected = f"printable text of at most {_LONGEST_NAME} characters"
            raise ConfigError(f"name of object {self.id}", expected=expected, got=repr(self.name)[:80])
        good = isinstance(self.colour, tuple) and len(self.colour) == 3
        if not good or any(type(c) is not int or not 0 <= c <= 255 for c in self.colour):
            raise ConfigError(f"colour of object {self.id}", expected="(red, green, blue), 0 to 255", got=self.colour)

    @staticmethod
    def default(object_id: int) -> ObjectInfo:
        """The info of an object nobody has named: its number, and the colour of the mask files."""
        info = ObjectInfo(object_id, f"object {object_id}", (0, 0, 0))  # whose id is checked: not all have a colour
        return replace(info, colour=colour_of(object_id))


def outside(masks: Iterable[Mask], size: tuple[int, int]) -> Mask:
    """Return the pixels, (H, W), of none of the masks."""
    free = np.ones(size, bool)
    for mask in masks:
        free &= ~mask
    return free


def disjoint(drawn: Mapping[int, Mask], tracked: Mapping[int, Mask], size: tuple[int, int]) -> dict[int, Mask]:
    """Return {id: (H, W) mask} of both: the user's masks, and of the tracked ones what these leave.

    Runs that did not track each other's objects may both claim a pixel: the last object has it.
    """
    free, masks = outside(drawn.values(), size), dict(drawn)
    for i in sorted(tracked.keys() - drawn.keys(), reverse=True):
        masks[i] = tracked[i] & free
        free &= ~masks[i]
    return masks


@dataclass(frozen=True)
class Tracked:
    """One object's result in one frame: its mask, confidence, edit number and the sides it was tracked from.

    held: the frame could not be read, and has the mask of the one beside it.
    """

    mask: Mask
    confidence: float
    edit: int
    sides: int
    held: bool = False


class Book:
    """Typed reading and writing of a store, under one lock. length: frames of the video, size: its (H, W)."""

    def __init__(self, store: Store, length: int, size: tuple[int, int]) -> None:
        self.store = store
        self.length = length
        self.size = size
        self.lock = store.lock

    # -- objects and the user's masks

    def objects(self) -> dict[int, ObjectInfo]:
        """Return the objects by id, ascending."""
        with self.lock:
            cells = self.store.cells(Kind.OBJECT)
        return {cell.object: _read_object(cell) for cell in cells}

    def put_object(self, info: ObjectInfo, at: int) -> None:
        """Keep an object's name and colour."""
        value = json.dumps({"name": info.name, "colour": info.colour}).encode()
        self.store.put([Cell(Kind.OBJECT, 0, info.id, value)], at=at)

    def drawn(self, frame: int) -> dict[int, Mask]:
        """Return the user's masks in a frame."""
        with self.lock:
            cells = self.store.cells(Kind.MASK, frame=frame)
        return {cell.object: unpack_mask(cell.value, self.size) for cell in cells}

    def drawn_mask(self, frame: int, object_id: int) -> Mask | None:
        """Return the user's mask of an object in a frame."""
        with self.lock:
            cells = [c for c in self.store.cells(Kind.MASK, frame=frame) if c.object == object_id]
        return unpack_mask(cells[0].value, self.size) if cells else None

    def drawn_frames(self, object_id: int | None = None, *, visible: bool = False) -> tuple[int, ...]:
        """Return the frames with a mask of the user's (of an object), ascending; visible: only non-empty ones."""
        with self.lock:
            if not visible:
                return tuple(self.store.cell_frames(Kind.MASK, object_id))
            cells = self.store.cells(Kind.MASK, object_id=object_id)
        return tuple(sorted({c.frame for c in cells if unpack_mask(c.value, self.size).any()}))

    def put_drawn(self, frame: int, masks: Mapping[int, Mask], at: int) -> None:
        """Keep masks of the user's."""
        self.store.put([Cell(Kind.MASK, frame, i, pack_mask(m), edit=at) for i, m in masks.items()], at=at)

    # -- results

    def results(self, frame: int) -> dict[int, Tracked]:
        """Return what was tracked in a frame, by object id."""
        with self.lock:
            cells = self.store.cells(Kind.RESULT, frame=frame)
        return {
            c.object: Tracked(
                unpack_mask(c.value, self.size), _share(c.score), c.edit, c.sides & JOINED, bool(c.sides & HELD)
            )
            for c in cells
        }

    def put_results(self, frame: int, results: Mapping[int, Tracked], at: int) -> None:
        """Keep a frame's tracked masks."""
        cells = [
            Cell(Kind.RESULT, frame, i, pack_mask(r.mask), r.confidence, r.edit, r.sides | (HELD if r.held else 0))
            for i, r in results.items()
        ]
        self.store.put(cells, at=at)

    def known(self, since: int | None = None, tried: Collection[int] | None = None) -> dict[int, Known]:
        """Return where each object is drawn, and the sides of its up-to-date results; since: as for `timeline`.

        tried: the frames that could not be read of late, where there is no sense in trying again: of other held frames
        nothing counts as up to date. None: all results count.
        """

        def sides(i: int, since: int = 0) -> Sides:
            found = self.timeline(i, since)[0]
            if tried is not None:
                again = np.flatnonzero(found & HELD)
                found[[frame for frame in again.tolist() if frame not in tried]] = 0
            return np.bitwise_and(found, np.uint8(JOINED))

        with self.lock:
            return {
                i: Known(self.drawn_frames(i), sides(i), None if since is None else sides(i, since))
                for i in self.objects()
            }

    def timeline(self, object_id: int, since: int = 0) -> tuple[Sides, Sides, np.ndarray]:
        """Return (sides of up-to-date results, of out-of-date ones, confidence or NaN), each (T,).

        Of held results the sides also have the bit HELD. since: the edit whose results are the oldest that count.
        """
        fresh, old = np.zeros(self.length, np.uint8), np.zeros(self.length, np.uint8)
        confidence = np.full(self.length, np.nan, np.float32)
        with self.lock:
            rows = [row for row in self.store.rows(Kind.RESULT, object_id) if row[2] >= since]
            spans = self.store.stale_spans(object_id)
        if not rows:
            return fresh, old, confidence
        frames, scores, edits, sides = (np.asarray(column) for column in zip(*rows))
        if frames.min() < 0 or frames.max() >= self.length:
            raise DataError("a session with results outside its video", expected=f"frames 0 to {self.length - 1}")
        stale = np.zeros(len(frames), bool)
        for edit, low, high in spans:
            stale |= (frames >= low) & (frames <= high) & (edits < edit)
        fresh[frames[~stale]] = sides[~stale] & (JOINED | HELD)
        old[frames[stale]] = sides[stale] & (JOINED | HELD)
        confidence[frames] = np.clip(scores, 0, 1)
        return fresh, old, confidence

    def is_stale(self, frame: int, object_id: int, edit: int) -> bool:
        """Whether an object's result in a frame, written by an edit, is out of date."""
        with self.lock:
            return any(e > edit and low <= frame <= high for e, low, high in self.store.stale_spans(object_id))

    # -- probabilities

    def maps(self, kind: Kind, frame: int) -> SoftMaps | None:
        """Return the probabilities kept of a frame."""
        with self.lock:
            cells = self.store.cells(kind, frame=frame)
        return SoftMaps.unpack(cells[0].value, most=100_000) if cells else None

    def put_maps(self, kind: Kind, frame: int, maps: SoftMaps, at: int | None) -> None:
        """Keep the probabilities of a frame."""
        self.store.put([Cell(kind, frame, 0, maps.pack())], at=at)

    def drop_halves(self, low: int = 0, high: int | None = None) -> None:
        """Forget what was seen from one side in frames low to high."""
        for kind in (Kind.HALF_FORWARD, Kind.HALF_BACKWARD):
            self.store.drop(kind, low, self.length if high is None else high)


def half_kind(bit: int) -> Kind:
    """Return the kind of the halves seen from a side."""
    return Kind.HALF_FORWARD if bit == FORWARD else Kind.HALF_BACKWARD


def _read_object(cell: Cell) -> ObjectInfo:
    try:
        value = json.loads(cell.value)
        return ObjectInfo(cell.object, value["name"], tuple(value["colour"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError("a session with a damaged object", got=str(error)) from error


def _share(value: float) -> float:
    return min(max(value, 0.0), 1.0) if value == value else 0.0
