"""Palette PNGs -> the polygon json that VISOR's challenge server takes."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jointformer.data.frames import list_pictures, list_subfolders
from jointformer.data.inputs import check_outputs
from jointformer.data.metas import read_json
from jointformer.data.writer import SCORES
from jointformer.errors import DataError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.png import read_index_png, stretched
from jointformer.system.files import write_text
from jointformer.system.parallel import parallel_map
from jointformer.types import UInt8Array

#: What heads the file; the server's own tool writes these very values.
INFO = {
    "Dataset Name": "VISOR",
    "Challenge": "semi_supervised_vos",
    "Version": "0.1",
    "Resolution": "854x480",
    "Release Date": "Aug 2022",
    "URL": "https://epic-kitchens.github.io/VISOR",
    "Details": "This is a VISOR VOS submission file. All annotations must have 854x480 resolution",
}


@dataclass(frozen=True)
class _VideoJob:
    folder: Path
    names: Mapping[str, str]
    frames: Collection[str] | None = None


def read_mapping(path: Path) -> dict[str, dict[str, str]]:
    """Sequence -> label -> object's name, from VISOR's val_data_mapping.json. Raises `DataError`."""
    if not path.exists():
        raise DataError("no such file", where=path, hint="VISOR's visor_to_davis.py makes it with the frames")
    content = read_json(path)
    fits = isinstance(content, dict) and all(
        isinstance(names, dict) and all(isinstance(name, str) for name in names.values()) for names in content.values()
    )
    if not fits:
        raise DataError("not VISOR's mapping", where=path, expected="sequence -> label -> name")
    return content


def polygons(mask: UInt8Array) -> list[list[list[int]]]:
    """The contours of an (H, W) mask as lists of [x, y]; those of holes are further polygons of the same list."""
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_SIMPLE)
    return [contour.reshape(-1, 2).tolist() for contour in contours]


def masks_to_visor(
    masks: Path, mapping: Path, target: Path, *, workers: int = 1, progress: bool = False
) -> dict[str, int]:
    """Writes every video folder's label maps as VISOR's json; returns counts of what it holds.

    Raises DataError for videos and labels that the mapping does not name, OutputError where `target` is the mapping.
    """
    check_outputs([target], [mapping])
    content, counts = visor_content(masks, read_mapping(mapping), workers=workers, progress=progress)
    write_text(target, json.dumps(content))
    return counts


def visor_content(
    masks: Path,
    names: Mapping[str, Mapping[str, str]],
    *,
    frames: Mapping[str, Collection[str]] | None = None,
    workers: int = 1,
    progress: bool = False,
) -> tuple[dict[str, Any], dict[str, int]]:
    """VISOR's json for the video folders in `masks`, and its counts of sequences, frames and masks.

    `frames` says which frames of which videos are taken; all where it is None. Raises DataError where there is no
    video, one that `names` lacks, or a mask that cannot be read.
    """
    folders = [folder for folder in list_subfolders(masks) if folder.name != SCORES]
    folders = [folder for folder in folders if frames is None or folder.name in frames]
    if not folders:
        raise DataError("no videos", where=masks, expected="a folder of masks per video")
    unknown = [folder.name for folder in folders if folder.name not in names]
    if unknown:
        raise DataError(f"{len(unknown)} videos are not in the mapping", where=masks, got=unknown[0])
    jobs = [_VideoJob(folder, names[folder.name], frames and frames[folder.name]) for folder in folders]
    files = sum(len(list_pictures(folder)) for folder in folders)
    results = parallel_map(_video, jobs, workers=workers, files=files)
    entries: list[dict[str, Any]] = []
    for of_video in tqdm(results, total=len(jobs), unit="video", disable=not progress):
        entries += of_video
    count = sum(len(entry["annotations"]) for entry in entries)
    counts = {"sequences": len(jobs), "frames": len(entries), "masks": count}
    return {"info": dict(INFO), "video_annotations": entries}, counts


def _video(job: _VideoJob) -> list[dict[str, Any]]:
    paths = sorted(list_pictures(job.folder, frozenset({".png"})), key=lambda path: path.name)
    return [_frame(job, path) for path in paths if job.frames is None or path.stem in job.frames]


def _frame(job: _VideoJob, path: Path) -> dict[str, Any]:
    label_map = read_index_png(path)
    kitchen_video = "_".join(job.folder.name.split("_")[:2])
    annotations = []
    for label in object_ids(label_map):
        if str(label) not in job.names:
            raise DataError(
                f"label {label} is not in the mapping",
                where=path,
                expected=", ".join(job.names),
                hint=stretched(path),
            )
        annotations.append({"name": job.names[str(label)], "segments": polygons(label_map == label)})
    image = {
        "image_path": f"{kitchen_video}/{path.name}",
        "name": path.name,
        "video": kitchen_video,
        "subsequence": job.folder.name,
    }
    return {"image": image, "annotations": annotations}
