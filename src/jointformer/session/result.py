"""What a session tells about one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import numpy as np

from jointformer.ops.label_maps import slots_to_label_map
from jointformer.types import LabelMap, Mask

#: none: nothing known; annotated: the user gave a mask; tracked: up to date; half: seen from one of two sides so far;
#: stale: an edit since then would change it; partial: an object drawn in an earlier frame was not tracked here; held:
#: the frame could not be read and has the masks of the one beside it.
Status = Literal["none", "annotated", "tracked", "half", "stale", "partial", "held"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class FrameResult:
    """The masks of one frame: the user's where given, else tracked ones. They do not overlap.

    masks: {object id: (H, W) bool}. confidence: {id: [0, 1]}, 1 for the user's own masks. drawn: ids of the user's own.
    """

    frame: int
    size: tuple[int, int]
    masks: Mapping[int, Mask]
    confidence: Mapping[int, float]
    drawn: frozenset[int]
    status: Status

    @property
    def ids(self) -> tuple[int, ...]:
        """Ids of the objects with a mask here (which may be empty), ascending."""
        return tuple(self.masks)

    @cached_property
    def label_map(self) -> LabelMap:
        """The (H, W) label map of object ids: uint8 where they allow, else uint16 or int64."""
        slots = np.zeros(self.size, np.int32)
        for slot, mask in enumerate(self.masks.values(), 1):
            slots[mask] = slot
        return slots_to_label_map(slots, list(self.masks))
