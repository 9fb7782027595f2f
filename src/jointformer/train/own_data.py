"""One's own videos in the DAVIS layout: checked before anything runs, problems named file by file."""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tqdm import tqdm

from jointformer.data.frames import list_pictures, list_subfolders, natural_key, read_frame
from jointformer.data.masks import MASK_SUFFIXES
from jointformer.data.video_file import size_changed
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs, object_ids
from jointformer.system.parallel import processors
from jointformer.train.datasets import TrainVideo, VideoSet, pair_frames

LAYOUT = "JPEGImages/VIDEO/FRAME.jpg and Annotations/VIDEO/FRAME.png (a folder 480p between is fine)"
OWN = VideoSet("own", "own videos", ("JPEGImages/480p", "JPEGImages"), ("Annotations/480p", "Annotations"))


#: The sizes of a frame and its mask, and the mask's ids.
_Read = tuple[tuple[int, int], tuple[int, ...], tuple[int, ...]]


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


def check_videos(folder: Path, frames: int, *, progress: bool = False, between: bool = False) -> Check:
    """The usable videos of a folder in the DAVIS layout, and every problem met.

    Masks and the frames that they belong to are decoded, by as many threads as there are processors. Looked for:
    folders and masks without counterpart, fewer annotated frames than a clip needs, frames and masks that cannot be
    read or are of different or changing size, masks that hold nothing at first, ids that appear only once. A video
    with a problem is left out; with masks without a frame, or ids that appear once, it is kept. progress: show a bar
    on a terminal. between: they are to be tracked, and the frames between the annotated ones are decoded, too. Raises
    DataError where the layout is another or no video is usable.
    """
    images, masks = require_layout(folder)
    check = Check()
    names = sorted({path.name for side in (images, masks) for path in list_subfolders(side)}, key=natural_key)
    with ThreadPoolExecutor(processors()) as pool:
        for name in tqdm(names, "checking", unit="video", disable=None if progress else True):  # None: no terminal
            try:
                video = TrainVideo(name, OWN, pair_frames(images / name, masks / name))
                objects = _check_video(video, frames, check.problems, pool)
                if between:
                    _check_pictures(video, pool)
            except DataError as error:
                check.problems.append(str(error))
                continue
            check.videos.append(video)
            check.objects += objects
            check.frames += len(video.frames)
            check.problems += _masks_alone(video, masks / name)
    if not check.videos:
        first = f"; first problem: {check.problems[0]}" if check.problems else ""
        raise DataError(f"no usable video{first}", where=folder, expected=LAYOUT)
    return check


def _check_video(video: TrainVideo, frames: int, problems: list[str], pool: ThreadPoolExecutor) -> int:
    """The number of objects of a video; raises DataError for what makes it useless. pool: who reads its files."""
    if not video.frames:
        raise DataError("no mask has a frame's name", where=video.name, expected="00000.png for the frame 00000.jpg")
    if len(video.frames) < frames:
        raise DataError(
            "too short", where=video.name, expected=f"{frames} annotated frames or more", got=len(video.frames)
        )
    expected, seen = None, dict[int, int]()
    found: Iterable[_Read] = pool.map(partial(_read, video), *zip(*video.frames, strict=True))
    for (image, mask), (frame_size, mask_size, ids) in zip(video.frames, found, strict=True):
        if frame_size != (expected := expected or frame_size):
            raise size_changed(image, expected, frame_size)
        if mask_size != frame_size:
            raise mask_size_differs(mask, frame_size, mask_size)
        if mask == video.frames[0][1] and not ids:
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


def _check_pictures(video: TrainVideo, pool: ThreadPoolExecutor) -> None:
    """Raise DataError for a frame between the annotated ones, which are checked, that cannot be tracked through."""
    annotated = {image for image, _ in video.frames}
    pictures = [image for image in video.pictures if image not in annotated]
    expected = _size_of(video.frames[0][0])
    for image, size in zip(pictures, pool.map(_size_of, pictures), strict=True):
        if size != expected:
            raise size_changed(image, expected, size)


def _size_of(image: Path) -> tuple[int, int]:
    height, width, _ = read_frame(image).shape
    return height, width


def _read(video: TrainVideo, image: Path, mask: Path) -> _Read:
    labels = video.read_labels(mask)
    return _size_of(image), labels.shape, object_ids(labels)


def _masks_alone(video: TrainVideo, masks: Path) -> list[str]:
    """A line on the masks of a video that no frame belongs to; none where there are none."""
    paired = {mask for _, mask in video.frames}
    alone = [mask.name for mask in list_pictures(masks, MASK_SUFFIXES) if mask not in paired]
    more = ", …" if len(alone) > 3 else ""
    return [f"{masks}: {len(alone)} masks without a frame of their name ({', '.join(alone[:3])}{more})"] * bool(alone)


def require_layout(folder: Path) -> tuple[Path, Path]:
    """The folders of the videos' frames and of their masks. Raises DataError where the layout is another."""
    images, masks = (next(filter(Path.is_dir, map(folder.joinpath, names)), None) for names in (OWN.images, OWN.masks))
    if images is None or masks is None:
        raise DataError("not in the expected layout", where=folder, expected=LAYOUT)
    return images, masks
