"""Annotations of other tools -> palette PNGs named after pictures, as `track --masks` and `Session` take them."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np

from jointformer.data.annotation_parts import AnnotatedPicture
from jointformer.data.annotations import read_annotations
from jointformer.data.convert_jobs import run_jobs
from jointformer.data.masks import VOID, write_mask
from jointformer.errors import DataError, OutputError
from jointformer.ops.label_maps import object_ids
from jointformer.system.files import replace_dir

logger = logging.getLogger(__name__)

#: Numbers that an object can keep.
_OWN_IDS = frozenset(map(str, range(1, VOID)))


@dataclass(frozen=True)
class DrawnAnnotations:
    """What was made: masks in all, and the objects' names by video ("" where there is one) and id."""

    masks: int
    objects: Mapping[str, Mapping[int, str]]


@dataclass(frozen=True)
class AnnotationsJob:
    """One video's annotated pictures -> PNGs; `ids`: each region's object id, picture by picture."""

    pictures: tuple[AnnotatedPicture, ...]
    ids: tuple[tuple[int, ...], ...]
    target: Path
    source: Path

    @property
    def files(self) -> int:
        """How many masks it writes."""
        return len(self.pictures)

    def run(self) -> None:
        """Writes `target`. Raises DataError for shapes that do not fit their picture."""
        with replace_dir(self.target) as folder:
            for picture, ids in zip(self.pictures, self.ids, strict=True):
                label_map = np.zeros(picture.size, np.uint8)
                for region, number in zip(picture.regions, ids, strict=True):
                    try:
                        label_map[region.shape.draw(picture.size)] = number
                    except DataError as error:
                        raise DataError(
                            f"{picture.name}: {region.name}: {error.what}",
                            where=self.source,
                            expected=error.expected,
                            got=error.got,
                        ) from error
                unseen = sorted(set(ids) - set(object_ids(label_map)))
                if unseen:
                    logger.warning(
                        "%s: %s: no pixel is left of objects %s, which lie under others or outside the picture",
                        self.source, picture.name, ", ".join(map(str, unseen)),
                    )  # fmt: skip
                write_mask(folder / f"{picture.name}.png", label_map)


def annotations_to_masks(
    source: Path, target: Path, *, by_number: bool = False, workers: int = 1, progress: bool = False
) -> DrawnAnnotations:
    """Writes `target`/<picture>.png, or `target`/<video>/<picture>.png where pictures lie in several folders.

    source: a json of COCO, YouTube-VIS or LabelMe, a folder of LabelMe's, or CVAT's XML. Only pictures with regions
    get a mask. An object keeps its number (`track_id`) where all of a video's are 1 to 254; else objects count from 1
    in the order of their appearance. by_number: a mask is named by the number that ends its picture's name
    (`frame_000012` -> `12`), which is how the frames of a video file are known.

    Raises DataError for what cannot be read, for pictures that do not say which of their objects are the same, for
    more than 254 objects, and for two pictures or videos of one name; OutputError where `target` holds something, be
    it masks of other annotations.
    """
    found = read_annotations(source)
    if found.left_out:
        logger.warning(
            "%s: %d annotations have no region (points, lines, bare boxes) and are left out", source, found.left_out
        )
    videos: dict[str, list[AnnotatedPicture]] = {}
    for picture in found.pictures:
        if picture.regions:
            videos.setdefault(picture.video, []).append(picture)
    if not videos:
        raise DataError("no picture has a region", where=source)
    single = len(videos) == 1
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise OutputError("is there already", where=target, hint="choose another folder")
    jobs, objects = [], {}
    for video, pictures in videos.items():
        named = [_by_number(picture, source) for picture in pictures] if by_number else pictures
        twice = [name for name, times in Counter(picture.name for picture in named).items() if times > 1]
        if twice:
            raise DataError("two pictures of one name", where=source, got=f"{video}/{twice[0]}" if video else twice[0])
        folder = "" if single else PurePosixPath(video).name or source.stem
        ids, objects[folder] = _object_ids(named, source)
        jobs.append(AnnotationsJob(tuple(named), ids, target / folder, source))
    if single:
        jobs[0].run()
    else:
        run_jobs(jobs, workers=workers, progress=progress)
    return DrawnAnnotations(sum(job.files for job in jobs), objects)


def _by_number(picture: AnnotatedPicture, source: Path) -> AnnotatedPicture:
    number = re.search(r"[0-9]{1,18}$", picture.name)
    if number is None:
        raise DataError("a picture's name does not end in a number", where=source, got=picture.name)
    return AnnotatedPicture(picture.video, str(int(number[0])), picture.size, picture.regions)


def _object_ids(
    pictures: Sequence[AnnotatedPicture], source: Path
) -> tuple[tuple[tuple[int, ...], ...], dict[int, str]]:
    """Each region's object id, picture by picture; and the objects' names by id."""
    keys = [_keys(picture, alone=len(pictures) == 1) for picture in pictures]
    for picture, of_picture in zip(pictures, keys, strict=True):
        if None in of_picture:
            name = picture.regions[of_picture.index(None)].name
            raise DataError(
                f"several {name!r} in {picture.name}, and nothing says which is which in other pictures",
                where=source,
                expected="a `track_id` (COCO, CVAT) or `group_id` (LabelMe, CVAT) per object",
                hint="or annotate a single picture",
            )
    names = {
        key: region.name
        for picture, of_picture in zip(pictures, keys, strict=True)
        for region, key in zip(picture.regions, of_picture, strict=True)
        if key is not None
    }
    own = all(key in _OWN_IDS for key in names)
    numbers = {key: int(key) if own else count for count, key in enumerate(names, 1)}
    if max(numbers.values()) >= VOID:
        raise DataError(
            "more objects than an 8-bit mask can hold", where=source, expected="at most 254", got=str(len(names))
        )
    ids = tuple(tuple(numbers[key] for key in of_picture if key is not None) for of_picture in keys)
    return ids, {numbers[key]: name for key, name in names.items()}


def _keys(picture: AnnotatedPicture, *, alone: bool) -> list[str | None]:
    """What names each region's object: its own key, else its name where no other region has it, else its place."""
    times = Counter(region.name for region in picture.regions if region.key is None)
    keys: list[str | None] = []
    for place, region in enumerate(picture.regions):
        if region.key is not None:
            keys.append(region.key)
        elif times[region.name] == 1:
            keys.append(f"name {region.name}")
        else:
            keys.append(f"place {place}" if alone else None)
    return keys
