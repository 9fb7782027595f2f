"""BURST's json of tracks -> its sequences, checked as a whole before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from jointformer.data.metas import is_plain_name, read_json, short
from jointformer.errors import DataError
from jointformer.ops.rle import all_fill

_REQUIRED = {"dataset", "seq_name", "height", "width", "annotated_image_paths", "segmentations"}
_LARGEST_SIDE = 1 << 15

#: One annotated image: track -> its mask as {"rle": counts}; with a "score" and a "category_id" where it has them.
Segmentations = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class BurstSequence:
    """One sequence: the (height, width) of its images, and each annotated image's masks; categories by track."""

    dataset: str
    name: str
    size: tuple[int, int]
    images: tuple[str, ...]
    every_image: tuple[str, ...]
    segmentations: tuple[Segmentations, ...]
    categories: Mapping[int, int]
    negative: frozenset[int]
    not_exhaustive: frozenset[int]

    @property
    def folder(self) -> str:
        """The name of the video's folder."""
        return f"{self.dataset}_-_{self.name}"

    @property
    def frames(self) -> tuple[str, ...]:
        """The annotated frames' names without suffix."""
        return tuple(PurePosixPath(image).stem for image in self.images)


@dataclass(frozen=True)
class BurstFile:
    """A json as it was read, and its sequences."""

    content: dict[str, Any]
    sequences: tuple[BurstSequence, ...]


def read_burst(path: str | Path) -> BurstFile:
    """A BURST json. Raises `DataError` when it is none, or anything in it is of a wrong kind."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("sequences"), list):
        raise DataError("not a BURST json", where=path, expected="an object with a list 'sequences'")
    for index, entry in enumerate(content["sequences"]):
        wrong = _wrong_with(entry)
        if wrong is not None:
            raise DataError(f"sequence {index} {wrong}", where=path)
    return BurstFile(content, tuple(map(_sequence, content["sequences"])))


def burst_frames(path: str | Path) -> dict[str, list[str]]:
    """Video `<dataset>_-_<seq_name>` -> names of its annotated frames. Raises `DataError`."""
    return {sequence.folder: list(sequence.frames) for sequence in read_burst(path).sequences}


def _sequence(entry: Mapping[str, Any]) -> BurstSequence:
    return BurstSequence(
        dataset=entry["dataset"],
        name=entry["seq_name"],
        size=(entry["height"], entry["width"]),
        images=tuple(entry["annotated_image_paths"]),
        every_image=tuple(entry.get("all_image_paths", ())),
        segmentations=tuple(entry["segmentations"]),
        categories={int(track): kind for track, kind in entry.get("track_category_ids", {}).items()},
        negative=frozenset(entry.get("neg_category_ids", ())),
        not_exhaustive=frozenset(entry.get("not_exhaustive_category_ids", ())),
    )


def _wrong_with(entry: Any) -> str | None:
    """What is wrong with a sequence; None where nothing is."""
    if not isinstance(entry, dict) or _REQUIRED - entry.keys():
        lacking = sorted(_REQUIRED - entry.keys()) if isinstance(entry, dict) else ["all of it"]
        return f"lacks {', '.join(lacking)}"
    images, frames = entry["annotated_image_paths"], entry["segmentations"]
    size = entry["height"], entry["width"]
    for key in ("dataset", "seq_name"):
        if not isinstance(entry[key], str) or not is_plain_name(entry[key]):
            return f"has a {key} that is not a file name: {short(entry[key])}"
    if not all(_is_int(side) and 0 < side <= _LARGEST_SIDE for side in size):
        return f"has height and width that are no size: {short(size)}"
    for key in ("annotated_image_paths", "all_image_paths"):
        listed = entry.get(key, [])
        if not isinstance(listed, list):
            return f"has {key} that are no list"
        for image in listed:
            if not _is_path(image):
                return f"has {key} with something that is not a file name: {short(image)}"
    if not isinstance(frames, list) or len(images) != len(frames):
        return "has not one segmentation per annotated image"
    categories = entry.get("track_category_ids", {})
    if not isinstance(categories, dict) or not all(_is_id(key) and _is_int(kind) for key, kind in categories.items()):
        return "has track_category_ids that are not track -> category"
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        if not isinstance(entry.get(key, []), list) or not all(map(_is_int, entry.get(key, []))):
            return f"has {key} that are no list of numbers"
    regions = (region for frame in frames if isinstance(frame, dict) for region in frame.values())
    whole = _fill([region.get("rle") for region in regions if isinstance(region, dict)], size)
    for image, frame in zip(images, frames, strict=True):
        wrong = _wrong_with_frame(frame, size, whole=whole)
        if wrong is not None:
            return f"has {wrong} at {image[:80]!r}"
    return None


def _fill(masks: list[Any], size: tuple[int, int]) -> bool:
    return all(isinstance(mask, str) for mask in masks) and all_fill(masks, size)


def _wrong_with_frame(frame: Any, size: tuple[int, int], *, whole: bool) -> str | None:
    """What is wrong with a frame; None where nothing is. whole: its run lengths are known to be good."""
    if not isinstance(frame, dict):
        return "no tracks"
    for track, region in frame.items():
        if not _is_id(track) or not isinstance(region, dict):
            return f"a track that is none: {track[:20]!r}"
        if not isinstance(region.get("score", 1.0), int | float):
            return f"a score that is no number for track {track}"
        if not _is_int(region.get("category_id", 0)):
            return f"a category_id that is no number for track {track}"
        if not whole and not _fill([region.get("rle")], size):
            return f"damaged run lengths (rle) for track {track}"
    return None


def _is_path(value: Any) -> bool:
    """Whether an image's path stays inside its folder, and its name without suffix is one too."""
    if not isinstance(value, str):
        return False
    path = PurePosixPath(value)
    return all(map(is_plain_name, (path.stem, *path.parts)))


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
