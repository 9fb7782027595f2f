"""BURST's json <-> palette PNGs <dataset>_-_<seq_name>/<frame>.png, and its frames in the same folders."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from tqdm import tqdm

from jointformer.data.convert_jobs import Converted, run_jobs
from jointformer.data.inputs import refuse_inputs
from jointformer.data.masks import object_ids, without, write_mask
from jointformer.data.metas import is_plain_name, read_json
from jointformer.errors import DataError
from jointformer.ops.png import read_index_png
from jointformer.ops.rle import decode_rle, encode_rle
from jointformer.system.files import replace_dir, write_text
from jointformer.system.parallel import parallel_map
from jointformer.types import LabelMap

#: One frame of the json: track -> its mask as {"rle": counts}.
Segmentations = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class BurstSequence:
    """One sequence of the json: folder name, (height, width), frame names without suffix, all as checked."""

    dataset: str
    name: str
    size: tuple[int, int]
    images: tuple[str, ...]
    segmentations: tuple[Segmentations, ...]
    tracks: frozenset[str]
    every_image: tuple[str, ...] = ()

    @property
    def folder(self) -> str:
        """The name of the video's folder."""
        return f"{self.dataset}_-_{self.name}"

    @property
    def frames(self) -> tuple[str, ...]:
        """The annotated frames' names without suffix."""
        return tuple(PurePosixPath(image).stem for image in self.images)


def read_sequences(path: Path) -> tuple[dict[str, Any], list[BurstSequence]]:
    """The json's content and its sequences, checked. Raises :class:`DataError` for a file of another form."""
    content = read_json(path)
    entries = content.get("sequences") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise DataError("not a BURST json", where=path, expected="an object with a list 'sequences'")
    return content, [_sequence(entry, path, f"sequences[{k}]") for k, entry in enumerate(entries)]


def _sequence(entry: Any, path: Path, at: str) -> BurstSequence:
    try:
        sequence = BurstSequence(
            dataset=entry["dataset"],
            name=entry["seq_name"],
            size=(int(entry["height"]), int(entry["width"])),
            images=tuple(entry["annotated_image_paths"]),
            segmentations=tuple(entry["segmentations"]),
            tracks=frozenset(entry.get("track_category_ids", {})),
            every_image=tuple(entry.get("all_image_paths", ())),
        )
        names = [sequence.dataset, sequence.name, *sequence.frames]
        names += [part for image in sequence.every_image for part in PurePosixPath(image).parts]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{at} is not as in BURST's json ({error!r})", where=path) from None
    for name in names:
        if not isinstance(name, str) or not is_plain_name(name):
            raise DataError(f"{at} holds something that is no file name", where=path, got=repr(name)[:60])
    if not all(isinstance(tracks, dict) for tracks in sequence.segmentations):
        raise DataError(f"{at}.segmentations holds something else than objects", where=path)
    if len(sequence.images) != len(sequence.segmentations):
        raise DataError(
            f"{at} has not one segmentation per annotated image",
            where=path,
            expected=len(sequence.images),
            got=len(sequence.segmentations),
        )
    if min(sequence.size) < 1 or max(sequence.size) > 1 << 15:
        raise DataError(f"{at} has no sensible size", where=path, got=f"{sequence.size[1]}x{sequence.size[0]}")
    return sequence


@dataclass(frozen=True)
class DrawJob:
    """One sequence's masks -> PNGs; later tracks of the json cover earlier ones.

    ``first_only`` keeps of each track the frame where it is first seen; otherwise every annotated frame is written.
    """

    sequence: BurstSequence
    target: Path
    first_only: bool

    @property
    def files(self) -> int:
        """How many frames are annotated."""
        return len(self.sequence.images)

    def run(self) -> None:
        """Writes ``target``. Raises DataError for damaged masks and for track ids that 8 bits cannot hold."""
        known: set[int] = set()
        with replace_dir(self.target) as folder:
            for frame, tracks in zip(self.sequence.frames, self.sequence.segmentations, strict=True):
                label_map: LabelMap = np.zeros(self.sequence.size, np.uint8)
                for track, entry in tracks.items():
                    label_map[self._decode(frame, track, entry)] = _label(track, self.sequence.folder)
                if self.first_only:
                    label_map = without(label_map, known)
                    known.update(object_ids(label_map))
                if label_map.any() or not self.first_only:
                    write_mask(folder / f"{frame}.png", label_map)

    def _decode(self, frame: str, track: str, entry: Any) -> np.ndarray:
        where = f"{self.sequence.folder}/{frame}, track {track}"
        try:
            return decode_rle(entry["rle"], self.sequence.size)
        except (KeyError, TypeError):
            raise DataError("no mask", where=where, expected='{"rle": counts}') from None
        except DataError as error:
            raise DataError(error.what, where=where, expected=error.expected) from None


def burst_to_masks(
    path: Path, target: Path, *, first_only: bool = False, workers: int = 1, progress: bool = False
) -> Converted:
    """Writes ``target``/<dataset>_-_<seq_name>/<frame>.png from a BURST json; returns how many sequences."""
    _, sequences = read_sequences(path)
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
        """Writes ``target``. Raises DataError naming the first missing frame and the count."""
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

    ``every`` takes all images that the json names rather than the annotated ones.
    """
    _, sequences = read_sequences(path)
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
    """Writes label maps as a BURST json like ``template`` (truth or first frames); returns counts of what it holds.

    Every sequence of the template must have a folder; a frame without a file has no objects, and no empty mask
    is ever written, as BURST counts it as a detection. Everything but ``segmentations`` is kept. Raises
    DataError for missing folders, other sizes and labels that are no track of their sequence, OutputError where
    ``target`` is the template.
    """
    refuse_inputs([target], [template])
    content, sequences = read_sequences(template)
    root = _masks_root(masks, sequences)
    jobs = [_EncodeJob(sequence, root / sequence.folder) for sequence in sequences]
    results = parallel_map(_encode, jobs, workers=workers, files=sum(len(s.images) for s in sequences))
    bar = tqdm(results, total=len(jobs), unit="video", disable=not progress)
    regions = frames = 0
    for entry, segmentations in zip(content["sequences"], bar, strict=True):
        entry["segmentations"] = segmentations
        regions += sum(map(len, segmentations))
        frames += len(segmentations)
    write_text(target, json.dumps(content))
    return {"sequences": len(jobs), "frames": frames, "masks": regions}


def _masks_root(masks: Path, sequences: Sequence[BurstSequence]) -> Path:
    """The folder of video folders: ``masks`` or its Annotations. Raises DataError naming what is missing."""
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
    """A sequence's ``segmentations``: per annotated frame {label: {"rle": counts}}."""
    result: list[dict[str, dict[str, str]]] = []
    for frame in job.sequence.frames:
        path = job.folder / f"{frame}.png"
        if not path.is_file():
            result.append({})
            continue
        label_map = read_index_png(path)
        if label_map.shape != job.sequence.size:
            (height, width), got = job.sequence.size, label_map.shape
            raise DataError("another size", where=path, expected=f"{width}x{height}", got=f"{got[1]}x{got[0]}")
        labels = object_ids(label_map)
        foreign = [label for label in labels if str(label) not in job.sequence.tracks]
        if foreign:
            raise DataError(
                f"label {foreign[0]} is no track of this sequence",
                where=path,
                expected=", ".join(sorted(job.sequence.tracks, key=lambda track: (len(track), track))),
            )
        result.append({str(label): {"rle": encode_rle(label_map == label)} for label in labels})
    return result


def _label(track: str, where: str) -> int:
    if not track.isdecimal() or not 0 < int(track) < 256:
        raise DataError("a track id that an 8-bit mask cannot hold", where=where, expected="1..255", got=repr(track))
    return int(track)
