"""Masks as JSON with COCO run lengths: COCO with video fields, YouTube-VIS, BURST."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from pycocotools import mask as coco

from jointformer.data.export_selection import Selection, picture_name
from jointformer.ops.rle import encode_rle
from jointformer.system.files import atomic_write, json_bytes, write_bytes
from jointformer.types import Mask

_INFO = {"description": "masks tracked with JointFormer", "version": "1"}


def write_coco(selection: Selection, path: Path) -> None:
    """Writes COCO's instances format: an image per frame, an annotation per object and frame where it is seen.

    Beside COCO's own fields: `videos`; `video_id`, `frame_id` of an image; `track_id` (the object id) of an annotation.
    """
    names = _names(selection)
    images = [
        {"id": k + 1, "file_name": name, **_size(selection), "video_id": 1, "frame_id": frame}
        for k, (frame, name) in enumerate(zip(selection.frames, names))
    ]
    head = {
        "info": _INFO,
        "licenses": [],
        "videos": [_video(selection)],
        "categories": _categories(selection),
        "images": images,
    }
    with atomic_write(path) as file:
        _write_streaming(file, head, "annotations", _coco_annotations(selection))


def write_youtube_vis(selection: Selection, path: Path) -> None:
    """Writes YouTube-VIS's format: an annotation per object, with a mask (or null) for every frame."""
    video = {**_video(selection), "file_names": _names(selection)}
    rows: dict[int, dict[str, list[Any]]] = {
        one.id: {"segmentations": [], "areas": [], "bboxes": []} for one in selection.objects
    }
    for frame in selection.each():
        labels = selection.label_map(frame)
        for number, row in rows.items():
            encoded = encode(labels == number)
            row["segmentations"].append(encoded)
            row["areas"].append(None if encoded is None else _area(encoded))
            row["bboxes"].append(None if encoded is None else _box(encoded))
    annotations = [
        {
            "id": k,
            "video_id": 1,
            "category_id": 1 + selection.class_of(one),
            "track_id": one.id,
            "iscrowd": 0,
            "length": len(selection.frames),
            **_size(selection),
            **row,
        }
        for k, (one, row) in enumerate(zip(selection.objects, rows.values()), 1)
    ]
    value = {"info": _INFO, "videos": [video], "categories": _categories(selection), "annotations": annotations}
    write_bytes(path, json_bytes(value))


def write_burst(selection: Selection, path: Path) -> None:
    """Writes BURST's format (ANNOTATION_FORMAT.md of its repository): per frame {track id: run lengths}."""
    segmentations = []
    for frame in selection.each():
        labels = selection.label_map(frame)
        row = {}
        for one in selection.objects:
            encoded = encode(labels == one.id)
            if encoded is not None:
                drawn = selection.source.is_drawn(frame, one.id)
                row[str(one.id)] = {"rle": encoded["counts"], "is_gt": drawn, "score": 1.0}
        segmentations.append(row)
    names = [picture_name(selection.video, frame) for frame in selection.frames]  # in the sequence's own folder
    sequence = {
        "id": 1,
        "dataset": "JointFormer",
        "seq_name": selection.source.title,
        **_size(selection),
        "fps": _rate(selection),
        "all_image_paths": names,
        "annotated_image_paths": names,
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "track_category_ids": {str(one.id): 1 + selection.class_of(one) for one in selection.objects},
        "segmentations": segmentations,
    }
    content = {"sequences": [sequence], "categories": _categories(selection), "split": "custom"}
    write_bytes(path, json_bytes(content))


def encode(mask: Mask) -> dict[str, Any] | None:
    """Return COCO's RLE {"size": [H, W], "counts": text} of a mask; None for an empty one."""
    if not mask.any():
        return None
    return {"size": [int(side) for side in mask.shape], "counts": encode_rle(mask)}


def _coco_annotations(selection: Selection) -> Iterator[dict[str, Any]]:
    number = 0
    for image, frame in enumerate(selection.each(), 1):
        labels = selection.label_map(frame)
        for one in selection.objects:
            encoded = encode(labels == one.id)
            if encoded is None:
                continue
            number += 1
            yield {
                "id": number,
                "image_id": image,
                "video_id": 1,
                "category_id": 1 + selection.class_of(one),
                "track_id": one.id,
                "segmentation": encoded,
                "area": _area(encoded),
                "bbox": _box(encoded),
                "iscrowd": 0,
            }


def _names(selection: Selection) -> list[str]:
    return [f"{selection.source.title}/{picture_name(selection.video, frame)}" for frame in selection.frames]


def _size(selection: Selection) -> dict[str, int]:
    height, width = selection.video.size
    return {"width": width, "height": height}


def _rate(selection: Selection) -> int | float:
    fps = selection.video.fps
    return int(fps) if fps.denominator == 1 else float(fps)


def _video(selection: Selection) -> dict[str, Any]:
    frames = {"length": len(selection.frames), "start_frame": selection.frames.start, "fps": _rate(selection)}
    return {"id": 1, "name": selection.source.title, **_size(selection), **frames}


def _categories(selection: Selection) -> list[dict[str, Any]]:
    """A category per name, with the colour of its first object: readers take names for what tells categories apart."""
    colours = {one.name: list(one.colour) for one in reversed(selection.objects)}
    return [
        {"id": k, "name": name, "supercategory": "object", "color": colours.get(name, [128, 128, 128])}
        for k, name in enumerate(selection.classes, 1)
    ]


def _area(encoded: dict[str, Any]) -> int:
    return int(coco.area(encoded))


def _box(encoded: dict[str, Any]) -> list[int]:
    return [int(v) for v in coco.toBbox(encoded)]


def _write_streaming(file: BinaryIO, head: dict[str, Any], key: str, rows: Iterator[dict[str, Any]]) -> None:
    """One object whose last list is written row by row: an hour of masks does not fit twice into memory."""
    file.write(json_bytes(head)[:-1] + b", " + json_bytes(key) + b": [")
    for number, row in enumerate(rows):
        file.write((b",\n" if number else b"\n") + json_bytes(row))
    file.write(b"\n]}")
