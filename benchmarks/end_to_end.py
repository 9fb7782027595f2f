"""Frames/s of a whole evaluation beside the model's own: what decoding, resizing and PNG writing cost around it.

    python benchmarks/end_to_end.py DATA_ROOT [--model tiny] [--dataset D16] [--videos NAME ...]

The first video is labelled once beforehand and not counted, so that nothing is compiled or loaded within the measured
time. `model_share` is the model's seconds (with the resize of its results) over the whole run's; 0.95 is the aim, on
an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from jointformer import TrackerConfig, load_model
from jointformer.data.benchmarks import open_benchmark
from jointformer.evaluation.runner import evaluate


def main() -> None:
    """Print the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_root", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--dataset", default="D16")
    parser.add_argument("--split", default="val")
    parser.add_argument("--generic-path", type=Path, help="for --dataset G")
    parser.add_argument("--videos", nargs="+", help="these only (default: the first three)")
    args = parser.parse_args()
    model = load_model(args.model)
    dataset = open_benchmark(args.dataset, args.split, args.data_root, generic_path=args.generic_path, save_all=True)
    config = TrackerConfig(max_memory_frames=1, topk=60)
    videos = args.videos or [video.name for video in dataset.videos[:3]]
    with tempfile.TemporaryDirectory() as folder:
        for name, some in (("before", videos[:1]), ("timed", videos)):
            start = perf_counter()
            run = evaluate(
                model, dataset, Path(folder) / name, config=config, videos=some, save_all=True, progress=False
            )
            seconds = perf_counter() - start
    figures = {
        "videos": videos,
        "frames": run.frames,
        "fps_model": run.frames / run.seconds,
        "fps_whole": run.frames / seconds,
        "model_share": run.seconds / seconds,
    }
    json.dump(figures, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
