"""BURST scored from its truth JSON and from predictions as JSON, or as PNGs in a folder or zip."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jointformer.data.benchmark_rows import burst_places
from jointformer.data.burst import BurstFile, BurstSequence, Segmentations, read_burst
from jointformer.data.inputs import refuse_inputs
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_check import Problems
from jointformer.evaluation.score_results import Scores
from jointformer.evaluation.score_sources import MaskTree, open_masks
from jointformer.metrics import burst
from jointformer.metrics.burst import BurstRules, Frame, Region, TrackSequence
from jointformer.metrics.burst_classes import COMMON
from jointformer.metrics.hota import HotaCounts
from jointformer.metrics.pairs import labels_in, mask_of
from jointformer.metrics.protocols import Protocol
from jointformer.ops.png import STRETCHED, parse_png_header, read_index_png
from jointformer.system.parallel import parallel_map
from jointformer.types import pixels_text

_NO_FRAME = "frames without predictions, counted as empty"


def score_burst(
    protocol: Protocol,
    annotations: Path,
    predictions: Path,
    *,
    similarity: burst.Similarity = "box",
    filter_tracks: bool = False,
    set_name: str | None = None,
    outputs: Sequence[str | Path] = (),
    workers: int = 1,
    progress: bool = False,
) -> Scores:
    """HOTA over all, common and uncommon classes.

    `annotations` is `all_classes.json` or its folder; `predictions` a JSON of the same layout, or a
    folder or zip of `<dataset>_-_<seq_name>/<frame>.png`. Raises DataError for files that do not fit, ConfigError for
    a list of videos, OutputError for outputs that are read.
    """
    rules = BurstRules(similarity, filter_tracks, class_guided=protocol.rules == "class-guided")
    truth = _read_truth(annotations, set_name)
    if outputs:
        folders = [predictions / name / video.folder for name in ("", "Annotations") for video in truth.sequences]
        refuse_inputs(outputs, [_truth_file(annotations, set_name or "val"), *folders])
    notes = _notes_on_truth(truth)
    sequences = iter_sequences(truth, predictions, notes, rules, workers)
    bar = tqdm(sequences, total=len(truth.sequences), unit="video", disable=not progress)
    counts, truths, frames = [], [], 0
    for sequence in bar:
        truths.append(burst.scored_truth(sequence))
        frames += sum(map(bool, truths[-1]))
        counts.append(burst.sequence_counts(sequence, rules))
    classes = burst.scored_classes(truths)
    if not classes:
        raise DataError("no scored class in the annotations", where=annotations)
    per_class = burst.class_counts(counts, classes)
    if similarity == "mask":
        notes.append("mask IoU, which was meant; published numbers use box IoU")
    if filter_tracks:
        notes.append("predictions tied to the truth's tracks, which was meant; published numbers are not")
    names = _class_names(truth.content)
    return Scores(
        benchmark=protocol.benchmark,
        rules=protocol.rules,
        toolkit=protocol.toolkit,
        columns=protocol.columns,
        unit_columns=protocol.unit_columns,
        figures=burst_figures(per_class),
        objects={f"{kind} {names.get(kind, '')}".strip(): _class_figures(each) for kind, each in per_class.items()},
        notes=notes,
        counts={"videos": len(counts), "classes": len(classes), "scored frames": frames},
        unit="class",
        options={"similarity": similarity, "filter_tracks": filter_tracks},
    )


def burst_figures(per_class: Mapping[int, HotaCounts]) -> dict[str, float]:
    """Each measure's mean over all, common and uncommon classes; NaN for a group without a class."""
    figures: dict[str, float] = {}
    for name in ("HOTA", "DetA", "AssA"):
        values = {kind: _class_figures(counts)[name] for kind, counts in per_class.items()}
        groups = {
            "all": list(values.values()),
            "common": [value for kind, value in values.items() if kind in COMMON],
            "uncommon": [value for kind, value in values.items() if kind not in COMMON],
        }
        figures |= {f"{name}_{group}": float(np.mean(part)) if part else math.nan for group, part in groups.items()}
    return figures


def iter_sequences(
    truth: BurstFile, predictions: Path, notes: list[str], rules: BurstRules, workers: int = 1
) -> Iterator[TrackSequence]:
    """Every sequence of the truth with its predictions; adds to `notes` what was missing, which counts as missed.

    Raises DataError for predictions that do not fit.
    """
    with_masks = rules.similarity == "mask"
    if predictions.suffix == ".json":
        own = read_burst(predictions)
        split, got = truth.content.get("split"), own.content.get("split")
        if "split" in own.content and got != split:
            raise DataError("predictions of another split", where=predictions, expected=split, got=got)
        by_name = {sequence.folder: sequence for sequence in own.sequences}
        _wrong_with_json(truth.sequences, by_name, rules).stop(str(predictions))
        yield from _from_json(truth.sequences, by_name, notes, with_masks)
    else:
        names = [sequence.folder for sequence in truth.sequences]
        yield from _from_pngs(truth.sequences, open_masks(predictions, names), notes, with_masks, workers)


def _wrong_with_json(
    truth: Sequence[BurstSequence], predictions: Mapping[str, BurstSequence], rules: BurstRules
) -> Problems:
    """What stops the run: masks that are no masks of the truth's pictures, and tracks that are of no class."""
    bad = Problems()
    for sequence in (each for each in truth if each.folder in predictions):
        own = predictions[sequence.folder]
        if own.size != sequence.size:
            sizes = [pixels_text(size) for size in (own.size, sequence.size)]
            bad.add("sequences of another size", f"{sequence.folder} ({sizes[0]}, annotation {sizes[1]})")
        if rules.filter_tracks:  # which takes the classes from the truth
            continue
        frames = _masks_by_frame(own)
        found = (item for frame in sequence.frames for item in frames.get(frame, {}).items())
        bare = {int(track) for track, entry in found if "category_id" not in entry} - own.categories.keys()
        for track in sorted(bare):
            bad.add("predicted tracks without a category", f"{sequence.folder} ({track})")
    return bad


def _from_json(
    truth: Sequence[BurstSequence], predictions: Mapping[str, BurstSequence], notes: list[str], with_masks: bool
) -> Iterator[TrackSequence]:
    noted = Problems()
    for sequence in truth:
        own = predictions.get(sequence.folder)
        frames: Mapping[str, Segmentations] = {}
        if own is None:
            noted.add("sequences without predictions, counted as missed", sequence.folder)
        else:
            frames = _masks_by_frame(own)
            for frame in (frame for frame in sequence.frames if frame not in frames):
                noted.add(_NO_FRAME, f"{sequence.folder}/{frame}")
        regions = [_regions(frames.get(frame, {}), sequence.size, with_masks) for frame in sequence.frames]
        yield _tracks(sequence, regions, {} if own is None else own.categories, with_masks)
    notes += noted.lines()


def _masks_by_frame(sequence: BurstSequence) -> dict[str, Segmentations]:
    return dict(zip(sequence.frames, sequence.segmentations, strict=True))


def _from_pngs(
    truth: Sequence[BurstSequence], masks: MaskTree, notes: list[str], with_masks: bool, workers: int
) -> Iterator[TrackSequence]:
    there = set(masks.videos())
    noted, bad = Problems(), Problems()
    jobs = [
        _PngJob(each.folder, each.frames, each.size, frozenset(each.categories), masks.only(each.folder), with_masks)
        for each in truth
    ]
    files = sum(len(job.frames) for job in jobs if job.video in there)
    results = parallel_map(_read_pngs, jobs, workers=workers, files=files)
    for sequence, (frames, notable, wrong) in zip(truth, results, strict=True):
        if sequence.folder in there:
            noted.extend(notable)
        else:
            noted.add("sequences without predictions, counted as missed", sequence.folder)
        bad.extend(wrong)
        if not bad.files:  # with bad files the rest is only looked through, to count them
            yield _tracks(sequence, frames, sequence.categories, with_masks)
    bad.stop(str(masks.archive or masks.folder))
    notes += noted.lines()


@dataclass(frozen=True)
class _PngJob:
    """What reading one sequence's predictions takes; small enough to send to another process."""

    video: str
    frames: Sequence[str]
    size: tuple[int, int]
    tracks: frozenset[int]
    masks: MaskTree
    with_masks: bool


def _read_pngs(job: _PngJob) -> tuple[list[Frame], Problems, Problems]:
    """A sequence's predictions, what is to be noted (such as missing ones), and what is wrong with the others."""
    noted, bad = Problems(), Problems()
    present = job.masks.frames(job.video)
    frames: list[Frame] = []
    for frame in job.frames:
        file = f"{job.video}/{frame}.png"
        if frame not in present:
            frames.append({})
            noted.add(_NO_FRAME, file)
            continue
        try:
            data, where = job.masks.read_bytes(job.video, frame), job.masks.where(job.video, frame)
            labels, header = read_index_png(data, where), parse_png_header(data, where)
        except DataError as error:
            bad.add("predictions that cannot be read or hold no labels", f"{file} ({error.what})")
            continue
        if labels.shape != job.size:
            bad.add("predictions of another size", f"{file} ({pixels_text(labels.shape)})")
            continue
        ids = labels_in(labels)
        unknown = [label for label in ids if label not in job.tracks]
        if unknown:
            bad.add("predictions with labels that are no track", f"{file} ({unknown[0]})")
        if header.is_stretched:
            (bad if unknown else noted).add(STRETCHED, file)
        frames.append({label: _region_of(mask_of(labels, label), job.with_masks) for label in ids})
    return frames, noted, bad


def _tracks(
    truth: BurstSequence, predictions: Sequence[Frame], categories: Mapping[int, int], with_masks: bool
) -> TrackSequence:
    return TrackSequence(
        truth=[_regions(frame, truth.size, with_masks) for frame in truth.segmentations],
        predictions=predictions,
        truth_categories=truth.categories,
        prediction_categories=categories,
        negative=truth.negative,
        not_exhaustive=truth.not_exhaustive,
    )


def _regions(frame: Segmentations, size: tuple[int, int], with_masks: bool) -> dict[int, Region]:
    """A JSON frame's regions; an empty mask is a region too, with a box of size 0, as for the toolkit."""
    from pycocotools import mask as coco

    regions = {}
    for track, entry in frame.items():
        rle = {"size": list(size), "counts": entry["rle"].encode()}
        x, y, width, height = (int(value) for value in coco.toBbox(rle))
        score = float(entry.get("score", 1.0))
        box, kept = (x, y, width, height), rle if with_masks else None
        regions[int(track)] = Region(box, kept, score, entry.get("category_id"))
    return regions


def _region_of(mask: np.ndarray, with_masks: bool) -> Region:
    from pycocotools import mask as coco

    x, y, width, height = cv2.boundingRect(mask)
    return Region((x, y, width, height), coco.encode(np.asfortranarray(mask)) if with_masks else None)


def _class_figures(counts: HotaCounts) -> dict[str, float]:
    parts = {
        "HOTA": counts.hota,
        "DetA": counts.detection,
        "AssA": counts.association,
        "LocA": counts.location,
        "TP": counts.tp,
        "FN": counts.fn,
        "FP": counts.fp,
    }
    return {name: float(np.mean(values)) for name, values in parts.items()}


def _read_truth(annotations: Path, set_name: str | None) -> BurstFile:
    """The truth of a set (default: val)."""
    if set_name is not None and set_name.endswith(".txt"):
        raise ConfigError("burst has no lists of videos", where="--set", expected="val or test", got=set_name)
    path = _truth_file(annotations, set_name or "val")
    truth = read_burst(path)
    split = truth.content.get("split", set_name)
    if set_name is not None and split != set_name:
        raise DataError("annotations of another split", where=path, expected=set_name, got=split)
    return truth


def _truth_file(annotations: Path, set_name: str) -> Path:
    """The truth of a set: the file itself, or `all_classes.json` in the folder or in its folder of the set."""
    if annotations.is_file():
        return annotations
    for folder in (".", *burst_places(set_name)):
        if (annotations / folder / "all_classes.json").is_file():
            return annotations / folder / "all_classes.json"
    raise DataError("no BURST annotations", where=annotations, expected="all_classes.json or a folder with it")


def _notes_on_truth(truth: BurstFile) -> list[str]:
    """What is to be said of a truth that is likely `first_frame_annotations.json`: every track is seen once."""
    seen = [(one.folder, track) for one in truth.sequences for frame in one.segmentations for track in frame]
    if len(set(seen)) < len(seen) or all(len(one.frames) < 2 for one in truth.sequences):
        return []
    return [
        "every track of the annotations is seen in one frame only; the truth of later frames is in all_classes.json"
    ]


def _class_names(content: Mapping[str, Any]) -> dict[int, str]:
    """The classes' names, of those that the file names: no figure depends on them."""
    entries = content.get("categories")
    if not isinstance(entries, list):
        return {}
    named = (entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), int))
    return {entry["id"]: str(entry["name"]) for entry in named if "name" in entry}
