"""One's own videos in the DAVIS layout: checked before anything runs, problems named file by file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jointformer.data.frames import list_subfolders, picture_size
from jointformer.errors import DataError
from jointformer.ops.label_maps import object_ids
from jointformer.train.datasets import TrainVideo, VideoSet, pair_frames

LAYOUT = "JPEGImages/VIDEO/FRAME.jpg and Annotations/VIDEO/FRAME.png (a folder 480p between is fine)"
OWN = VideoSet("own", "own videos", ("JPEGImages/480p", "JPEGImages"), ("Annotations/480p", "Annotations"))


@dataclass
class Check:
    """What was found: usable videos, problems (one line each, naming the file), and counts for the summary."""

    videos: list[TrainVideo] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    frames: int = 0
    objects: int = 0

    def summary(self) -> str:
        """One line: how much there is to train on."""
        return (
            f"{len(self.videos)} videos, {self.frames} annotated frames, {self.objects} objects"
            + (f"; {len(self.problems)} problems" if self.problems else "")
        )  # fmt: skip


def check_videos(folder: Path, frames: int) -> Check:
    """The usable videos of a folder in the DAVIS layout, and every problem met.

    Looked for: folders without counterpart, fewer annotated frames than a clip needs, frames and masks of
    different or changing size, masks that cannot be read or hold nothing at first, ids that appear only
    once. A video with a problem is left out; with ids that appear once it is kept. Raises DataError where
    the layout is another or no video is usable.
    """
    images, masks = require_layout(folder)
    check = Check()
    for path in list_subfolders(images):
        try:
            video = TrainVideo(path.name, OWN, pair_frames(path, masks / path.name))
            check.objects += _check_video(video, frames, check.problems)
        except DataError as error:
            check.problems.append(str(error))
            continue
        check.videos.append(video)
        check.frames += len(video.frames)
    if not check.videos:
        first = f"; first problem: {check.problems[0]}" if check.problems else ""
        raise DataError(f"no usable video{first}", where=folder, expected=LAYOUT)
    return check


def _check_video(video: TrainVideo, frames: int, problems: list[str]) -> int:
    """The number of objects of a video; raises DataError for what makes it useless."""
    if not video.frames:
        raise DataError("no mask has a frame's name", where=video.name, expected="00000.png for the frame 00000.jpg")
    if len(video.frames) < frames:
        raise DataError(
            "too short", where=video.name, expected=f"{frames} annotated frames or more", got=len(video.frames)
        )
    size, seen = picture_size(video.frames[0][0]), dict[int, int]()
    for number, (image, mask) in enumerate(video.frames):
        labels = video.read_labels(mask)
        if picture_size(image) != size:
            raise DataError("frame size changes within the video", where=image, expected=size, got=picture_size(image))
        if labels.shape != size:
            raise DataError("mask and frame differ in size", where=mask, expected=size, got=labels.shape)
        ids = object_ids(labels)
        if number == 0 and not ids:
            problems.append(f"{mask}: the first annotated frame is empty; clips will start later in the video")
        for i in ids:
            seen[i] = seen.get(i, 0) + 1
    if not seen:
        raise DataError("all masks are empty", where=video.frames[0][1].parent)
    once = [i for i, count in seen.items() if count == 1]
    if once and len(video.frames) > 2:
        problems.append(
            f"{video.frames[0][1].parent}: ids {once} are in one frame only; are ids the same in all frames?"
        )
    return len(seen)


def require_layout(folder: Path) -> tuple[Path, Path]:
    """The folders of the videos' frames and of their masks. Raises DataError where the layout is another."""
    images, masks = (next(filter(Path.is_dir, map(folder.joinpath, names)), None) for names in (OWN.images, OWN.masks))
    if images is None or masks is None:
        raise DataError("not in the expected layout", where=folder, expected=LAYOUT)
    return images, masks
