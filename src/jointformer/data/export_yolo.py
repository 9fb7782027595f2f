"""Masks as a data set for segmentation in YOLO's format: pictures, a text file of outlines for each, data.yaml."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from jointformer.data.export_images import encode_picture
from jointformer.data.export_selection import Selection
from jointformer.ops.outline import outline
from jointformer.system.files import make_dir, write_bytes
from jointformer.types import LabelMap

JPEG_QUALITY = 95
#: The sets: trainers want both, and CVAT takes a picture that is in both for two.
TRAIN, VAL = "train", "val"
#: One in so many pictures, at the end of the video, is for validation.
VAL_SHARE = 10


def write_yolo(selection: Selection, folder: Path) -> None:
    """Writes images/*, labels/* and data.yaml, as Ultralytics (and CVAT, which reads it, too) lay them out.

    A line of a label file is an object: its class and its outline (`ops.outline`), in shares of the picture's sides,
    through the middles of pixels. Objects of one name are one class. Frames without masks are left out: an empty
    label file says that there is nothing. The last tenth of the others (one at least, where there are two) is the set
    `val`. The title is part of every name, so that data sets can be put together.
    """
    images, labels = (make_dir(make_dir(folder / kind) / TRAIN) for kind in ("images", "labels"))
    numbers = {one.id: selection.class_of(one) for one in selection.objects}
    names = []
    for frame, picture in selection.pictures():
        label_map = selection.known_label_map(frame)
        if label_map is None:
            continue
        name = f"{selection.source.title}_{selection.video.name(frame)}"
        names.append(name)
        image = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        write_bytes(images / f"{name}.jpg", encode_picture(image, ".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]))
        write_bytes(labels / f"{name}.txt", _lines(label_map, numbers).encode())
    held = names[-max(1, len(names) // VAL_SHARE) :] if len(names) > 1 else []
    for files, suffix in ((images, ".jpg"), (labels, ".txt")) if held else ():
        place = make_dir(files.with_name(VAL))
        for name in held:
            (files / f"{name}{suffix}").rename(place / f"{name}{suffix}")
    write_bytes(folder / "data.yaml", _settings(selection.classes, VAL if held else TRAIN).encode())


def _lines(label_map: LabelMap, numbers: dict[int, int]) -> str:
    """A line per object that is seen."""
    sides = label_map.shape[::-1]
    lines = []
    for i, number in numbers.items():
        points = (outline(label_map == i) + 0.5) / np.asarray(sides)
        if len(points):
            lines.append(" ".join([str(number), *(f"{share:.6f}" for share in points.ravel())]))
    return "".join(f"{line}\n" for line in lines)


def _settings(classes: list[str], val: str) -> str:
    """data.yaml; text as json has it is YAML, too."""
    names = "".join(f"  {number}: {json.dumps(name, ensure_ascii=False)}\n" for number, name in enumerate(classes))
    note = "# val: the end of the same video, much like the rest; a folder of other videos' says more"
    return f"train: images/{TRAIN}\n{note}\nval: images/{val}\nnames:\n{names}"
