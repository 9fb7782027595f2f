"""BURST's preparation of tracks for HOTA: categories merged, distractors and unannotated frames left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import linear_sum_assignment

from jointformer.metrics.burst_classes import DISTRACTORS, MERGED
from jointformer.metrics.hota import Array, Hota, HotaCounts, combine

Similarity = Literal["box", "mask"]
_MOST_PER_FRAME = 300
_CLASS_GUIDED_MATCH = 0.5


@dataclass(frozen=True)
class Region:
    """One track in one frame: its box (x, y, width, height) in whole pixels, its COCO RLE, its score.

    `category` is a prediction's own one, which comes before that of its track.
    """

    box: tuple[int, int, int, int]
    rle: Mapping[str, Any] | None = None
    score: float = 1.0
    category: int | None = None


#: One frame: regions by track id.
Frame = Mapping[int, Region]


@dataclass(frozen=True)
class TrackSequence:
    """One video: truth and prediction per annotated frame, and the categories of each side's tracks."""

    truth: Sequence[Frame]
    predictions: Sequence[Frame]
    truth_categories: Mapping[int, int]
    prediction_categories: Mapping[int, int]
    negative: frozenset[int] = frozenset()
    not_exhaustive: frozenset[int] = frozenset()


@dataclass(frozen=True)
class BurstRules:
    """How tracks are compared.

    The defaults are what BURST-benchmark's exemplar-guided task does as shipped: boxes are compared, and
    predictions are not tied to the truth's tracks. `filter_tracks` takes a prediction's class from the
    truth's track of the same id and drops tracks without one, as was meant. `class_guided` drops unmatched
    predictions of classes that the annotators did not look for.
    """

    similarity: Similarity = "box"
    filter_tracks: bool = False
    class_guided: bool = False


def merged(category: int) -> int:
    """The category that a category counts as."""
    return MERGED.get(category, category)


def scored_truth(sequence: TrackSequence) -> list[dict[int, int]]:
    """Per frame, the class of each truth track that remains: distractors are dropped before merging."""
    classes = {
        track: merged(category) for track, category in sequence.truth_categories.items() if category not in DISTRACTORS
    }
    return [{track: classes[track] for track in frame if track in classes} for frame in sequence.truth]


def scored_classes(truths: Iterable[Sequence[Mapping[int, int]]]) -> list[int]:
    """The sorted classes with truth in any of the sequences, from `scored_truth` of each."""
    found = {kind for truth in truths for frame in truth for kind in frame.values()}
    return sorted(found - DISTRACTORS)


def sequence_counts(sequence: TrackSequence, rules: BurstRules) -> dict[int, HotaCounts]:
    """HOTA's counts of one sequence, for every class that truth or prediction has in a scored frame."""
    classes_of = scored_truth(sequence)
    tracks = {track: kind for each in classes_of for track, kind in each.items()} if rules.filter_tracks else None
    measures: dict[int, Hota] = {}
    frames = []
    for index, truth_classes in enumerate(classes_of):
        if truth_classes:  # frames without any remaining truth are not scored, whatever is predicted there
            frames.append((index, truth_classes, _prediction_classes(sequence, index, tracks)))
    for kind in {kind for _, truth, predicted in frames for side in (truth, predicted) for kind in side.values()}:
        measure = measures.setdefault(kind, Hota())
        for index, truth_classes, prediction_classes in frames:
            rows = [track for track, own in truth_classes.items() if own == kind]
            columns = [track for track, own in prediction_classes.items() if own == kind]
            truth, predictions = sequence.truth[index], sequence.predictions[index]
            similarity = _similarity([truth[t] for t in rows], [predictions[t] for t in columns], rules.similarity)
            if rules.class_guided:
                keep = _searched(sequence, kind, similarity)
                columns, similarity = [columns[i] for i in keep], similarity[:, keep]
            measure.update(rows, columns, similarity)
    return {kind: measure.compute() for kind, measure in measures.items()}


def class_counts(sequences: Iterable[dict[int, HotaCounts]], classes: Sequence[int]) -> dict[int, HotaCounts]:
    """The counts of each scored class over all sequences."""
    every = list(sequences)
    return {kind: combine([counts[kind] for counts in every if kind in counts]) for kind in classes}


def _prediction_classes(sequence: TrackSequence, index: int, tracks: Mapping[int, int] | None) -> dict[int, int]:
    """The class of each prediction of a frame; of very many only those with the best scores.

    tracks: the truth's scored tracks and their classes where predictions are tied to them.
    """
    frame = sequence.predictions[index]
    if tracks is not None:
        classes = {track: tracks[track] for track in frame if track in tracks}
    else:
        of_track = sequence.prediction_categories
        classes = {
            track: merged(of_track[track] if region.category is None else region.category)
            for track, region in frame.items()
        }
    best = sorted(classes, key=lambda track: -frame[track].score)[:_MOST_PER_FRAME]
    return {track: classes[track] for track in best}


def _searched(sequence: TrackSequence, kind: int, similarity: Array) -> list[int]:
    """The columns that class-guided scoring keeps: matched ones, and all of a class the annotators looked for.

    The lists are as they are in the truth: the toolkits merge the categories of tracks, not those of the lists.
    """
    absent = not len(similarity) and kind not in sequence.negative
    if not absent and kind not in sequence.not_exhaustive:
        return list(range(similarity.shape[1]))
    scores = np.where(similarity >= _CLASS_GUIDED_MATCH - np.finfo(float).eps, similarity, 0)
    rows, matched = linear_sum_assignment(-scores)
    return sorted(int(j) for i, j in zip(rows, matched, strict=True) if scores[i, j] > 0)


def _similarity(truth: Sequence[Region], predictions: Sequence[Region], kind: Similarity) -> Array:
    """Intersection over union of all pairs (truth, prediction)."""
    if not truth or not predictions:
        return np.zeros((len(truth), len(predictions)))
    return _mask_iou(truth, predictions) if kind == "mask" else _box_iou(truth, predictions)


def _box_iou(truth: Sequence[Region], predictions: Sequence[Region]) -> Array:
    a = np.array([region.box for region in truth], dtype=float)[:, None]
    b = np.array([region.box for region in predictions], dtype=float)[None, :]
    size = np.minimum(a[..., :2] + a[..., 2:], b[..., :2] + b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    common = np.maximum(size, 0).prod(axis=-1)
    union = a[..., 2:].prod(axis=-1) + b[..., 2:].prod(axis=-1) - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _mask_iou(truth: Sequence[Region], predictions: Sequence[Region]) -> Array:
    from pycocotools import mask as coco

    sides = [[region.rle for region in side] for side in (truth, predictions)]
    overlap = coco.iou(sides[1], sides[0], [False] * len(truth))
    return np.nan_to_num(np.asarray(overlap, dtype=float).T)
