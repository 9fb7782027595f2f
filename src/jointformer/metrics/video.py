"""One video scored frame by frame: each label map is looked at once, and nothing of it is kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np

from jointformer.errors import DataError
from jointformer.metrics.boundary import tolerance
from jointformer.metrics.mose_v2 import smoothed_scores
from jointformer.metrics.pairs import labels_in, mask_of, region_and_boundary, surroundings
from jointformer.metrics.protocols import Protocol
from jointformer.metrics.results import ObjectPlan, ObjectScores, VideoScores
from jointformer.types import UInt8Array, pixels_text

VOID = 255


class _Track:
    """The values of one object so far."""

    def __init__(self, plan: ObjectPlan | None, measures: tuple[str, ...]) -> None:
        self.plan = plan
        self.due = None if plan is None else frozenset(plan.frames)
        self.frames: list[str] = []
        self.visible: list[bool] = []
        self.values: dict[str, list[float]] = {name: [] for name in measures}


class VideoScorer:
    """J and F of every object of one video, under a benchmark's rules.

    Call `begin` with the first truth frame where the rules find the objects there, then `update`
    for each scored frame in order, then `compute`. `objects` names them where the rules take them
    from a list.
    """

    def __init__(self, video: str, protocol: Protocol, objects: Sequence[ObjectPlan] = (), group: str = "") -> None:
        self.video = video
        self.protocol = protocol
        self.group = group
        self._listed = tuple(objects)
        self.reset()

    def reset(self) -> None:
        """Forget all frames; the objects of a list stay."""
        self._tracks = {plan.object_id: self._new_track(plan) for plan in self._listed}
        self._phantoms: frozenset[int] = frozenset()
        self._extra_labels: dict[str, tuple[int, ...]] = {}
        self._unscored_labels: dict[int, str] = {}
        if self.protocol.objects == "merged":
            self._tracks = {1: self._new_track(None)}

    def begin(self, first_truth: UInt8Array) -> None:
        """Take the objects from the video's first truth label map (H, W), as `first_*` rules do."""
        if self.protocol.objects not in ("first_max", "first_labels"):
            return
        present = [label for label in labels_in(first_truth) if label != VOID]
        ids = range(1, max(present, default=0) + 1) if self.protocol.objects == "first_max" else present
        self._tracks = {label: self._new_track(None) for label in ids}
        self._phantoms = frozenset(ids) - frozenset(present)

    def update(self, frame: str, prediction: UInt8Array, truth: UInt8Array) -> None:
        """Score one frame from its two (H, W) uint8 label maps; DataError when their sizes differ."""
        if prediction.shape != truth.shape:
            raise DataError(
                "a prediction of another size than its annotation",
                where=f"{self.video}/{frame}",
                expected=pixels_text(truth.shape),
                got=pixels_text(prediction.shape),
            )
        size = truth.shape
        # Small arrays are far cheaper to make than whole pictures: what follows sees the occupied part only.
        box = surroundings(prediction, truth) or (slice(1), slice(1))
        prediction, truth = prediction[box], truth[box]
        if self.protocol.objects == "merged":
            foreground = (prediction > self.protocol.threshold).view(np.uint8)
            self._add(self._tracks[1], frame, foreground, (truth > 0).view(np.uint8), size)
            return
        if self.protocol.objects == "seen":
            for label in sorted({*labels_in(truth), *labels_in(prediction)} - self._tracks.keys()):
                self._tracks[label] = self._new_track(None)
        covered = covered_truth = 0
        for object_id, track in self._tracks.items():
            mask, true = mask_of(prediction, object_id), mask_of(truth, object_id)
            covered += cv2.countNonZero(mask)
            covered_truth += cv2.countNonZero(true)
            if track.due is None or frame in track.due:
                self._add(track, frame, mask, true, size)
        self._note_other_labels(frame, prediction, covered, truth, covered_truth)

    def compute(self) -> VideoScores:
        """All objects' values so far, in the order of their ids, and the labels that are none."""
        tracks = dict(sorted(self._tracks.items()))
        extra = dict(self._extra_labels)
        if self.protocol.objects == "seen":
            for label in [label for label, track in tracks.items() if not any(track.visible)]:
                first = tracks.pop(label).frames[0]
                extra[first] = (*extra.get(first, ()), label)
        objects = [self._object_scores(object_id, track) for object_id, track in tracks.items()]
        return VideoScores(self.video, objects, extra, dict(self._unscored_labels))

    def _new_track(self, plan: ObjectPlan | None) -> _Track:
        return _Track(plan, self.protocol.measures)

    def _add(self, track: _Track, frame: str, prediction: UInt8Array, truth: UInt8Array, size: tuple[int, ...]) -> None:
        values: tuple[float, ...]
        if self.protocol.summary == "mose_v2":
            values = smoothed_scores(prediction, truth, math.hypot(*size))
        else:
            reach = tolerance(*size) if "F" in self.protocol.measures else None
            values = region_and_boundary(prediction, truth, reach, self.protocol.contour)
        for name, value in zip(self.protocol.measures, values, strict=False):
            track.values[name].append(value)
        track.frames.append(frame)
        track.visible.append(cv2.countNonZero(truth) > 0)

    def _note_other_labels(
        self, frame: str, prediction: UInt8Array, covered: int, truth: UInt8Array, covered_truth: int
    ) -> None:
        if cv2.countNonZero(prediction) != covered:
            others = tuple(label for label in labels_in(prediction) if label not in self._tracks)
            self._extra_labels[frame] = others
        if cv2.countNonZero(truth) != covered_truth:
            for label in labels_in(truth):
                if label not in self._tracks and label != VOID:
                    self._unscored_labels.setdefault(label, frame)

    def _object_scores(self, object_id: int, track: _Track) -> ObjectScores:
        zeros = (0.0,) * (track.plan.unfilled if track.plan else 0)
        return ObjectScores(
            video=self.video,
            object_id=object_id,
            frames=tuple(track.frames),
            values={name: (*values, *zeros) for name, values in track.values.items()},
            visible=tuple(track.visible),
            group=track.plan.group if track.plan else self.group,
            phantom=object_id in self._phantoms and not any(track.visible),
        )
