"""A benchmark's tree on disk -> checked videos; whatever is wrong is found here, before anything runs."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from jointformer.data.benchmark_rows import Benchmark
from jointformer.data.burst import burst_frames
from jointformer.data.frames import list_pictures, list_subfolders, picture_size
from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import MASK_SUFFIXES, is_colour_mask, read_mask_file, resolve_void
from jointformer.data.metas import listed_frames, listed_videos, lvos_frames, youtube_objects
from jointformer.data.sources import VideoSource
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs, object_ids
from jointformer.types import LabelMap

logger = logging.getLogger(__name__)

#: Up to so many mask files of a video of one's own may be drawn to be tracked; more are a truth to be scored by.
_DRAWN = 8
_META_READERS = {"lvos": lvos_frames, "burst": burst_frames}


def open_tree(row: Benchmark, root: Path, *, save_all: bool = False) -> tuple[VideoSource, ...]:
    """The videos of a benchmark below `root`, in order. Raises `DataError` for the first thing wrong.

    The error's hint counts further videos with problems and says where the data come from.
    """
    images = _find(row, root, row.images, "frames")
    masks = _find(row, root, row.masks, "masks")
    names, meta = _video_names(row, root, images, masks)
    listed = youtube_objects(meta) if meta is not None and row.saved == "youtube" else {}
    saved = None if meta is None else _saved_frames(row, images, names, meta, listed)

    def check(name: str) -> VideoSource | DataError:
        try:
            frames = None if save_all or saved is None else saved[name]
            video = _open_video(row, root, name, images / name, masks / name, frames)
            _check_beginnings(video, masks / name, listed.get(name, {}))
            return video
        except DataError as error:
            return error

    # Headers and first masks of thousands of files: threads hide the disk, and Pillow decodes outside the
    # GIL.
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(check, names))
        errors = [result for result in results if isinstance(result, DataError)]
        if errors:
            raise _with_hint(row, errors)
        videos = tuple(result for result in results if isinstance(result, VideoSource))
        if row.key == "G":
            _tell_of_late_objects(masks, dict(zip(names, pool.map(lambda video: _late_objects(masks, video), videos))))
    return videos


def _find(row: Benchmark, root: Path, choices: Sequence[str], what: str) -> Path:
    """The first of the alternative folders that is there."""
    for choice in choices:
        if (root / choice).is_dir():
            return root / choice
    raise DataError(
        f"{row.name}: no folder of {what}",
        expected=" or ".join(str(root / choice) for choice in choices),
        got=_what_is_there(root, choices[0]),
        hint=_how_to_get(row, choices[0]),
    )


def _what_is_there(root: Path, path: str) -> str:
    """How far a path exists, and what stands where it ends: the quickest way to see a wrong data root."""
    there = root
    for part in Path(path).parts:
        if not (there / part).exists():
            break
        there = there / part
    if not there.is_dir():
        return f"{there}, which is a file"
    held = sorted(p.name for p in there.iterdir() if not p.name.startswith("."))
    listed = ", ".join(held[:6]) + (", ..." if len(held) > 6 else "")
    return f"{there} with {listed}" if held else f"{there}, which is empty"


def _how_to_get(row: Benchmark, path: str) -> str:
    first = path.split("/")[0]
    if row.key == "G":
        return "frames are read from JPEGImages/<video>/, masks from Annotations/<video>/ below generic_path"
    text = f"{row.name} comes from {row.download}; data_root must be the folder that holds {first}/"
    if row.size_from is not None:
        text += "; where the size is not 480, its frames are read in full resolution"
    if path.endswith("Annotations_first_only"):
        command = (
            "burst-masks --first-only` makes it of BURST's json" if row.key == "BURST" else "first-masks` makes it"
        )
        text += "; this folder keeps of each object only the mask of the first frame where it appears: "
        text += f"`jointformer data {command}"
    return text


def _with_hint(row: Benchmark, errors: list[DataError]) -> DataError:
    first = errors[0]
    hints = [first.hint] if first.hint else []
    if len(errors) > 1:
        hints.append(f"{len(errors) - 1} more videos have problems")
    if row.download and not first.hint:
        hints.append(f"{row.name} comes from {row.download}")
    return DataError(first.what, **{**first.parts, "hint": "; ".join(hints) or None})


def _video_names(row: Benchmark, root: Path, images: Path, masks: Path) -> tuple[list[str], Path | None]:
    """The videos' names, and the json that says which frames of each are saved (None: all)."""
    if row.video_list is not None:
        return _listed(row, root / row.video_list), None
    folders = [path.name for path in list_subfolders(images)]
    if not folders:
        loose = list_pictures(images)
        got = f"{len(loose)} pictures directly inside" if loose else "none"
        raise DataError("no videos", where=images, expected="a folder of frames per video", got=got)
    if not row.metas:
        if row.zip_holds:  # a server wants every video; of one's own folders a part may be meant
            _refuse_lost_videos(row, images, {path.name for path in list_subfolders(masks)} - set(folders), masks)
        return folders, None
    path = next((root / meta for meta in row.metas if (root / meta).is_file()), None)
    if path is None:
        raise DataError(
            f"{row.name}: no file that says which frames are saved",
            expected=" or ".join(str(root / meta) for meta in row.metas),
            got=_what_is_there(root, row.metas[0]),
            hint=_how_to_get(row, row.metas[0]),
        )
    return folders, path


def _saved_frames(
    row: Benchmark, images: Path, folders: Sequence[str], meta: Path, listed: Mapping[str, Mapping[str, list[str]]]
) -> dict[str, list[str]]:
    """Which frames of each video are saved; the json and the folders must name the same videos."""
    saved = listed_frames(listed) if row.saved == "youtube" else _META_READERS[row.saved](meta)
    _refuse_lost_videos(row, images, saved.keys() - set(folders), meta)
    for name in sorted(set(folders) - saved.keys()):
        raise DataError(f"the video {name} is not listed", where=meta, hint=f"its frames are in {images / name}")
    return saved


def _refuse_lost_videos(row: Benchmark, images: Path, lost: Collection[str], named_by: Path) -> None:
    """Raise DataError for the first of the videos that have no frames, with their number: half a download."""
    for name in sorted(lost):
        more = f"; {len(lost) - 1} more are missing" if len(lost) > 1 else ""
        hint = f"{named_by} names it{more}; {_how_to_get(row, row.images[0])}"
        raise DataError("no folder of frames for a video", where=images / name, hint=hint)


def _check_beginnings(video: VideoSource, folder: Path, listed: Mapping[str, Sequence[str]]) -> None:
    """Raise DataError for an object that the json names and no mask gives: it would never be tracked."""
    given = {video.frame_names[index] for index in video.masks}
    begins = {label: min(frames) for label, frames in listed.items() if frames}
    late = {label: frame for label, frame in begins.items() if frame not in given}
    if not late:  # as it is in a whole download: nothing has to be decoded
        return
    seen = {str(label) for index in video.masks for label in object_ids(video.read_mask(index))}
    for label, frame in late.items():
        if label not in seen:
            raise DataError(
                f"no mask gives object {label}, which meta.json names", where=folder, expected=f"it in {frame}.png"
            )


def _late_objects(masks: Path, video: VideoSource) -> set[int]:
    """The ids that the first mask does not name and later ones do, where these are few; what is damaged is left out."""
    late: set[int] = set()
    with suppress(DataError):
        files = list_pictures(masks / video.name, MASK_SUFFIXES)
        if 1 < len(files) <= _DRAWN:
            colours = ColourTable.from_files(files) if video.colours else None
            first, *others = (set(object_ids(resolve_void(read_mask_file(path, colours).ids))) for path in files)
            late = set().union(*others) - first
    return late


def _tell_of_late_objects(masks: Path, late: Mapping[str, set[int]]) -> None:
    """Say in the log, once, that objects which the first masks do not name are not tracked."""
    named = [name for name, ids in late.items() if ids]
    if named:
        more = f" (and {len(named) - 1} more videos)" if len(named) > 1 else ""
        logger.warning(
            "%s%s: later masks name objects that the first one does not (%s): they are not tracked, as dataset G reads "
            "each video's first mask only; `jointformer track --masks FOLDER` reads them all",
            masks / named[0], more, ", ".join(map(str, sorted(late[named[0]]))),
        )  # fmt: skip


def _listed(row: Benchmark, path: Path) -> list[str]:
    if not path.is_file():
        raise DataError(
            f"{row.name}: the file that lists the videos is missing",
            where=path,
            hint=_how_to_get(row, str(row.video_list)),
        )
    return listed_videos(path)


def _open_video(
    row: Benchmark, root: Path, name: str, images: Path, masks: Path, saved: list[str] | None
) -> VideoSource:
    frames = list_pictures(images)
    if not frames:
        raise DataError("holds no pictures", where=images, expected="the frames of a video")
    index_of = {path.stem: index for index, path in enumerate(frames)}
    given = _given_masks(row, masks, frames, index_of)
    size = picture_size(frames[0])
    output_size = size
    if row.size_from is not None:
        output_size = picture_size(_same_frame(root / row.size_from / name, frames[0].stem))
    colours = ColourTable.from_files(given.values()) if any(map(is_colour_mask, given.values())) else None
    given, first = _drop_empty(masks, given, colours)
    for index, path in given.items():
        height, width = output_size if row.size_from is not None else picture_size(frames[index])
        got = first.shape if index == min(given) else picture_size(path)
        if got != (height, width):
            raise mask_size_differs(path, (height, width), got)
    to_save = _indices_to_save(row, images, index_of, saved)
    if max(to_save) < min(given):
        raise DataError(
            "every frame to be saved comes before the first mask of an object",
            where=masks,
            expected=f"a mask of frame {frames[max(to_save)].stem} or before",
            got=f"the first of frame {frames[min(given)].stem}",
        )
    return VideoSource(
        name=name,
        frames=tuple(frames),
        masks=given,
        masks_read=row.masks_read,
        frames_to_save=to_save,
        size=size,
        output_size=output_size,
        colours=colours,
        lone_255_is_object=object_ids(first) == (255,),
    )


def _given_masks(row: Benchmark, folder: Path, frames: list[Path], index_of: dict[str, int]) -> dict[int, Path]:
    if not folder.is_dir():
        raise DataError("no folder of masks for a video", where=folder, expected=f"a mask for frame {frames[0].stem}")
    files = list_pictures(folder, MASK_SUFFIXES)
    if not files:
        others = len(list_pictures(folder))
        got = f"{others} pictures of formats that cannot hold exact ids" if others else "an empty folder"
        raise DataError("no masks for a video", where=folder, expected="PNGs of object ids", got=got)
    if row.masks_read == "first":
        if row.first_frame_given and files[0].stem != frames[0].stem:
            raise DataError(
                "no mask for the first frame",
                where=folder,
                expected=f"{frames[0].stem}.png",
                got=files[0].name,
            )
        files = files[:1]
    for path in files:
        if path.stem not in index_of:
            raise DataError(
                "the mask belongs to no frame",
                where=path,
                expected=f"a name among {frames[0].stem} to {frames[-1].stem} of {frames[0].parent}",
            )
    return {index_of[path.stem]: path for path in files}


def _drop_empty(folder: Path, given: dict[int, Path], colours: ColourTable | None) -> tuple[dict[int, Path], LabelMap]:
    """The masks from the first one that has an object, and this one's (H, W) label map."""
    for index in sorted(given):
        ids = resolve_void(read_mask_file(given[index], colours).ids)
        if ids.any():
            return {i: path for i, path in given.items() if i >= index}, ids
    where = given[min(given)] if len(given) == 1 else folder
    raise DataError("the mask has no object" if len(given) == 1 else "none of the masks has an object", where=where)


def _same_frame(folder: Path, stem: str) -> Path:
    """The picture of one frame in another folder of the same video."""
    for path in list_pictures(folder):
        if path.stem == stem:
            return path
    raise DataError("no picture that tells the size to save at", where=folder, expected=f"frame {stem}")


def _indices_to_save(row: Benchmark, images: Path, index_of: dict[str, int], saved: list[str] | None) -> frozenset[int]:
    if saved is None:
        return frozenset(index_of.values())
    names = saved
    if row.saved == "lvos":
        # LVOS's tools disagree whether an object's "end" is its last frame or one past it. More is half a download.
        last = max(index_of)
        names = saved if len(saved) > 1 and saved[-2] > last else [name for name in saved if name <= last]
    missing = [name for name in names if name not in index_of]
    if missing or not names:
        what = f"{len(missing)} frames that are to be saved are missing" if names else "no frame is to be saved"
        got = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "") if missing else None
        raise DataError(what, where=images, expected="every frame the benchmark's json names", got=got and f"no {got}")
    return frozenset(index_of[name] for name in names)
