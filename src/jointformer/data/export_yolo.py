"""Masks as a data set for segmentation in YOLO's format: pictures, a text file of outlines for each, data.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from jointformer.data.export_images import encode_picture
from jointformer.data.export_source import Selection
from jointformer.ops.outline import outline
from jointformer.system.files import make_dir, write_bytes
from jointformer.types import LabelMap

JPEG_QUALITY = 95
#: The set that everything is in. Frames of one video are too much alike to be validated on.
SPLIT = "train"


def write_yolo(selection: Selection, folder: Path) -> None:
    """Writes images/train, labels/train and data.yaml, as Ultralytics (and CVAT, which reads it, too) lay them out.

    A line of a label file is an object: its class and its outline (`ops.outline`), in shares of the picture's sides,
    through the middles of pixels. Objects of one name are one class. Frames without masks are left out: an empty
    label file says that there is nothing. The title is part of every name, so that data sets can be put together.
    """
    images, labels = (make_dir(make_dir(folder / kind) / SPLIT) for kind in ("images", "labels"))
    classes = list(dict.fromkeys(one.name for one in selection.objects))
    numbers = {one.id: classes.index(one.name) for one in selection.objects}
    for frame, picture in selection.pictures():
        label_map = selection.known_label_map(frame)
        if label_map is None:
            continue
        name = f"{selection.source.title}_{selection.video.name(frame)}"
        image = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        write_bytes(images / f"{name}.jpg", encode_picture(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]))
        write_bytes(labels / f"{name}.txt", _lines(label_map, numbers).encode())
    write_bytes(folder / "data.yaml", _settings(classes).encode())


def _lines(label_map: LabelMap, numbers: dict[int, int]) -> str:
    """A line per object that is seen."""
    sides = label_map.shape[::-1]
    lines = []
    for i, number in numbers.items():
        points = (outline(label_map == i) + 0.5) / np.asarray(sides)
        if len(points):
            lines.append(" ".join([str(number), *(f"{share:.6f}" for share in points.ravel())]))
    return "".join(f"{line}\n" for line in lines)


def _settings(classes: list[str]) -> str:
    """data.yaml; text as json has it is YAML, too."""
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(classes))
    note = "# val: the same pictures, as there must be some; name a folder of other videos' here"
    return f"train: images/{SPLIT}\n{note}\nval: images/{SPLIT}\nnames:\n{names}"
