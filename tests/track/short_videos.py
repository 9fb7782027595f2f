"""Short random videos, masks in them, and a network small enough to track them in a test."""

from __future__ import annotations

import numpy as np

from jointformer.model.network import JointFormer
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.segmentation import Segmentation

H, W = 40, 56
CONFIG = TrackerConfig(max_memory_frames=3, memory_every=2, topk=6, size=-1)


def video(frames: int = 8, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (H + 96, W + 96, 3), dtype=np.uint8)
    return [base[2 * t : 2 * t + H, t : t + W].copy() for t in range(frames)]


def box(y: int, x: int, size: int = 12) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def run(
    model: JointFormer, given: dict[int, dict[int, np.ndarray]], config: TrackerConfig = CONFIG, frames: int = 8
) -> list[Segmentation]:
    tracker = Tracker(model, config)
    return [tracker.step(f, given.get(t)) for t, f in enumerate(video(frames))]
