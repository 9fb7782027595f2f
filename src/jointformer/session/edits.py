"""What a person changes: masks of frames, objects, and taking changes back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from jointformer.errors import DataError
from jointformer.session.book import Book, ObjectInfo
from jointformer.session.plan import neighbours
from jointformer.session.store import Kind
from jointformer.track.frames import MasksLike, empty_mask, masks_by_id
from jointformer.types import Colour, Mask


class Edits:
    """Edits of a book, as `Session` tells them. Each is one entry of the history.

    An edit of masks also notes which results it puts out of date.
    """

    def __init__(self, book: Book) -> None:
        self._book, self._store = book, book.store

    def add_masks(self, frame: int, masks: MasksLike, infos: Sequence[ObjectInfo] = ()) -> None:
        """Give masks of a frame that exists; infos: names and colours of objects that are new. Raises DataError."""
        self.add_frames([(frame, masks)], infos)

    def add_frames(self, given: Iterable[tuple[int, MasksLike]], infos: Sequence[ObjectInfo] = ()) -> None:
        """Give masks of several frames in one step of the history, all or none of them; see `add_masks`.

        Masks that are the user's already put nothing out of date; where all are, there is no edit.
        """
        with self._book.lock, self._store.transaction():
            at: int | None = None
            for frame, masks, free, new in self._checked(given, infos):
                drawn = self._book.drawn(frame)
                given_now = masks | {i: mask & free for i, mask in drawn.items() if i not in masks}
                changed = {i for i, m in given_now.items() if i not in drawn or not np.array_equal(m, drawn[i])}
                if not changed:
                    continue
                if at is None:  # not before: what is refused at once, or changes nothing, would end a run
                    at = self._edit("masks")
                for info in new:
                    self._book.put_object(info, at)
                for i in changed & masks.keys():
                    self._mark_stale(at, i, frame)
                self._book.put_drawn(frame, given_now, at)

    def clear_masks(self, frame: int, object_id: int | None = None) -> None:
        """Take the user's masks of a frame (of one object) back. Raises DataError where there are none.

        An object's results go with the last mask that shows it: nothing could bring them up to date.
        """
        with self._book.lock:
            ids = [i for i in self._book.drawn(frame) if object_id in (None, i)]
            if not ids:
                raise DataError(
                    f"no mask of the user's in frame {frame}", got=f"annotated frames {self._book.drawn_frames()}"
                )
            with self._store.transaction():
                at = self._edit("clear")
                for i in ids:
                    self._mark_stale(at, i, frame)
                    self._store.delete(Kind.MASK, at=at, frame=frame, object_id=i)
                    if not self._book.drawn_frames(i, visible=True):
                        self._store.delete(Kind.RESULT, at=at, object_id=i)

    def remove_object(self, object_id: int) -> None:
        """Forget an object in all frames. Raises DataError for an id that is none."""
        with self._book.lock:
            self._object(object_id)
            with self._store.transaction():
                at = self._edit("remove")
                for kind in (Kind.OBJECT, Kind.MASK, Kind.RESULT):
                    self._store.delete(kind, at=at, object_id=object_id)

    def set_object(self, object_id: int, *, name: str | None = None, colour: Colour | None = None) -> ObjectInfo:
        """Return an object with another name or (red, green, blue) colour. Raises DataError, ConfigError."""
        with self._book.lock:
            old = self._object(object_id)
            chosen: Any = old.colour if colour is None else colour  # ObjectInfo checks it
            chosen = tuple(chosen) if isinstance(chosen, Iterable) else chosen
            info = replace(old, name=old.name if name is None else name, colour=chosen)
            if info == old:
                return old
            with self._store.transaction():
                self._book.put_object(info, self._store.begin_edit("object", of_masks=False))
        return info

    def undo(self) -> str | None:
        """Take back the newest edit or tracking run and return its label; None where there is none."""
        with self._book.lock, self._store.transaction():
            return self._without_halves(self._store.undo())

    def redo(self) -> str | None:
        """Do again what was undone last and return its label; None where there is none."""
        with self._book.lock, self._store.transaction():
            return self._without_halves(self._store.redo())

    # -- inside

    def _checked(
        self, given: Iterable[tuple[int, MasksLike]], infos: Sequence[ObjectInfo]
    ) -> Iterator[tuple[int, dict[int, Mask], Mask, list[ObjectInfo]]]:
        """Frames, their masks without overlaps, the pixels of no mask, and the objects that are new."""
        named = {info.id: info for info in infos}
        for frame, masks in given:
            apart: dict[int, Mask] = {}
            free = np.ones(self._book.size, bool)
            for i, mask in masks_by_id(masks, *self._book.size).items():
                apart[i] = mask & free
                free &= ~mask
            known = self._book.objects()
            for i in apart:
                if i not in known and not apart[i].any():
                    raise empty_mask(i, masks)
            yield frame, apart, free, [named.get(i) or ObjectInfo.default(i) for i in apart if i not in known]

    def _edit(self, label: str) -> int:
        """Begin an edit of masks: halves seen before it are worth nothing after it."""
        self._book.drop_halves()
        return self._store.begin_edit(label)

    def _without_halves(self, changed: str | None) -> str | None:
        """Forget halves after an undo or redo, unless there was nothing to do: a run may go on with them then."""
        if changed is not None:
            self._book.drop_halves()
        return changed

    def _mark_stale(self, at: int, object_id: int, frame: int) -> None:
        """An object's mask in a frame counts up to the object's next annotated frame on either side."""
        before, after = neighbours(self._book.drawn_frames(object_id), frame)
        low = 0 if before is None else before + 1
        high = self._book.length - 1 if after is None else after - 1
        self._store.mark_stale(at, object_id, low, high)

    def _object(self, object_id: int) -> ObjectInfo:
        objects = self._book.objects()
        if object_id not in objects:
            raise DataError(f"no object {object_id}", expected=f"one of {list(objects)}")
        return objects[object_id]
