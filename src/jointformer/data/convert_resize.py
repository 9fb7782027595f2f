"""Whole data sets with a shorter side of 480: YouTube-VOS, MOSE and LVOS as they are trained on."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jointformer.data.convert_jobs import Converted, run_jobs
from jointformer.data.frames import is_hidden, list_folder, list_pictures, list_subfolders, picture_size, read_frame
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import MASK_SUFFIXES, read_mask_file, write_mask
from jointformer.errors import ConfigError, DataError
from jointformer.ops.resize import LONGEST_SIDE
from jointformer.system.files import atomic_path, replace_dir
from jointformer.types import UInt8Array, pixels_text

#: Frames are stored once and trained on often: hardly any loss is worth the bytes.
_JPEG_QUALITY = 95
#: How deep below the source the folders of frames and masks may lie (YouTubeVOS/train/JPEGImages).
_LEVELS = 3


@dataclass(frozen=True)
class ResizeJob:
    """One video's frames or masks -> the same names with the shorter side at `size` pixels.

    Frames are resampled bicubically, masks by the nearest pixel. `only_shrink` leaves smaller ones alone.
    """

    source: Path
    target: Path
    size: int
    masks: bool
    only_shrink: bool = False

    @property
    def files(self) -> int:
        """How many pictures the video has."""
        return len(list_folder(self.source))

    def run(self) -> None:
        """Writes `target`. Raises DataError for damaged pictures, OutputError where nothing can be written."""
        with replace_dir(self.target) as folder:
            if self.masks:
                self._masks(folder)
            else:
                for path in list_pictures(self.source):
                    self._frame(path, folder / path.name)

    def _frame(self, path: Path, target: Path) -> None:
        picture = Image.fromarray(read_frame(path))
        size = resized_size(picture.size, self.size, self.only_shrink, path)
        if size == picture.size:
            shutil.copyfile(path, target)
            return
        options: dict[str, Any] = {}
        if target.suffix.lower() in (".jpg", ".jpeg", ".jpe"):
            options["quality"] = _JPEG_QUALITY
        picture.resize(size, Image.Resampling.BICUBIC).save(target, **options)

    def _masks(self, folder: Path) -> None:
        files = list_pictures(self.source, MASK_SUFFIXES)
        # One table for the video, so that a colour means the same object in every frame.
        colours = ColourTable.from_files(files)
        for path in files:
            mask = read_mask_file(path, colours if len(colours.ids) > 1 else None)
            size = resized_size((mask.ids.shape[1], mask.ids.shape[0]), self.size, self.only_shrink, path)
            write_mask(folder / f"{path.stem}.png", resize_nearest(mask.ids, size), mask.palette)


def resized_size(
    size: tuple[int, int], shorter: int, only_shrink: bool = False, path: Path | None = None
) -> tuple[int, int]:
    """(width, height) with the shorter side at `shorter` pixels and the longer one in proportion.

    Raises DataError, naming the picture's path, where that one would exceed `LONGEST_SIDE`.
    """
    least = min(size)
    if only_shrink and least <= shorter:
        return size
    width, height = size[0] * shorter // least, size[1] * shorter // least
    if max(width, height) > LONGEST_SIDE:
        raise DataError(
            f"the picture is too narrow for a shorter side of {shorter}",
            where=path,
            expected=f"at most {LONGEST_SIDE} pixels for the longer one",
            got=f"{pixels_text(size[::-1])} scaled to {pixels_text((height, width))}",
            hint="choose a smaller --size, or --only-shrink",
        )
    return width, height


def resize_nearest(ids: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """The (H, W) label map at (width, height), each pixel the nearest one's label."""
    return np.asarray(Image.fromarray(ids).resize(size, Image.Resampling.NEAREST))


def resize_tree(
    source: Path,
    target: Path,
    size: int = 480,
    *,
    only_shrink: bool = False,
    workers: int = 1,
    progress: bool = False,
) -> Converted:
    """Resizes every video below `source` into the same places below `target`; returns how many folders.

    Frames lie in folders called JPEGImages, masks in folders called Annotations (or Annotations_...), at most
    three levels down; the json and txt files beside them are copied. Raises ConfigError, DataError, OutputError.
    """
    if size < 1:
        raise ConfigError("not a size", where="size", expected="at least 1 pixel", got=size)
    if not source.is_dir():
        raise DataError("no such folder", where=source)
    inside = target.resolve()
    if inside == source.resolve() or source.resolve() in inside.parents:
        raise ConfigError("the result would lie inside the source", where=target, hint="choose a folder elsewhere")
    folders = list(_picture_folders(source, _LEVELS))
    if not folders:
        raise DataError("no frames or masks", where=source, expected="folders JPEGImages and Annotations")
    jobs = [
        ResizeJob(video, target / video.relative_to(source), size, not folder.name.startswith("JPEG"), only_shrink)
        for folder in folders
        for video in list_subfolders(folder)
    ]
    for job in jobs:
        _check_kept(job)
    for above in dict.fromkeys(parent for folder in folders for parent in _parents(folder, source)):
        _copy_lists(above, target / above.relative_to(source))
    return run_jobs(jobs, workers=workers, progress=progress)


def _check_kept(job: ResizeJob) -> None:
    """Raises DataError where a folder from an earlier run holds pictures of another size."""
    kept = list_pictures(job.target) if job.target.is_dir() else []
    sources = list_pictures(job.source) if kept else []
    if not kept or not sources or sources[0].stem != kept[0].stem:
        return
    (height, width), (got_height, got_width) = picture_size(sources[0]), picture_size(kept[0])
    expected = resized_size((width, height), job.size, job.only_shrink, sources[0])
    if expected != (got_width, got_height):
        raise DataError(
            "an earlier run's pictures have another size",
            where=kept[0],
            expected=pixels_text(expected[::-1]),
            got=pixels_text((got_height, got_width)),
            hint="choose another target, or remove this one",
        )


def _picture_folders(folder: Path, levels: int) -> Iterator[Path]:
    for path in list_subfolders(folder):
        if path.name.startswith(("JPEGImages", "Annotations")):
            yield path
        elif levels > 1:
            yield from _picture_folders(path, levels - 1)


def _parents(folder: Path, source: Path) -> list[Path]:
    """The folders above one of pictures, up to the source itself."""
    return [parent for parent in folder.parents if parent == source or source in parent.parents]


def _copy_lists(source: Path, target: Path) -> None:
    for path in list_folder(source):
        if path.suffix.lower() in (".json", ".txt") and path.is_file() and not is_hidden(path):
            with atomic_path(target / path.name) as temporary:
                shutil.copyfile(path, temporary)
