"""One run of tracking: pieces of video from one side or the other, joined where both sides know the object."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Generator, Iterator
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from jointformer.data.video import video_title
from jointformer.session.book import Book, Tracked, half_kind, outside
from jointformer.session.confidence import ABSENT, Trust, combined, soft_jaccard
from jointformer.session.lead import make_lead
from jointformer.session.packing import SoftMaps
from jointformer.session.plan import BACKWARD, FORWARD, JOINED, Direction, Plan, distance_weight
from jointformer.session.sides import floats, mixed, quantised, with_background, with_others
from jointformer.session.source import FrameCache
from jointformer.session.store import Kind
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.loop import Steps, Stopwatch, iter_segmentations
from jointformer.track.segmentation import Segmentation
from jointformer.types import Mask

logger = logging.getLogger(__name__)


class SessionTracker(Steps, Protocol):
    """A Tracker, as far as a session needs it."""

    def step(
        self,
        frame: FrameLike,
        masks: MasksLike | None = None,
        *,
        last: bool = False,
        pinned: Collection[int] | None = None,
    ) -> Segmentation:
        """Return the next frame's segmentation."""

    def add_memory(self, frame: FrameLike, masks: MasksLike) -> None:
        """Remember known objects in a frame from elsewhere."""

    def remove_object(self, object_id: int) -> None:
        """Stop tracking an object."""


class Propagation:
    """Tracks what a plan asks for and writes it into the book, frame by frame.

    First the side opposite to the direction, whose halves are kept compressed, then the direction's own side, which is
    joined with them. It stops when somebody edits the session meanwhile, and can be stopped between any two frames.
    A frame that cannot be read has the masks of the one before it on its side, as under the command's "hold", and is
    kept as held. Where the frame before cannot be read any more either, the video is gone, and the run ends.
    """

    def __init__(
        self,
        book: Book,
        frames: FrameCache,
        plan: Plan,
        direction: Direction,
        new_tracker: Callable[[], SessionTracker],
        *,
        pins: int,
        keep_soft: bool,
    ) -> None:
        self._book = book
        self._frames = frames
        self._plan = plan
        self._final = BACKWARD if direction == "backward" else FORWARD
        self._new_tracker = new_tracker
        self._pins = pins
        self._keep_soft = keep_soft
        self._known = book.known()
        self._visible = {i: book.drawn_frames(i, visible=True) for i in plan.needs}
        self._levels: dict[tuple[int, int], float] = {}  # trust from the first side, until the final one joins
        self._held: set[int] = set()  # frames that could not be read
        self._edit: int | None = None  # until there is something to undo: the network may fail to load
        self._changes = book.store.changes

    def run(self) -> Iterator[int]:
        """Yield each frame as its result is written; frames joined from two sides come twice."""
        try:
            yield from self._blocks()
        finally:
            if self._held:
                text = "%s: %d frames could not be read: each has the masks of the frame beside it"
                logger.warning(text, video_title(self._frames.video), len(self._held))

    def _blocks(self) -> Iterator[int]:
        for block in self._plan.blocks[:: 1 if self._final == FORWARD else -1]:
            for bit in (JOINED - self._final, self._final):
                pieces = self._plan.pieces(block, bit)
                for piece in pieces if bit == FORWARD else reversed(pieces):
                    frames = piece if bit == FORWARD else piece[::-1]
                    while frames:
                        frames = yield from self._track(frames, bit)
                        if self._edited():
                            return
            with self._book.lock, self._book.store.transaction():
                self._book.drop_halves(*block)

    def _edited(self) -> bool:
        with self._book.lock:
            return self._book.store.changes != self._changes

    def _begun(self) -> int:
        """The number of this run's edit, which begins with its first result."""
        if self._edit is None:
            self._edit = self._book.store.begin_edit("track")
            self._changes = self._book.store.changes
        return self._edit

    def _track(self, frames: range, bit: int) -> Generator[int, None, range]:
        """Track frames in their order from the one before the first (see `_origin`), whose masks are known.

        Returns those that are left, to be begun anew: where an object begins that is out of sight there.
        """
        if bit != self._final:
            frames = frames[self._done_before(frames, bit) :]
        if not frames:
            return frames
        origin = self._origin(frames)
        with self._book.lock:
            if self._edited():
                return frames
            ids = [i for i in self._plan.needs if self._begins(i, origin, frames, bit)]
            lead = make_lead(self._book, self._known, self._visible, frames, origin, ids, bit, pins=self._pins)
        tracker, before, watch = self._new_tracker(), None, Stopwatch()
        good: int | None = None  # the last frame that could be read
        for frame, masks in lead.shown:
            # What is no mask of the user's may not displace those that are: a stopped run would go on differently.
            pinned = lead.own if frame == origin else None
            before = tracker.step(self._frames[frame], masks, pinned=pinned)
        for frame, masks in lead.pinned:
            tracker.add_memory(self._frames[frame], masks)

        for frame, seen in iter_segmentations(
            tracker,
            self._frames.iter(frames),
            lambda frame, tracked: self._given_at(frame, _behind(frames, frame), bit, tracked),
            last=frames[-1],
            watch=watch,
            on_bad_frame="hold",
            before=before,
        ):
            held = watch.bad_frames > 0
            watch.bad_frames = 0
            if held:
                if frame - frames.step not in self._held:
                    self._frames.check(origin if good is None else good)
                self._held.add(frame)
            else:
                good = frame
            if not self._keep(frame, seen, bit, lead.trust, held):
                break
            yield frame
            ahead = _behind(frames, frame)
            if self._begins_unseen(frame, ahead, bit, tracker.object_ids):
                return ahead
            if ahead:
                for i in [i for i in tracker.object_ids if not self._goes_on(i, ahead, bit)]:
                    tracker.remove_object(i)
        return frames[:0]

    def _origin(self, frames: range) -> int:
        """The frame before these; of those that an earlier run has held, the one whose masks they have."""
        before = range(frames[0] - frames.step, -1 if frames.step > 0 else len(self._frames.video), -frames.step)
        drawn = {frame for known in self._known.values() for frame in known.drawn}
        return next((frame for frame in before if frame in drawn or self._frames.readable(frame)), before[0])

    def _begins(self, i: int, origin: int, frames: range, bit: int) -> bool:
        """Whether an object is to be tracked from the frame before these; not from masks that are out of date."""
        known = self._known[i]
        stands = origin in known.drawn or bool(known.done[origin])
        return self._goes_on(i, frames, bit) and (stands or frames[0] not in known.drawn)

    def _goes_on(self, i: int, frames: range, bit: int) -> bool:
        """Whether an object is to be tracked on into these frames: into the first, or through the user's masks there.

        Nothing is to be found where the user gave a mask, but it corrects what is tracked beyond it.
        """
        drawn = self._known[i].drawn
        first = next((frame for frame in frames if frame not in drawn), None)
        return first is not None and bool(self._plan.needs[i][first] & bit)

    def _begins_unseen(self, frame: int, ahead: range, bit: int, tracked: tuple[int, ...]) -> bool:
        """Whether an object is to be tracked on from a frame where the user says that it is out of sight.

        The tracker, which does not know it yet, cannot begin it there: it must be shown a frame with the object first.
        """
        return bool(ahead) and any(
            need[ahead[0]] & bit and i not in tracked and frame in self._known[i].drawn and self._visible[i]
            for i, need in self._plan.needs.items()
        )

    def _done_before(self, frames: range, bit: int) -> int:
        """How many of the first frames an interrupted run has already seen from this side."""
        for count, frame in enumerate(frames):
            with self._book.lock:
                half = self._book.maps(half_kind(bit), frame)
            if half is None or not set(half.ids) >= set(self._plan.ids(frame, bit)):
                return count
        return len(frames)

    def _given_at(self, frame: int, ahead: range, bit: int, tracked: tuple[int, ...]) -> dict[int, Mask] | None:
        """The user's masks of objects that are tracked in a frame or begin there, for the frames ahead."""
        with self._book.lock:
            # After an edit, whose run ends with this frame, there may be objects that it does not know.
            drawn = {} if self._edited() else self._book.drawn(frame)
        return {i: m for i, m in drawn.items() if i in tracked or (m.any() and self._goes_on(i, ahead, bit))} or None

    def _keep(self, frame: int, seen: Segmentation, bit: int, trust: dict[int, Trust], held: bool) -> bool:
        """Write what one side shows of a frame, joined with the other side's half if this is the final side.

        held: the frame could not be read, so nobody can be sure of it.
        """
        final = bit == self._final
        ids = self._plan.ids(frame) if final else self._plan.ids(frame, bit)
        half = self._book.maps(half_kind(JOINED - bit), frame) if final else None
        whole = self._joined(frame, ids, seen, half, bit)
        drawn = self._book.drawn(frame)
        free = outside(drawn.values(), self._book.size)  # the user's own masks are never painted over
        for i, mask in drawn.items():
            # Where an object is out of sight says nothing of how large it will be.
            trust[i] = Trust(float(mask.mean()) if mask.any() or i not in trust else trust[i].area)
        # What the other side alone has found keeps its confidence, held against the mask that it came from.
        other = self._book.results(frame) if ids != self._plan.ids(frame, bit) else {}
        found = {}
        for i, expected, area in zip(whole.ids, *soft_jaccard(whole.prob)):
            need = int(self._plan.needs[i][frame])
            if not need & bit and i in other:
                confidence = other[i].confidence
            else:
                confidence = self._confidence(frame, i, bit, trust.setdefault(i, Trust(area)), expected, area)
            confidence = 0.0 if held else confidence
            if final or need == bit or not self._known[i].done[frame]:
                sides = need if final else bit
                mask = whole.masks[i] & free
                found[i] = mask, confidence if mask.any() else min(confidence, ABSENT), sides
        with self._book.lock:
            if self._edited():
                return False
            with self._book.store.transaction():
                at = self._begun()
                results = {i: Tracked(mask, sure, at, sides, held) for i, (mask, sure, sides) in found.items()}
                self._book.put_results(frame, results, at)
                if not final:
                    self._book.put_maps(half_kind(bit), frame, quantised(whole), None)
                if self._keep_soft and found:
                    kept = self._book.maps(Kind.SOFT, frame)
                    self._book.put_maps(Kind.SOFT, frame, with_others(quantised(whole, found), kept, self._known), at)
        return True

    def _confidence(self, frame: int, i: int, bit: int, trust: Trust, expected: float, area: float) -> float:
        """An object's confidence in a frame; between two masks of the user's both sides' trust counts."""
        now = trust.update(expected, area)
        level = trust.level
        if bit != self._final:
            if self._plan.needs[i][frame] == JOINED:
                self._levels[frame, i] = level
        elif (frame, i) in self._levels:
            near = distance_weight(self._known[i].drawn, frame)
            mine = near if bit == FORWARD else 1 - near
            level = mine * level + (1 - mine) * self._levels.pop((frame, i))
        return combined(now, level)

    def _joined(self, frame: int, ids: list[int], seen: Segmentation, half: SoftMaps | None, bit: int) -> Segmentation:
        """The objects asked for, each from the side that knows it, or both weighted by distance and confidence."""
        if tuple(ids) == seen.ids and half is None:
            return seen
        ours = {i: (seen.prob[n + 1], c) for n, (i, c) in enumerate(zip(seen.ids, soft_jaccard(seen.prob)[0]))}
        theirs: dict[int, tuple[Tensor, float]] = {}
        if half is not None:
            maps = floats(half).to(seen.prob)
            sure = soft_jaccard(with_background(maps))[0]
            theirs = {i: (maps[n], c) for n, (i, c) in enumerate(zip(half.ids, sure))}
        nothing = (torch.zeros_like(seen.prob[0]), 0.0)
        both = self._plan.pair(frame)
        rows = []
        for i in ids:
            if i in both and i in ours and i in theirs:
                near = distance_weight(self._known[i].drawn, frame)
                rows.append(mixed(ours[i], theirs[i], near if bit == FORWARD else 1 - near))
            else:
                need = int(self._plan.needs[i][frame])
                first, second = (ours, theirs) if need & bit else (theirs, ours)
                rows.append(first.get(i, second.get(i, nothing))[0])
        stack = torch.stack(rows) if rows else seen.prob[:0]
        return replace(seen, ids=tuple(ids), prob=with_background(stack))


def _behind(frames: range, frame: int) -> range:
    """The frames of a range behind one of them."""
    return frames[frames.index(frame) + 1 :]
