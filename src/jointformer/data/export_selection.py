"""The part of a source that an export writes, and what the export may be told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from functools import cached_property
from typing import get_args

import numpy as np

from jointformer.data.export_source import ExportObject, MaskSource
from jointformer.data.video import FolderVideo, VideoReader, iter_readable
from jointformer.errors import ConfigError, DataError
from jointformer.ops.drawing import OverlayStyle
from jointformer.ops.palette import davis_palette
from jointformer.types import FloatArray, LabelMap, UInt8Array

logger = logging.getLogger(__name__)

#: Called with (frames done, frames in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportOptions:
    """What an export may be told; which format heeds what is in its table.

    start, end: frames, both included (None: the video's ends). objects: ids (None: all). style, opacity, labels: the
    overlay's. sound: keep the video's. quality: the codec's constant rate factor, lower is better. soft: the edge of a
    cut-out follows the probabilities. pictures, columns: of the contact sheet. classes: names of objects, in the order
    in which they are numbered (None: as the objects come). Raises ConfigError.
    """

    start: int | None = None
    end: int | None = None
    objects: tuple[int, ...] | None = None
    style: OverlayStyle = "fill"
    opacity: float = 0.5
    labels: bool = False
    sound: bool = True
    quality: int = 20
    soft: bool = False
    pictures: int = 12
    columns: int = 4
    classes: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for field in ("start", "end"):
            value = getattr(self, field)
            if value is not None and not _is_whole(value):
                raise ConfigError(field, expected="a frame's number", got=repr(value)[:80])
        if self.objects is not None and not (isinstance(self.objects, tuple) and all(map(_is_whole, self.objects))):
            raise ConfigError("objects", expected="a list of ids", got=repr(self.objects)[:80])
        if self.classes is not None and not _are_names(self.classes):
            raise ConfigError("classes", expected="a list of different names", got=repr(self.classes)[:80])
        for field in ("labels", "sound", "soft"):
            if not isinstance(getattr(self, field), bool):
                raise ConfigError(field, expected="true or false", got=repr(getattr(self, field))[:80])
        if self.style not in get_args(OverlayStyle):
            raise ConfigError("style", expected=" | ".join(get_args(OverlayStyle)), got=repr(self.style)[:80])
        if isinstance(self.opacity, bool) or not isinstance(self.opacity, int | float) or not 0 <= self.opacity <= 1:
            raise ConfigError("opacity", expected="0 to 1", got=repr(self.opacity)[:80])
        for field, least, most in (("quality", 0, 51), ("pictures", 1, 400), ("columns", 1, 40)):
            value = getattr(self, field)
            if not _is_whole(value) or not least <= value <= most:
                raise ConfigError(field, expected=f"{least} to {most}", got=repr(value)[:80])

    @staticmethod
    def names() -> frozenset[str]:
        """The names of all options."""
        return frozenset(field.name for field in fields(ExportOptions))


class Selection:
    """The frames and objects of a source that an export writes.

    Raises DataError for a source without objects, ConfigError for frames, objects or classes that it does not have.
    """

    def __init__(self, source: MaskSource, options: ExportOptions, progress: Progress | None = None) -> None:
        self.source = source
        self._progress = progress
        self.video = source.video
        self.options = options
        self.frames = _frame_range(len(source.video), options.start, options.end)
        known = {o.id: o for o in source.objects}
        if not known:
            raise DataError("no objects to export", where=source.title, hint="add masks first")
        wanted = tuple(known) if options.objects is None else options.objects
        if not wanted or not set(wanted) <= set(known):
            raise ConfigError("objects to export", expected=f"ids out of {list(known)}", got=list(wanted))
        self.objects = [known[i] for i in sorted(set(wanted))]
        names = dict.fromkeys(one.name for one in self.objects)
        #: The objects' names, each once: of what kind they are is all that a name says to other tools.
        self.classes = list(names) if options.classes is None else list(options.classes)
        stray = next((name for name in names if name not in self.classes), None)
        if stray is not None:
            hint = "name the object otherwise, or add its name at the end"
            raise ConfigError(
                "classes", expected=f"the name of every object, such as {stray!r}", got=self.classes, hint=hint
            )
        self._written = self._missing = self._held = 0

    @cached_property
    def palette(self) -> UInt8Array:
        """(256 or more, 3) uint8: every object's colour in its row (ids above 65535 start again at 1)."""
        known = davis_palette()
        last = min(max(255, *(one.id for one in self.objects)), 65_535)
        palette = np.concatenate([known, np.resize(known[1:], (last - 255, 3))])
        for one in self.objects:
            palette[(one.id - 1) % last + 1] = one.colour
        return palette

    def class_of(self, one: ExportObject) -> int:
        """Return the place of an object's name among `classes`."""
        return self.classes.index(one.name)

    def label_map(self, frame: int) -> LabelMap:
        """Return a frame's (H, W) ids of the chosen objects; empty (and counted as missing) where none are known."""
        labels = self.known_label_map(frame)
        return np.zeros(self.video.size, np.uint8) if labels is None else labels

    def known_label_map(self, frame: int) -> LabelMap | None:
        """Return a frame's (H, W) ids of the chosen objects; None (and counted as missing) where none are known."""
        labels = self.source.label_map(frame)
        self._count(labels)
        if labels is None or len(self.objects) == len(self.source.objects):
            return labels
        chosen = np.isin(labels, [o.id for o in self.objects])
        return np.where(chosen, labels, np.zeros((), labels.dtype))

    def prob(self, frame: int) -> dict[int, FloatArray]:
        """Return {object id: (H, W) probability} of a frame; empty (and counted as missing) where none are known."""
        prob = self.source.prob(frame)
        self._count(prob)
        return {} if prob is None else prob

    def alpha(self, frame: int) -> UInt8Array:
        """Return a frame's (H, W) opacity, 0 to 255: the chosen objects' masks, or their probabilities."""
        if not self.options.soft:
            return np.where(self.label_map(frame) > 0, np.uint8(255), np.uint8(0))
        prob = self.prob(frame)
        total = sum((prob[o.id] for o in self.objects if o.id in prob), np.zeros(self.video.size, np.float32))
        return np.rint(np.clip(total, 0, 1) * 255).astype(np.uint8)

    def each(self) -> Iterator[int]:
        """The chosen frames in order; each is reported as done when the next is asked for."""
        for count, frame in enumerate(self.frames, 1):
            yield frame
            if self._progress is not None:
                self._progress(count, len(self.frames))

    def pictures(self) -> Iterator[tuple[int, UInt8Array]]:
        """(index, (H, W, 3) frame) of the chosen frames in order; the one before stands for a damaged one.

        Raises DataError where the first is damaged.
        """
        shown: UInt8Array | None = None
        for frame, picture in zip(self.each(), iter_readable(self.video, self.frames.start, self.frames.stop)):
            if not isinstance(picture, DataError):
                shown = picture
            elif shown is None:
                raise picture
            else:
                self._held += 1
            yield frame, shown

    def picture(self, frame: int) -> UInt8Array:
        """Return the (H, W, 3) picture of a frame; the one before stands for a damaged one. DataError as above."""
        for at in range(frame, self.frames.start - 1, -1):
            try:
                shown = self.video.frame(at)
            except DataError as error:
                damaged = error
                continue
            self._held += at < frame
            return shown
        raise damaged

    def report(self, missing: str) -> None:
        """Say in the log how many of the frames had no masks, what became of these, and what else to know of them."""
        if self._missing:
            logger.warning("%d of %d frames have no masks: they were %s", self._missing, self._written, missing)
        if self._held:
            text = "%d of %d frames could not be read: the picture before stands for each of them"
            logger.warning(text, self._held, self._written)
        for line in self.source.doubts(self.frames):
            logger.warning("%s", line)

    def _count(self, known: object) -> None:
        self._written += 1
        self._missing += known is None


def picture_name(video: VideoReader, frame: int) -> str:
    """Return the file name that other formats call a frame by: the picture's own, else its number as a JPEG."""
    return video.files[frame].name if isinstance(video, FolderVideo) else f"{video.name(frame)}.jpg"


def _are_names(value: object) -> bool:
    if not isinstance(value, tuple) or not all(isinstance(name, str) and name.strip() for name in value):
        return False
    return len(value) == len(set(value)) > 0


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _frame_range(length: int, start: int | None, end: int | None) -> range:
    low, high = 0 if start is None else start, length - 1 if end is None else end
    if not 0 <= low <= high < length:
        raise ConfigError("frames to export", expected=f"start <= end within 0 to {length - 1}", got=f"{low} to {high}")
    return range(low, high + 1)
