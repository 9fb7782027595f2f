"""CVAT's own XML -> the regions of each picture: version 1.1, "for images" and "for video"."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from xml.parsers.expat import ExpatError

from jointformer.data.annotation_parts import (
    AnnotatedPicture,
    Annotations,
    Polygons,
    Reader,
    Region,
    RowRuns,
    Shape,
    Size,
    ellipse,
    rectangle,
)
from jointformer.data.metas import read_bytes, short
from jointformer.errors import DataError

#: Elements that annotate a picture but enclose nothing.
_LINES = frozenset({"points", "polyline", "cuboid", "skeleton"})


def read_cvat(path: Path) -> Annotations:
    """Return the regions in CVAT's XML: of its pictures, or of a video's key frames, named by their numbers.

    Shapes that CVAT has put in between key frames are left alone: tracking does that better.

    Raises DataError for other files, and for whatever in them is of a wrong kind.
    """
    root = _parsed(path)
    if root.tag != "annotations":
        raise DataError(
            "no annotations", where=path, expected="CVAT's XML, for images or for video", got=short(root.tag)
        )
    reader = _Attributes(Reader(path))
    if root.find("track") is not None:
        return _for_video(root, reader)
    return _for_images(root, reader)


class _NoDoctype(ET.TreeBuilder):
    """Builds the tree of a document that declares nothing: entities could make gigabytes of a few lines."""

    def doctype(self, *_: object) -> None:
        raise _DoctypeError


class _DoctypeError(Exception):
    pass


def _parsed(path: Path) -> ET.Element:
    content = read_bytes(path)
    try:
        return ET.fromstring(content, ET.XMLParser(target=_NoDoctype()))
    except _DoctypeError:
        raise DataError("an XML file with a DOCTYPE", where=path, expected="none, as CVAT writes it") from None
    except (ET.ParseError, ExpatError, ValueError, LookupError) as error:  # the latter of encodings
        raise DataError("not an XML file", where=path, got=str(error)) from error


class _Attributes:
    """Takes values out of an element's attributes, which are all text."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.path = reader.path

    def number(self, element: ET.Element, name: str, at: str, default: str | None = None) -> float:
        text = element.get(name, default)
        try:
            value = float(text or "")
        except ValueError:
            raise self._no_number(name, at, text) from None
        return self.reader.numbers([value], at)[0]

    def whole(self, element: ET.Element, name: str, at: str, default: str | None = None) -> int:
        return self.digits(element.get(name, default), name, at)

    def digits(self, text: str | None, name: str, at: str) -> int:
        if not re.fullmatch(r"-?[0-9]{1,18}", (text or "").strip()):
            raise self._no_number(name, at, text)
        return int(text or "")

    def size(self, height: str | None, width: str | None, at: str) -> Size:
        sides = {"height": self.digits(height, "height", at), "width": self.digits(width, "width", at)}
        return self.reader.size(sides, at)

    def points(self, element: ET.Element, at: str) -> tuple[tuple[float, float], ...]:
        text = element.get("points", "")
        try:
            pairs = [[float(number) for number in pair.split(",")] for pair in text.split(";")]
        except ValueError:
            raise self._no_number("points", at, text) from None
        return self.reader.points(pairs, at)

    def counts(self, element: ET.Element, at: str) -> tuple[int, ...]:
        return tuple(self.digits(count, "rle", at) for count in element.get("rle", "").split(","))

    def _no_number(self, name: str, at: str, got: str | None) -> DataError:
        return DataError(f"{at} has a {name} that is none", where=self.path, expected="numbers", got=short(got))


def _polygon(attributes: _Attributes, element: ET.Element, at: str) -> Shape:
    points = attributes.points(element, at)
    if len(points) < 3:
        got = f"{len(points)} points"
        raise DataError(f"{at} encloses no pixels", where=attributes.path, expected="3 points or more", got=got)
    return Polygons((points,))


def _box(attributes: _Attributes, element: ET.Element, at: str) -> Shape:
    left, top, right, bottom = (attributes.number(element, name, at) for name in ("xtl", "ytl", "xbr", "ybr"))
    return rectangle(left, top, right, bottom, attributes.number(element, "rotation", at, "0"))


def _ellipse(attributes: _Attributes, element: ET.Element, at: str) -> Shape:
    x, y, rx, ry = (attributes.number(element, name, at) for name in ("cx", "cy", "rx", "ry"))
    return ellipse(x, y, rx, ry, attributes.number(element, "rotation", at, "0"))


def _mask(attributes: _Attributes, element: ET.Element, at: str) -> Shape:
    size = attributes.size(element.get("height"), element.get("width"), at)
    corner = attributes.whole(element, "left", at), attributes.whole(element, "top", at)
    return RowRuns(attributes.counts(element, at), size, corner)


_SHAPES: dict[str, Callable[[_Attributes, ET.Element, str], Shape]] = {
    "polygon": _polygon,
    "box": _box,
    "ellipse": _ellipse,
    "mask": _mask,
}


def _for_images(root: ET.Element, attributes: _Attributes) -> Annotations:
    pictures, left_out = [], 0
    for number, image in enumerate(root.iterfind("image")):
        at = f"image {number}"
        name = attributes.reader.picture(image.get("name"), at)
        size = attributes.size(image.get("height"), image.get("width"), at)
        regions = []
        for place, element in _shapes(image, at):
            shape = _SHAPES[element.tag](attributes, element, place)
            region = Region(_object(element), element.get("label", "object"), shape)
            regions.append((attributes.whole(element, "z_order", place, "0"), region))
        left_out += _lines(image)
        pictures.append(AnnotatedPicture(*name, size, _by_depth(regions)))
    return Annotations(tuple(pictures), left_out)


def _for_video(root: ET.Element, attributes: _Attributes) -> Annotations:
    sizes = list(root.iter("original_size"))
    if len(sizes) != 1:
        hint = "export a project's tasks one by one"
        raise DataError("not one video", where=attributes.path, expected="one original_size", got=len(sizes), hint=hint)
    size = attributes.size(sizes[0].findtext("height"), sizes[0].findtext("width"), "original_size")
    frames: dict[int, list[tuple[int, Region]]] = {}
    left_out = 0
    for number, track in enumerate(root.iterfind("track")):
        key, label = track.get("id"), track.get("label", "object")
        if not key:
            raise DataError(f"track {number} has no id", where=attributes.path)
        for place, element in _shapes(track, f"track {number}"):
            if element.get("outside") == "1" or element.get("keyframe") == "0":
                continue
            frame = attributes.whole(element, "frame", place)
            if frame < 0:
                raise DataError(f"{place} has a frame that is none", where=attributes.path, got=frame)
            shape = _SHAPES[element.tag](attributes, element, place)
            depth = attributes.whole(element, "z_order", place, "0")
            frames.setdefault(frame, []).append((depth, Region(key, label, shape)))
        left_out += _lines(track)
    pictures = (AnnotatedPicture("", f"{frame:06d}", size, _by_depth(frames[frame])) for frame in sorted(frames))
    return Annotations(tuple(pictures), left_out)


def _shapes(parent: ET.Element, at: str) -> Iterator[tuple[str, ET.Element]]:
    for number, element in enumerate(parent):
        if element.tag in _SHAPES:
            yield f"{at}, {element.tag} {number}", element


def _lines(parent: ET.Element) -> int:
    return sum(element.tag in _LINES and element.get("outside") != "1" for element in parent)


def _by_depth(regions: list[tuple[int, Region]]) -> tuple[Region, ...]:
    return tuple(region for _, region in sorted(regions, key=lambda found: found[0]))


def _object(element: ET.Element) -> str | None:
    """Which object a picture's shape is, where an attribute or its group says so."""
    said: Mapping[str | None, str | None] = {one.get("name"): one.text for one in element.iterfind("attribute")}
    for name in ("track_id", "instance_id"):
        if said.get(name):
            return said[name]
    group = element.get("group_id")
    return f"{element.get('label')!r} {group!r}" if group and group != "0" else None
