"""Annotation files of other tools -> the regions of each picture: COCO, YouTube-VIS and LabelMe."""

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

from jointformer.data.frames import is_hidden, list_folder, natural_key
from jointformer.data.metas import is_plain_name, read_json, short
from jointformer.errors import DataError
from jointformer.ops.png import MOST_PIXELS
from jointformer.ops.rle import decode_rle, mask_of_runs
from jointformer.types import Mask

#: The longest side of an annotated picture.
_LONGEST = 1 << 15
#: LabelMe draws a circle's outline with at most so many corners here: a tenth of a pixel at a radius of 2000.
_CORNERS = 360
#: LabelMe's shapes that enclose nothing.
_LINES = frozenset({"point", "points", "line", "linestrip"})

Size = tuple[int, int]


class Shape(Protocol):
    """What a region covers."""

    def draw(self, size: Size) -> Mask:
        """Return its (H, W) bool mask. Raises DataError where the shape does not fit the picture."""
        ...


@dataclass(frozen=True)
class Polygons:
    """Closed outlines of (x, y) corners in pixels, (0, 0) the picture's upper left corner; filled as COCO does."""

    outlines: tuple[tuple[tuple[float, float], ...], ...]

    def draw(self, size: Size) -> Mask:
        height, width = size
        covered = np.zeros(size, bool)
        for outline in self.outlines:
            points = np.array(outline, np.float64)
            # pycocotools allocates by the length of the outline, so corners far outside would fill the memory.
            if (points < -max(size)).any() or (points > 2 * max(size)).any():
                raise DataError("a corner far outside the picture", expected=f"{width}x{height}", got=short(outline))
            drawn = coco.frPyObjects([points.ravel().tolist()], height, width)[0]["counts"]
            covered |= decode_rle(drawn.decode("ascii"), size)
        return covered


@dataclass(frozen=True)
class Runs:
    """COCO's run lengths, column by column: compressed text or a list of numbers."""

    counts: str | tuple[int, ...]
    size: Size

    def draw(self, size: Size) -> Mask:
        if self.size != size:
            raise DataError("run lengths of another size than the picture", expected=str(size), got=str(self.size))
        if isinstance(self.counts, str):
            return decode_rle(self.counts, size)
        return mask_of_runs(np.array(self.counts, object), size)  # a json's numbers may be of any size


@dataclass(frozen=True)
class Patch:
    """LabelMe's mask: a small PNG in base64 whose upper left corner lies at (x, y)."""

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
        (x, y), (height, width) = self.corner, seen.shape
        if x < 0 or y < 0 or y + height > size[0] or x + width > size[1]:
            raise DataError("a shape's mask reaches beyond the picture", expected=f"{size[1]}x{size[0]}")
        covered = np.zeros(size, bool)
        covered[y : y + height, x : x + width] = seen
        return covered


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


def read_annotations(path: Path) -> Annotations:
    """Return the regions in a COCO, YouTube-VIS or LabelMe json, or in a folder of LabelMe's.

    Raises DataError for other files, and for whatever in them is of a wrong kind.
    """
    if path.is_dir():
        files = sorted(
            (file for file in list_folder(path) if file.suffix.lower() == ".json" and not is_hidden(file)),
            key=lambda file: natural_key(file.name),
        )
        if not files:
            raise DataError("no json files", where=path, expected="LabelMe's, one per picture")
        return _joined([_labelme(read_json(file), file) for file in files])
    content = read_json(path)
    if isinstance(content, dict):
        if "shapes" in content:
            return _labelme(content, path)
        if "images" in content and "annotations" in content:
            return _coco(content, path)
        if "videos" in content and "annotations" in content:
            return _youtube_vis(content, path)
        if "sequences" in content:
            raise DataError("a BURST json", where=path, hint="use `jointformer data burst-masks`")
    raise DataError("no annotations", where=path, expected="a json of COCO, YouTube-VIS or LabelMe")


def _joined(parts: Sequence[Annotations]) -> Annotations:
    pictures = tuple(picture for part in parts for picture in part.pictures)
    return Annotations(pictures, sum(part.left_out for part in parts))


def _coco(content: Mapping[str, Any], path: Path) -> Annotations:
    reader = _Reader(path)
    names = _categories(reader, content)
    regions: dict[int, list[Region]] = {}
    pictures: dict[int, tuple[str, str, Size]] = {}
    for at, image in reader.entries(content, "images"):
        number = reader.whole(image, "id", at)
        if number in regions:
            raise DataError(f"{at} has the id of another one", where=path, got=str(number))
        regions[number] = []
        pictures[number] = (*reader.picture(image.get("file_name"), at), reader.size(image, at))
    left_out = 0
    for at, entry in reader.entries(content, "annotations"):
        number = reader.whole(entry, "image_id", at)
        if number not in regions:
            raise DataError(f"{at} belongs to no image", where=path, got=f"image_id {number}")
        shape = reader.segmentation(entry.get("segmentation"), at)
        if shape is None:
            left_out += 1
        else:
            regions[number].append(Region(_track(entry), _name(names, entry), shape))
    return Annotations(tuple(AnnotatedPicture(*pictures[i], tuple(regions[i])) for i in pictures), left_out)


def _track(entry: Mapping[str, Any]) -> str | None:
    """Which object it is, in the places where COCO's writers say it (CVAT: among the attributes)."""
    attributes = entry.get("attributes")
    for place in (entry, attributes if isinstance(attributes, dict) else {}):
        for key in ("track_id", "instance_id"):
            if isinstance(place.get(key), int | str):
                return str(place[key])
    return None


def _youtube_vis(content: Mapping[str, Any], path: Path) -> Annotations:
    reader = _Reader(path)
    names = _categories(reader, content)
    videos: dict[int, tuple[list[tuple[str, str]], Size, list[list[Region]]]] = {}
    for at, video in reader.entries(content, "videos"):
        files = reader.listed(video, "file_names", at)
        pictures = [reader.picture(file, at) for file in files]
        number = reader.whole(video, "id", at)
        if number in videos:
            raise DataError(f"{at} has the id of another one", where=path, got=str(number))
        videos[number] = (pictures, reader.size(video, at), [[] for _ in files])
    for at, entry in reader.entries(content, "annotations"):
        number = reader.whole(entry, "video_id", at)
        if number not in videos:
            raise DataError(f"{at} belongs to no video", where=path, got=f"video_id {number}")
        frames = videos[number][2]
        listed = reader.listed(entry, "segmentations", at)
        if len(listed) != len(frames):
            raise DataError(f"{at} has {len(listed)} segmentations for {len(frames)} pictures", where=path)
        key = _track(entry) or f"annotation {reader.whole(entry, 'id', at)}"
        for frame, value in zip(frames, listed, strict=True):
            shape = reader.segmentation(value, at)
            if shape is not None:
                frame.append(Region(key, _name(names, entry), shape))
    pictures_of = (
        AnnotatedPicture(*name, size, tuple(regions))
        for names_of, size, frames in videos.values()
        for name, regions in zip(names_of, frames, strict=True)
    )
    return Annotations(tuple(pictures_of), 0)


def _labelme(content: Any, path: Path) -> Annotations:
    reader = _Reader(path)
    if not isinstance(content, dict) or "shapes" not in content:
        raise DataError("not LabelMe's json", where=path, expected="an object with a list 'shapes'")
    size = reader.size({"height": content.get("imageHeight"), "width": content.get("imageWidth")}, "the picture")
    regions, left_out = [], 0
    for at, shape in reader.entries(content, "shapes"):
        label, group, kind = shape.get("label"), shape.get("group_id"), shape.get("shape_type", "polygon")
        if not isinstance(label, str) or not isinstance(group, int | str | None):
            raise DataError(f"{at} has no label", where=path, got=short(label))
        if isinstance(kind, str) and kind in _LINES:
            left_out += 1
            continue
        outline = _labelme_shape(reader, shape, kind, at)
        regions.append(Region(None if group is None else f"{label!r} {group!r}", label, outline))
    return Annotations((AnnotatedPicture("", path.stem, size, tuple(regions)),), left_out)


def _labelme_shape(reader: _Reader, shape: Mapping[str, Any], kind: Any, at: str) -> Shape:
    points = reader.points(shape.get("points"), at)
    if kind == "polygon" and len(points) >= 3:
        return Polygons((points,))
    if kind == "rectangle" and len(points) == 2:
        (x0, y0), (x1, y1) = points
        return Polygons((((x0, y0), (x1, y0), (x1, y1), (x0, y1)),))
    if kind in ("rectangle", "oriented_rectangle") and len(points) == 4:
        return Polygons((points,))
    if kind == "circle" and len(points) == 2:
        (x, y), radius = points[0], math.dist(*points)
        angles = [2 * math.pi * k / _CORNERS for k in range(_CORNERS)]
        return Polygons((tuple((x + radius * math.cos(a), y + radius * math.sin(a)) for a in angles),))
    if kind == "mask" and len(points) == 2 and isinstance(shape.get("mask"), str):
        return Patch(shape["mask"], (int(points[0][0]), int(points[0][1])))
    raise DataError(
        f"{at} is no shape that encloses pixels",
        where=reader.path,
        expected="polygon, rectangle, circle or mask, with its points",
        got=f"{short(kind)} with {len(points)} points",
    )


def _name(names: Mapping[int, str], entry: Mapping[str, Any]) -> str:
    category = entry.get("category_id")
    return names.get(category, "object") if isinstance(category, int) else "object"


def _categories(reader: _Reader, content: Mapping[str, Any]) -> dict[int, str]:
    if "categories" not in content:
        return {}
    return {
        reader.whole(entry, "id", at): str(entry.get("name", "object"))
        for at, entry in reader.entries(content, "categories")
    }


@dataclass(frozen=True)
class _Reader:
    """Takes values out of a json, and names the place of what is of a wrong kind."""

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
        return tuple(zip(*[iter(self._numbers(flat, at))] * 2, strict=True))

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
            lines = [self._numbers(line, at) for line in value]
            return Polygons(tuple(tuple(zip(line[::2], line[1::2], strict=True)) for line in lines))
        raise DataError(
            f"{at} has a segmentation that is none", where=self.path, expected="outlines or run lengths",
            got=short(value),
        )  # fmt: skip

    def _numbers(self, values: Sequence[Any], at: str) -> list[float]:
        for value in values:
            if not isinstance(value, int | float) or isinstance(value, bool) or not abs(value) < 1e9:
                raise DataError(f"{at} has points that are none", where=self.path, got=short(value))
        return [float(value) for value in values]
