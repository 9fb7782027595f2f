"""Masks that a person gives for a video: one file, or a folder of files named after frames."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import takewhile
from pathlib import Path

from jointformer.data.frames import list_pictures, natural_key, open_picture
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import (
    MASK_SUFFIXES,
    VOID,
    MaskFile,
    lone_255_is_object,
    read_mask_file,
    resolve_void,
    say_if_void,
)
from jointformer.data.video import VideoReader
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs, object_ids
from jointformer.ops.palette import with_colours
from jointformer.types import LabelMap, UInt8Array


@dataclass(frozen=True)
class GivenMasks:
    """Masks given by a person: {frame index: file}, read alike so that a colour is one id in all of them.

    `objects` are those that the masks name together.
    """

    files: Mapping[int, Path]
    colours: ColourTable | None
    objects: tuple[int, ...] = ()

    @property
    def first(self) -> int:
        """The index of the first frame with a mask."""
        return min(self.files)

    @cached_property
    def lone_255_is_object(self) -> bool:
        """Whether 255 standing alone is an object: where it does so in the first mask. Raises DataError."""
        return lone_255_is_object([read_mask_file(self.files[self.first], self.colours).ids])

    def read(self, index: int) -> MaskFile:
        """Return the mask of a frame, 255 taken as void where it is no object. Raises DataError for a damaged file."""
        mask = read_mask_file(self.files[index], self.colours)
        ids = resolve_void(mask.ids, lone_is_object=self.lone_255_is_object)
        return MaskFile(ids, mask.palette)  # type: ignore[arg-type]

    @property
    def palette(self) -> UInt8Array:
        """The (256, 3) colours of the first mask, DAVIS's where it has none. Raises DataError."""
        return with_colours(self.read(self.first).palette)

    @property
    def are_white(self) -> bool:
        """Whether the masks are black and white: of one object, whose value or colour is white. Raises DataError."""
        if self.objects == (1,):
            return self._has_one_bit() or bool((self.palette[1] == 255).all())
        return self.objects == (VOID,)

    def _has_one_bit(self) -> bool:
        with open_picture(self.files[self.first]) as image:
            return image.mode == "1"

    def at(self, index: int, known: tuple[int, ...]) -> LabelMap | None:
        """Return what is given at a frame, None where nothing is (see `MasksAt`); masks of known ids correct them."""
        label_map = self.read(index).ids if index in self.files else None
        return label_map if label_map is not None and label_map.any() else None


def find_masks(path: str | Path, video: VideoReader, start: int, end: int) -> GivenMasks:
    """Return the masks of a video: one file for frame `start`, or a folder of files named after frames.

    A name in a folder is a frame's name or its number from 0. Raises DataError for missing or empty folders, names
    that are no frame's, masks of another size than the frames, and masks that name no object.
    """
    names = {video.name(i): i for i in range(len(video))}
    return masks_by_frame(Path(path), video.size, range(start, end), names, len(video))


def masks_by_frame(
    path: Path, size: tuple[int, int], wanted: range, names: Mapping[str, int], length: int
) -> GivenMasks:
    """Return the masks of the wanted frames out of `length`; names: {a frame's name: its index}. See `find_masks`.

    Raises DataError for masks that are not there, cannot be read or belong to no frame, or a first one without object.
    """
    files = _folder_masks(path, wanted, names, length) if path.is_dir() else {wanted.start: path}
    if not path.exists():
        raise DataError("no such mask file or folder", where=path, expected="a PNG of object ids, or a folder of them")
    colours = ColourTable.from_files(files.values())
    table = colours if len(colours.ids) > 1 else None
    # Empty masks before an object appears: programs that write one for every frame begin with them.
    early = list(takewhile(lambda index: not read_mask_file(files[index], table).ids.any(), sorted(files)))
    if len(early) < len(files):
        files = {index: file for index, file in files.items() if index not in early}
    masks = GivenMasks(files, table)
    objects: set[int] = set()
    for index, file in sorted(files.items()):
        ids = masks.read(index).ids
        found = object_ids(ids)
        objects.update(found)
        if ids.shape != size:
            raise mask_size_differs(file, size, ids.shape)
        if index == masks.first and not found:
            raise DataError("the mask has no object", where=file, expected="at least one pixel above 0")
    say_if_void(objects)
    return replace(masks, objects=tuple(sorted(objects)))


def _folder_masks(folder: Path, wanted: range, names: Mapping[str, int], length: int) -> dict[int, Path]:
    found: dict[int, Path] = {}
    for file in list_pictures(folder):
        if file.suffix.lower() not in MASK_SUFFIXES:
            raise DataError("masks must keep exact values", where=file, expected="PNG files", got=file.suffix)
        index = names.get(file.stem)
        if index is None and file.stem.isdecimal():
            index = int(file.stem)
        if index is None or index >= length:
            raise DataError(
                "no frame has this name", where=file, expected=f"a frame's name or a number from 0 to {length - 1}"
            )
        if index in found:
            raise DataError("two masks for one frame", where=file, got=f"{found[index].name} too")
        if index in wanted:
            found[index] = file
    if not found:
        ends = {index: name for name, index in names.items() if index in (wanted.start, wanted.stop - 1)}
        first, last = (ends.get(index, str(index)) for index in (wanted.start, wanted.stop - 1))
        raise DataError(
            "holds no mask of the frames to be tracked",
            where=folder,
            expected=f"PNG files named after frames {first} to {last}",
        )
    return dict(sorted(found.items(), key=lambda item: natural_key(item[1].name)))
