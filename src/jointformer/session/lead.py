"""What a tracker is shown before a run's first frame: where its objects were drawn, and the masks to go on from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from jointformer.session.book import Book, disjoint, half_kind
from jointformer.session.confidence import Trust
from jointformer.session.plan import Known, neighbours
from jointformer.session.sides import floats, with_background
from jointformer.track.segmentation import Segmentation
from jointformer.types import Mask

#: Frames with masks of objects in them.
Shown = list[tuple[int, dict[int, Mask]]]


@dataclass(frozen=True)
class Lead:
    """The beginning of a run.

    shown: frames to be tracked first, the last one being that from which objects are tracked on; empty where there is
    none. own: the ids whose masks there are the user's. pinned: drawn frames near by, as permanent memory. trust: what
    each object is held against: the first mask of the user's that is shown, and how sure its state is.
    """

    shown: Shown
    own: list[int]
    pinned: Shown
    trust: dict[int, Trust]


def make_lead(
    book: Book,
    known: Mapping[int, Known],
    visible: Mapping[int, tuple[int, ...]],
    frames: range,
    origin: int,
    ids: list[int],
    bit: int,
    *,
    pins: int,
) -> Lead:
    """The lead of frames that are tracked from another frame, the origin, in their order.

    ids: the objects to be tracked from there. visible: the frames where each was drawn and is to be seen. bit: the side
    from which they are tracked. pins: how many drawn frames may be pinned besides the first memory.
    """
    state = _state(book, visible, origin, ids, bit)
    shown = [*_prelude(book, visible, origin, state), (origin, state)] if state else []
    own = [i for i in state if origin in known[i].drawn]
    # Frames with masks of the user's stay in the memory by themselves, but for the first they count.
    staying = [frame for frame, _ in shown if frame != origin or own]
    pinned = _near(book, known, frames, list(state), {frame for frame, _ in shown}, pins + 1 - len(staying))
    return Lead(shown, own, pinned, _trust(book, known, origin, shown))


def _state(book: Book, visible: Mapping[int, tuple[int, ...]], frame: int, ids: list[int], bit: int) -> dict[int, Mask]:
    """The masks from which objects are tracked on: the user's, else what was seen from this side, else results.

    As in a frame's result, what the user drew takes its pixels from all other masks.
    """
    drawn, results = book.drawn(frame), book.results(frame)
    half = book.maps(half_kind(bit), frame)
    seen = {} if half is None else Segmentation(half.ids, with_background(floats(half)), book.size).masks
    found = {i: result.mask for i, result in results.items()} | seen
    masks = disjoint(drawn, {i: found[i] for i in ids if i in found}, book.size)
    return {i: masks[i] for i in ids if i in masks and (masks[i].any() or visible[i])}


def _prelude(book: Book, visible: Mapping[int, tuple[int, ...]], origin: int, state: dict[int, Mask]) -> Shown:
    """Frames to begin with where objects' masks at the origin are not the user's: their nearest drawn frames."""
    frames: dict[int, dict[int, Mask]] = {}
    for i in state:
        if visible[i] and origin not in visible[i]:
            frame = min(visible[i], key=lambda f: abs(f - origin))
            mask = book.drawn_mask(frame, i)
            if mask is not None:
                frames.setdefault(frame, {})[i] = mask
    return sorted(frames.items(), key=lambda item: -abs(item[0] - origin))


def _near(book: Book, known: Mapping[int, Known], frames: range, ids: list[int], shown: set[int], most: int) -> Shown:
    """The nearest drawn frames on both sides of the frames to come, with their masks, but for those that are shown."""
    drawn = sorted({f for i in ids for f in known[i].drawn} - set(frames) - shown)
    earlier, later = neighbours(drawn, min(frames))[0], neighbours(drawn, max(frames))[1]
    near = (later, earlier) if frames.step > 0 else (earlier, later)
    pinned = [f for f in near if f is not None][: max(0, most)]
    return [(frame, {i: m for i, m in book.drawn(frame).items() if i in ids}) for frame in pinned]


def _trust(book: Book, known: Mapping[int, Known], origin: int, shown: Shown) -> dict[int, Trust]:
    trust: dict[int, Trust] = {}
    for _, masks in shown:
        for i, mask in masks.items():
            trust.setdefault(i, Trust(float(mask.mean())))
    for i, result in book.results(origin).items():
        if i in trust and origin not in known[i].drawn:
            trust[i].level = result.confidence
    return trust
