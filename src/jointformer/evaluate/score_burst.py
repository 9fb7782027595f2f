"""BURST scored from its truth JSON and from predictions as JSON, or as PNGs in a folder or zip."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jointformer.errors import ConfigError, DataError
from jointformer.evaluate.score_burst_json import read_burst_json
from jointformer.evaluate.score_check import Problems, describe
from jointformer.evaluate.score_results import Scores
from jointformer.evaluate.score_sources import MaskTree, open_masks
from jointformer.metrics import burst
from jointformer.metrics.burst import BurstRules, Frame, Region, TrackSequence
from jointformer.metrics.burst_classes import COMMON
from jointformer.metrics.hota import HotaCounts
from jointformer.metrics.pairs import labels_in, mask_of
from jointformer.metrics.protocols import Protocol


def score_burst(
    protocol: Protocol,
    annotations: Path,
    predictions: Path,
    *,
    similarity: burst.Similarity = "box",
    filter_tracks: bool = False,
    set_name: str | None = None,
    progress: bool = False,
) -> Scores:
    """HOTA over all, common and uncommon classes.

    ``annotations`` is ``all_classes.json`` or its folder; ``predictions`` a JSON of the same layout, or a
    folder or zip of ``<dataset>_-_<seq_name>/<frame>.png``. Raises DataError for files that do not fit, ConfigError for
    a list of videos.
    """
    rules = BurstRules(similarity, filter_tracks, class_guided=protocol.rules == "class-guided")
    truth = _read_truth(annotations, set_name)
    notes: list[str] = []
    sequences = iter_sequences(truth, predictions, notes, with_masks=similarity == "mask")
    bar = tqdm(
        sequences, total=len(truth["sequences"]), unit="video", disable=None if progress else True, file=sys.stderr
    )
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
    names = _class_names(truth)
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
    truth: Mapping[str, Any], predictions: Path, notes: list[str], with_masks: bool
) -> Iterator[TrackSequence]:
    """Every sequence of the truth with its predictions; adds to ``notes`` what was missing, which counts as missed."""
    if predictions.suffix == ".json":
        content = read_burst_json(predictions)
        split = truth.get("split")
        if content.get("split", split) != split:
            raise DataError("predictions of another split", where=predictions, expected=split, got=content["split"])
        yield from _from_json(truth, content, notes, with_masks)
    else:
        names = [_folder(entry) for entry in truth["sequences"]]
        yield from _from_pngs(truth, open_masks(predictions, names), notes, with_masks)


def _from_json(
    truth: Mapping[str, Any], content: Mapping[str, Any], notes: list[str], with_masks: bool
) -> Iterator[TrackSequence]:
    by_name = {_folder(entry): entry for entry in content["sequences"]}
    problems = Problems()
    for entry in truth["sequences"]:
        own = by_name.get(_folder(entry))
        if own is None:
            problems.add("sequences without predictions, counted as missed", _folder(entry))
            own = {"annotated_image_paths": [], "segmentations": [], "track_category_ids": {}}
        size = entry["height"], entry["width"]
        images = map(_stem, own["annotated_image_paths"])
        frames = dict(zip(images, own["segmentations"], strict=True))
        wanted = [frames.get(_stem(image), {}) for image in entry["annotated_image_paths"]]
        regions = [_regions(frame, size, with_masks) for frame in wanted]
        yield _sequence(entry, regions, own["track_category_ids"], size, with_masks)
    notes += problems.lines()


def _from_pngs(
    truth: Mapping[str, Any], masks: MaskTree, notes: list[str], with_masks: bool
) -> Iterator[TrackSequence]:
    there = set(masks.videos())
    missing, bad = Problems(), Problems()
    for entry in truth["sequences"]:
        name, size = _folder(entry), (entry["height"], entry["width"])
        if name not in there:
            missing.add("sequences without predictions, counted as missed", name)
        present = masks.frames(name)
        frames: list[Frame] = []
        for image in map(_stem, entry["annotated_image_paths"]):
            if image not in present:
                frames.append({})
                if name in there:
                    missing.add("frames without predictions, counted as empty", f"{name}/{image}.png")
                continue
            labels = masks.read(name, image)
            if labels.shape != size:
                bad.add("predictions of another size", f"{name}/{image}.png ({labels.shape[1]}x{labels.shape[0]})")
                continue
            ids = labels_in(labels)
            unknown = [label for label in ids if str(label) not in entry["track_category_ids"]]
            if unknown:
                bad.add("predictions with labels that are no track", f"{name}/{image}.png ({unknown[0]})")
            frames.append({label: _region_of(mask_of(labels, label), with_masks) for label in ids})
        if not bad.files:  # with bad files the rest is only looked through, to count them
            yield _sequence(entry, frames, entry["track_category_ids"], size, with_masks)
    bad.stop(str(masks.archive or masks.folder))
    notes += missing.lines()


def _sequence(
    entry: Mapping[str, Any],
    predictions: Sequence[Frame],
    categories: Mapping[str, int],
    size: tuple[int, int],
    with_masks: bool,
) -> TrackSequence:
    own = {int(track): int(kind) for track, kind in categories.items()}
    foreign = sorted({track for frame in predictions for track in frame} - own.keys())
    if foreign:
        where = _folder(entry)
        raise DataError(describe("predicted tracks without a category", map(str, foreign)), where=where)
    return TrackSequence(
        truth=[_regions(frame, size, with_masks) for frame in entry["segmentations"]],
        predictions=predictions,
        truth_categories={int(track): int(kind) for track, kind in entry["track_category_ids"].items()},
        prediction_categories=own,
        negative=frozenset(entry.get("neg_category_ids", ())),
        not_exhaustive=frozenset(entry.get("not_exhaustive_category_ids", ())),
    )


def _regions(frame: Mapping[str, Any], size: tuple[int, int], with_masks: bool) -> dict[int, Region]:
    """A JSON frame's regions; an empty mask is a region too, with a box of size 0, as for the toolkit."""
    from pycocotools import mask as coco

    regions = {}
    for track, entry in frame.items():
        rle = {"size": list(size), "counts": entry["rle"].encode()}
        x, y, width, height = (int(value) for value in coco.toBbox(rle))
        score = float(entry.get("score", 1.0))
        regions[int(track)] = Region((x, y, width, height), rle if with_masks else None, score)
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


def _read_truth(annotations: Path, set_name: str | None) -> dict[str, Any]:
    """The truth of a set (default: val)."""
    if set_name is not None and set_name.endswith(".txt"):
        raise ConfigError("burst has no lists of videos", where="--set", expected="val or test", got=set_name)
    path = _truth_file(annotations, set_name or "val")
    truth = read_burst_json(path)
    if set_name is not None and truth.get("split", set_name) != set_name:
        raise DataError("annotations of another split", where=path, expected=set_name, got=truth["split"])
    return truth


def _truth_file(annotations: Path, set_name: str) -> Path:
    """The truth of a set: the file itself, or ``all_classes.json`` in the folder or in its folder of the set."""
    if annotations.is_file():
        return annotations
    for folder in (".", set_name, f"annotations/{set_name}", "annotations"):
        if (annotations / folder / "all_classes.json").is_file():
            return annotations / folder / "all_classes.json"
    raise DataError("no BURST annotations", where=annotations, expected="all_classes.json or a folder with it")


def _folder(entry: Mapping[str, Any]) -> str:
    return f"{entry['dataset']}_-_{entry['seq_name']}"


def _stem(image: str) -> str:
    """An image's name without its extension, as results are named."""
    return PurePosixPath(image).stem


def _class_names(truth: Mapping[str, Any]) -> dict[int, str]:
    """The classes' names, of those that the file names: no figure depends on them."""
    entries = truth.get("categories")
    if not isinstance(entries, list):
        return {}
    named = (entry for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), int))
    return {entry["id"]: str(entry["name"]) for entry in named if "name" in entry}
