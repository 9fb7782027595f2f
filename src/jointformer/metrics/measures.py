"""Measures for plain use: update with label maps, compute when wanted, reset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from jointformer.errors import DataError
from jointformer.metrics import statistics
from jointformer.metrics.boundary import tolerance
from jointformer.metrics.pairs import mask_of, region_and_boundary
from jointformer.types import LabelMap, UInt8Array


@dataclass(frozen=True)
class Statistics:
    """Mean, recall and decay of one measure over frames; NaN without frames."""

    mean: float
    recall: float
    decay: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Statistics:
        return cls(statistics.mean(values), statistics.recall(values), statistics.decay(values))


class _PerObject:
    """The values of some objects over the frames shown so far."""

    def __init__(self, ids: Iterable[int]) -> None:
        self.ids = tuple(ids)
        self.reset()

    def reset(self) -> None:
        """Forget all frames."""
        self.values: dict[int, list[float]] = {object_id: [] for object_id in self.ids}

    def update(self, prediction: LabelMap, truth: LabelMap) -> None:
        """Take in one frame: two (H, W) integer label maps; DataError when their shapes differ."""
        _same_shape(prediction, truth)
        for object_id in self.ids:
            masks = mask_of(prediction, object_id), mask_of(truth, object_id)
            self.values[object_id].append(self._value(*masks))

    def compute(self) -> dict[int, Statistics]:
        """Mean, recall and decay of each object."""
        return {object_id: Statistics.of(values) for object_id, values in self.values.items()}

    def _value(self, prediction: UInt8Array, truth: UInt8Array) -> float:
        raise NotImplementedError


class RegionSimilarity(_PerObject):
    """J of each object: intersection over union, 1 where both masks are empty."""

    def _value(self, prediction: UInt8Array, truth: UInt8Array) -> float:
        return region_and_boundary(prediction, truth, None)[0]


class BoundaryAccuracy(_PerObject):
    """F of each object: contours compared within 0.008 of the picture's diagonal."""

    def _value(self, prediction: UInt8Array, truth: UInt8Array) -> float:
        return region_and_boundary(prediction, truth, tolerance(*truth.shape))[1]


@dataclass(frozen=True)
class JF:
    """Mean J and F of each object over frames, and their means over objects (fractions)."""

    per_object: dict[int, tuple[float, float]]

    @property
    def j(self) -> float:
        return statistics.mean([j for j, _ in self.per_object.values()])

    @property
    def f(self) -> float:
        return statistics.mean([f for _, f in self.per_object.values()])

    @property
    def jf(self) -> float:
        """J&F, the mean of both."""
        return (self.j + self.f) / 2


def jf(predictions: Iterable[LabelMap], truths: Iterable[LabelMap], ids: Iterable[int]) -> JF:
    """Mean J and F of each of `ids` over pairs of (H, W) integer label maps, taken one at a time.

    All given frames count: leave out the first one (whose mask was given) before the call where a protocol
    does. Raises DataError when a pair's shapes differ or one side ends before the other.
    """
    objects = tuple(ids)
    sums = {object_id: [0.0, 0.0] for object_id in objects}
    frames = 0
    pairs = iter(truths)
    for prediction in predictions:
        truth = next(pairs, None)
        if truth is None:
            raise DataError("fewer annotations than predictions", expected=f"more than {frames} label maps")
        _same_shape(prediction, truth)
        frames += 1
        for object_id in objects:
            masks = mask_of(prediction, object_id), mask_of(truth, object_id)
            j, f = region_and_boundary(*masks, tolerance(*truth.shape))
            sums[object_id][0] += j
            sums[object_id][1] += f
    if next(pairs, None) is not None:
        raise DataError("fewer predictions than annotations", expected=f"more than {frames} label maps")
    return JF({key: (j / frames, f / frames) if frames else (math.nan, math.nan) for key, (j, f) in sums.items()})


def _same_shape(prediction: LabelMap, truth: LabelMap) -> None:
    if truth.ndim != 2:
        raise DataError("not a label map", expected="one (H, W) label map per frame", got=f"the shape {truth.shape}")
    if prediction.shape != truth.shape:
        raise DataError("label maps of different shapes", expected=truth.shape, got=prediction.shape)
