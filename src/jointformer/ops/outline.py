"""A mask as one closed outline."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from jointformer.types import Mask

Points = npt.NDArray[np.int32]


def outline(mask: Mask) -> Points:
    """Return the closed outline (n, 2) int32 of an (H, W) mask, as x, y of pixels; (0, 2) for an empty mask.

    Parts and holes are joined by lines that go there and back where they are nearest. Filled by the even-odd rule, with
    its border (as cv2.fillPoly does), it is the mask again, but for such lines between parts, one pixel wide. At least
    three points, some of them equal where the mask is a pixel or a straight line.
    """
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    if not found:
        return np.zeros((0, 2), np.int32)
    points = _without_straight_steps(_joined([ring.reshape(-1, 2) for ring in found]))
    return np.asarray(np.resize(points, (3, 2)) if len(points) < 3 else points, np.int32)


def _joined(rings: list[Points]) -> Points:
    """All rings as one. The nearest comes next, so that no line to a ring leads across another one."""
    trees = [cKDTree(ring) for ring in rings]
    low, high = (np.asarray([side(ring, axis=0) for ring in rings]) for side in (np.min, np.max))
    apart = np.ones(len(rings), bool)
    distance = np.full(len(rings), np.inf)  # of each ring to those that are joined already
    meeting = [(0, rings[0][0])] * len(rings)  # its point there, and the point of theirs
    joined, newest = rings[0], 0
    apart[newest] = False
    while apart.any():
        gap = np.hypot(*np.maximum(low - high[newest], low[newest] - high).clip(0).T)
        for i in np.flatnonzero(apart & (gap < distance)).tolist():
            between, here, there = _nearest(rings, trees, i, newest)
            if between < distance[i]:
                distance[i], meeting[i] = between, (here, rings[newest][there])
        newest = int(np.argmin(np.where(apart, distance, np.inf)))
        apart[newest] = False
        here, partner = meeting[newest]
        at = int(np.argmax((joined == partner).all(1)))
        ring = rings[newest]
        joined = np.concatenate([joined[: at + 1], ring[here:], ring[: here + 1], joined[at:]])
    return joined


def _nearest(rings: list[Points], trees: list[cKDTree], one: int, other: int) -> tuple[float, int, int]:
    """How far apart two rings are, and the numbers of the two points."""
    if len(rings[one]) > len(rings[other]):
        between, there, here = _nearest(rings, trees, other, one)
        return between, here, there
    distances, found = trees[other].query(rings[one])
    here = int(np.argmin(distances))
    return float(distances[here]), here, int(found[here])


def _without_straight_steps(points: Points) -> Points:
    """Points that lie in the middle of two equal steps say nothing."""
    steps = np.diff(points, axis=0, append=points[:1])
    turns = (steps != np.roll(steps, 1, axis=0)).any(1)
    return points[turns] if turns.any() else points
