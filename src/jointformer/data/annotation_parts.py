"""What annotation files hold, whatever their format: regions of pictures, their shapes, and how values are taken."""

from __future__ import annotations

import base64
import binascii
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol

import numpy as np
from PIL import Image
from pycocotools import mask as coco

from jointformer.data.metas import is_plain_name, short
from jointformer.errors import DataError
from jointformer.ops.png import MOST_PIXELS
from jointformer.ops.rle import decode_rle, mask_of_runs
from jointformer.types import Mask, pixels_text

#: The longest side of an annotated picture.
_LONGEST = 1 << 15
#: An ellipse's outline has so many corners: it is a tenth of a pixel off at a radius of 2000.
_CORNERS = 360

Size = tuple[int, int]
Point = tuple[float, float]


class Shape(Protocol):
    """What a region covers."""

    def draw(self, size: Size) -> Mask:
        """Return its (H, W) bool mask. Raises DataError where the shape does not fit the picture."""
        ...


@dataclass(frozen=True)
class Polygons:
    """Closed outlines of (x, y) corners in pixels, (0, 0) the picture's upper left corner; filled as COCO does.

    `draw` raises DataError for corners far outside the picture.
    """

    outlines: tuple[tuple[Point, ...], ...]

    def draw(self, size: Size) -> Mask:
        height, width = size
        covered = np.zeros(size, bool)
        for outline in self.outlines:
            points = np.array(outline, np.float64)
            # pycocotools allocates by the length of the outline, so corners far outside would fill the memory.
            if (points < -max(size)).any() or (points > 2 * max(size)).any():
                raise DataError("a corner far outside the picture", expected=pixels_text(size), got=short(outline))
            drawn = coco.frPyObjects([points.ravel().tolist()], height, width)[0]["counts"]
            covered |= decode_rle(drawn.decode("ascii"), size)
        return covered


def rectangle(x0: float, y0: float, x1: float, y1: float, degrees: float = 0.0) -> Polygons:
    """Return a box by two corners, turned clockwise about its centre."""
    return _turned(((x0, y0), (x1, y0), (x1, y1), (x0, y1)), ((x0 + x1) / 2, (y0 + y1) / 2), degrees)


def ellipse(x: float, y: float, rx: float, ry: float, degrees: float = 0.0) -> Polygons:
    """Return an ellipse by its centre and radii, turned clockwise about its centre."""
    angles = [2 * math.pi * k / _CORNERS for k in range(_CORNERS)]
    return _turned(tuple((x + rx * math.cos(a), y + ry * math.sin(a)) for a in angles), (x, y), degrees)


def _turned(outline: tuple[Point, ...], centre: Point, degrees: float) -> Polygons:
    if degrees == 0:
        return Polygons((outline,))
    (x, y), c, s = centre, math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    turned = ((x + (px - x) * c - (py - y) * s, y + (px - x) * s + (py - y) * c) for px, py in outline)
    return Polygons((tuple(turned),))


@dataclass(frozen=True)
class Runs:
    """COCO's run lengths, column by column: compressed text or a list of numbers.

    `draw` raises DataError where they are not the picture's.
    """

    counts: str | tuple[int, ...]
    size: Size

    def draw(self, size: Size) -> Mask:
        if self.size != size:
            raise DataError(
                "run lengths of another size than the picture", expected=pixels_text(size), got=pixels_text(self.size)
            )
        if isinstance(self.counts, str):
            return decode_rle(self.counts, size)
        return mask_of_runs(np.array(self.counts, object), size)  # a json's numbers may be of any size


@dataclass(frozen=True)
class Patch:
    """LabelMe's mask: a small PNG in base64 whose upper left corner lies at (x, y).

    `draw` raises DataError for a damaged one, or one that reaches beyond the picture.
    """

    png: str
    corner: tuple[int, int]

    def draw(self, size: Size) -> Mask:
        try:
            with Image.open(io.BytesIO(base64.b64decode(self.png, validate=True)), formats=("PNG",)) as image:
                seen = np.asarray(image.convert("L")) > 0
        except Exception as error:  # decoders of damaged pictures raise nearly anything
            if isinstance(error, binascii.Error):
                error = ValueError("not base64")
            raise DataError("a damaged mask in a shape", got=str(error) or type(error).__name__) from error
        return _placed(seen, self.corner, size)


@dataclass(frozen=True)
class RowRuns:
    """CVAT's run lengths of a part of the picture, row by row, whose (H, W) and upper left corner (x, y) are given."""

    counts: tuple[int, ...]
    size: Size
    corner: tuple[int, int]

    def draw(self, size: Size) -> Mask:
        height, width = self.size
        if height > size[0] or width > size[1]:
            raise _beyond(size)
        return _placed(mask_of_runs(np.array(self.counts, object), (width, height)).T, self.corner, size)


def _placed(seen: Mask, corner: tuple[int, int], size: Size) -> Mask:
    """Return the mask of a picture that is seen where a smaller one lies at the corner (x, y)."""
    (x, y), (height, width) = corner, seen.shape
    if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
        raise _beyond(size)
    covered = np.zeros(size, bool)
    covered[y : y + height, x : x + width] = seen
    return covered


def _beyond(size: Size) -> DataError:
    return DataError("a shape's mask reaches beyond the picture", expected=pixels_text(size))


@dataclass(frozen=True)
class Region:
    """One region: `key` names its object in all pictures (None: the file does not), `name` is its category or label."""

    key: str | None
    name: str
    shape: Shape


@dataclass(frozen=True)
class AnnotatedPicture:
    """A picture: the path of its folder ("" for none), its name without suffix, (H, W), its regions.

    Regions are in the file's order: later ones lie over earlier ones.
    """

    video: str
    name: str
    size: Size
    regions: tuple[Region, ...]


@dataclass(frozen=True)
class Annotations:
    """What a file or folder holds, and how many annotations enclose nothing (points, lines, COCO's bare boxes)."""

    pictures: tuple[AnnotatedPicture, ...]
    left_out: int


@dataclass(frozen=True)
class Reader:
    """Takes values out of a file. All methods raise DataError, which names the place, for what is of a wrong kind."""

    path: Path

    def listed(self, entry: Mapping[str, Any], key: str, at: str) -> list[Any]:
        if not isinstance(entry.get(key), list):
            raise DataError(f"{at} has no list {key!r}", where=self.path, got=short(entry.get(key)))
        return list(entry[key])

    def entries(self, content: Mapping[str, Any], key: str) -> Iterator[tuple[str, dict[str, Any]]]:
        for number, entry in enumerate(self.listed(content, key, "the file")):
            if not isinstance(entry, dict):
                raise DataError(f"{key}[{number}] is no object", where=self.path, got=short(entry))
            yield f"{key}[{number}]", entry

    def whole(self, entry: Mapping[str, Any], key: str, at: str) -> int:
        value = entry.get(key)
        if not isinstance(value, int) or isinstance(value, bool):
            raise DataError(f"{at} has a {key} that is no whole number", where=self.path, got=short(value))
        return value

    def size(self, entry: Mapping[str, Any], at: str) -> Size:
        height, width = self.whole(entry, "height", at), self.whole(entry, "width", at)
        if not (0 < height <= _LONGEST and 0 < width <= _LONGEST and height * width <= MOST_PIXELS):
            raise DataError(f"{at} has height and width that are no size", where=self.path, got=f"{height}, {width}")
        return height, width

    def picture(self, value: Any, at: str) -> tuple[str, str]:
        """The path of a picture's folder, and the picture's name without suffix."""
        path = PurePosixPath(value.replace("\\", "/")) if isinstance(value, str) else PurePosixPath()
        folder = str(path.parent) if is_plain_name(path.parent.name) else ""
        whole = not any("\ud800" <= c <= "\udfff" for c in str(path))  # halves of characters name no file
        if not whole or not is_plain_name(path.stem):
            raise DataError(f"{at} has no picture's name", where=self.path, got=short(value))
        return folder, path.stem

    def points(self, value: Any, at: str) -> tuple[tuple[float, float], ...]:
        pairs = value if isinstance(value, list) else []
        flat = [number for pair in pairs for number in (pair if isinstance(pair, list) and len(pair) == 2 else [None])]
        return tuple(zip(*[iter(self.numbers(flat, at))] * 2, strict=True))

    def segmentation(self, value: Any, at: str) -> Shape | None:
        """COCO's outlines or run lengths; None where there are none."""
        if not value:
            return None
        if isinstance(value, dict):
            counts, size = value.get("counts"), value.get("size")
            if not (isinstance(size, list) and len(size) == 2 and all(isinstance(side, int) for side in size)):
                raise DataError(f"{at} has run lengths without a size", where=self.path, got=short(size))
            if isinstance(counts, list) and all(type(count) is int for count in counts):
                return Runs(tuple(counts), (size[0], size[1]))
            if isinstance(counts, str):
                return Runs(counts, (size[0], size[1]))
        elif isinstance(value, list) and all(
            isinstance(line, list) and len(line) >= 6 and len(line) % 2 == 0 for line in value
        ):
            lines = [self.numbers(line, at) for line in value]
            return Polygons(tuple(tuple(zip(line[::2], line[1::2], strict=True)) for line in lines))
        raise DataError(
            f"{at} has a segmentation that is none", where=self.path, expected="outlines or run lengths",
            got=short(value),
        )  # fmt: skip

    def numbers(self, values: Sequence[Any], at: str) -> list[float]:
        """The values, which must be numbers that can be points."""
        for value in values:
            if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
                raise DataError(f"{at} has points that are none", where=self.path, got=short(value))
        return [float(value) for value in values]
