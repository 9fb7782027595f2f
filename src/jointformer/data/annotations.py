"""Annotation files of other tools -> the regions of each picture: COCO, YouTube-VIS, LabelMe and CVAT's XML."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jointformer.data.annotation_parts import (
    AnnotatedPicture,
    Annotations,
    Patch,
    Polygons,
    Reader,
    Region,
    Shape,
    Size,
    ellipse,
    rectangle,
)
from jointformer.data.annotations_cvat import read_cvat
from jointformer.data.frames import is_hidden, list_folder, natural_key
from jointformer.data.metas import read_json, short
from jointformer.errors import DataError

#: LabelMe's shapes that enclose nothing.
_LINES = frozenset({"point", "points", "line", "linestrip"})


def read_annotations(path: Path) -> Annotations:
    """Return the regions in a json of COCO, YouTube-VIS or LabelMe, in a folder of LabelMe's, or in CVAT's XML.

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
    if path.suffix.lower() == ".xml":
        return read_cvat(path)
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
    raise DataError("no annotations", where=path, expected="a json of COCO, YouTube-VIS or LabelMe, or CVAT's XML")


def _joined(parts: Sequence[Annotations]) -> Annotations:
    pictures = tuple(picture for part in parts for picture in part.pictures)
    return Annotations(pictures, sum(part.left_out for part in parts))


def _coco(content: Mapping[str, Any], path: Path) -> Annotations:
    reader = Reader(path)
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
            if isinstance(place.get(key), int | str) and place[key] != "":  # written for shapes that have none
                return str(place[key])
    return None


def _youtube_vis(content: Mapping[str, Any], path: Path) -> Annotations:
    reader = Reader(path)
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
    reader = Reader(path)
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
        regions.append(Region(None if group in (None, "") else f"{label!r} {group!r}", label, outline))
    picture = content.get("imagePath")  # its folder is where the picture lay once, on that computer
    name = reader.picture(picture, "imagePath")[1] if isinstance(picture, str) and picture else path.stem
    return Annotations((AnnotatedPicture("", name, size, tuple(regions)),), left_out)


def _labelme_shape(reader: Reader, shape: Mapping[str, Any], kind: Any, at: str) -> Shape:
    points = reader.points(shape.get("points"), at)
    if kind == "polygon" and len(points) >= 3:
        return Polygons((points,))
    if kind == "rectangle" and len(points) == 2:
        return rectangle(*points[0], *points[1])
    if kind in ("rectangle", "oriented_rectangle") and len(points) == 4:
        return Polygons((points,))
    if kind == "circle" and len(points) == 2:
        radius = math.dist(*points)
        return ellipse(*points[0], radius, radius)
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


def _categories(reader: Reader, content: Mapping[str, Any]) -> dict[int, str]:
    if "categories" not in content:
        return {}
    return {
        reader.whole(entry, "id", at): str(entry.get("name", "object"))
        for at, entry in reader.entries(content, "categories")
    }
