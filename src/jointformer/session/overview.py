"""What a book says about frames: their masks, status and confidence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jointformer.session.book import Book, Tracked, disjoint
from jointformer.session.plan import JOINED, neighbours
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
    fresh, old, half = (np.zeros(book.length, bool) for _ in range(3))
    frames, lowest = np.arange(book.length), np.full(book.length, np.nan, np.float32)
    with book.lock:
        for i in book.objects():
            done, out, confidence = book.timeline(i)
            fresh |= done != 0
            old |= out != 0
            drawn = np.asarray(book.drawn_frames(i), np.int64)
            confidence[drawn] = np.nan
            between = (frames > drawn.min(initial=book.length)) & (frames < drawn.max(initial=-1))
            half |= between & (done != 0) & (done != JOINED)
            lowest = np.fmin(lowest, confidence)
        annotated = list(book.drawn_frames())
    status = np.zeros(book.length, np.uint8)
    # Later lines outrank earlier ones.
    status[fresh] = STATUSES.index("tracked")
    status[half] = STATUSES.index("half")
    status[old] = STATUSES.index("stale")
    status[annotated] = STATUSES.index("annotated")
    return status, lowest


def least_certain(status: UInt8Array, confidence: FloatArray) -> int | None:
    """Return the up-to-date frame with the lowest confidence, annotated ones left out; None without any."""
    counted: npt.NDArray[np.bool_] = np.isin(status, [STATUSES.index("tracked"), STATUSES.index("half")])
    counted &= ~np.isnan(confidence)
    return int(np.argmin(np.where(counted, confidence, np.inf))) if counted.any() else None


def _status(book: Book, frame: int, drawn: bool, tracked: dict[int, Tracked]) -> Status:
    if drawn:
        return "annotated"
    if any(book.is_stale(frame, i, t.edit) for i, t in tracked.items()):
        return "stale"
    for i in (i for i, t in tracked.items() if t.sides != JOINED):
        if None not in neighbours(book.drawn_frames(i), frame):
            return "half"
    return "tracked" if tracked else "none"
