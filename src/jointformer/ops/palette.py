"""The colours that object ids have in mask files and in every picture the project draws."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from jointformer.types import Colour, LabelMap, UInt8Array


@cache
def davis_palette() -> UInt8Array:
    """(256, 3) uint8 RGB: the palette of PASCAL VOC, DAVIS and YouTube-VOS; row 0 is black.

    The bits of an id are dealt to red, green and blue in turn, the lowest first, each into its channel's
    highest free bit (PASCAL VOC development kit, `VOClabelcolormap`). The array is shared and read-only.
    """
    bits = (np.arange(256)[:, None] >> np.arange(8)) & 1
    palette = np.zeros((256, 3), dtype=np.uint8)
    for bit in range(8):
        palette[:, bit % 3] |= (bits[:, bit] << (7 - bit // 3)).astype(np.uint8)
    palette.flags.writeable = False
    return palette


def with_colours(palette: UInt8Array | None) -> UInt8Array:
    """(256, 3) uint8 RGB: a mask file's palette, the DAVIS one in its place or for ids that it has no colour for.

    Black is none, and so are greys that are the ids themselves, which programs write that know of no palette.
    """
    known = davis_palette()
    if palette is None:
        return known
    coloured: npt.NDArray[np.bool_] = palette.max(axis=1, keepdims=True) > 0
    if (palette == np.where(coloured, np.arange(256)[:, None], 0))[:255].all():
        coloured[:255] = False  # but white for 255 is one
    return np.where(coloured, palette, known)


def colours_of(label_map: LabelMap, palette: UInt8Array | None = None) -> UInt8Array:
    """(H, W, 3) uint8 RGB: each pixel in the colour of its object id, background black.

    `palette` is (256, 3) or longer, the DAVIS one where none is given. Ids beyond it take the colours from 1
    on again, so that no object is black.
    """
    ids = np.asarray(label_map)
    table = davis_palette() if palette is None else palette
    if ids.dtype != np.uint8:
        ids = np.where(ids > 0, (ids.astype(np.int64) - 1) % (len(table) - 1) + 1, 0)
    return np.take(table, ids, axis=0)  # indexing takes four times as long


def colour_of(object_id: int, palette: UInt8Array | None = None) -> Colour:
    """(red, green, blue), each 0 to 255: the colour of one object id."""
    red, green, blue = (int(value) for value in colours_of(np.array([[object_id]]), palette)[0, 0])
    return red, green, blue
