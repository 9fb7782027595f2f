"""J and F of one object in one frame, computed inside the box around both masks.

Outside that box both masks and both contours are empty, so the values are those of the whole picture exactly;
`tests/metrics/test_golden_frames.py` holds them against the plain functions.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from jointformer.metrics.boundary import ContourRule, boundary_score, contour, disk
from jointformer.ops.label_maps import object_ids
from jointformer.types import LabelMap, UInt8Array


def region_and_boundary(
    prediction: UInt8Array, truth: UInt8Array, reach: int | None, rule: ContourRule = "plain"
) -> tuple[float, float]:
    """J and F, both in [0, 1], of two (H, W) masks of 0 and 1.

    `reach` is the distance in pixels within which contours agree (`boundary.tolerance` of the whole
    picture); F is NaN where it is None. The masks may be cut out of the picture by `surroundings`.
    """
    union = prediction | truth
    box = surroundings(union)
    if box is None:
        return 1.0, 1.0 if reach is not None else math.nan
    small, small_truth = prediction[box], truth[box]
    pixels, common = cv2.countNonZero(union), cv2.countNonZero(small & small_truth)
    if reach is None:
        return common / pixels, math.nan
    if common == pixels:  # equal masks have equal contours
        return 1.0, 1.0
    return common / pixels, boundary_score(contour(small, rule), contour(small_truth, rule), disk(reach))


def surroundings(*maps: UInt8Array) -> tuple[slice, slice] | None:
    """The slices of the box around the maps' non-zero pixels and one pixel more on each side; None without any.

    The pixel more is there because a contour lies above and left of its edge, and because the last row and
    column of a picture follow another rule, which must only apply where the box ends with the picture.
    """
    boxes = [box for box in map(cv2.boundingRect, maps) if box[2]]
    if not boxes:
        return None
    top, left = min(y for _, y, _, _ in boxes), min(x for x, _, _, _ in boxes)
    bottom, right = max(y + h for _, y, _, h in boxes), max(x + w for x, _, w, _ in boxes)
    return slice(max(top - 1, 0), bottom + 1), slice(max(left - 1, 0), right + 1)


def mask_of(labels: LabelMap, object_id: int) -> UInt8Array:
    """The (H, W) mask of 0 and 1 of one object in a label map."""
    mask: UInt8Array = (labels == object_id).view(np.uint8)
    return mask


def labels_in(labels: UInt8Array) -> list[int]:
    """The sorted labels that occur in an (H, W) uint8 label map, background left out."""
    return list(object_ids(labels))
