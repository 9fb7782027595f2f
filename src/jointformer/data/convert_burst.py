"""BURST's json <-> palette PNGs <dataset>_-_<seq_name>/<frame>.png, and its frames in the same folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from tqdm import tqdm

from jointformer.data.burst import BurstSequence, read_burst
from jointformer.data.convert_jobs import Converted, run_jobs
from jointformer.data.inputs import check_outputs
from jointformer.data.masks import without, write_mask
from jointformer.errors import DataError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.png import read_index_png, stretched
from jointformer.ops.rle import decode_rle, encode_rle
from jointformer.system.files import replace_dir, write_text
from jointformer.system.parallel import parallel_map
from jointformer.types import LabelMap, pixels_text


@dataclass(frozen=True)
class DrawJob:
    """One sequence's masks -> PNGs; later tracks of the json cover earlier ones.

    `first_only` keeps of each track the frame where it is first seen; otherwise every annotated frame is written.
    """

    sequence: BurstSequence
    target: Path
    first_only: bool

    @property
    def files(self) -> int:
        """How many frames are annotated."""
        return len(self.sequence.images)

    def run(self) -> None:
        """Writes `target`. Raises DataError for track ids that 8 bits cannot hold."""
        known: set[int] = set()
        with replace_dir(self.target) as folder:
            for frame, tracks in zip(self.sequence.frames, self.sequence.segmentations, strict=True):
                label_map: LabelMap = np.zeros(self.sequence.size, np.uint8)
                for track, entry in tracks.items():
                    label_map[decode_rle(entry["rle"], self.sequence.size)] = _label(track, self.sequence.folder)
                if self.first_only:
                    label_map = without(label_map, known)
                    known.update(object_ids(label_map))
                if label_map.any() or not self.first_only:
                    write_mask(folder / f"{frame}.png", label_map)


def burst_to_masks(
    path: Path, target: Path, *, first_only: bool = False, workers: int = 1, progress: bool = False
) -> Converted:
    """Writes `target`/<dataset>_-_<seq_name>/<frame>.png from a BURST json; returns how many sequences."""
    sequences = read_burst(path).sequences
    jobs = [DrawJob(sequence, target / sequence.folder, first_only) for sequence in sequences]
    return run_jobs(jobs, workers=workers, progress=progress)


@dataclass(frozen=True)
class FramesJob:
    """One sequence's frames from BURST's <dataset>/<seq_name>/ -> its video folder, as links where possible."""

    source: Path
    target: Path
    images: tuple[str, ...]

    @property
    def files(self) -> int:
        """How many frames are wanted."""
        return len(self.images)

    def run(self) -> None:
        """Writes `target`. Raises DataError naming the first missing frame and the count."""
        missing = [image for image in self.images if not (self.source / image).is_file()]
        if missing:
            raise DataError(
                f"{len(missing)} of {len(self.images)} frames are missing",
                where=self.source,
                got=f"no {missing[0]}",
            )
        with replace_dir(self.target) as folder:
            for image in self.images:
                new = folder / PurePosixPath(image).name
                try:
                    os.link((self.source / image).resolve(), new)  # of a link, which may be relative, its file
                except OSError:  # another disk, or one without hard links
                    shutil.copyfile(self.source / image, new)


def burst_frames_tree(
    path: Path, frames: Path, target: Path, *, every: bool = False, workers: int = 1, progress: bool = False
) -> Converted:
    """Puts BURST's frames (<dataset>/<seq_name>/) where its evaluation reads them; returns how many sequences.

    `every` takes all images that the json names rather than the annotated ones.
    """
    sequences = read_burst(path).sequences
    jobs = [
        FramesJob(
            frames / sequence.dataset / sequence.name,
            target / sequence.folder,
            (sequence.every_image or sequence.images) if every else sequence.images,
        )
        for sequence in sequences
    ]
    return run_jobs(jobs, workers=workers, progress=progress)


@dataclass(frozen=True)
class _EncodeJob:
    sequence: BurstSequence
    folder: Path


def masks_to_burst(
    masks: Path, template: Path, target: Path, *, workers: int = 1, progress: bool = False
) -> dict[str, int]:
    """Writes label maps as a BURST json like `template` (truth or first frames); returns counts of what it holds.

    Every sequence of the template must have a folder; a frame without a file has no objects, and no empty mask
    is ever written, as BURST counts it as a detection. Everything but `segmentations` is kept. Raises
    DataError for missing folders, other sizes and labels that are no track of their sequence, OutputError where
    `target` is the template.
    """
    check_outputs([target], [template])
    burst = read_burst(template)
    root = _masks_root(masks, burst.sequences)
    jobs = [_EncodeJob(sequence, root / sequence.folder) for sequence in burst.sequences]
    results = parallel_map(_encode, jobs, workers=workers, files=sum(len(s.images) for s in burst.sequences))
    bar = tqdm(results, total=len(jobs), unit="video", disable=not progress)
    regions = frames = 0
    for entry, segmentations in zip(burst.content["sequences"], bar, strict=True):
        entry["segmentations"] = segmentations
        regions += sum(map(len, segmentations))
        frames += len(segmentations)
    write_text(target, json.dumps(burst.content))
    return {"sequences": len(jobs), "frames": frames, "masks": regions}


def _masks_root(masks: Path, sequences: Sequence[BurstSequence]) -> Path:
    """The folder of video folders: `masks` or its Annotations. Raises DataError naming what is missing."""
    for root in (masks, masks / "Annotations"):
        missing = [s.folder for s in sequences if not (root / s.folder).is_dir()]
        if not missing:
            return root
        if len(missing) < len(sequences):
            break
    raise DataError(
        f"{len(missing)} of {len(sequences)} sequences have no folder of masks", where=root, got=f"no {missing[0]}"
    )


def _encode(job: _EncodeJob) -> list[dict[str, dict[str, str]]]:
    """A sequence's `segmentations`: per annotated frame {label: {"rle": counts}}."""
    result: list[dict[str, dict[str, str]]] = []
    for frame in job.sequence.frames:
        path = job.folder / f"{frame}.png"
        if not path.is_file():
            result.append({})
            continue
        label_map = read_index_png(path)
        if label_map.shape != job.sequence.size:
            expected, got = map(pixels_text, (job.sequence.size, label_map.shape))
            raise DataError("another size", where=path, expected=expected, got=got)
        labels = object_ids(label_map)
        foreign = [label for label in labels if label not in job.sequence.categories]
        if foreign:
            raise DataError(
                f"label {foreign[0]} is no track of this sequence",
                where=path,
                expected=", ".join(map(str, sorted(job.sequence.categories))),
                hint=stretched(path),
            )
        result.append({str(label): {"rle": encode_rle(label_map == label)} for label in labels})
    return result


def _label(track: str, where: str) -> int:
    if not 0 < int(track) < 256:
        raise DataError("a track id that an 8-bit mask cannot hold", where=where, expected="1..255", got=repr(track))
    return int(track)
