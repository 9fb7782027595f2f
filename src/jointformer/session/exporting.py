"""A session as the exports see it."""

from __future__ import annotations

import numpy as np
import torch

from jointformer.data.export_source import ExportObject
from jointformer.data.video import VideoReader
from jointformer.errors import DataError
from jointformer.ops.resize import resize_bilinear
from jointformer.session.book import outside
from jointformer.session.reading import Reading
from jointformer.session.result import STATUSES, FrameResult, Status
from jointformer.types import FloatArray, LabelMap


class SessionSource:
    """A session's masks and probabilities."""

    def __init__(self, session: Reading) -> None:
        self._session = session
        self._last: FrameResult | None = None

    @property
    def video(self) -> VideoReader:
        """The frames."""
        return self._session.video

    @property
    def title(self) -> str:
        """The video's name in files that need one."""
        return self._session.title

    @property
    def objects(self) -> tuple[ExportObject, ...]:
        """Every object, by id."""
        return tuple(ExportObject(o.id, o.name, o.colour) for o in self._session.objects)

    def label_map(self, frame: int) -> LabelMap | None:
        """The (H, W) object ids of a frame; None where nothing is drawn or tracked."""
        result = self._result(frame)
        return None if result.status == "none" else result.label_map

    def prob(self, frame: int) -> dict[int, FloatArray] | None:
        """{object id: (H, W) probability}, 0 or 1 for the user's masks; None where nothing is drawn or tracked.

        As in a frame's result, what the user drew takes its pixels from all other objects.
        Raises DataError where no probabilities were kept.
        """
        result = self._result(frame)
        if result.status == "none":
            return None
        maps = self._session.soft_maps(frame)
        found: dict[int, FloatArray] = {}
        if maps is not None and maps.ids:
            resized = resize_bilinear(torch.from_numpy(maps.maps.copy()).float()[None] / 255, *self._session.size)
            found = {i: np.asarray(row, np.float32) for i, row in zip(maps.ids, resized[0].numpy())}
        free = outside((result.masks[i] for i in result.drawn), self._session.size)
        prob = {}
        for i in result.ids:
            if i in result.drawn:
                prob[i] = result.masks[i].astype(np.float32)
            elif i in found:
                prob[i] = found[i] * free
            else:
                hint = "track it again in a session with keep_soft=True"
                raise DataError(f"no probabilities were kept of object {i} in frame {frame}", hint=hint)
        return prob

    def is_drawn(self, frame: int, object_id: int) -> bool:
        """Whether the user gave an object's mask in a frame."""
        return object_id in self._result(frame).drawn

    def doubts(self, frames: range) -> list[str]:
        """What somebody should know of the masks of these frames, a sentence each."""
        told: dict[Status, str] = {
            "stale": "are out of date: track them first",
            "partial": "lack an object that was drawn in an earlier frame: track it first",
            "held": "could not be read when they were tracked: they have the masks of the frame beside them",
        }
        status = self._session.timeline()[0][frames.start : frames.stop]
        counts = {name: int((status == STATUSES.index(name)).sum()) for name in told}
        return [f"{counts[name]} of {len(frames)} frames {text}" for name, text in told.items() if counts[name]]

    def _result(self, frame: int) -> FrameResult:
        """A frame's result, read once however many questions about the frame follow each other."""
        if self._last is None or self._last.frame != frame:
            self._last = self._session.result(frame)
        return self._last
