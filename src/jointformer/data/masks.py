"""Mask files <-> label maps: (H, W) object ids, 0 background, and the colours that go with them."""

from __future__ import annotations

import io
import logging
import lzma
import zlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from jointformer.data.frames import open_picture
from jointformer.data.mask_colours import (
    ColourTable,
    edge_shades,
    has_colours,
    has_interior,
    ids_of_colours,
    packed_colours,
)
from jointformer.errors import DataError, OutputError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.palette import davis_palette
from jointformer.system.files import write_bytes
from jointformer.types import FloatArray, LabelMap, UInt8Array

logger = logging.getLogger(__name__)


#: The id that marks a region nobody should count, where it stands beside other ids.
VOID = 255
#: Formats that keep exact values (a JPEG smears ids at every edge).
MASK_SUFFIXES = frozenset({".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm"})


@dataclass(frozen=True)
class MaskFile:
    """What a mask file holds: `ids` (H, W) uint8 as stored (255 included), (256, 3) `palette` or None."""

    ids: UInt8Array
    palette: UInt8Array | None


def is_colour_mask(path: str | Path) -> bool:
    """Whether a mask file stores colours (RGB) rather than ids. Raises `DataError`."""
    with open_picture(path) as image:
        return has_colours(image)


def read_mask_file(path: str | Path, colours: ColourTable | None = None) -> MaskFile:
    """The object ids in a mask file, as stored (255 not yet interpreted), and its palette.

    Palette files: the index. Grey (1 to 16 bits): the stored value; 16-bit files that only stretch 8-bit
    values (0, 257, ... 65535) are shrunk back. RGB: `colours` says which colour is which id (made from
    this file alone where it is None). Pixels that an alpha channel makes fully transparent are background, and so are
    transparent colours; indices and grey values count as stored. EXIF orientation is applied, as to frames. Raises
    `DataError` naming the file for JPEGs, anti-aliased masks, ids above 255 and damaged files.
    """
    path = Path(path)
    with open_picture(path) as image:
        if image.format in ("JPEG", "MPO"):
            raise DataError("a JPEG cannot hold exact object ids", where=path, hint="save masks as PNG")
        if image.mode == "F":
            raise DataError("floating-point pixels are not object ids", where=path, hint="save masks as PNG")
        raw = _raw_mode(image)
        ImageOps.exif_transpose(image, in_place=True)  # upright as frames are
        if has_colours(image):
            packed = packed_colours(image, path)
        else:
            return _read_ids(image, raw, path)
    if colours is None:
        colours = ColourTable.from_files([path])
    return MaskFile(ids_of_colours(packed, colours, path), colours.palette())


def resolve_void(ids: LabelMap, *, lone_is_object: bool = True) -> LabelMap:
    """The label map with 255 set to 0 where it means "ignore"; a new array only if something changed.

    255 alone in a map is an object (DAVIS 2016's white masks) unless `lone_is_object` is False; beside
    other ids it is void and never a target (VOST).
    """
    void = ids == VOID
    if not void.any():
        return ids
    if lone_is_object and not ((ids > 0) & ~void).any():
        return ids
    return np.where(void, np.zeros((), ids.dtype), ids)


def lone_255_is_object(maps: Iterable[LabelMap]) -> bool:
    """Whether 255 standing alone is an object in a video: where it does so in the first label map that names any id."""
    return next(filter(None, map(object_ids, maps)), ()) == (VOID,)


def say_if_void(objects: Collection[int]) -> None:
    """Say in the log that object 255 will not be found in mask files that name these objects, if it is one of them."""
    if VOID in objects and len(objects) > 1:
        logger.warning("object 255 is taken for void in masks that name other objects too: give it another id")


def without(ids: LabelMap, known: Collection[int]) -> LabelMap:
    """The label map with the `known` objects' pixels set to background; a new array only if need be."""
    if not known:
        return ids
    hit = np.isin(ids, np.fromiter(known, dtype=np.int64))
    return np.where(hit, np.zeros((), ids.dtype), ids) if hit.any() else ids


def encode_mask(ids: LabelMap, palette: UInt8Array | None = None) -> bytes:
    """The 8-bit palette PNG of a label map (ids 0..255), the DAVIS palette where none is given.

    Raises `OutputError` for ids that 8 bits cannot hold.
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
    """Writes a label map as an 8-bit palette PNG, whole or not at all. Raises `OutputError`."""
    write_bytes(path, encode_mask(ids, palette))


def encode_scores(prob: FloatArray, ids: Collection[int]) -> bytes:
    """The compressed .npz of soft scores: `ids` (N,) int32, `prob` (N, H, W) float16, in that order."""
    if prob.ndim != 3 or len(prob) != len(ids):
        raise ValueError(f"one (H, W) map per object: {len(ids)} ids but shape {prob.shape}")
    buffer = io.BytesIO()
    np.savez_compressed(buffer, ids=np.array(list(ids), np.int32), prob=prob.astype(np.float16))
    return buffer.getvalue()


def write_scores(path: str | Path, prob: FloatArray, ids: Collection[int]) -> None:
    """Writes soft scores (see `encode_scores`), whole or not at all. Raises `OutputError`."""
    write_bytes(path, encode_scores(prob, ids))


def read_scores(path: str | Path) -> tuple[tuple[int, ...], FloatArray]:
    """(ids, (N, H, W) float32 probabilities) of a score file. Raises `DataError`."""
    try:
        # Opened here: numpy leaves the file open where the zip is damaged.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as data:
            return tuple(int(i) for i in data["ids"]), data["prob"].astype(np.float32)
    except (
        OSError, ValueError, KeyError, EOFError, AttributeError, BadZipFile, zlib.error, lzma.LZMAError, RuntimeError,
        MemoryError,
    ) as error:  # fmt: skip
        raise DataError("not a score file", where=path, got=str(error)) from error


def _read_ids(image: Image.Image, raw: str, path: Path) -> MaskFile:
    values: npt.NDArray = np.array(image)
    if image.mode in ("PA", "LA"):
        values = np.where(values[..., 1] > 0, values[..., 0], np.uint8(0))
    if image.mode in ("P", "PA"):
        palette = np.zeros((256, 3), np.uint8)
        stored = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
        palette[: len(stored)] = stored
        return MaskFile(values.astype(np.uint8, copy=False), palette)
    # Pillow stretches 2- and 4-bit grey to 0..255; the file's own values are the ids.
    step = {"L;2": 85, "L;4": 17}.get(raw, 1)
    if values.max(initial=0) > 255 or values.min(initial=0) < 0:
        values = _shrink_16_bit(values, path)
    ids = (values // step).astype(np.uint8)
    refuse_soft_edges(ids, path, hint="save it without smoothing (threshold it, or nearest-neighbour when resizing)")
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


def refuse_soft_edges(ids: UInt8Array, where: str | Path, *, hint: str) -> None:
    """Raise DataError for an (H, W) mask with soft edges, white on black or in several greys.

    As a label map it would read as dozens of objects one pixel wide, as one object's mask it would be too large.
    """
    others = [i for i in object_ids(ids) if i != VOID]
    if len(others) < 4:
        return
    soft_white = (ids == VOID).any() and not any(has_interior(ids == i) for i in others)
    shades = len(others) if soft_white else edge_shades(ids)
    if shades >= 4 and 4 * shades >= len(others):
        raise DataError(
            f"an anti-aliased mask: {shades} grey values that only appear along edges", where=where, hint=hint
        )
