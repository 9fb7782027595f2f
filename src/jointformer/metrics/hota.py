"""HOTA: detection and association of tracks at 19 similarity thresholds (Luiten et al., IJCV 2021)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

Array = npt.NDArray[np.float64]

#: The similarities at which a pair counts as matched.
THRESHOLDS: Array = np.arange(0.05, 0.99, 0.05)
_EPSILON = float(np.finfo(float).eps)


@dataclass(frozen=True)
class HotaCounts:
    """Counts and accuracies per threshold, each an array of 19: of one sequence or of several together."""

    tp: Array
    fn: Array
    fp: Array
    association: Array
    location: Array

    @property
    def detection(self) -> Array:
        """DetA = TP / (TP + FN + FP)."""
        return self.tp / np.maximum(1.0, self.tp + self.fn + self.fp)

    @property
    def hota(self) -> Array:
        """HOTA = sqrt(DetA AssA)."""
        return np.sqrt(self.detection * self.association)


class Hota:
    """HOTA of the tracks of one class in one sequence, frame by frame.

    `update` keeps a frame's few similarities, no pictures; `compute` matches, since the best
    pairing of tracks is only known at the end; `reset` forgets the sequence.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._frames: list[tuple[Sequence[int], Sequence[int], Array]] = []

    def update(self, truth_ids: Sequence[int], prediction_ids: Sequence[int], similarity: Array) -> None:
        """Take in a frame: the track ids of both sides and their similarities (truth, prediction) in [0, 1]."""
        self._frames.append((truth_ids, prediction_ids, similarity))

    def compute(self) -> HotaCounts:
        """The sequence's counts; a side without any track leaves only misses or false positives."""
        rows = _numbered(frame[0] for frame in self._frames)
        columns = _numbered(frame[1] for frame in self._frames)
        alignment, truth_frames, prediction_frames = self._align(rows, columns)
        tp = np.zeros(len(THRESHOLDS))
        located = np.zeros(len(THRESHOLDS))
        matches = np.zeros((len(THRESHOLDS), len(rows), len(columns)))
        for truth_ids, prediction_ids, similarity in self._frames:
            if not len(truth_ids) or not len(prediction_ids):
                continue
            row = np.array([rows[key] for key in truth_ids])
            column = np.array([columns[key] for key in prediction_ids])
            # One assignment per frame, shared by all thresholds.
            first, second = linear_sum_assignment(-alignment[np.ix_(row, column)] * similarity)
            found = similarity[first, second]
            keep = found >= (THRESHOLDS - _EPSILON)[:, None]
            matches[:, row[first], column[second]] += keep
            pairs = keep.sum(axis=1)
            tp += pairs
            # The higher the threshold, the fewer pairs: where it keeps as many as the one before, it keeps the same.
            sums = {int(count): found[keep[index]].sum() for count, index in zip(*np.unique(pairs, return_index=True))}
            located += [sums[count] for count in pairs.tolist()]
        either = np.maximum(1, truth_frames[:, None] + prediction_frames[None, :] - matches)
        association = (matches * matches / either).sum(axis=(1, 2)) / np.maximum(1, tp)
        location = np.maximum(1e-10, located) / np.maximum(1e-10, tp)
        return HotaCounts(tp, truth_frames.sum() - tp, prediction_frames.sum() - tp, association, location)

    def _align(self, rows: dict[int, int], columns: dict[int, int]) -> tuple[Array, Array, Array]:
        """How well each pair of tracks fits over the whole sequence, and the number of frames of each track."""
        overlap = np.zeros((len(rows), len(columns)))
        truth_frames, prediction_frames = np.zeros(len(rows)), np.zeros(len(columns))
        for truth_ids, prediction_ids, similarity in self._frames:
            row = np.array([rows[key] for key in truth_ids], dtype=int)
            column = np.array([columns[key] for key in prediction_ids], dtype=int)
            truth_frames[row] += 1
            prediction_frames[column] += 1
            if len(row) and len(column):
                total = similarity.sum(axis=0)[None, :] + similarity.sum(axis=1)[:, None] - similarity
                share = np.divide(similarity, total, out=np.zeros_like(similarity), where=total > _EPSILON)
                overlap[np.ix_(row, column)] += share
        union = truth_frames[:, None] + prediction_frames[None, :] - overlap
        return overlap / union if overlap.size else overlap, truth_frames, prediction_frames


def combine(sequences: Sequence[HotaCounts]) -> HotaCounts:
    """Several sequences as one: counts add up, the accuracies are averaged with weights TP."""
    tp = np.sum([each.tp for each in sequences], axis=0)
    weighted = np.sum([each.association * each.tp for each in sequences], axis=0)
    located = np.sum([each.location * each.tp for each in sequences], axis=0)
    return HotaCounts(
        tp=tp,
        fn=np.sum([each.fn for each in sequences], axis=0),
        fp=np.sum([each.fp for each in sequences], axis=0),
        association=weighted / np.maximum(1.0, tp),
        location=np.maximum(1e-10, located) / np.maximum(1e-10, tp),
    )


def _numbered(ids: Iterable[Sequence[int]]) -> dict[int, int]:
    """Consecutive numbers for all ids, in the order they first come."""
    numbers: dict[int, int] = {}
    for frame in ids:
        for key in frame:
            numbers.setdefault(key, len(numbers))
    return numbers
