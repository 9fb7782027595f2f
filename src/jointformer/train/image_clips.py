"""Clips from stills with one object each (stage 0): every frame is another view of the same picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from jointformer.data.clips import augment
from jointformer.data.clips.stills import Clip
from jointformer.data.frames import open_picture, read_frame
from jointformer.errors import DataError
from jointformer.ops.label_maps import mask_size_differs
from jointformer.train.datasets import TrainStill
from jointformer.train.loader import NoObject
from jointformer.train.passes import RandomPasses
from jointformer.train.plan import IterationPlan
from jointformer.types import UInt8Array

TRIES = 10
COLOURS = augment.Jitter(0.1, 0.05, 0.05, 0.05)
GREY = 0.05
WARP = 0.33


class ImageClips:
    """Clips by index from stills: every pass takes each picture once in a new random order."""

    def __init__(self, stills: Sequence[TrainStill], seed: int) -> None:
        self.stills = list(stills)
        self.seed = seed
        self._passes = RandomPasses(len(self.stills), seed)

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        """The clip with this index. Raises DataError naming a broken file or an empty mask; NoObject where no view
        tried shows the object."""
        still = self.stills[self._passes.item(index)]
        rng = np.random.default_rng((self.seed, 0, index))
        picture, mask = read_frame(still.image), _read_mask(still.mask)
        if picture.shape[:2] != mask.shape:
            raise mask_size_differs(still.mask, picture.shape, mask.shape)
        for _ in range(TRIES):
            frames, labels = _views(rng, picture, mask, plan)
            if labels[0].any():
                return Clip(frames, labels, 1)
        kind = NoObject if mask.any() else DataError
        raise kind(f"no object in the first frame in {TRIES} tries", where=still.mask)


def _read_mask(path: Path) -> UInt8Array:
    """The (H, W) 0/1 mask of a grey or palette picture: brighter than half, as smooth edges are common here."""
    with open_picture(path) as image:
        return (np.asarray(image.convert("L")) > 127).astype(np.uint8)


def _views(
    rng: np.random.Generator, picture: UInt8Array, mask: UInt8Array, plan: IterationPlan
) -> tuple[UInt8Array, UInt8Array]:
    """(frames (T, S, S, 3), label maps (T, S, S)): views that share a scale, a flip and a change of colour."""
    size = plan.size
    height, width = mask.shape
    centre = ((width - 1) / 2, (height - 1) / 2)
    shared = augment.draw_affine(rng, 0, 0, (0.8, 1.5), centre)
    if rng.random() < 0.5:
        shared = np.array([[-1, 0, width - 1], [0, 1, 0], [0, 0, 1]]) @ shared
    colours = COLOURS.draw(rng)
    if rng.random() < GREY:
        colours = augment.Colours(colours.brightness, colours.contrast, grey=True)
    frames, labels = [], []
    for _ in range(plan.frames):
        own = augment.draw_affine(rng, 20, 10, (0.9, 1.1), centre)
        short = min(height, width)  # the shorter side becomes `size`, then a random square of it is kept
        left, top = rng.uniform(0, width - short), rng.uniform(0, height - short)
        matrix = augment.window(left, top, short, short, size, flip=False) @ own @ shared
        frame, label = augment.warp_picture(picture, matrix, size), augment.warp_labels(mask, matrix, size)
        if rng.random() < WARP:
            frame, label = augment.remap(frame, label, augment.thin_plate_grid(rng, size))
        frames.append(COLOURS.draw(rng).apply(colours.apply(frame)))
        labels.append(label)
    return np.stack(frames), np.stack(labels)
