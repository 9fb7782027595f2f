"""J&F on given videos while a run goes on: through the Tracker, as users will run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jointformer.data.frames import read_frame
from jointformer.metrics.measures import jf
from jointformer.ops.label_maps import object_ids
from jointformer.track.config import TrackerConfig
from jointformer.track.tracker import Tracker
from jointformer.train.datasets import TrainVideo
from jointformer.types import LabelMap

if TYPE_CHECKING:
    from jointformer.model.network import JointFormer


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


def validate(model: JointFormer, videos: Sequence[TrainVideo], config: TrackerConfig) -> Validation:
    """J and F of a network over annotated videos, of objects of the first mask, first and last frame left out.

    A video begins with its first mask that is not empty; one of less than 3 frames from there counts for nothing. The
    network is used as it is (precision, device) and stays in its mode.
    """
    js, fs, per_video = [], [], {}
    for video in videos:
        # One by one: all label maps of a long video, twice, would be gigabytes.
        labels = enumerate(map(video.read_labels, (mask for _, mask in video.frames)))
        begin, first = next(((number, one) for number, one in labels if one.any()), (0, None))
        frames = video.frames[begin:-1]
        if first is None or len(frames) < 2:
            continue
        predicted = islice(_track(model, [image for image, _ in frames], first, config), 1, None)
        score = jf(predicted, (one for _, one in islice(labels, len(frames) - 1)), object_ids(first))
        js += [100 * j for j, _ in score.per_object.values()]
        fs += [100 * f for _, f in score.per_object.values()]
        per_video[video.name] = 100 * score.jf
    if not js:
        return Validation(0.0, 0.0, {})
    return Validation(float(np.mean(js)), float(np.mean(fs)), per_video)


def _track(model: JointFormer, pictures: Sequence[Path], first: LabelMap, config: TrackerConfig) -> Iterator[LabelMap]:
    tracker = Tracker(model, config)
    last = len(pictures) - 1
    for number, image in enumerate(pictures):
        masks = first if number == 0 else None
        yield tracker.step(read_frame(image), masks, last=number == last).label_map
