"""Videos scored one after another or by several processes: one frame in memory each, one decoding per file."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from jointformer.errors import DataError
from jointformer.evaluate.scale.stop import without_ctrl_c
from jointformer.evaluate.score_plans import VideoPlan
from jointformer.evaluate.score_sources import MaskTree
from jointformer.metrics.protocols import Protocol
from jointformer.metrics.results import VideoScores
from jointformer.metrics.video import VideoScorer

#: Fewer frames than this are not worth another process.
_FRAMES_PER_WORKER = 200


@dataclass(frozen=True)
class VideoJob:
    """All that scoring one video takes; small enough to send to another process."""

    plan: VideoPlan
    protocol: Protocol
    truth: MaskTree
    predictions: MaskTree


@dataclass
class VideoResult:
    """A video's scores, with the predictions that could not be decoded and those taken as empty."""

    scores: VideoScores
    damaged: list[str] = field(default_factory=list)
    empty: list[str] = field(default_factory=list)


def score_video(job: VideoJob) -> VideoResult:
    """The scores of one video; predictions that are not there count as empty masks."""
    plan = job.plan
    scorer = VideoScorer(plan.video, job.protocol, plan.objects, plan.group)
    result = VideoResult(scorer.compute())
    if job.protocol.objects.startswith("first"):
        scorer.begin(job.truth.read(plan.video, plan.first))
    present = job.predictions.frames(plan.video)
    for frame in plan.frames:
        truth = job.truth.read(plan.video, frame)
        if frame in present:
            try:
                prediction = job.predictions.read(plan.video, frame)
            except DataError as error:
                result.damaged.append(f"{plan.video}/{frame}.png ({error.what})")
                continue
        else:
            prediction = np.zeros_like(truth)
            result.empty.append(f"{plan.video}/{frame}.png")
        scorer.update(frame, prediction, truth)
    result.scores = scorer.compute()
    return result


def score_videos(jobs: Sequence[VideoJob], workers: int = 1) -> Iterator[VideoResult]:
    """The results of all jobs, in their order, by up to ``workers`` processes."""
    frames = sum(len(job.plan.frames) for job in jobs)
    workers = min(workers, len(jobs), frames // _FRAMES_PER_WORKER + 1)
    if workers <= 1:
        yield from map(score_video, jobs)
        return
    # "spawn" because the parent may have started threads, which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    jobs = [
        replace(job, truth=job.truth.only(job.plan.video), predictions=job.predictions.only(job.plan.video))
        for job in jobs
    ]
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread)
    try:
        with without_ctrl_c():  # a terminal sends it to everybody; ending is for the parent to ask
            results = pool.map(score_video, jobs)
        yield from results
    finally:
        pool.shutdown(cancel_futures=True)


def _one_thread() -> None:
    """OpenCV's own threads would only compete with the other processes."""
    cv2.setNumThreads(1)
