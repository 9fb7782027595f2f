"""F, boundary accuracy: how well two contours agree within a small distance (DAVIS 2016, section 5.1).

The contour of a mask is the set of pixels whose value differs from the right, the lower or the lower right
neighbour. It is one pixel wide, lies above and left of an edge, and does not run along the picture's border.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import cv2
import numpy as np

from jointformer.types import Mask, UInt8Array

#: Share of the picture's diagonal within which two contours agree.
BOUND = 0.008

#: `plain`: every toolkit. `compiled`: lvos-evaluation with its optional extension, another contour.
ContourRule = Literal["plain", "compiled"]

_SQUARE = np.ones((2, 2), np.uint8)


def tolerance(height: int, width: int) -> int:
    """The distance in pixels within which contours of an image of this size agree: 8 at 854x480."""
    return math.ceil(BOUND * math.sqrt(height * height + width * width))


def contour(mask: UInt8Array, rule: ContourRule = "plain") -> UInt8Array:
    """The (H, W) contour, 0 or 1, of an (H, W) mask of 0 and 1.

    The last row looks only to the right, the last column only down, the last pixel is never contour. The rule
    `compiled` marks "pixel xor any of the three neighbours", which loses the right and lower sides.
    """
    if rule == "plain":
        # "Not all alike" is the largest minus the smallest of the pixel and its three neighbours; OpenCV
        # leaves neighbours outside the picture out of both, which is the rule for the last row and column.
        return cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, _SQUARE, anchor=(0, 0))
    edge = mask.copy()
    others = np.zeros_like(mask)
    others[:-1] |= mask[1:]
    others[:, :-1] |= mask[:, 1:]
    others[:-1, :-1] |= mask[1:, 1:]
    edge ^= others
    edge[-1, -1] = 0
    return edge


@lru_cache(maxsize=64)
def disk(radius: int) -> UInt8Array:
    """The (2r+1, 2r+1) element of 0 and 1 that holds all whole offsets with dy² + dx² <= r²."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius * radius).astype(np.uint8)


def boundary_score(prediction: UInt8Array, truth: UInt8Array, element: UInt8Array) -> float:
    """F in [0, 1] of two contours of 0 and 1: the harmonic mean of precision and recall.

    `element` is what contours are dilated with. The conventions count contour pixels: F is 1 where neither
    contour has any, 0 where only one has.
    """
    predicted, true = cv2.countNonZero(prediction), cv2.countNonZero(truth)
    if not predicted or not true:
        return 1.0 if predicted == true else 0.0
    precision = cv2.countNonZero(prediction & cv2.dilate(truth, element)) / predicted
    recall = cv2.countNonZero(truth & cv2.dilate(prediction, element)) / true
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def boundary_accuracy(prediction: Mask, truth: Mask, void: Mask | None = None, rule: ContourRule = "plain") -> float:
    """F in [0, 1] of two (H, W) bool masks, computed plainly on the whole picture.

    Pixels of `void` become background in both masks first, so the rim of a void region can be contour.
    Scoring uses `pairs.region_and_boundary`, which gives the same numbers from the masks' surroundings
    alone.
    """
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    element = disk(tolerance(*truth.shape))
    edges = [contour(np.ascontiguousarray(mask).view(np.uint8), rule) for mask in (prediction, truth)]
    return boundary_score(edges[0], edges[1], element)
