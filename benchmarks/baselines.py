"""Two baselines that need no network, scored beside results.

`copy`: the first mask on every frame. `flow`: the first mask carried on from frame to frame by dense optical flow
(OpenCV's DIS, medium preset). With --results, a folder of evaluate's results is scored in the same run.

    python benchmarks/baselines.py --data-root ../shared/data --results output/D16_val
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from jointformer.data.benchmarks import open_benchmark
from jointformer.data.sources import VideoSource
from jointformer.data.writer import ResultWriter
from jointformer.evaluation.score import score
from jointformer.types import LabelMap


def iter_copied(video: VideoSource) -> Iterator[LabelMap]:
    """Yield the first mask for every frame."""
    first = video.read_mask(video.first_mask)
    for _ in range(video.first_mask, len(video)):
        yield first


def iter_flowed(video: VideoSource) -> Iterator[LabelMap]:
    """Yield the first mask, then each frame's mask fetched from the one before it along the backward flow."""
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    labels = video.read_mask(video.first_mask)
    yield labels
    before = None
    height, width = labels.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    for frame in video.iter_frames(video.first_mask):
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if before is not None:
            motion = flow.calc(grey, before, None)
            labels = cv2.remap(labels, x + motion[..., 0], y + motion[..., 1], cv2.INTER_NEAREST)
            yield labels
        before = grey


BASELINES = {"copy": iter_copied, "flow": iter_flowed}


def main() -> int:
    """Print J&F, J and F of the baselines and of --results on DAVIS 2016 val."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-root", type=Path, required=True)
    parser.add_argument("--results", type=Path, help="a folder of <video>/<frame>.png to score beside them")
    parser.add_argument("--json", type=Path, help="also write the figures per video there")
    args = parser.parse_args()
    dataset = open_benchmark("D16", "val", args.data_root)
    truth = args.data_root / "DAVIS" / "2016"
    assert dataset.benchmark.video_list is not None
    names = str(args.data_root / dataset.benchmark.video_list)
    figures: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        folders = {name: Path(folder) / name for name in BASELINES}
        for name, make in BASELINES.items():
            for video in tqdm(dataset.videos, desc=name, file=sys.stderr):
                with ResultWriter(folders[name], video.name) as writer:
                    for frame_name, labels in zip(video.frame_names[video.first_mask :], make(video), strict=True):
                        writer.write(frame_name, labels)
        if args.results is not None:
            folders["results"] = args.results
        for name, path in folders.items():
            scores = score("davis16", truth, path, set_name=names)
            figures[name] = scores.to_json(per_object=False)
            print(f"{name:<8}" + "  ".join(f"{key} {100 * scores.figures[key]:.1f}" for key in ("J&F", "J", "F")))
    if args.json is not None:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
