"""Plain data that several layers share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

UInt8Array = npt.NDArray[np.uint8]
FloatArray = npt.NDArray[np.float32]

#: A label map: (H, W) integers, 0 background, otherwise object ids.
LabelMap = npt.NDArray[np.integer[Any]]
#: (red, green, blue), each 0 to 255.
Colour = tuple[int, int, int]
#: One object's region: (H, W) bool.
Mask = npt.NDArray[np.bool_]


def pixels_text(size: Sequence[int]) -> str:
    """Return a picture's size for people: width x height, of an array's shape (H, W, …)."""
    return f"{size[1]}x{size[0]}"
