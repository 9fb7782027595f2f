"""BURST's json of tracks, checked as a whole before anything is computed from it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jointformer.data.metas import read_json
from jointformer.errors import DataError
from jointformer.ops.rle import fills

_SEQUENCE_KEYS = frozenset(
    "dataset seq_name height width annotated_image_paths segmentations track_category_ids".split()  # noqa: SIM905
)
_LARGEST_SIDE = 65_535


def read_burst_json(path: Path) -> dict[str, Any]:
    """The content of a BURST JSON; DataError when it is none, or anything in it is of a wrong kind."""
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("sequences"), list):
        raise DataError("not a BURST JSON", where=path, expected="an object with a list 'sequences'")
    for index, entry in enumerate(content["sequences"]):
        wrong = _wrong_with(entry)
        if wrong is not None:
            raise DataError(f"sequence {index} {wrong}", where=path)
    return content


def _wrong_with(entry: Any) -> str | None:
    """What is wrong with a sequence; None where nothing is."""
    if not isinstance(entry, dict) or _SEQUENCE_KEYS - entry.keys():
        lacking = sorted(_SEQUENCE_KEYS - entry.keys()) if isinstance(entry, dict) else ["all of it"]
        return f"lacks {', '.join(lacking)}"
    images, frames = entry["annotated_image_paths"], entry["segmentations"]
    size = entry["height"], entry["width"]
    if not all(isinstance(entry[key], str) for key in ("dataset", "seq_name")):
        return "has a name that is no text"
    if not all(_is_int(side) and 0 < side <= _LARGEST_SIDE for side in size):
        return f"has height and width that are no size: {str(size)[:60]}"
    if not isinstance(images, list) or not all(isinstance(image, str) for image in images):
        return "has annotated_image_paths that are no list of names"
    if not isinstance(frames, list) or len(images) != len(frames):
        return "has not one segmentation per annotated image"
    categories = entry["track_category_ids"]
    if not isinstance(categories, dict) or not all(_is_id(key) and _is_int(kind) for key, kind in categories.items()):
        return "has track_category_ids that are not track -> category"
    for key in ("neg_category_ids", "not_exhaustive_category_ids"):
        if not isinstance(entry.get(key, []), list) or not all(map(_is_int, entry.get(key, []))):
            return f"has {key} that are no list of numbers"
    for image, frame in zip(images, frames):
        wrong = _wrong_with_frame(frame, size)
        if wrong is not None:
            return f"has {wrong} at {image[:80]!r}"
    return None


def _wrong_with_frame(frame: Any, size: tuple[int, int]) -> str | None:
    if not isinstance(frame, Mapping):
        return "no tracks"
    for track, region in frame.items():
        if not _is_id(track) or not isinstance(region, Mapping):
            return f"a track that is none: {track[:20]!r}"
        if not isinstance(region.get("score", 1.0), int | float):
            return f"a score that is no number for track {track}"
        if not isinstance(region.get("rle"), str) or not fills(region["rle"], size):
            return f"damaged run lengths (rle) for track {track}"
    return None


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < 10
