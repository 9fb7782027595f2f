"""What a book says about frames: their masks, status and confidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jointformer.session.book import Book, Tracked, disjoint
from jointformer.session.plan import HELD, JOINED, neighbours
from jointformer.session.result import STATUSES, FrameResult, Status
from jointformer.types import FloatArray, UInt8Array


def frame_result(book: Book, frame: int) -> FrameResult:
    """Return a frame's masks: the user's where given, else tracked ones less the user's pixels."""
    with book.lock:
        drawn, tracked = book.drawn(frame), book.results(frame)
        ids = [i for i in book.objects() if i in drawn or i in tracked]
        masks = disjoint(drawn, {i: tracked[i].mask for i in ids if i in tracked}, book.size)
        masks = {i: masks[i] for i in ids}
        confidence = {i: 1.0 if i in drawn else tracked[i].confidence for i in ids}
        status = _status(book, frame, bool(drawn), tracked)
        return FrameResult(frame, book.size, masks, confidence, frozenset(drawn), status)


def frame_status(book: Book, frame: int) -> Status:
    """Return what is known of a frame."""
    with book.lock:
        return _status(book, frame, bool(book.drawn(frame)), book.results(frame))


def timeline(book: Book) -> tuple[UInt8Array, FloatArray]:
    """Return (T,) statuses as indices into STATUSES, and (T,) the lowest confidence of a tracked object or NaN."""
    fresh, old, half, partial, held = (np.zeros(book.length, bool) for _ in range(5))
    frames, lowest = np.arange(book.length), np.full(book.length, np.nan, np.float32)
    annotated = np.zeros(book.length, bool)
    with book.lock:
        annotated[list(book.drawn_frames())] = True
        for i in book.objects():
            done, out, confidence = book.timeline(i)
            fresh |= done != 0
            old |= out != 0
            held |= (done & HELD) != 0
            drawn = np.asarray(book.drawn_frames(i), np.int64)
            confidence[drawn] = np.nan
            behind = frames > drawn.min(initial=book.length)
            half |= behind & (frames < drawn.max(initial=-1)) & (done != 0) & (done & JOINED != JOINED)
            lacking = behind & ((done | out) == 0)
            lacking[drawn] = False
            partial |= lacking
            # Among masks of the user's only what is up to date calls for a correction.
            confidence[annotated & (out != 0)] = np.nan
            confidence[(done | out) & HELD != 0] = np.nan
            lowest = np.fmin(lowest, confidence)
    status = np.zeros(book.length, np.uint8)
    # Later lines outrank earlier ones.
    status[fresh] = STATUSES.index("tracked")
    status[partial & fresh] = STATUSES.index("partial")
    status[half] = STATUSES.index("half")
    status[old] = STATUSES.index("stale")
    status[held] = STATUSES.index("held")
    status[annotated] = STATUSES.index("annotated")
    return status, lowest


def least_certain(status: UInt8Array, confidence: FloatArray) -> int | None:
    """Return the frame with the lowest confidence of an up-to-date result; None without any.

    That may be a frame with masks of the user's, where another object is tracked.
    """
    names: tuple[Status, ...] = ("annotated", "tracked", "half", "partial")
    counted: npt.NDArray[np.bool_] = np.isin(status, [STATUSES.index(name) for name in names])
    counted &= ~np.isnan(confidence)
    return int(np.argmin(np.where(counted, confidence, np.inf))) if counted.any() else None


def _status(book: Book, frame: int, drawn: bool, tracked: dict[int, Tracked]) -> Status:
    if drawn:
        return "annotated"
    if not tracked:
        return "none"
    stale = {i for i, t in tracked.items() if book.is_stale(frame, i, t.edit)}
    if any(t.held for i, t in tracked.items() if i not in stale):
        return "held"
    if stale:
        return "stale"
    for i in (i for i, t in tracked.items() if t.sides != JOINED):
        if None not in neighbours(book.drawn_frames(i), frame):
            return "half"
    if any(i not in tracked and frame > min(book.drawn_frames(i), default=frame) for i in book.objects()):
        return "partial"
    return "tracked"
