"""What the rest of the project sees of a benchmark's videos: frames, given masks, frames to save."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from jointformer.data.fingerprint import digest, fingerprint
from jointformer.data.frames import read_frame
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import read_mask_file, resolve_void, without
from jointformer.ops.palette import davis_palette
from jointformer.system.files import from_anywhere
from jointformer.types import LabelMap, UInt8Array, pixels_text

#: "first": one mask names all objects; "new_objects": every mask file may bring further ones.
MasksRead = Literal["first", "new_objects"]


@dataclass(frozen=True)
class VideoSource:
    """One video of a benchmark, checked: every file named here was there when it was opened.

    Sizes are (height, width). `masks` maps frame indices to mask files; `frames_to_save` holds frame
    indices; `output_size` is the size in which results are to be saved, and that of the masks.
    """

    name: str
    frames: tuple[Path, ...]
    masks: Mapping[int, Path]
    masks_read: MasksRead
    frames_to_save: frozenset[int]
    size: tuple[int, int]
    output_size: tuple[int, int]
    colours: ColourTable | None = None
    lone_255_is_object: bool = True

    def __len__(self) -> int:
        return len(self.frames)

    @cached_property  # every driver asks for it at every frame
    def frame_names(self) -> tuple[str, ...]:
        """The frames' names without suffix, in order; results are named after them."""
        return tuple(path.stem for path in self.frames)

    @property
    def first_mask(self) -> int:
        """The index of the first frame with a mask: tracking starts here, earlier frames are skipped."""
        return min(self.masks)

    @property
    def tracked_frames(self) -> int:
        """How many frames tracking takes: from the first mask to the last frame to save."""
        return max(self.frames_to_save) + 1 - self.first_mask

    @property
    def inputs(self) -> set[Path]:
        """The folders of its frames and masks."""
        return {path.parent for path in (*self.frames, *self.masks.values())}

    def found_from_anywhere(self) -> VideoSource:
        """The same video by paths that hold in processes which were started elsewhere."""
        folders = {folder: from_anywhere(folder) for folder in self.inputs}
        frames = tuple(folders[path.parent] / path.name for path in self.frames)
        masks = {index: folders[path.parent] / path.name for index, path in self.masks.items()}
        return replace(self, frames=frames, masks=masks)

    @cached_property
    def fingerprint(self) -> dict[str, str]:
        """What the frames that are tracked, the given masks and the frames to save are known by; see `fingerprint`."""
        tracked = slice(self.first_mask, max(self.frames_to_save) + 1)
        names = self.frame_names
        masks = {names[index]: path for index, path in self.masks.items()}
        return {
            **fingerprint(self.frames[tracked], names[tracked], self.size, masks),
            "saved_frames": digest(names[index] for index in sorted(self.frames_to_save)),
            "saved_size": pixels_text(self.output_size),
        }

    @cached_property
    def palette(self) -> UInt8Array:
        """The (256, 3) palette of the first mask, the DAVIS palette where it has none."""
        palette = read_mask_file(self.masks[self.first_mask], self.colours).palette
        return davis_palette() if palette is None else palette

    def frame(self, index: int) -> UInt8Array:
        """The (H, W, 3) uint8 RGB frame. Raises `DataError` for a damaged file."""
        return read_frame(self.frames[index])

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        """The frames `start` up to (without) `end` in order."""
        for index in range(len(self))[start:end]:
            yield self.frame(index)

    def read_mask(self, index: int, known: Collection[int] = ()) -> LabelMap:
        """The (H, W) uint8 map, in the mask's own size, of the objects given at a frame, without the `known` ones.

        255 is an object where it stands alone, in this file and in the video's first mask; elsewhere it is
        void and becomes 0. Raises `DataError` for a damaged file, KeyError where no mask is given.
        """
        ids = read_mask_file(self.masks[index], self.colours).ids
        return without(resolve_void(ids, lone_is_object=self.lone_255_is_object), known)
