"""Colours of object ids in palette PNGs."""

from __future__ import annotations

from functools import cache

import numpy as np

from jointformer.types import UInt8Array


@cache
def default_palette() -> UInt8Array:
    """The (256, 3) uint8 colour of every object id, as DAVIS and Pascal VOC use it (0 is black).

    Bit k of the id goes to one bit of a channel: the lowest three to the highest bits of red, green, blue,
    the next three to the next bits, and so on (PASCAL VOC development kit). The array is read-only.
    """
    ids = np.arange(256)
    colours = np.zeros((256, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colours[:, channel] |= (((ids >> channel) & 1) << (7 - bit)).astype(np.uint8)
        ids = ids >> 3
    colours.setflags(write=False)
    return colours
