"""Several trackers on one video, their probabilities averaged: multi-scale and flipped inference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jointformer.errors import ConfigError, UserError, require
from jointformer.model.network import JointFormer
from jointformer.ops.resize import network_size, resize_bilinear
from jointformer.track.config import TrackerConfig, check_size, require_config, take_numpy_numbers
from jointformer.track.frames import FrameLike, MasksLike, ScaledLabelMap, frame_size, masks_by_id, picture_pixels
from jointformer.track.segmentation import Segmentation
from jointformer.track.tracker import Tracker
from jointformer.track.transfer import StagedFrame


@dataclass(frozen=True)
class View:
    """One way of looking at the video: the network's shorter side, mirrored or not. Raises ConfigError."""

    size: int
    flipped: bool = False

    def __post_init__(self) -> None:
        take_numpy_numbers(self)
        check_size(self.size)
        require("flipped", self.flipped, bool, "True or False")


def choose_views(sizes: Sequence[int], *, plain: bool = True, flipped: bool = False) -> tuple[View, ...]:
    """Return the ways of looking at the video: each size, plain and/or mirrored."""
    sides = [mirrored for mirrored, wanted in ((False, plain), (True, flipped)) if wanted]
    return tuple(View(size, mirrored) for size in sizes for mirrored in sides)


class EnsembleTracker:
    """A tracker per view with memories of their own; their probabilities are averaged at the frame's size.

    With one view it gives exactly what that view's tracker gives, mirrored back where it is a flipped one. Raises
    ConfigError for a model, settings or views that are none.
    """

    def __init__(self, model: JointFormer, config: TrackerConfig, views: Sequence[View]) -> None:
        if not views:
            raise ConfigError("views of an ensemble", expected="at least one", got="none")
        config = require_config(config)
        self.views = tuple(views)
        self.trackers = tuple(Tracker(model, replace(config, size=view.size)) for view in views)
        self._apart = False

    @property
    def object_ids(self) -> tuple[int, ...]:
        """Ids of the objects being tracked, in order of appearance."""
        return self.trackers[0].object_ids

    @property
    def device(self) -> torch.device:
        """Where the model runs."""
        return self.trackers[0].device

    def step(self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False) -> Segmentation:
        """Return the next frame's segmentation; arguments and errors are `Tracker.step`'s."""
        if self._apart:
            raise UserError(
                "an earlier step broke off between two views: they are at different frames",
                hint="use a new EnsembleTracker",
            )
        size = frame_size(frame)
        for view in self.views:
            network_size(*size, view.size)  # refuses frames that this view cannot take
        if masks is not None:
            masks_by_id(masks, *size)  # before they are mirrored
        results = [self._seen(0, frame, masks, last=last)]  # it refuses what else no view can take
        self._apart = len(self.views) > 1
        results += [self._seen(number, frame, masks, last=last) for number in range(1, len(self.views))]
        self._apart = False
        if len(results) == 1:
            return results[0]
        total = sum(resize_bilinear(r.prob[None], *size)[0] for r in results)
        assert isinstance(total, Tensor)
        return Segmentation(results[0].ids, total / len(results), size)

    def _seen(self, number: int, frame: FrameLike, masks: MasksLike | None, *, last: bool) -> Segmentation:
        """A view's own step, mirrored back."""
        tracker = self.trackers[number]
        if not self.views[number].flipped:
            return tracker.step(frame, masks, last=last)
        given = None if masks is None else _flip_masks(masks)
        seen = tracker.step(_flip_frame(frame), given, last=last)
        return Segmentation(seen.ids, seen.prob.flip(2), seen.size)


def _flip_frame(frame: FrameLike) -> FrameLike:
    if isinstance(frame, StagedFrame):
        return frame.flipped()
    if isinstance(frame, Image.Image):
        frame = picture_pixels(frame)
    return frame.flip(2) if isinstance(frame, Tensor) else frame[:, ::-1]


def _flip_masks(masks: MasksLike) -> MasksLike:
    if isinstance(masks, ScaledLabelMap):
        return masks.flipped()
    if isinstance(masks, Mapping):
        return {i: m.flip(1) if isinstance(m, Tensor) else np.asarray(m)[:, ::-1] for i, m in masks.items()}
    return masks.flip(1) if isinstance(masks, Tensor) else np.asarray(masks)[:, ::-1]
