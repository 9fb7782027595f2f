"""COCO's compressed run lengths <-> masks (BURST's json keeps its masks so)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jointformer.errors import DataError
from jointformer.types import Mask, pixels_text

Numbers = npt.NDArray[np.int64]


def encode_rle(mask: npt.NDArray) -> str:
    """The compressed run lengths (column by column) of an (H, W) mask, true where it is not zero."""
    from pycocotools import mask as coco

    counts: bytes = coco.encode(np.asfortranarray(mask != 0, dtype=np.uint8))["counts"]
    return counts.decode("ascii")


def decode_rle(counts: str, size: tuple[int, int]) -> Mask:
    """The (H, W) bool mask of compressed run lengths. Raises `DataError` where they do not fill `size`.

    Not pycocotools' decoder: it writes behind the mask where the runs of a damaged file are too long.
    """
    found = _runs([counts])
    return mask_of_runs(np.empty(0, np.int64) if found is None else found[0], size)


def mask_of_runs(runs: npt.NDArray, size: tuple[int, int]) -> Mask:
    """The (H, W) bool mask of run lengths, column by column; whole numbers of any size, as int64 or objects.

    Raises `DataError` where they do not fill `size`.
    """
    if (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise DataError("damaged run lengths of a mask", expected=f"{pixels_text(size)} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs.astype(np.int64, copy=False)).reshape(size[1], size[0]).T)


def all_fill(texts: Sequence[str], size: tuple[int, int]) -> bool:
    """Whether compressed run lengths are each those of a mask of (H, W): only then may pycocotools have them.

    To be asked for a sequence's masks together: one by one NumPy's calls take three times as long.
    """
    found = _runs(texts) if texts else None
    return not texts or (found is not None and _fill(*found, size))


def _fill(runs: Numbers, first: Numbers, size: tuple[int, int]) -> bool:
    return not (runs < 0).any() and bool((np.add.reduceat(runs, first) == size[0] * size[1]).all())


def _runs(texts: Sequence[str]) -> tuple[Numbers, Numbers] | None:
    """The lengths of all texts' runs, and where each text's begin; None where one of the texts is none of COCO's.

    Each number is written in characters of 5 bits, lowest first, bit 5 saying that another one follows and
    bit 4 of the last one being the sign; from the fourth number on it is the difference to the one before
    the last.
    """
    try:
        codes = np.frombuffer("".join(texts).encode("ascii"), np.uint8) - np.uint8(48)  # what is below wraps to above
    except (UnicodeEncodeError, TypeError):
        return None
    begins = np.cumsum([0, *map(len, texts)])
    goes_on = codes & 32 != 0
    if (begins[1:] == begins[:-1]).any() or codes.max() > 63 or goes_on[begins[1:] - 1].any():
        return None
    ends = np.flatnonzero(~goes_on)
    starts = np.empty_like(ends)
    starts[0], starts[1:] = 0, ends[:-1] + 1
    longer = ends - starts
    if longer.max() > 6:  # 35 bits: no picture has runs that long
        return None
    negative = codes[ends] & 16 != 0
    numbers = (codes[starts] & 31).astype(np.int64)
    numbers[negative] -= np.int64(32) << (5 * longer[negative])
    for place in range(1, int(longer.max()) + 1):
        some = np.flatnonzero(longer >= place)
        numbers[some] += (codes[starts[some] + place] & 31).astype(np.int64) << (5 * place)
    first = np.searchsorted(starts, begins[:-1])
    return _summed(numbers, first), first


def _summed(numbers: Numbers, first: Numbers) -> Numbers:
    """The runs whose differences these are, of texts that begin at `first`."""
    sums = np.empty_like(numbers)  # of every second number so far; what is of the texts before goes off again
    sums[0::2], sums[1::2] = np.cumsum(numbers[0::2]), np.cumsum(numbers[1::2])
    count = np.diff(first, append=len(numbers))
    second = np.repeat(first, count) + 1
    odd = (np.arange(len(numbers)) - second) % 2 == 0
    before = np.where(first > 0, sums[first - 1], 0)
    runs = sums - np.where(odd, np.repeat(before, count), np.repeat(sums[first], count))
    runs[first] = numbers[first]
    return runs
