"""Masks and probabilities as bytes: COCO's run lengths, and 8-bit maps that are zlib-compressed.

What is decoded here may come from a stranger's session file: every length is checked before it is used.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from pycocotools import mask as coco

from jointformer.errors import DataError
from jointformer.types import Mask, UInt8Array

_HEADER = struct.Struct("<HHI")
_MOST_SIDE = 16_384


def encode_mask(mask: Mask) -> bytes:
    """Return COCO's compressed run lengths (the `counts` of its RLE) of an (H, W) bool mask."""
    counts: bytes = coco.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
    return counts


def decode_mask(counts: bytes, size: tuple[int, int]) -> Mask:
    """Return the (H, W) bool mask of COCO's compressed run lengths; DataError where they do not give that size.

    Not pycocotools' own decoder, which trusts its input and writes behind the mask where the runs are too long.
    """
    runs = _runs(counts)
    if runs is None or int(runs.sum()) != size[0] * size[1] or (runs < 0).any():
        raise DataError("damaged run lengths of a mask", expected=f"{size[1]}×{size[0]} pixels")
    values = np.arange(len(runs)) % 2 == 1
    return np.ascontiguousarray(np.repeat(values, runs).reshape(size[1], size[0]).T)


def area(counts: bytes) -> int:
    """Return the number of pixels in a mask given as run lengths; DataError for damaged ones."""
    runs = _runs(counts)
    if runs is None:
        raise DataError("damaged run lengths of a mask")
    return int(runs[1::2].sum())


def _runs(counts: bytes) -> npt.NDArray[np.int64] | None:
    """The run lengths; None where the bytes are none. Format: maskApi.c of the COCO API, rleToString."""
    codes = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    if not len(codes) or (codes < 0).any() or (codes > 63).any() or codes[-1] & 0x20:
        return None
    ends = np.flatnonzero(codes & 0x20 == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    lengths = ends - starts + 1
    if lengths.max() > 7:  # seven groups of five bits hold more than any picture has pixels
        return None
    place = np.arange(len(codes)) - np.repeat(starts, lengths)
    values = np.add.reduceat((codes & 0x1F) << (5 * place), starts)
    negative = codes[ends] & 0x10 != 0
    values = np.where(negative, values - (np.int64(1) << (5 * lengths)), values)
    # From the fourth on each run is stored as its difference to the run two before it.
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values


@dataclass(frozen=True)
class SoftMaps:
    """Probabilities of several objects in one frame, at network size and 8 bits.

    ids: N object ids. maps: (N, h, w) uint8, 255 is certain.
    """

    ids: tuple[int, ...]
    maps: UInt8Array

    def pack(self) -> bytes:
        """Return the bytes that `unpack` reads."""
        count, height, width = self.maps.shape
        ids = np.asarray(self.ids, "<i8").tobytes()
        # Level 1: most bytes are 0 or 255, and this runs once per frame.
        return _HEADER.pack(height, width, count) + ids + zlib.compress(np.ascontiguousarray(self.maps).tobytes(), 1)

    @staticmethod
    def unpack(data: bytes, most: int) -> SoftMaps:
        """Return the maps of at most `most` objects; DataError for anything that `pack` did not make."""
        try:
            height, width, count = _HEADER.unpack_from(data)
            body = _HEADER.size + 8 * count
            if count > most or max(height, width) > _MOST_SIDE or len(data) < body:
                raise ValueError("sizes")
            ids = np.frombuffer(data, "<i8", count, _HEADER.size)
            length = count * height * width
            # One byte more than due would show a stream that is longer than it says.
            stream = zlib.decompressobj()
            raw = stream.decompress(data[body:], length + 1)
            if not stream.eof:
                raise ValueError("no whole stream")
            maps = np.frombuffer(raw, np.uint8).reshape(count, height, width)
        except (struct.error, zlib.error, ValueError) as error:
            raise DataError("damaged probabilities in a session", got=str(error)) from error
        return SoftMaps(tuple(int(i) for i in ids), maps)
