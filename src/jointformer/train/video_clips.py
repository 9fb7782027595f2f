"""Clips from annotated videos: frames drawn by distance, cropped and coloured alike, at most a few objects."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from jointformer.data.clips import augment
from jointformer.data.clips.stills import Clip
from jointformer.data.frames import read_frame
from jointformer.data.masks import VOID
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs
from jointformer.train.datasets import TrainVideo
from jointformer.train.loader import NoObject
from jointformer.train.passes import RandomPasses
from jointformer.train.plan import IterationPlan
from jointformer.types import UInt8Array

TRIES, TRIES_VOID = 10, 20
MOST_VOID = 0.2
CLIP_COLOURS = augment.Jitter(0.1, 0.03, 0.03)
FRAME_COLOURS = augment.Jitter(0.01, 0.01, 0.01)
GREY = 0.05
DEGREES, SHEAR = 15.0, 10.0


class VideoClips:
    """Clips by index from videos: `sample` depends on the index, the plan, the seed and the files only.

    Every pass over `videos` (repeat a set's list to weigh it more) takes each once in a new random order.
    `nonempty_start`: no clip starts on a frame whose whole mask is empty.
    """

    def __init__(self, videos: Sequence[TrainVideo], seed: int, *, nonempty_start: bool = False) -> None:
        self.videos = list(videos)
        self.seed = seed
        self.nonempty_start = nonempty_start
        self._passes = RandomPasses(len(self.videos), seed)

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        """The clip with this index. Raises DataError naming a broken file, or a video without any object; NoObject
        where one has some, but no clip tried begins with one."""
        video = self.videos[self._passes.item(index)]
        rng = np.random.default_rng((self.seed, 0, index))
        for _ in range(TRIES_VOID if video.row.void else TRIES):
            clip = self._attempt(video, plan, rng)
            if clip is not None:
                return clip
        has_some = any(video.read_labels(mask).any() for _, mask in video.frames)
        kind = NoObject if has_some else DataError
        raise kind("no object in the first frame of any clip tried", where=video.frames[0][1].parent)

    def _attempt(self, video: TrainVideo, plan: IterationPlan, rng: np.random.Generator) -> Clip | None:
        skip = max(1, plan.max_skip // video.row.every)
        chosen = [video.frames[i] for i in draw_frames(rng, len(video.frames), plan.frames, skip)]
        labels = [video.read_labels(mask) for _, mask in chosen]
        if self.nonempty_start and not labels[0].any():
            return None
        pictures = [read_frame(path) for path, _ in chosen]
        for picture, label, (_, mask) in zip(pictures, labels, chosen, strict=True):
            if picture.shape[:2] != label.shape:
                raise mask_size_differs(mask, picture.shape, label.shape)
        pictures, labels = augment_clip(rng, pictures, labels, plan, video)
        return targets(rng, np.stack(pictures), np.stack(labels), plan.slots, video)


def draw_frames(rng: np.random.Generator, length: int, count: int, max_skip: int) -> list[int]:
    """`count` frame numbers below `length`, each at most `max_skip` from another; reversed half of the time."""
    chosen = [int(rng.integers(length))]
    while len(chosen) < count:
        near = {n for i in chosen for n in range(max(0, i - max_skip), min(length, i + max_skip + 1))}
        free = sorted(near.difference(chosen))
        if not free:
            raise ValueError(f"{length} frames hold no clip of {count}")
        chosen.append(free[int(rng.integers(len(free)))])
    chosen.sort()
    return chosen[::-1] if rng.random() < 0.5 else chosen


def augment_clip(
    rng: np.random.Generator,
    pictures: list[UInt8Array],
    labels: list[UInt8Array],
    plan: IterationPlan,
    video: TrainVideo,
) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """The clip's frames and label maps at the plan's size: one crop and one change of colour for all of them,
    and a small turn, shear and change of colour for each (no turn and shear in the fine-tune phase).

    Raises DataError for frames of different sizes.
    """
    size = plan.size
    height, width = pictures[0].shape[:2]
    crop = augment.draw_crop(rng, height, width, video.row.crop)
    common = augment.window(*crop, size, flip=bool(rng.random() < 0.5))
    colours = CLIP_COLOURS.draw(rng)
    if rng.random() < GREY:
        colours = augment.Colours(colours.brightness, colours.contrast, grey=True)
    frames, maps = [], []
    for picture, label in zip(pictures, labels, strict=True):
        if picture.shape[:2] != (height, width):
            raise DataError("frame size changes within the video", where=video.frames[0][0].parent)
        matrix = common
        if video.row.affine and not plan.fine_tune:
            middle = (size - 1) / 2
            matrix = augment.draw_affine(rng, DEGREES, SHEAR, (1, 1), (middle, middle)) @ common
        frame = colours.apply(augment.warp_picture(picture, matrix, size))
        frames.append(FRAME_COLOURS.draw(rng).apply(frame))
        maps.append(augment.warp_labels(label, matrix, size))
    return frames, maps


def targets(
    rng: np.random.Generator, frames: UInt8Array, labels: UInt8Array, most: int, video: TrainVideo
) -> Clip | None:
    """The clip with at most `most` objects of its first frame as ids 1..n, the rest background; None if none.

    Also None where void covers too much of the first frame's labelled area.
    """
    void = video.row.void
    counts = np.bincount(labels[0].ravel(), minlength=256)
    if void and counts[VOID] > MOST_VOID * counts[1:].sum():
        return None
    ids = [i for i in range(1, 256) if counts[i] and not (void and i == VOID)]
    if video.row.drop_small:
        ids = [i for i in ids if _worth_keeping(labels, i)]
    if not ids:
        return None
    picked = sorted(rng.choice(ids, min(most, len(ids)), replace=False).tolist())
    table = np.zeros(256, np.uint8)
    table[picked] = np.arange(1, len(picked) + 1)
    if void:
        table[VOID] = VOID
    return Clip(frames, np.asarray(cv2.LUT(labels.reshape(-1, 1), table)).reshape(labels.shape), len(picked))


def _worth_keeping(labels: UInt8Array, number: int) -> bool:
    """BL30K's rule: large enough at first, or small throughout; a sliver of something larger is not."""
    first = int((labels[0] == number).sum())
    if first <= 100:
        return False
    return first > 900 or max(int((frame == number).sum()) for frame in labels[1:3]) < 400
