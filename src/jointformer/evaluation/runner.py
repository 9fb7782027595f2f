"""Run a benchmark: every video through a tracker, results written whole, interrupted runs continued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from jointformer.data.benchmarks import Dataset
from jointformer.data.sources import VideoSource
from jointformer.data.writer import SCORES
from jointformer.errors import ConfigError, require
from jointformer.evaluation.scale.budget import video_size
from jointformer.evaluation.scale.label import BenchmarkWork
from jointformer.evaluation.scale.manifest import Manifest
from jointformer.evaluation.scale.run import Scale, run_jobs
from jointformer.evaluation.scale.shards import zip_path
from jointformer.model.network import JointFormer, require_network
from jointformer.system.files import from_anywhere
from jointformer.track.config import TrackerConfig, require_config
from jointformer.track.ensemble import View
from jointformer.track.loop import BadFramePolicy


def evaluate(
    model: JointFormer,
    dataset: Dataset,
    output: str | Path,
    *,
    config: TrackerConfig | None = None,
    views: Sequence[View] | None = None,
    videos: Sequence[str] | None = None,
    save_all: bool = False,
    save_scores: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    on_bad_frame: BadFramePolicy = "stop",
    memory_budget: int | None = None,
    scale: Scale | None = None,
) -> Manifest:
    """Label a benchmark's videos and return what the run took.

    Results lie in output/<video>/<frame>.png (or below output/Annotations, as the benchmark wants it), the settings and
    figures in output/run.json; a zip for the submission server is made where there is one, all videos are finished and
    no mask that it wants was skipped. A video is finished when its folder is there and its record with it: an
    interrupted run goes on with the others, and several with equal settings may share a folder (docs/scaling.md).
    views: sizes and mirrored views whose probabilities are averaged (default: config.size, plain). videos: only these.
    save_all: whether the dataset was opened with it, for run.json and the zip. save_scores: also write each object's
    probabilities. overwrite: remove earlier results first, of a run with equal settings those of `videos` alone.
    on_bad_frame: what becomes of a frame that cannot be read, or is of another size than the first: its video fails and
    the others go on ("stop"), it has no result ("skip"), or that of the frame before ("hold"); one with a given mask
    fails its video under all of them. memory_budget: bytes that all processes may take together, with Ray as many as
    `scale` has workers; what cannot fit is refused beforehand. scale: how many processes work, and where (default: this
    one).

    Raises ConfigError for a model, dataset or settings that are none, unknown videos, settings out of range, a budget
    that a video cannot keep and a folder with results of other settings; DataError for a run.json that cannot be read;
    OutputError where nothing can be written or a result would replace what is read; FailedVideos at the end where some
    videos could not be finished (all others are); Interrupted, a KeyboardInterrupt, after SIGINT or SIGTERM.
    """
    require_network(model)
    require("dataset", dataset, Dataset, "an opened benchmark", hint="open it with open_benchmark")
    config = require_config(config)
    target = from_anywhere(output)
    work = BenchmarkWork(
        output=target,
        folder=target / dataset.benchmark.output_folder,
        config=config,
        views=_checked_views(views) if views else (View(config.size),),
        on_bad_frame=on_bad_frame,
        save_scores=save_scores,
    )
    return run_jobs(
        model,
        work,
        [video.found_from_anywhere() for video in _choose(dataset, videos)],
        {
            "dataset": dataset.benchmark.key,
            "split": dataset.benchmark.split,
            "save_all": save_all,
            "save_scores": save_scores,
        },
        dataset_videos=len(dataset.videos),
        scale=scale or Scale(),
        size_of=partial(video_size, save_scores=save_scores),
        overwritten=_results(work, dataset) if overwrite else None,
        memory_budget=memory_budget,
        progress=progress,
    )


def _checked_views(views: Sequence[View]) -> tuple[View, ...]:
    """Return the views of a video. Raises ConfigError for what are none, such as bare sizes."""
    require("views", views, Sequence, "a list of View")
    for view in views:
        require("views", view, View, "a list of View, such as [View(480), View(480, flipped=True)]")
    return tuple(views)


def _choose(dataset: Dataset, names: Sequence[str] | None) -> list[VideoSource]:
    """Return the videos named, in the benchmark's order; all where none are named. Raises ConfigError."""
    if isinstance(names, str):  # which is a sequence of names of one letter each
        raise ConfigError("videos", expected="a list of names", got=repr(names)[:80])
    known = {video.name: video for video in dataset.videos}
    for name in names or ():
        if name not in known:
            few = ", ".join([*list(known)[:6], *["…"] * (len(known) > 6)])
            raise ConfigError(f"no video {name!r} in {dataset.benchmark.name}", expected=f"one of {few}")
    return [video for video in dataset.videos if names is None or video.name in names]


def _results(work: BenchmarkWork, dataset: Dataset) -> Iterator[Path]:
    """Yield where an earlier run's results of this benchmark's videos may lie, and the zip that was made of them."""
    archive = zip_path(work.output, dataset.benchmark)
    if archive is not None:
        yield archive
    for video in dataset.videos:
        yield work.folder / video.name
        yield work.output / SCORES / video.name
