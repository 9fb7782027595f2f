"""Label maps to masks and back."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jointformer.errors import DataError
from jointformer.types import LabelMap, pixels_text

#: The largest object id: label maps hold int64, as do the files of sessions.
LARGEST_ID = 2**63 - 1


def object_ids(ids: LabelMap) -> tuple[int, ...]:
    """The ids that a label map names, ascending, without background."""
    if ids.dtype == np.uint8 and ids.size:  # a histogram is many times faster than sorting, OpenCV's than NumPy's
        counts = cv2.calcHist([ids.reshape(1, -1)], [0], None, [256], [0, 256])
        return tuple(int(i) for i in np.flatnonzero(counts) if i)
    return tuple(int(i) for i in np.unique(ids) if i)


def slots_to_label_map(slots: LabelMap, ids: list[int]) -> LabelMap:
    """Return the label map of object ids from one of slots (0 background, n the n-th id); uint8 where ids allow."""
    dtype: type[np.integer] = np.uint8 if max(ids, default=0) <= 255 else np.uint16 if max(ids) <= 65535 else np.int64
    if slots.dtype == dtype and ids == list(range(1, len(ids) + 1)):
        return slots.copy()  # looking every pixel up takes fifty times as long
    table = np.array([0, *ids], dtype=dtype)
    return np.take(table, slots)


def mask_size_differs(where: str | Path | None, expected: Sequence[int], got: Sequence[int]) -> DataError:
    """Return the error of a mask whose shape is not its frame's."""
    return DataError(
        "mask of another size than its frame", where=where, expected=pixels_text(expected), got=pixels_text(got)
    )


def check_label_map(label_map: LabelMap, height: int, width: int, where: str) -> None:
    """Raise DataError unless label_map is a 2-D array of non-negative integers of this size."""
    if label_map.ndim != 2 or label_map.dtype.kind not in "biu":
        got = f"{label_map.dtype} {label_map.shape}"
        raise DataError("of the wrong kind", where=where, expected="a 2-D array of integers", got=got)
    if label_map.shape != (height, width):
        raise mask_size_differs(where, (height, width), label_map.shape)
    if label_map.size and label_map.min() < 0:
        raise DataError("holds what is no id", where=where, expected="ids of 0 and above", got=int(label_map.min()))
