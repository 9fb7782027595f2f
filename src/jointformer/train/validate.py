"""J&F on given videos while a run goes on: through the Tracker, as users will run it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jointformer.data.frames import read_frame
from jointformer.metrics.measures import JF, jf
from jointformer.ops.label_maps import object_ids
from jointformer.system.stop import Stop, never
from jointformer.track.config import TrackerConfig
from jointformer.track.tracker import Tracker
from jointformer.train.datasets import TrainVideo
from jointformer.types import LabelMap

if TYPE_CHECKING:
    from jointformer.model.network import JointFormer


class Stopped(Exception):
    """A validation that was asked to end before it had its figures."""


@dataclass(frozen=True)
class Validation:
    """Means over the objects of the videos' first masks, in percent; J&F of each video, over its own.

    `jointformer score generic` counts objects that appear later, too.
    """

    j: float
    f: float
    per_video: dict[str, float]

    @property
    def jf(self) -> float:
        """J&F in percent."""
        return (self.j + self.f) / 2


def validate(model: JointFormer, videos: Sequence[TrainVideo], config: TrackerConfig, stop: Stop = never) -> Validation:
    """J and F of a network over annotated videos, of objects of the first mask, first and last mask left out.

    Every picture from a video's first mask that is not empty is tracked, as `jointformer evaluate` does; those with a
    mask are scored. A video of less than 3 masks from there counts for nothing. The network is used as it is
    (precision, device) and stays in its mode. Raises Stopped where `stop`, asked after each picture, says so.
    """
    js, fs, per_video = [], [], {}
    for video in videos:
        score = _score(model, video, config, stop)
        if score is not None:
            js += [100 * j for j, _ in score.per_object.values()]
            fs += [100 * f for _, f in score.per_object.values()]
            per_video[video.name] = 100 * score.jf
    if not js:
        return Validation(0.0, 0.0, {})
    return Validation(float(np.mean(js)), float(np.mean(fs)), per_video)


def _score(model: JointFormer, video: TrainVideo, config: TrackerConfig, stop: Stop) -> JF | None:
    """J and F of one video; None for one that is too short."""
    masks, pictures = dict(video.frames), video.pictures
    annotated = [number for number, image in enumerate(pictures) if image in masks]
    # One by one: all label maps of a long video, twice, would be gigabytes.
    labels = (video.read_labels(masks[pictures[number]]) for number in annotated)
    begin, first = next(((number, one) for number, one in zip(annotated, labels, strict=False) if one.any()), (0, None))
    scored = [number for number in annotated[:-1] if number > begin]
    if first is None or not scored:
        return None
    tracked = _heeding(stop, _track(model, pictures[begin : scored[-1] + 1], first, config))
    due = set(scored)
    predicted = (found for number, found in enumerate(tracked, begin) if number in due)
    return jf(predicted, islice(labels, len(scored)), object_ids(first))


def _heeding(stop: Stop, results: Iterable[LabelMap]) -> Iterator[LabelMap]:
    for result in results:
        if stop():
            raise Stopped
        yield result


def _track(model: JointFormer, pictures: Sequence[Path], first: LabelMap, config: TrackerConfig) -> Iterator[LabelMap]:
    tracker = Tracker(model, config)
    last = len(pictures) - 1
    for number, image in enumerate(pictures):
        masks = first if number == 0 else None
        yield tracker.step(read_frame(image), masks, last=number == last).label_map
