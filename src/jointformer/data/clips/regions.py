"""Regions of stills chosen to look like whole things."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clips.motion import F64
from jointformer.data.clips.pack import Regions, Still
from jointformer.data.clips.sets import clip_set
from jointformer.types import UInt8Array

I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Region:
    """Some regions of one mask of a still, taken as one thing; area and box in pixels of the still."""

    mask: int
    ids: I64
    area: int
    box: tuple[int, int, int, int]

    @property
    def middle(self) -> tuple[float, float]:
        """x, y of the box's middle."""
        left, top, right, bottom = self.box
        return 0.5 * (left + right - 1), 0.5 * (top + bottom - 1)

    def table(self, value: int = 255) -> UInt8Array:
        """(256,): `value` for the ids of the region, else 0."""
        table = np.zeros(256, np.uint8)
        table[self.ids] = value
        return table


def choose_region(
    rng: np.random.Generator, still: Still, small: float = 0.01, large: float = 0.6, mask: int | None = None
) -> Region | None:
    """A region of the still that could be an object, or None if there is none of a fit size.

    Parts of one thing are mostly united, whole things taken singly, pieces of a picture singly or with some of their
    neighbours (sets.py says which a set's regions are); what touches the picture's border on several sides is
    mostly ground or sky and taken seldom. `small` and `large` bound the share of the picture.
    """
    choice = int(rng.integers(len(still.masks))) if mask is None else mask
    labels, regions = still.masks[choice], still.regions[choice]
    pixels, kind = labels.size, clip_set(still.source).regions
    if kind == "parts":
        picked = regions.ids
        if len(picked) > 1 and rng.random() > 0.75:
            picked = rng.permutation(picked)[: int(rng.integers(1, max(2, len(picked) // 2) + 1))]
    else:
        weight = _objectness(regions, labels.shape[0], labels.shape[1])
        weight[(regions.areas < small * pixels) | (regions.areas > large * pixels)] = 0.0
        edges = np.cumsum(weight)
        if edges[-1] <= 0.0:
            return None
        first = int(regions.ids[min(int(np.searchsorted(edges, rng.random() * edges[-1])), len(edges) - 1)])
        picked = np.asarray([first])
        if kind == "pieces" and rng.random() < 0.5:
            picked = _with_neighbours(rng, labels, first, int(rng.integers(1, 4)))
    rows = np.isin(regions.ids, picked)
    area, boxes = int(regions.areas[rows].sum()), regions.boxes[rows]
    if not small * pixels <= area <= 0.85 * pixels:
        return None
    low, high = boxes[:, :2].min(0), boxes[:, 2:].max(0)
    return Region(choice, picked, area, (int(low[0]), int(low[1]), int(high[0]), int(high[1])))


def _objectness(regions: Regions, height: int, width: int) -> F64:
    boxes = regions.boxes
    sides = (boxes[:, :2] <= 2).sum(1) + (boxes[:, 2] >= width - 2) + (boxes[:, 3] >= height - 2)
    return np.sqrt(regions.areas) * np.asarray([1.0, 0.8, 0.3, 0.1, 0.05])[sides]


def _with_neighbours(rng: np.random.Generator, mask: UInt8Array, first: int, count: int) -> I64:
    """Ids of a connected union: `first` and up to `count` regions, each touching one already in."""
    coarse = np.ascontiguousarray(mask[::6, ::6])
    picked = [first]
    for _ in range(count):
        table = np.zeros(256, np.uint8)
        table[picked] = 1
        inside = np.asarray(cv2.LUT(coarse, table))
        ring = coarse[np.asarray(cv2.dilate(inside, np.ones((3, 3), np.uint8))) > inside]
        around = np.flatnonzero(np.bincount(ring)[1:]) + 1 if len(ring) else ring
        if len(around) == 0:
            break
        picked.append(int(around[int(rng.integers(len(around)))]))
    return np.asarray(picked)
