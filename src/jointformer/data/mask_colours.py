"""Masks painted in colours: which exact colour is which object id, and which masks are smoothed pictures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from jointformer.data.frames import open_picture
from jointformer.errors import DataError
from jointformer.ops.palette import davis_palette
from jointformer.types import Colour, UInt8Array


@dataclass(frozen=True)
class ColourTable:
    """Which colour of an RGB mask is which object id; one table serves all masks of a video."""

    ids: Mapping[Colour, int]

    @staticmethod
    def from_files(paths: Iterable[str | Path]) -> ColourTable:
        """The table for a set of mask files: black is 0, every other exact colour one id in all of them.

        If all colours are of the DAVIS/VOC palette they get their id there; otherwise ids are 1, 2, ... by
        the file, then the colour, in which they first appear. Files that are not RGB do not matter. Raises
        `DataError` naming the file that has in-between colours or brings the count above 255.
        """
        order: dict[Colour, int] = {(0, 0, 0): 0}
        for path in paths:
            with open_picture(path) as image:
                if not has_colours(image):
                    continue
                packed = packed_colours(image, Path(path))
            for colour in _exact_colours(packed, Path(path)):
                order.setdefault(colour, len(order))
            if len(order) > 256:
                raise DataError(
                    f"the RGB masks up to this file have {len(order) - 1} colours besides black",
                    where=path,
                    expected="at most 255",
                    hint="save masks as palette or grey PNGs whose values are object ids",
                )
        known = {(int(r), int(g), int(b)): i for i, (r, g, b) in enumerate(davis_palette())}
        if all(colour in known for colour in order):
            return ColourTable({colour: known[colour] for colour in order})
        return ColourTable(order)

    def palette(self) -> UInt8Array:
        """The (256, 3) palette in which every id has its colour."""
        palette = davis_palette().copy()
        for colour, number in self.ids.items():
            palette[number] = colour
        return palette


def has_colours(image: Image.Image) -> bool:
    """Whether an opened picture stores colours rather than values or palette indices."""
    return image.mode not in ("P", "PA", "L", "LA", "1") and not image.mode.startswith("I")


def has_interior(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a region holds a 3x3 square somewhere."""
    kernel = np.ones((3, 3), np.uint8)
    outside = cv2.BORDER_CONSTANT
    return bool(cv2.erode(mask.view(np.uint8), kernel, borderType=outside, borderValue=0).any())


def edge_shades(ids: UInt8Array) -> int:
    """How many values above 0 look like smoothed edges: nowhere a 3x3 square, mostly between a lesser and a larger one.

    Small objects have the background on all sides, crowded ones squares of their own: 600 masks of photographs and
    street scenes with up to 104 regions have not a single one.
    """
    kernel = np.ones((3, 3), np.uint8)
    low, high = cv2.erode(ids, kernel), cv2.dilate(ids, kernel)
    pixels, between, inside = (
        np.bincount(ids[where], minlength=256) for where in (ids > 0, (low < ids) & (ids < high), low == high)
    )
    return int(((2 * between > pixels) & (inside == 0)).sum())


def packed_colours(image: Image.Image, path: Path) -> npt.NDArray[np.int32]:
    """(H, W) colours as r<<16|g<<8|b, transparent pixels 0. Raises DataError for pixels that are partly transparent."""
    alpha = None
    if image.mode in ("RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.array(image.convert("RGBA"))
        rgb, alpha = rgba[..., :3], rgba[..., 3]
    else:
        rgb = np.array(image.convert("RGB"))
    packed = rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    if alpha is None:
        return packed
    if ((alpha > 0) & (alpha < 255)).any():
        raise DataError(
            "a mask with half-transparent pixels",
            where=path,
            hint="save it without transparency or smoothing",
        )
    return np.where(alpha > 0, packed, 0)


def _exact_colours(packed: npt.NDArray[np.int32], path: Path) -> list[Colour]:
    """The colours of an RGB mask in ascending order. Raises `DataError` if it is smoothed."""
    values, counts = np.unique(packed, return_counts=True)
    colours = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
    if len(colours) > 256:
        problem = f"an RGB mask of {len(colours)} colours"
    elif smooth := _in_between(packed, values, counts):
        problem = f"an RGB mask of {len(colours)} colours, {smooth} of them in-between shades along edges"
    else:
        return colours
    raise DataError(
        problem,
        where=path,
        expected="at most 255 exact colours besides black",
        hint="save it without smoothing or JPEG compression, best as a palette PNG of object ids",
    )


def _in_between(packed: npt.NDArray[np.int32], values: npt.NDArray, counts: npt.NDArray) -> int:
    """How many colours look like smoothed edges: thin, and a mixture of two more frequent colours."""
    if len(values) < 3:
        return 0
    colours = np.stack([values >> 16, values >> 8 & 255, values & 255], 1).astype(np.float64)
    smooth = 0
    for i in np.argsort(counts):
        bigger = colours[counts > counts[i]]
        if len(bigger) >= 2 and _is_mixture(colours[i], bigger) and not has_interior(packed == values[i]):
            smooth += 1
    # One thin colour may well be an object that is small; a smoothed edge has many shades.
    return smooth if smooth >= 2 else 0


def _is_mixture(colour: npt.NDArray[np.float64], others: npt.NDArray[np.float64]) -> bool:
    """Whether a colour lies between two of the others, within the rounding of 8 bits."""
    start = others[:, None]
    along = others[None] - start
    length = (along**2).sum(-1)
    share = ((colour - start) * along).sum(-1) / np.maximum(length, 1)
    distance = np.abs(start + share[..., None] * along - colour).max(-1)
    return bool(((share > 0.01) & (share < 0.99) & (distance <= 2) & (length > 0)).any())


def ids_of_colours(packed: npt.NDArray[np.int32], table: ColourTable, path: Path) -> UInt8Array:
    """The (H, W) ids of packed colours. Raises `DataError` for a colour that the table lacks."""
    values, inverse = np.unique(packed, return_inverse=True)
    ids = np.zeros(len(values), np.uint8)
    for k, value in enumerate(values):
        colour = (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255)
        if colour not in table.ids:
            raise DataError(f"the colour {colour} is in none of the video's other masks", where=path)
        ids[k] = table.ids[colour]
    return ids[inverse].reshape(packed.shape)
