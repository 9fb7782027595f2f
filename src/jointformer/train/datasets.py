"""The training sets on disk: where each lies below the data root, and the videos or stills it holds."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from jointformer.data.frames import is_hidden, list_folder, list_pictures, list_subfolders
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import MASK_SUFFIXES, VOID, is_colour_mask, lone_255_is_object, read_mask_file, resolve_void
from jointformer.data.metas import listed_videos
from jointformer.errors import ConfigError, DataError
from jointformer.types import UInt8Array

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class VideoSet:
    """A set of annotated videos: frames in `images`/<video>, masks of the same names in `masks`/<video>.

    Both are alternatives below the data root, the first that exists counts. `video_list` names the videos
    (None: every folder). `every`: frames are so far apart that distances are divided by it. `void`: label
    255 is to be ignored. `drop_small`: BL30K's rule against tiny objects; `crop` is the least and largest
    share of the picture that an augmented clip shows; `affine` whether frames are turned and sheared.
    """

    key: str
    name: str
    images: tuple[str, ...]
    masks: tuple[str, ...]
    video_list: str | None = None
    every: int = 1
    void: bool = False
    drop_small: bool = False
    crop: tuple[float, float] = (0.36, 1.0)
    affine: bool = True


@dataclass(frozen=True)
class StillSet:
    """A set of stills with one mask each: NAME.jpg beside NAME.png, in one folder or in one per class."""

    key: str
    name: str
    folder: str
    classes: bool = False


VIDEO_SETS = {
    row.key: row
    for row in (
        VideoSet(
            "davis", "DAVIS 2017 train", ("DAVIS/2017/trainval/JPEGImages/480p",),
            ("DAVIS/2017/trainval/Annotations/480p",), "DAVIS/2017/trainval/ImageSets/2017/train.txt",
        ),
        VideoSet(
            "youtube", "YouTube-VOS 2019 train",
            ("YouTubeVOS-2019/train_480p/JPEGImages", "YouTube/train_480p/JPEGImages"),
            ("YouTubeVOS-2019/train_480p/Annotations", "YouTube/train_480p/Annotations"), every=5,
        ),
        VideoSet(
            "bl30k", "BL30K", ("BL30K/JPEGImages",), ("BL30K/Annotations",),
            drop_small=True, crop=(0.25, 1.0), affine=False,
        ),
        VideoSet(
            "vost", "VOST train", ("VOST/JPEGImages",), ("VOST/Annotations",), "VOST/ImageSets/train.txt",
            every=5, void=True,
        ),
        VideoSet("mose", "MOSE train", ("MOSE/train_480p/JPEGImages",), ("MOSE/train_480p/Annotations",)),
        VideoSet("lvos", "LVOS train", ("LVOS/train_480p/JPEGImages",), ("LVOS/train_480p/Annotations",), every=5),
        VideoSet(
            "visor", "VISOR train", ("VISOR/JPEGImages/480p",), ("VISOR/Annotations/480p",),
            "VISOR/ImageSets/2022/train.txt",
        ),
        VideoSet("burst", "BURST train", ("BURST/train/JPEGImages",), ("BURST/train/Annotations",)),
        VideoSet(
            "ovis", "OVIS train", ("OVIS/train/JPEGImages", "OVIS/JPEGImages"),
            ("OVIS/train/Annotations", "OVIS/Annotations"), every=3,
        ),
    )
}  # fmt: skip

STILL_SETS = {
    row.key: row
    for row in (
        StillSet("fss", "FSS-1000", "static/fss", classes=True),
        StillSet("duts_tr", "DUTS-TR", "static/DUTS-TR"),
        StillSet("duts_te", "DUTS-TE", "static/DUTS-TE"),
        StillSet("ecssd", "ECSSD", "static/ecssd"),
        StillSet("big_small", "BIG, small", "static/BIG_small"),
        StillSet("hrsod_small", "HRSOD, small", "static/HRSOD_small"),
    )
}


@dataclass(frozen=True)
class TrainVideo:
    """An annotated video: pairs of (frame, mask) files in order; only annotated frames count."""

    name: str
    row: VideoSet
    frames: tuple[tuple[Path, Path], ...]

    @property
    def pictures(self) -> list[Path]:
        """Every picture of the video's folder from the first annotated frame to the last, in order."""
        annotated = {image for image, _ in self.frames}
        found = list_pictures(self.frames[0][0].parent)
        numbers = [number for number, image in enumerate(found) if image in annotated]
        return found[min(numbers, default=0) : max(numbers, default=-1) + 1]

    @cached_property
    def lone_255_is_object(self) -> bool:
        """Whether 255 standing alone is an object: where it does so in the first mask that is not empty."""
        return lone_255_is_object(self._read_ids(mask) for _, mask in self.frames)

    @cached_property
    def colours(self) -> ColourTable:
        """Which colour is which id, in all masks alike: one's own colours say another thing where an object is gone."""
        return ColourTable.from_files(mask for _, mask in self.frames)

    def read_labels(self, mask: Path) -> UInt8Array:
        """The (H, W) uint8 ids in one of the masks. Raises DataError for a damaged file.

        255 stays as it is where the set has void; elsewhere it becomes 0 unless it is an object.
        """
        ids = self._read_ids(mask)
        if self.row.void or not (ids == VOID).any():
            return ids
        return np.asarray(resolve_void(ids, lone_is_object=self.lone_255_is_object), np.uint8)

    def _read_ids(self, mask: Path) -> UInt8Array:
        return read_mask_file(mask, self.colours if is_colour_mask(mask) else None).ids


@dataclass(frozen=True)
class TrainStill:
    """A picture file and its mask file."""

    image: Path
    mask: Path


def open_videos(row: VideoSet, root: Path, frames: int) -> list[TrainVideo]:
    """The set's videos with at least `frames` annotated frames; shorter ones are counted in the log.

    Raises DataError where a folder is missing or nothing is left.
    """
    images, masks = _first(row.name, root, row.images), _first(row.name, root, row.masks)
    names = listed_videos(root / row.video_list) if row.video_list else [p.name for p in list_subfolders(images)]
    videos: list[TrainVideo] = []
    short: list[TrainVideo] = []
    for name in names:
        video = TrainVideo(name, row, pair_frames(images / name, masks / name))
        (videos if len(video.frames) >= frames else short).append(video)
    if short:
        shown = ", ".join(video.name for video in short[:5])
        logger.warning("%s: %d videos have fewer than %d annotated frames: %s", row.name, len(short), frames, shown)
    if not videos:
        raise DataError(
            f"{row.name}: no usable video", where=images, expected=f"{frames} annotated frames or more in each"
        )
    return videos


def pair_frames(images: Path, masks: Path) -> tuple[tuple[Path, Path], ...]:
    """(frame, mask) files of a video that share a name, in order. Raises DataError for a missing folder."""
    by_stem = {path.stem: path for path in list_pictures(images)}
    return tuple((by_stem[path.stem], path) for path in list_pictures(masks, MASK_SUFFIXES) if path.stem in by_stem)


def open_stills(row: StillSet, root: Path) -> list[TrainStill]:
    """The set's pictures that have a mask. Raises DataError where the folder is missing or none is left."""
    folder = root / row.folder
    folders = list_subfolders(folder) if row.classes else [folder]
    stills = []
    for each in folders:
        files = [path for path in sorted(each.iterdir()) if not is_hidden(path)] if each.is_dir() else []
        names = {path.stem: path for path in files if path.suffix.lower() == ".png"}
        pictures = [path for path in files if path.suffix == ".jpg"]
        stills += [TrainStill(path, names[path.stem]) for path in pictures if path.stem in names]
    if not stills:
        raise DataError(f"{row.name}: no NAME.jpg with a NAME.png beside it", where=folder)
    return stills


def require_set(key: str, root: Path) -> None:
    """Raises DataError where a set's folders, its list of videos, or a video that is listed are not below the root."""
    if key in STILL_SETS:
        list_folder(root / STILL_SETS[key].folder)
        return
    row = video_set(key)
    folders = [_first(row.name, root, choices) for choices in (row.images, row.masks)]
    for name in listed_videos(root / row.video_list) if row.video_list else []:
        for folder in folders:
            if not (folder / name).is_dir():
                raise DataError(
                    f"{row.name}: no such folder", where=folder / name, hint=f"{root / str(row.video_list)} names it"
                )


def video_set(key: str) -> VideoSet:
    """The row of a video set. Raises ConfigError for an unknown key."""
    if key not in VIDEO_SETS:
        raise ConfigError("unknown training set", expected=", ".join(VIDEO_SETS), got=key)
    return VIDEO_SETS[key]


def _first(name: str, root: Path, choices: tuple[str, ...]) -> Path:
    for choice in choices:
        if (root / choice).is_dir():
            return root / choice
    raise DataError(
        f"{name}: no such folder",
        where=root,
        expected=" or ".join(choices),
        hint="data_root must be the folder above it",
    )
