"""Milliseconds per object and frame that scoring takes, PNG decoding included, and the share of decoding.

    python benchmarks/score_speed.py --annotations DAVIS/2016 --predictions osvos [--benchmark davis16] [--repeat 3]

Each video is scored in one process and decoded on its own, several times; the fastest time of each counts, because
other programs on the machine only ever add time. With --workers the whole benchmark is timed once more in parallel.
Peak memory is printed per number of frames, to show that it does not grow with a video's length.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from pathlib import Path

import cv2

from jointformer.evaluate.score import score
from jointformer.evaluate.score_plans import build_plan
from jointformer.evaluate.score_run import VideoJob, score_video
from jointformer.evaluate.score_sources import MaskTree, open_masks
from jointformer.metrics import find_protocol


def fastest(call: Callable[[], object], repeat: int) -> float:
    """The shortest of several runs, in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def decode(job: VideoJob) -> None:
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
    jobs = [VideoJob(video, protocol, MaskTree(str(plan.truth)), masks) for video in plan.videos]
    total = reading = 0.0
    pairs = 0
    for job in jobs:
        pairs += sum(len(each.frames) for each in score_video(job).scores.objects)
        total += fastest(lambda job=job: score_video(job), args.repeat)  # type: ignore[misc]
        reading += fastest(lambda job=job: decode(job), args.repeat)  # type: ignore[misc]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{pairs} object-frames, {len(jobs)} videos: {1000 * total / pairs:.2f} ms per object and frame")
    print(f"of which decoding PNGs: {1000 * reading / pairs:.2f} ms ({100 * reading / total:.0f} %)")
    print(f"peak memory {peak:.0f} MiB")
    if args.workers > 1:
        start = time.perf_counter()
        score(args.benchmark, args.annotations, args.predictions, workers=args.workers)
        seconds = time.perf_counter() - start
        print(
            f"{args.workers} processes, checks and start included: {1000 * seconds / pairs:.2f} ms per object and frame"
        )


if __name__ == "__main__":
    main()
