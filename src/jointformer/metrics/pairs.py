"""J and F of one object in one frame, computed inside the box around both masks.

Outside that box both masks and both contours are empty, so the values are those of the whole picture exactly;
``tests/metrics/test_pairs.py`` holds them against the plain functions.
"""

from __future__ import annotations

import cv2
import numpy as np

from jointformer.metrics.boundary import ContourRule, boundary_score, contour, disk, tolerance
from jointformer.types import UInt8Array


def region_and_boundary(
    prediction: UInt8Array, truth: UInt8Array, rule: ContourRule = "plain", with_boundary: bool = True
) -> tuple[float, float]:
    """J and F, both in [0, 1], of two (H, W) masks of 0 and 1; F is NaN without ``with_boundary``."""
    box = surroundings(prediction | truth)
    if box is None:
        return 1.0, 1.0 if with_boundary else float("nan")
    small, small_truth = prediction[box], truth[box]
    common = cv2.countNonZero(small & small_truth)
    union = cv2.countNonZero(small | small_truth)
    region = common / union
    if not with_boundary:
        return region, float("nan")
    if common == union:  # equal masks have equal contours
        return region, 1.0
    element = disk(tolerance(*truth.shape))
    return region, boundary_score(contour(small, rule), contour(small_truth, rule), element)


def surroundings(mask: UInt8Array) -> tuple[slice, slice] | None:
    """The slices of the box around all non-zero pixels and one pixel more on each side; None without any.

    The pixel more is there because a contour lies above and left of its edge, and because the last row and
    column of a picture follow another rule, which must only apply where the box ends with the picture.
    """
    x, y, width, height = cv2.boundingRect(mask)
    if width == 0 or height == 0:
        return None
    return slice(max(y - 1, 0), y + height + 1), slice(max(x - 1, 0), x + width + 1)


def mask_of(labels: UInt8Array, object_id: int) -> UInt8Array:
    """The (H, W) mask of 0 and 1 of one object in a label map."""
    mask: UInt8Array = (labels == object_id).view(np.uint8)
    return mask


def labels_in(labels: UInt8Array) -> list[int]:
    """The sorted labels that occur in an (H, W) uint8 label map, background left out."""
    counts = cv2.calcHist([np.ascontiguousarray(labels)], [0], None, [256], [0, 256])
    return [int(label) for label in np.flatnonzero(counts.ravel()) if label]
