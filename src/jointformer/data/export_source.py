"""What can be exported: a video with label maps, whoever holds them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

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
from jointformer.data.video import VideoReader, video_title
from jointformer.data.writer import SCORES
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs, object_ids
from jointformer.ops.palette import colour_of, with_colours
from jointformer.types import Colour, FloatArray, LabelMap, pixels_text

logger = logging.getLogger(__name__)


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


class FolderSource:
    """Mask files beside a video: a file per frame with the frame's name, or as many files as frames, in order.

    Probabilities are those that `--save-scores` wrote with the masks: of DIR/NAME in DIR/Scores/NAME. Raises DataError
    where there are no masks, or one belongs to no frame or cannot be read.
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
            raise mask_size_differs(path, self.video.size, ids.shape)
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
