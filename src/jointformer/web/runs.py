"""Masks on the wire: lengths of runs along the rows, the first of background, as JSON numbers."""

from __future__ import annotations

import numpy as np

from jointformer.errors import DataError
from jointformer.types import Mask, pixels_text


def encode_runs(mask: Mask) -> list[int]:
    """Return the lengths of an (H, W) mask's runs, row by row, in turn outside and inside, beginning outside."""
    flat = np.concatenate([[False], mask.ravel()])
    edges = np.flatnonzero(flat[1:] != flat[:-1])
    lengths: list[int] = np.diff(np.concatenate([[0], edges, [mask.size]])).tolist()
    return lengths


def decode_runs(runs: object, size: tuple[int, int]) -> Mask:
    """Return the (H, W) bool mask of such lengths. Raises DataError where they are none or do not fill the frame."""
    pixels = size[0] * size[1]
    if not isinstance(runs, list) or len(runs) > pixels + 1 or any(type(n) is not int for n in runs):
        raise DataError("a mask", expected="a list of run lengths")
    # Checked before numpy sees them: its integers would wrap around.
    if any(n < 0 or n > pixels for n in runs) or sum(runs) != pixels:
        raise DataError("a mask of another size", expected=f"{pixels_text(size)} pixels")
    return np.repeat(np.arange(len(runs)) % 2 == 1, np.asarray(runs, np.int64)).reshape(size)
