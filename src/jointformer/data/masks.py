"""Mask files <-> label maps: (H, W) object ids, 0 background, and the colours that go with them."""

from __future__ import annotations

import io
import zlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from jointformer.data.frames import open_picture
from jointformer.errors import DataError, OutputError
from jointformer.ops.files import atomic_write
from jointformer.ops.palette import davis_palette
from jointformer.types import FloatArray, LabelMap, UInt8Array

#: The id that marks a region nobody should count, where it stands beside other ids.
VOID = 255
#: Formats that keep exact values (a JPEG smears ids at every edge).
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"})

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class MaskFile:
    """What a mask file holds: ``ids`` (H, W) uint8 as stored (255 included), (256, 3) ``palette`` or None."""

    ids: UInt8Array
    palette: UInt8Array | None


@dataclass(frozen=True)
class ColourTable:
    """Which colour of an RGB mask is which object id; one table serves all masks of a video."""

    ids: Mapping[Colour, int]

    @staticmethod
    def from_files(paths: Iterable[str | Path]) -> ColourTable:
        """The table for a set of mask files: black is 0, every other exact colour one id in all of them.

        If all colours are of the DAVIS/VOC palette they get their id there; otherwise ids are 1, 2, ... by
        the file, then the colour, in which they first appear. Files that are not RGB do not matter. Raises
        :class:`DataError` naming the file that has in-between colours or brings the count above 255.
        """
        order: dict[Colour, int] = {(0, 0, 0): 0}
        for path in paths:
            with open_picture(path) as image:
                if not _has_colours(image):
                    continue
                packed = _packed_colours(image, Path(path))
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


def is_colour_mask(path: str | Path) -> bool:
    """Whether a mask file stores colours (RGB) rather than ids. Raises :class:`DataError`."""
    with open_picture(path) as image:
        return _has_colours(image)


def read_mask_file(path: str | Path, colours: ColourTable | None = None) -> MaskFile:
    """The object ids in a mask file, as stored (255 not yet interpreted), and its palette.

    Palette files: the index. Grey (1 to 16 bits): the stored value; 16-bit files that only stretch 8-bit
    values (0, 257, ... 65535) are shrunk back. RGB: ``colours`` says which colour is which id (made from
    this file alone where it is None). Pixels that are fully transparent are background. Raises
    :class:`DataError` naming the file for JPEGs, anti-aliased masks, ids above 255 and damaged files.
    """
    path = Path(path)
    with open_picture(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError("a JPEG cannot hold exact object ids", where=path, hint="save masks as PNG")
        if image.mode == "F":
            raise DataError("floating-point pixels are no object ids", where=path, hint="save masks as PNG")
        if _has_colours(image):
            packed = _packed_colours(image, path)
        else:
            return _read_ids(image, path)
    if colours is None:
        colours = ColourTable.from_files([path])
    return MaskFile(_ids_of_colours(packed, colours, path), colours.palette())


def resolve_void(ids: LabelMap, *, lone_is_object: bool = True) -> LabelMap:
    """The label map with 255 set to 0 where it means "ignore"; a new array only if something changed.

    255 alone in a map is an object (DAVIS 2016's white masks) unless ``lone_is_object`` is False; beside
    other ids it is void and never a target (VOST).
    """
    void = ids == VOID
    if not void.any():
        return ids
    if lone_is_object and not ((ids > 0) & ~void).any():
        return ids
    return np.where(void, np.zeros((), ids.dtype), ids)


def object_ids(ids: LabelMap) -> tuple[int, ...]:
    """The ids that a label map names, ascending, without background."""
    if ids.dtype == np.uint8:  # a histogram is several times faster than sorting
        return tuple(int(i) for i in np.flatnonzero(np.bincount(ids.reshape(-1), minlength=256)) if i)
    return tuple(int(i) for i in np.unique(ids) if i)


def without(ids: LabelMap, known: Collection[int]) -> LabelMap:
    """The label map with the ``known`` objects' pixels set to background; a new array only if need be."""
    if not known:
        return ids
    hit = np.isin(ids, np.fromiter(known, dtype=np.int64))
    return np.where(hit, np.zeros((), ids.dtype), ids) if hit.any() else ids


def encode_mask(ids: LabelMap, palette: UInt8Array | None = None) -> bytes:
    """The 8-bit palette PNG of a label map (ids 0..255), the DAVIS palette where none is given.

    Raises :class:`OutputError` for ids that 8 bits cannot hold.
    """
    if ids.ndim != 2:
        raise ValueError(f"a label map has two axes, got shape {ids.shape}")
    if ids.dtype != np.uint8:
        if ids.size and (ids.min() < 0 or ids.max() > 255):
            raise OutputError("an 8-bit mask holds object ids 0..255", got=f"ids {ids.min()}..{ids.max()}")
        ids = ids.astype(np.uint8)
    image = Image.fromarray(np.ascontiguousarray(ids))
    image.putpalette((davis_palette() if palette is None else palette).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def write_mask(path: str | Path, ids: LabelMap, palette: UInt8Array | None = None) -> None:
    """Writes a label map as an 8-bit palette PNG, whole or not at all. Raises :class:`OutputError`."""
    data = encode_mask(ids, palette)
    with atomic_write(path) as file:
        file.write(data)


def encode_scores(prob: FloatArray, ids: Collection[int]) -> bytes:
    """The compressed .npz of soft scores: ``ids`` (N,) int32, ``prob`` (N, H, W) float16, in that order."""
    if prob.ndim != 3 or len(prob) != len(ids):
        raise ValueError(f"one (H, W) map per object: {len(ids)} ids but shape {prob.shape}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=np.array(list(ids), np.int32), prob=prob.astype(np.float16))
    return buffer.getvalue()


def write_scores(path: str | Path, prob: FloatArray, ids: Collection[int]) -> None:
    """Writes soft scores (see :func:`encode_scores`), whole or not at all. Raises :class:`OutputError`."""
    data = encode_scores(prob, ids)
    with atomic_write(path) as file:
        file.write(data)


def read_scores(path: str | Path) -> tuple[tuple[int, ...], FloatArray]:
    """(ids, (N, H, W) float32 probabilities) of a score file. Raises :class:`DataError`."""
    try:
        # Opened here: numpy leaves the file open where the zip is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            return tuple(int(i) for i in data["ids"]), data["prob"].astype(np.float32)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, BadZipFile, zlib.error) as error:
        raise DataError("not a score file", where=path, got=str(error)) from error


def _has_colours(image: Image.Image) -> bool:
    return image.mode not in ("P", "PA", "L", "LA", "1") and not image.mode.startswith("I")


def _read_ids(image: Image.Image, path: Path) -> MaskFile:
    if image.mode == "P":
        palette = np.zeros((256, 3), np.uint8)
        stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette[: len(stored)] = stored
        return MaskFile(np.array(image, np.uint8), palette)
    # Pillow stretches 2- and 4-bit grey to 0..255; the file's own values are the ids.
    step = {"L;2": 85, "L;4": 17}.get(_raw_mode(image), 1)
    values: npt.NDArray = np.array(image)
    if image.mode == "LA":
        values = np.where(values[..., 1] > 0, values[..., 0], 0)
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        values = _shrink_16_bit(values, path)
    ids = (values // step).astype(np.uint8)
    _refuse_smooth_grey(ids, path)
    return MaskFile(ids, None)


def _raw_mode(image: Image.Image) -> str:
    tile = getattr(image, "tile", None)  # only images opened from files have it, and only before loading
    if not tile:
        return ""
    args = tile[0][3]
    return str(args if isinstance(args, str) else args[0] if args else "")


def _shrink_16_bit(values: npt.NDArray, path: Path) -> npt.NDArray:
    if values.min() >= 0 and values.max() <= 0xFFFF and not (values % 257).any():
        return values // 257
    raise DataError(
        "object ids do not fit into 8 bits",
        where=path,
        expected="ids 1..255",
        got=f"values {values.min()}..{values.max()}",
    )


def _refuse_smooth_grey(ids: UInt8Array, path: Path) -> None:
    """A white-on-black mask with soft edges would read as dozens of objects one pixel wide."""
    others = [i for i in object_ids(ids) if i != VOID]
    if len(others) < 4 or not (ids == VOID).any():
        return
    if not any(_has_interior(ids == i) for i in others):
        raise DataError(
            f"an anti-aliased mask: {len(others)} grey values that only appear along edges",
            where=path,
            hint="save it without smoothing (threshold it, or nearest-neighbour when resizing)",
        )


def _has_interior(mask: npt.NDArray[np.bool_]) -> bool:
    """Whether a region holds a 3x3 square somewhere."""
    kernel = np.ones((3, 3), np.uint8)
    outside = cv2.BORDER_CONSTANT
    return bool(cv2.erode(mask.view(np.uint8), kernel, borderType=outside, borderValue=0).any())


def _packed_colours(image: Image.Image, path: Path) -> npt.NDArray[np.int32]:
    """(H, W) colours as r<<16|g<<8|b, transparent pixels 0."""
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
    """The colours of an RGB mask in ascending order. Raises :class:`DataError` if it is smoothed."""
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
        if len(bigger) >= 2 and _is_mixture(colours[i], bigger) and not _has_interior(packed == values[i]):
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


def _ids_of_colours(packed: npt.NDArray[np.int32], table: ColourTable, path: Path) -> UInt8Array:
    values, inverse = np.unique(packed, return_inverse=True)
    ids = np.zeros(len(values), np.uint8)
    for k, value in enumerate(values):
        colour = (int(value) >> 16, int(value) >> 8 & 255, int(value) & 255)
        if colour not in table.ids:
            raise DataError(f"the colour {colour} is in none of the video's other masks", where=path)
        ids[k] = table.ids[colour]
    return ids[inverse].reshape(packed.shape)
