"""Label many videos of anybody's: files and folders of pictures, each with its masks, each a finished folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from jointformer.data.fingerprint import fingerprint
from jointformer.data.frames import is_hidden, list_folder, list_pictures, natural_key
from jointformer.data.given_masks import GivenMasks, find_masks
from jointformer.data.masks import MASK_SUFFIXES
from jointformer.data.video import VIDEO_SUFFIXES, FolderVideo, open_video
from jointformer.data.video_file import DEFAULT_FPS, VideoFile
from jointformer.errors import DataError
from jointformer.evaluation.anyvideo import frame_range, label_any_video, writing_bytes
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.label import OnFrames, Work, make_record
from jointformer.evaluation.scale.manifest import TRACK, Manifest, VideoRecord, check_unchanged
from jointformer.evaluation.scale.run import Scale, run_jobs
from jointformer.model.network import JointFormer
from jointformer.ops.drawing import OverlayStyle
from jointformer.system.files import count_files, from_anywhere, replace_dir
from jointformer.system.stop import Stop
from jointformer.track.budget import VideoSize
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.loop import BadFramePolicy

#: What lists of videos are called.
LIST_SUFFIX = ".txt"


@dataclass(frozen=True)
class Part:
    """Which part of each video is tracked, and the rate at which folders of pictures are shown."""

    start: int | None = None
    end: int | None = None
    fps: Fraction = DEFAULT_FPS


@dataclass(frozen=True)
class VideoJob:
    """One video to be labelled, checked: it and its masks are opened anew by whoever labels it.

    size: (height, width). tracked_frames: from the first mask to `end`, the last frame's number plus one. objects: how
    many the masks name. fingerprint: what frames and masks are known by. error: why it cannot be tracked; whoever
    labels it says so.
    """

    name: str
    video: Path
    masks: Path
    part: Part
    size: tuple[int, int]
    tracked_frames: int
    end: int
    objects: int
    fingerprint: dict[str, str] = field(default_factory=dict)
    error: DataError | None = None

    @classmethod
    def check(cls, name: str, video: Path, masks: Path, part: Part) -> VideoJob:
        """Return the job of a video and its masks. Raises DataError and ConfigError for what is wrong with them."""
        opened, given, end = _open(video, masks, part)
        objects, known_by = len(given.objects), _fingerprint(opened, given, end)
        frames = end - given.first
        places = from_anywhere(video), from_anywhere(masks)
        return cls(name, *places, part, opened.size, frames, end, objects, known_by)

    def open(self) -> tuple[VideoFile | FolderVideo, GivenMasks]:
        """Return the video and its masks. Raises as `check`, and DataError where they are others by now."""
        opened, given, end = _open(self.video, self.masks, self.part)
        check_unchanged(self.video, _fingerprint(opened, given, end), self.fingerprint)
        return opened, given

    @property
    def inputs(self) -> tuple[Path, Path]:
        """The video and its masks, files or folders."""
        return self.video, self.masks

    def memory_size(self, overlay: bool, scores: bool = False) -> VideoSize:
        """Return what a memory plan has to know. overlay, scores: whether they are written."""
        writing = writing_bytes(self.size, self.objects, overlay=overlay, scores=scores)
        return VideoSize(self.name, self.tracked_frames, self.size, self.objects, writing)


def _open(video: Path, masks: Path, part: Part) -> tuple[VideoFile | FolderVideo, GivenMasks, int]:
    opened = open_video(video, fps=part.fps)
    start, end = frame_range(opened, part.start, part.end)
    return opened, find_masks(masks, opened, start, end), end


def _fingerprint(video: VideoFile | FolderVideo, masks: GivenMasks, end: int) -> dict[str, str]:
    files = video.files[masks.first : end] if isinstance(video, FolderVideo) else [video.path]
    names = [video.name(index) for index in range(masks.first, end)]
    return fingerprint(files, names, video.size, {video.name(index): path for index, path in masks.files.items()})


@dataclass(frozen=True, kw_only=True)
class TrackWork(Work[VideoJob]):
    """folder/<video>/masks/<frame>.png and folder/<video>/overlay.mp4, as `jointformer track` writes of one video."""

    write_masks: bool = True
    write_overlay: bool = True
    save_scores: bool = False
    style: OverlayStyle = "fill"

    def label_claimed(
        self,
        model: JointFormer,
        job: VideoJob,
        config: TrackerConfig,
        run: RunFolder,
        *,
        on_frames: OnFrames,
        stop: Stop,
    ) -> VideoRecord:
        """Write the video's folder; it appears when all its files are written."""
        if job.error is not None:
            raise job.error
        tracker = EnsembleTracker(model, config, self.views)
        video, masks = job.open()
        with replace_dir(self.folder / job.name) as folder:
            watch = label_any_video(
                tracker,
                video,
                masks,
                folder,
                end=job.end,
                write_masks=self.write_masks,
                write_overlay=self.write_overlay,
                save_scores=self.save_scores,
                style=self.style,
                on_bad_frame=self.on_bad_frame,
                progress=False,
                on_frames=on_frames,
                stop=stop,
            )
            files = count_files(folder)
            record = make_record(watch, len(tracker.object_ids), files, model.device, job.fingerprint)
            run.write_record(job.name, record.as_data())
        return record


def track_many(
    model: JointFormer,
    jobs: Sequence[VideoJob],
    output: str | Path,
    *,
    config: TrackerConfig,
    part: Part | None = None,
    write_masks: bool = True,
    write_overlay: bool = True,
    save_scores: bool = False,
    style: OverlayStyle = "fill",
    overwrite: bool = False,
    progress: bool = True,
    on_bad_frame: BadFramePolicy = "stop",
    memory_budget: int | None = None,
    scale: Scale | None = None,
) -> Manifest:
    """Label videos into output/<name>/ and return what the run took; goes on where an earlier run was cut off.

    Guarantees, errors and the files beside the results are those of `evaluate`.
    """
    scale, part = scale or Scale(), part or Part()
    target = from_anywhere(output)
    work = TrackWork(
        output=target,
        folder=target,
        config=config,
        views=(View(config.size),),
        on_bad_frame=on_bad_frame,
        write_masks=write_masks,
        write_overlay=write_overlay,
        save_scores=save_scores,
        style=style,
    )
    return run_jobs(
        model,
        work,
        jobs,
        {
            "command": TRACK,
            "masks": write_masks,
            "save_scores": save_scores or None,  # none in runs that were begun before there was a choice
            "style": style if write_overlay else None,
            "fps": str(part.fps),
            "start": part.start,
            "end": part.end,
        },
        dataset_videos=len(jobs),
        scale=scale,
        size_of=lambda job: job.memory_size(write_overlay, save_scores),
        overwritten=[target / job.name for job in jobs] if overwrite else None,
        memory_budget=memory_budget,
        progress=progress,
    )


def holds_videos(path: Path) -> bool:
    """Whether a path means several videos: a list of them, or a folder that holds no pictures but videos."""
    if path.is_dir():
        return not list_pictures(path) and any(_is_video(child) for child in list_folder(path))
    return path.suffix.lower() == LIST_SUFFIX


def find_jobs(paths: Sequence[str | Path], masks: str | Path | None, part: Part) -> list[VideoJob]:
    """Return the jobs of videos, of folders of videos and of lists, all checked, in the order given.

    One that is damaged or has no masks must not keep an archive waiting: its job holds the error.

    masks: the folder of <name>.png or <name>/ for every video. A list is a text file with a video per line, from the
    list's own folder; behind a tab its masks may be named. Raises ConfigError, and DataError where nothing is tracked.
    """
    jobs: dict[str, VideoJob] = {}
    names: dict[str, str] = {}  # on some file systems capitals are the same
    for video, own_masks in _expand(paths):
        whole = Path(os.path.abspath(video))
        name = whole.stem if _exists(video) and video.is_file() else whole.name
        if not name:  # its results would be the output folder itself, with all that lies in it
            raise DataError("has no name for its folder of results", where=video, hint="track it on its own")
        other = names.setdefault(name.casefold(), name)
        if other in jobs:
            raise DataError(
                f"two videos are called {name}" if name == other else f"videos are called {name} and {other}",
                where=video,
                got=f"{jobs[other].video} too",
                hint="their results would share a folder: rename one, or track it by itself",
            )
        given = video if masks is None else Path(masks) / name
        try:
            given = own_masks or _masks_of(name, masks, video)
            jobs[name] = VideoJob.check(name, video, given, part)
        except (DataError, OSError) as reason:
            error = reason if isinstance(reason, DataError) else DataError("cannot be opened", where=video, got=reason)
            jobs[name] = VideoJob(name, video, given, part, (1, 1), 0, 0, 1, error=error)  # its masks stay an input
    if not jobs:
        raise DataError("no videos", where=", ".join(map(str, paths))[:200], expected="at least one")
    errors = [job.error for job in jobs.values() if job.error is not None]
    if len(errors) == len(jobs):
        raise errors[0]
    return list(jobs.values())


def _expand(paths: Sequence[str | Path]) -> Iterator[tuple[Path, Path | None]]:
    """Yield each video that paths mean, with its masks where a list names them."""
    for path in map(Path, paths):
        if path.is_dir() and holds_videos(path):
            for child in sorted(list_folder(path), key=lambda child: natural_key(child.name)):
                if _is_video(child):
                    yield child, None
        elif path.suffix.lower() == LIST_SUFFIX and not path.is_dir():
            yield from _read_list(path)
        else:
            yield path, None


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        return False


def _is_video(path: Path) -> bool:
    """Whether something in a folder is taken for a video: a file by its name, a folder by its pictures."""
    if is_hidden(path):
        return False
    return bool(list_pictures(path)) if path.is_dir() else path.suffix.lower() in VIDEO_SUFFIXES


def _read_list(path: Path) -> Iterator[tuple[Path, Path | None]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise DataError("the list of videos cannot be read", where=path, got=reason) from None
    for number, line in enumerate(lines, 1):
        video, *masks = (part.strip() for part in line.split("\t"))
        if not video and not any(masks):
            continue
        if not video or len(masks) > 1 or "\0" in line:
            raise DataError("bad line", where=f"{path}:{number}", expected="a video, or a video, a tab and its masks")
        yield path.parent / video, path.parent / masks[0] if masks and masks[0] else None


def _masks_of(name: str, root: str | Path | None, video: Path) -> Path:
    """Return the masks of a video in the folder of all masks."""
    if root is None:
        raise DataError("no masks are named for it", where=video, expected="--masks, or a second column in the list")
    root = Path(root)
    choices = [root / name, *(root / f"{name}{suffix}" for suffix in sorted(MASK_SUFFIXES))]
    found = [choice for choice in choices if choice.exists()]
    if len(found) == 2 and found[0].is_dir() and not list_pictures(found[0]):
        del found[0]  # results that an earlier run put beside the masks
    if not found and not _exists(video):
        raise DataError("no such file", where=video)
    if len(found) != 1:
        raise DataError(
            "two places hold masks of one video" if found else "holds no masks of a video",
            where=root,
            expected=f"{name}.png or a folder {name}",
            got=" and ".join(path.name for path in found) or None,
        )
    return found[0]
