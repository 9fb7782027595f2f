"""The sets of stills that clips are made from, a row each: how often one serves for what, what its regions are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ClipSet:
    """backdrop, cutout: how often a still of the set, among all sets, is the background, or gives what is pasted.

    regions: `things`: each is a whole thing; `parts`: they are parts of one thing, which is their union; `pieces`: of
    a picture that people have divided, of which one, or some neighbours, may look like a thing.
    """

    backdrop: float
    cutout: float
    regions: Literal["things", "parts", "pieces"]


#: By their names in the column `set` of a manifest.
SETS = {
    "bsds500": ClipSet(5.0, 2.0, "pieces"),
    "coco_small": ClipSet(3.0, 2.5, "things"),
    "ccp": ClipSet(1.2, 3.0, "parts"),
    "carparts": ClipSet(1.0, 1.2, "parts"),
    "dogcat": ClipSet(0.7, 0.8, "things"),
}
#: What any other set is taken for.
OTHER = ClipSet(0.7, 0.7, "pieces")


def clip_set(name: str) -> ClipSet:
    """The row of a set."""
    return SETS.get(name, OTHER)
