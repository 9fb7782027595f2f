"""A folder of stills with region masks, decoded once and kept in memory as uint8."""

from __future__ import annotations

import csv
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from scipy import ndimage

from jointformer.data.frames import read_frame
from jointformer.data.masks import read_mask_file, resolve_void
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs
from jointformer.types import UInt8Array, pixels_text

logger = logging.getLogger(__name__)

#: The least side of a picture.
SMALLEST = 8
#: What a manifest has to have; it may have more.
COLUMNS = ("set", "image", "mask")


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of one mask: `ids` (R,), `areas` (R,) pixels, `boxes` (R,4) left, top, right, bottom.

    Boxes are exact to 2 pixels and never too small; right and bottom are exclusive.
    """

    ids: npt.NDArray[np.int64]
    areas: npt.NDArray[np.int64]
    boxes: npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Still:
    """One picture with one or more partitions of it into numbered regions.

    `picture` (H,W,3) uint8 RGB; `masks`: each (H,W) uint8, 0 = unlabelled, 1..255 = regions;
    `half`: the picture at half its size; `regions`: one entry per mask; `source`: the manifest's set.
    """

    source: str
    name: str
    picture: UInt8Array
    half: UInt8Array
    masks: tuple[UInt8Array, ...]
    regions: tuple[Regions, ...]


class StillsPack:
    """All stills of `folder/manifest.csv`, in memory.

    `short_side` bounds the shorter side in pixels (larger pictures are reduced). A picture or mask that
    cannot be read, or a mask without any region, is named in a warning and left out; `skipped` lists them.
    `strict=True` raises DataError at the first instead. Raises DataError when nothing is left.
    """

    def __init__(self, folder: str | Path, *, short_side: int = 384, strict: bool = False) -> None:
        self.folder = Path(folder)
        self.stills: list[Still] = []
        self.skipped: list[str] = []
        for source, image, masks in _iter_manifest(self.folder):
            try:
                self.stills.append(_read_still(self.folder, source, image, masks, short_side))
            except DataError as error:
                if strict:
                    raise
                self.skipped.append(image)
                logger.warning("left out: %s", error)
        if not self.stills:
            raise DataError("no usable still", where=self.folder / "manifest.csv", expected="at least one")
        if self.skipped:
            logger.warning("%d of %d stills left out", len(self.skipped), len(self.skipped) + len(self.stills))
        self.by_source: dict[str, list[int]] = {}
        for index, still in enumerate(self.stills):
            self.by_source.setdefault(still.source, []).append(index)

    def __len__(self) -> int:
        return len(self.stills)

    def __getitem__(self, index: int) -> Still:
        return self.stills[index]


def _iter_manifest(folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (set, image, masks) per picture in the order of the manifest."""
    path = folder / "manifest.csv"
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:  # spreadsheets put a byte-order mark first
            reader = csv.DictReader(file)
            if reader.fieldnames is None or not set(COLUMNS) <= set(reader.fieldnames):
                got = ",".join(reader.fieldnames or ())
                raise DataError("unknown columns", where=path, expected=",".join(COLUMNS), got=got)
            rows = list(reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        hint = "a folder of stills has a manifest.csv beside its pictures"
        why = getattr(error, "strerror", None) or error
        raise DataError(f"cannot read the list of stills ({why})", where=path, hint=hint) from error
    grouped: dict[str, tuple[str, list[str]]] = {}
    for row in rows:
        if None in row.values():
            got = ",".join(value for value in row.values() if value is not None)
            raise DataError("a line with too few columns", where=path, expected=",".join(COLUMNS), got=got)
        grouped.setdefault(row["image"], (row["set"], []))[1].append(row["mask"])
    for image, (source, masks) in grouped.items():
        yield source, image, masks


def _read_still(folder: Path, source: str, image: str, masks: list[str], short_side: int) -> Still:
    picture = read_frame(folder / image)
    height, width = picture.shape[:2]
    if min(height, width) < SMALLEST:
        raise DataError("too small a picture", where=folder / image,
                        expected=f"{SMALLEST}x{SMALLEST} pixels at least", got=pixels_text(picture.shape))  # fmt: skip
    ratio = min(1.0, short_side / min(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    if ratio < 1.0:
        picture = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    kept, regions = [], []
    for name in masks:
        mask = np.asarray(resolve_void(read_mask_file(folder / name).ids), np.uint8)
        if mask.shape != (height, width):
            raise mask_size_differs(folder / name, picture.shape, mask.shape)
        if ratio < 1.0:
            mask = np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
        found = find_regions(mask)
        if len(found.ids) == 0:
            raise DataError("mask without any object", where=folder / name)
        kept.append(mask)
        regions.append(found)
    half = (max(1, picture.shape[1] // 2), max(1, picture.shape[0] // 2))
    reduced = np.asarray(cv2.resize(picture, half, interpolation=cv2.INTER_AREA), np.uint8)
    return Still(source, image, picture, reduced, tuple(kept), tuple(regions))


def find_regions(mask: UInt8Array) -> Regions:
    """Ids, areas and boxes of a mask's regions."""
    counts = np.bincount(mask.ravel(), minlength=256)
    ids = np.flatnonzero(counts[1:]) + 1
    height, width = mask.shape
    boxes = np.zeros((len(ids), 4), np.int64)
    windows = ndimage.find_objects(mask[::2, ::2], max_label=int(mask.max()))
    for row, number in enumerate(ids):
        window = windows[number - 1]
        if window is not None:
            rows, columns = window
            boxes[row] = (max(2 * columns.start - 1, 0), max(2 * rows.start - 1, 0),
                          min(2 * columns.stop, width), min(2 * rows.stop, height))  # fmt: skip
    there = boxes[:, 2] > boxes[:, 0]  # a region of odd single pixels only is no object
    return Regions(ids[there], counts[ids][there], boxes[there])
