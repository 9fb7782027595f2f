"""Milliseconds per object and frame that scoring takes, PNG decoding included, and the share of decoding.

    python benchmarks/score_speed.py --annotations DAVIS/2016 --predictions osvos [--benchmark davis16] [--repeat 3]

Each video is scored in one process and decoded on its own, several times; the fastest of each counts. Processor time
is given as well, because other programs distort the time by the clock. With --workers the whole benchmark, checks
and the processes' start included, is timed by the clock, with one and with that many.
Peak memory is printed per number of frames, to show that it does not grow with a video's length.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from jointformer.evaluation.score import score
from jointformer.evaluation.score_plans import build_plan
from jointformer.evaluation.score_run import ScoreJob, score_video
from jointformer.evaluation.score_sources import MaskTree, open_masks
from jointformer.metrics import find_protocol


def fastest(call: Callable[[], object], repeat: int) -> np.ndarray:
    """The shortest of several runs: seconds of the clock and of the processor."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter(), time.process_time()
        call()
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return np.min(times, axis=0)


def decode(job: ScoreJob) -> None:
    """Read what scoring a video reads, and do nothing with it."""
    for frame in job.plan.frames:
        job.truth.read(job.plan.video, frame)
        job.predictions.read(job.plan.video, frame)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--annotations", type=Path, required=True)
    parser.add_argument("--predictions", type=Path, required=True)
    parser.add_argument("--benchmark", default="davis16")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    protocol = find_protocol(args.benchmark)
    plan = build_plan(protocol, args.annotations)
    masks = open_masks(args.predictions, [video.video for video in plan.videos])
    jobs = [ScoreJob(video, protocol, MaskTree(str(plan.truth)), masks) for video in plan.videos]
    total, reading = np.zeros(2), np.zeros(2)
    pairs = 0
    for job in jobs:
        pairs += sum(len(each.frames) for each in score_video(job).scores.objects)
        total += fastest(partial(score_video, job), args.repeat)
        reading += fastest(partial(decode, job), args.repeat)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock, processor = 1000 * total / pairs
    print(f"{pairs} object-frames of {len(jobs)} videos, one process, PNG decoding included:")
    print(f"{processor:.2f} ms of the processor per object and frame ({clock:.2f} ms by the clock)")
    print(f"of which decoding {1000 * reading[1] / pairs:.2f} ms ({100 * reading[1] / total[1]:.0f} %)")
    print(f"peak memory {peak:.0f} MiB")
    for workers in (1, args.workers) if args.workers > 1 else ():
        again = partial(score, args.benchmark, args.annotations, args.predictions, workers=workers)
        seconds = fastest(again, 1)
        print(f"whole benchmark with {workers} processes: {1000 * seconds[0] / pairs:.2f} ms by the clock")


if __name__ == "__main__":
    main()
