"""COCO's compressed run lengths <-> masks (BURST's json keeps its masks so)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from jointformer.errors import DataError
from jointformer.types import Mask


def encode_rle(mask: npt.NDArray) -> str:
    """The compressed run lengths (column by column) of an (H, W) mask, true where it is not zero."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"]
    return counts.decode("ascii")


def decode_rle(counts: str, size: tuple[int, int]) -> Mask:
    """The (H, W) bool mask of compressed run lengths. Raises `DataError` where they do not fill `size`.

    Not pycocotools' decoder: it writes behind the mask where the runs of a damaged file are too long.
    """
    runs = _runs(counts)
    if runs is None or not _fills(runs, size):
        raise DataError("damaged run lengths of a mask", expected=f"{size[1]}x{size[0]} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(size[1], size[0]).T)


def fills(counts: str, size: tuple[int, int]) -> bool:
    """Whether compressed run lengths are those of a mask of (H, W): only then may pycocotools have them."""
    runs = _runs(counts)
    return runs is not None and _fills(runs, size)


def _fills(runs: npt.NDArray[np.int64], size: tuple[int, int]) -> bool:
    return not (runs < 0).any() and int(runs.sum()) == size[0] * size[1]


def _runs(counts: str) -> npt.NDArray[np.int64] | None:
    """The lengths of the runs; None where the text is none of COCO's.

    Each number is written in characters of 5 bits, lowest first, bit 5 saying that another one follows and
    bit 4 of the last one being the sign; from the fourth number on it is the difference to the one before
    the last.
    """
    try:
        codes = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except (UnicodeEncodeError, AttributeError):
        return None
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        return None
    ends = np.flatnonzero(codes & 32 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts).max() > 6:  # 35 bits: no picture has runs that long
        return None
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    numbers = np.add.reduceat((codes & 31) << (5 * place), starts)
    numbers -= np.where(codes[ends] & 16, np.int64(1) << (5 * (place[ends] + 1)), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
