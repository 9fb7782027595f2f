"""Plain data that several layers share."""

from __future__ import annotations

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
