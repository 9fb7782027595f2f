"""A program as users write it, which mypy checks with the package: what it may not say is marked as an error."""

from __future__ import annotations

import numpy as np
import torch

import jointformer
from jointformer import BENCHMARKS, Segmentation, Session, Tracker, TrackerConfig, evaluate, load_model
from jointformer.data.benchmarks import open_benchmark
from jointformer.types import LabelMap, Mask


def track(frames: list[np.ndarray], first: Mask) -> list[LabelMap]:
    tracker = Tracker(load_model("tiny", torch.device("cpu")), TrackerConfig(size=240))
    results: list[Segmentation] = [tracker.step(frame, {1: first} if not t else None) for t, frame in enumerate(frames)]
    return [result.label_map for result in results]


def annotate(video: str, first: Mask) -> float | None:
    with Session(video, device=torch.device("cpu")) as session:
        session.add_masks(0, {1: first})
        run = session.propagate()
        for frame, result in run:
            if frame == 6:
                run.close()
                return result.confidence[1]
    return None


def reproduce() -> None:
    for key, split in BENCHMARKS:
        evaluate(load_model("s012"), open_benchmark(key, split, ".."), f"output/{key}")
    jointformer.no_such_name  # type: ignore[attr-defined]  # noqa: B018
