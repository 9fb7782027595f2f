"""Masks and probabilities as bytes: COCO's run lengths, and 8-bit maps that are zlib-compressed.

What is decoded here may come from a stranger's session file: every length is checked before it is used.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import numpy as np

from jointformer.errors import DataError
from jointformer.ops.rle import decode_rle, encode_rle
from jointformer.types import Mask, UInt8Array

_HEADER = struct.Struct("<HHI")


def pack_mask(mask: Mask) -> bytes:
    """Return COCO's compressed run lengths (the `counts` of its RLE) of an (H, W) bool mask."""
    return encode_rle(mask).encode("ascii")


def unpack_mask(counts: bytes, size: tuple[int, int]) -> Mask:
    """Return the (H, W) bool mask of COCO's compressed run lengths; DataError where they do not give that size."""
    return decode_rle(counts.decode("latin-1"), size)


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
            if count > most or len(data) < body:
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
