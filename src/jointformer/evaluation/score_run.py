"""Videos scored one after another or by several processes: one frame in memory each, one decoding per file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from jointformer.errors import DataError
from jointformer.evaluation.score_plans import VideoPlan
from jointformer.evaluation.score_sources import MaskTree
from jointformer.metrics.protocols import Protocol
from jointformer.metrics.results import VideoScores
from jointformer.metrics.video import VideoScorer
from jointformer.system.parallel import parallel_map


@dataclass(frozen=True)
class ScoreJob:
    """All that scoring one video takes; small enough to send to another process."""

    plan: VideoPlan
    protocol: Protocol
    truth: MaskTree
    predictions: MaskTree


@dataclass
class VideoResult:
    """A video's scores, with the predictions that could not be decoded."""

    scores: VideoScores
    damaged: list[str] = field(default_factory=list)


def score_video(job: ScoreJob) -> VideoResult:
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
        scorer.update(frame, prediction, truth)
    result.scores = scorer.compute()
    return result


def score_videos(jobs: Sequence[ScoreJob], workers: int = 1) -> Iterator[VideoResult]:
    """The results of all jobs, in their order, by up to `workers` processes."""
    if workers > 1:  # what is sent to a process: no other video's names
        jobs = [
            replace(job, truth=job.truth.only(job.plan.video), predictions=job.predictions.only(job.plan.video))
            for job in jobs
        ]
    frames = sum(len(job.plan.frames) for job in jobs)
    return parallel_map(score_video, jobs, workers=workers, files=frames)
