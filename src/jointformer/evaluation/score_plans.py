"""Which videos, frames and objects a benchmark scores, found from its annotations on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jointformer.data.frames import natural_key
from jointformer.data.metas import MOST_FRAMES, frame_number, listed_videos, video_objects
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_groups import lvos_unseen, read_words, visor_is_unseen, ytvos_seen_categories
from jointformer.evaluation.score_sources import mask_files, safe_name, subfolders
from jointformer.metrics.protocols import Protocol
from jointformer.metrics.results import ObjectPlan


@dataclass(frozen=True)
class VideoPlan:
    """One video: its first truth frame, the frames to score in order, and its objects where a list names them."""

    video: str
    first: str
    frames: tuple[str, ...]
    objects: tuple[ObjectPlan, ...] = ()
    group: str = ""


@dataclass
class Plan:
    """A benchmark's videos, the folder with their truth, and what there is to say about the choice.

    hint: what to do, besides, where some have no predictions. read: the lists and meta files that it was made of.
    """

    truth: Path
    videos: list[VideoPlan]
    notes: list[str] = field(default_factory=list)
    hint: str | None = None
    read: list[Path] = field(default_factory=list)


def build_plan(
    protocol: Protocol,
    annotations: Path,
    *,
    set_name: str | None = None,
    meta: Path | None = None,
    groups: Path | None = None,
) -> Plan:
    """The plan of a benchmark whose truth lies in or below `annotations`.

    `set_name` names a list of videos (`val`) or is a text file of them; `meta` is the benchmark's meta
    file where it is not found beside the annotations; `groups` is the file that tells seen from unseen.
    Raises DataError for missing lists, meta files and folders, ConfigError for a set the benchmark does not have.
    """
    if not annotations.is_dir():
        raise DataError("no annotations", where=annotations, expected="a folder")
    listed = set_name is not None and set_name.endswith(".txt")
    builders: dict[str, Callable[[], Plan]] = {
        "list": lambda: _list_plan(protocol, annotations, set_name),
        "folders": lambda: _folder_plan(protocol, annotations),
        "mose": lambda: _mose_plan(protocol, annotations, meta),
        "lvos": lambda: _lvos_plan(protocol, annotations, "valid" if listed else set_name or "valid", meta, groups),
        "ytvos": lambda: _ytvos_plan(protocol, annotations, meta, groups),
    }
    plan = builders[protocol.layout]()
    if set_name is not None and (protocol.layout not in ("list", "lvos") or (listed and protocol.layout == "lvos")):
        _keep_listed(plan, protocol, set_name)
    zeros = sum(each.unfilled for video in plan.videos for each in video.objects)
    if zeros:
        what = "entries of frame_nums without a frame before the object's end"
        plan.notes.append(f"{zeros} {what}; the toolkit counts each as 0")
    return plan


def check_options(
    protocol: Protocol,
    meta: Path | None,
    groups: Path | None,
    *,
    missing: str = "toolkit",
    strict_toolkit: bool = False,
) -> None:
    """ConfigError for files that the benchmark does not have, and for options that would change nothing there."""
    if meta is not None and protocol.layout not in ("lvos", "ytvos", "mose"):
        raise ConfigError(f"{protocol.benchmark} has no meta file", where="--meta")
    if groups is not None and protocol.layout not in ("lvos", "ytvos"):
        raise ConfigError(f"{protocol.benchmark} has no list of groups", where="--groups")
    if protocol.layout == "burst" and missing != "toolkit":
        raise ConfigError("does nothing for burst, which counts missing predictions as empty masks", where="--missing")
    if protocol.layout == "burst" and strict_toolkit:
        raise ConfigError("does nothing for burst, none of whose figures is corrected", where="--strict-toolkit")


def _keep_listed(plan: Plan, protocol: Protocol, set_name: str) -> None:
    """Keep the videos of a text file, where the benchmark itself has no lists."""
    if not set_name.endswith(".txt"):
        raise ConfigError(f"{protocol.benchmark} has no named sets", where="--set", expected="a .txt file of videos")
    plan.read.append(Path(set_name))
    wanted = set(listed_videos(Path(set_name)))
    absent = sorted(wanted - {video.video for video in plan.videos})
    if absent:
        raise DataError("listed videos without annotations", where=set_name, got=", ".join(absent[:3]))
    plan.videos = [video for video in plan.videos if video.video in wanted]


def truth_folder(annotations: Path, videos: Iterable[str] = ()) -> Path:
    """The folder of video folders: `annotations` itself or one of the usual places below it."""
    below = ("Annotations/480p", "Annotations", "480p", "valid/Annotations", "test/Annotations", ".")
    wanted = list(videos)
    for place in (annotations / name for name in below):
        if not place.is_dir():
            continue
        if any((place / name).is_dir() for name in wanted) or (not wanted and _has_masks(place)):
            return place
    what = f"such as {', '.join(wanted[:3])}" if wanted else "of PNGs, here or in Annotations"
    there = ", ".join(subfolders(annotations)[:3]) or "no folders"
    raise DataError(
        "no annotations of these videos" if wanted else "no annotations",
        where=annotations,
        expected=f"folders {what}",
        got=there,
        hint="name the dataset's folder, or its folder of masks",
    )


def _has_masks(place: Path) -> bool:
    return any(mask_files(place / video) for video in subfolders(place))


def _find(annotations: Path, names: Sequence[str], levels: int = 4) -> Path | None:
    """The first of `names` in `annotations`, below it or a few folders above it.

    Above a link there are the folders that it lies in and, after these, those of what it leads to.
    """
    for start in dict.fromkeys((Path(os.path.abspath(annotations)), annotations.resolve())):
        for base in (start, start / "valid", *list(start.parents)[:levels]):
            for name in names:
                if (base / name).is_file():
                    return base / name
    return None


def _video_list(protocol: Protocol, annotations: Path, set_name: str | None) -> tuple[list[str], Path | None]:
    """The videos of a set and the list that names them; None where there is none and none was asked for."""
    name = set_name or "val"
    path = Path(name) if name.endswith(".txt") else None
    if path is None:
        path = _find(annotations, [f"{folder}/{name}.txt" for folder in protocol.lists])
    if path is None and set_name is None:
        return subfolders(truth_folder(annotations)), None
    if path is None or not path.is_file():
        lists = " or ".join(f"{folder}/{name}.txt" for folder in protocol.lists)
        raise DataError("no such set", where=path or annotations, expected=lists, hint="give a .txt file as --set")
    return listed_videos(path), path


def _list_plan(protocol: Protocol, annotations: Path, set_name: str | None) -> Plan:
    videos, path = _video_list(protocol, annotations, set_name)
    plan = Plan(truth_folder(annotations, videos), [])
    if path is not None:
        plan.read.append(path)
    else:
        plan.notes.append(f"no list of the set 'val' found: all {len(videos)} videos of the annotations are scored")
        plan.hint = "no list of the set 'val' was found: name one with --set"
    unseen: Callable[[str], bool] = lambda video: False  # noqa: E731 - one of two rules
    if protocol.summary == "visor":
        listed = _find(annotations, [f"{folder}/val_unseen.txt" for folder in protocol.lists])
        if listed is not None:
            plan.read.append(listed)
        unseen = visor_is_unseen if listed is None else read_words(listed).__contains__
    for video in videos:
        group = "unseen" if unseen(video) else ""
        plan.videos.append(_whole_video(protocol, plan.truth, video, group))
    return plan


def _folder_plan(protocol: Protocol, annotations: Path) -> Plan:
    truth = truth_folder(annotations)
    return Plan(truth, [_whole_video(protocol, truth, video) for video in subfolders(truth)])


def _whole_video(protocol: Protocol, truth: Path, video: str, group: str = "") -> VideoPlan:
    """All truth frames but those at the ends that the rules leave out."""
    folder = truth / video
    frames = sorted(mask_files(folder), key=natural_key)
    if not frames:
        raise DataError("a video without annotations", where=folder, expected="PNG files")
    scored = frames[0 if protocol.score_first else 1 : None if protocol.score_last else -1]
    return VideoPlan(video, frames[0], tuple(scored), group=group)


def _mose_plan(protocol: Protocol, annotations: Path, meta: Path | None) -> Plan:
    plan = _folder_plan(protocol, annotations)
    if protocol.objects != "listed":
        return plan
    path = meta or _meta_file(annotations, "meta.json", "meta_valid.json")
    objects = _read_meta(path)
    videos = []
    for video in plan.videos:
        if video.video not in objects:
            raise DataError("a video that the meta file does not have", where=plan.truth, got=video.video)
        listed = tuple(ObjectPlan(_label(key, path), video.frames) for key in objects[video.video])
        videos.append(VideoPlan(video.video, video.first, video.frames, listed))
    return Plan(plan.truth, videos, read=[path])


def _meta_file(annotations: Path, *names: str) -> Path:
    """The meta file of one of these names. Raises DataError where there is none."""
    path = _find(annotations, names)
    if path is None:
        raise DataError("no meta file found", where=annotations, hint="name it with --meta")
    return path


def _read_meta(path: Path) -> dict[str, dict[str, Any]]:
    """The objects of each video of a meta file, which names at least one."""
    videos = video_objects(path)
    if not videos:
        raise DataError("names no videos", where=path)
    return videos


def _label(key: str, path: Path) -> int:
    """The label that a key of `objects` names."""
    if not (key.isascii() and key.isdecimal() and len(key) < 4 and 0 < int(key) < 256):
        raise DataError("an object that is no label", where=path, expected="1..255", got=repr(key)[:60])
    return int(key)


def _lvos_plan(protocol: Protocol, annotations: Path, set_name: str, meta: Path | None, groups: Path | None) -> Plan:
    names = {"val": "valid"}.get(set_name, set_name)
    path = meta or _meta_file(annotations, f"{names}_meta.json")
    videos = _read_meta(path)
    year = int(protocol.rules[:4])
    unseen = lvos_unseen(year) if groups is None else read_words(groups)
    plan = Plan(truth_folder(annotations, videos), [], read=[path, *([groups] if groups else [])])
    for video, objects in sorted(videos.items()):
        group = "unseen" if video in unseen else "seen"
        listed = tuple(_lvos_object(_label(key, path), entry, year, group, path) for key, entry in objects.items())
        frames = tuple(sorted({frame for each in listed for frame in each.frames}))
        plan.videos.append(VideoPlan(video, frames[0] if frames else "", frames, listed, group))
    return plan


def _lvos_object(object_id: int, entry: Any, year: int, group: str, path: Path) -> ObjectPlan:
    """Every fifth frame number from start to before end; the 2024 rules leave out the first and last slot."""
    try:
        span = entry["frame_range"]
        values = {key: span[key] for key in ("start", "end", "frame_nums")}
    except (KeyError, TypeError) as error:
        raise DataError("an object without frame_range", where=path, got=repr(entry)[:80]) from error
    start, end, count = (frame_number(value, path, f"frame_range.{key}") for key, value in values.items())
    if max(end - start, count) > MOST_FRAMES:
        raise DataError("an object with too long a frame_range", where=path, got=repr(span)[:80])
    slots = [f"{number:08d}" for number in range(start, end, 5)]
    length = count
    if year >= 2024:
        length = max(count - 2, 0)
        slots = [name for slot, name in enumerate(slots) if slot not in (0, count - 1)]
    if len(slots) > length:
        raise DataError(
            f"object {object_id} has more frames than frame_nums allows", where=path, expected=length, got=len(slots)
        )
    return ObjectPlan(object_id, tuple(slots), length, group)


def _ytvos_plan(protocol: Protocol, annotations: Path, meta: Path | None, groups: Path | None) -> Plan:
    path = meta or _meta_file(annotations, "meta.json")
    videos = _read_meta(path)
    categories = groups or _find(annotations, ["train/meta.json", "categories.json"])
    seen = ytvos_seen_categories(categories, annotations)
    plan = Plan(truth_folder(annotations, videos), [], read=[path, *([categories] if categories else [])])
    for video, objects in videos.items():
        spans = {_label(key, path): _ytvos_span(entry, video, path) for key, entry in objects.items()}
        every = [frame for _, frames in spans.values() for frame in frames]
        last = max(every, default="")
        listed = []
        for object_id, (category, frames) in spans.items():
            scored = frames if protocol.rules == "all_listed" else frames[1:]
            if protocol.rules == "after_first_without_last":
                scored = [frame for frame in scored if frame != last]
            group = "seen" if category in seen else "unseen"
            listed.append(ObjectPlan(object_id, tuple(scored), -1, group))
        union = tuple(sorted({frame for each in listed for frame in each.frames}))
        plan.videos.append(VideoPlan(video, min(every, default=""), union, tuple(listed)))
    return plan


def _ytvos_span(entry: Any, video: str, path: Path) -> tuple[str, list[str]]:
    """An object's category and the names of its frames, which may be none."""
    fits = isinstance(entry, dict) and isinstance(entry.get("category"), str) and isinstance(entry.get("frames"), list)
    if not fits or not all(isinstance(frame, str) for frame in entry["frames"]):
        hint = "the meta.json that comes with the set has both; --meta names another file"
        raise DataError(
            f"video {video}: objects need a category and frames", where=path, got=repr(entry)[:80], hint=hint
        )
    return entry["category"], [safe_name(frame) for frame in entry["frames"]]
