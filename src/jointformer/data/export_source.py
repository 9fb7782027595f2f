"""What can be exported: a video with label maps, whoever holds them, and the part of it that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Protocol, get_args

import numpy as np

from jointformer.data.frames import list_pictures
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import (
    MASK_SUFFIXES,
    is_colour_mask,
    lone_255_is_object,
    read_mask_file,
    read_scores,
    resolve_void,
)
from jointformer.data.video import FolderVideo, VideoReader, iter_readable, video_title
from jointformer.data.writer import SCORES
from jointformer.errors import ConfigError, DataError
from jointformer.ops.drawing import OverlayStyle
from jointformer.ops.label_maps import object_ids
from jointformer.ops.palette import colour_of, davis_palette, with_colours
from jointformer.types import Colour, FloatArray, LabelMap, UInt8Array, pixels_text

logger = logging.getLogger(__name__)

#: Called with (frames done, frames in all).
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class ExportObject:
    """One object as other tools see it."""

    id: int
    name: str
    colour: Colour


class MaskSource(Protocol):
    """A video's masks: a session's or a folder's."""

    @property
    def video(self) -> VideoReader:
        """The frames."""

    @property
    def title(self) -> str:
        """The video's name in files that need one."""

    @property
    def objects(self) -> Sequence[ExportObject]:
        """Every object, by id."""

    def label_map(self, frame: int) -> LabelMap | None:
        """The (H, W) object ids of a frame; None where no masks are known."""

    def prob(self, frame: int) -> dict[int, FloatArray] | None:
        """{object id: (H, W) probability in [0, 1]}, None where no masks are known; DataError where only masks were."""

    def is_drawn(self, frame: int, object_id: int) -> bool:
        """Whether a mask was given by the user rather than tracked."""

    def doubts(self, frames: range) -> list[str]:
        """What somebody should know of the masks of these frames, a sentence each."""


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
    """The frames and objects of a source that an export writes."""

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


class FolderSource:
    """Mask files beside a video: a file per frame with the frame's name, or as many files as frames, in order.

    Probabilities are those that `--save-scores` wrote with the masks: of DIR/NAME in DIR/Scores/NAME.
    """

    def __init__(self, folder: str | Path, video: VideoReader) -> None:
        self.folder = Path(folder)
        self.video = video
        self.title = video_title(video)
        files = list_pictures(self.folder, MASK_SUFFIXES)
        if not files:
            inside = self.folder / "masks"  # as `jointformer track` writes them
            hint = f"give {inside}" if inside.is_dir() else None
            raise DataError("no masks", where=self.folder, expected="PNGs of object ids", hint=hint)
        names = {video.name(index): index for index in range(len(video))}
        if all(path.stem in names for path in files):
            self._files = {names[path.stem]: path for path in files}
        elif len(files) == len(video):
            self._files = dict(enumerate(files))
        else:
            stray = next(path for path in files if path.stem not in names)
            expected = f"names {video.name(0)} to {video.name(len(video) - 1)}, or {len(video)} files"
            raise DataError("the mask belongs to no frame", where=stray, expected=expected, got=f"{len(files)} files")
        coloured = any(map(is_colour_mask, files))
        self._colours = ColourTable.from_files(files) if coloured else None
        maps = (read_mask_file(path, self._colours).ids for _, path in sorted(self._files.items()))
        self._lone_255_is_object = lone_255_is_object(maps)
        self.objects = self._find_objects()

    def label_map(self, frame: int) -> LabelMap | None:
        """The (H, W) object ids of a frame; None without a file. Raises DataError."""
        if frame not in self._files:
            return None
        path = self._files[frame]
        ids = resolve_void(read_mask_file(path, self._colours).ids, lone_is_object=self._lone_255_is_object)
        if ids.shape != self.video.size:
            expected, got = map(pixels_text, (self.video.size, ids.shape))
            raise DataError("the mask has another size than its frame", where=path, expected=expected, got=got)
        return ids

    def prob(self, frame: int) -> dict[int, FloatArray] | None:
        """{object id: (H, W) probability} of a frame; None without a mask file. Raises DataError."""
        if frame not in self._files:
            return None
        masks = self._files[frame].absolute()
        path = masks.parents[1] / SCORES / masks.parent.name / f"{masks.stem}.npz"
        if not path.is_file():
            hint = "track with --save-scores, or export from a session that keeps them"
            raise DataError("no probabilities were kept with the masks", where=self.folder, expected=path, hint=hint)
        ids, prob = read_scores(path)
        if prob.shape != (len(ids), *self.video.size):
            expected = f"{len(ids)} maps of {pixels_text(self.video.size)}"
            raise DataError("no scores of this video", where=path, expected=expected, got=f"shape {prob.shape}")
        return dict(zip(ids, prob))

    def is_drawn(self, frame: int, object_id: int) -> bool:
        """False: nobody can tell."""
        return False

    def doubts(self, frames: range) -> list[str]:
        """Nothing: nobody can tell."""
        return []

    def _find_objects(self) -> tuple[ExportObject, ...]:
        ids: set[int] = set()
        palette = None
        for frame, path in sorted(self._files.items()):
            stored = read_mask_file(path, self._colours)
            palette = stored.palette if palette is None else palette
            ids.update(object_ids(resolve_void(stored.ids, lone_is_object=self._lone_255_is_object)))
            if stored.ids.shape != self.video.size:
                self.label_map(frame)  # raises with both sizes
        if not ids:
            raise DataError("none of the masks has an object", where=self.folder)
        colours = with_colours(palette)
        return tuple(ExportObject(i, f"object {i}", colour_of(i, colours)) for i in sorted(ids))


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
