"""MOSE V2's own J and F (MOSE-api): a smoothed J, and an F whose distance adapts to small objects."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import groupby

import cv2
import numpy as np

from jointformer.metrics.boundary import BOUND, boundary_score, contour, disk
from jointformer.metrics.pairs import surroundings
from jointformer.types import UInt8Array


def smoothed_scores(prediction: UInt8Array, truth: UInt8Array, diagonal: float) -> tuple[float, float, float]:
    """J, F and adaptive F of two masks of 0 and 1 from a picture with this diagonal in pixels.

    J = (I + 1) / (U + 1). The adaptive distance is a tenth of the square root of the true area; where that is
    not below 0.008 of the diagonal, and where the truth is empty, both F use that distance without rounding
    it.
    """
    box = surroundings(prediction, truth)
    if box is None:
        return 1.0, 1.0, 1.0
    small, small_truth = prediction[box], truth[box]
    common = cv2.countNonZero(small & small_truth)
    union = cv2.countNonZero(small | small_truth)
    width = BOUND * diagonal
    narrow = math.ceil(0.1 * math.sqrt(cv2.countNonZero(small_truth)))
    edges = contour(small), contour(small_truth)
    if 0 < narrow < width:
        plain = boundary_score(*edges, disk(math.ceil(width)))
        adaptive = boundary_score(*edges, disk(narrow))
    else:
        plain = adaptive = boundary_score(*edges, lopsided_disk(width))
    return (common + 1) / (union + 1), plain, adaptive


@lru_cache(maxsize=64)
def lopsided_disk(radius: float) -> UInt8Array:
    """The element of offsets -r, -r + 1, … within r: with a broken r it is not symmetric about its anchor."""
    offsets = np.arange(-radius, radius + 1)
    return (offsets[:, None] ** 2 + offsets[None, :] ** 2 <= radius**2).astype(np.uint8)


def stretches(visible: Sequence[bool]) -> tuple[list[list[int]], list[list[int]]]:
    """The runs of frame indices in which the object is gone after having been seen, and those after a return.

    An object that is absent from the start has not disappeared, but does return.
    """
    gone: list[list[int]] = []
    back: list[list[int]] = []
    for present, run in groupby(range(len(visible)), key=lambda index: visible[index]):
        indices = list(run)
        if indices[0] == 0:
            continue
        (back if present else gone).append(indices)
    return gone, back


def stretch_mean(values: Sequence[float], runs: list[list[int]]) -> float:
    """The mean over runs of each run's mean value; NaN without runs."""
    means = [float(np.mean([values[index] for index in run])) for run in runs]
    return float(np.mean(means)) if means else math.nan
