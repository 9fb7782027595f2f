"""Run a benchmark: every video through a tracker, results written whole, interrupted runs continued."""

from __future__ import annotations

import sys
import time
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from tqdm import tqdm

from jointformer.data.benchmarks import Dataset
from jointformer.data.sources import VideoSource
from jointformer.data.writer import SCORES, clean_up, is_finished
from jointformer.errors import ConfigError, UserError
from jointformer.evaluate.scale.budget import plan_videos
from jointformer.evaluate.scale.claims import RunFolder
from jointformer.evaluate.scale.label import OnFrames, Work, frames_of, pack_model
from jointformer.evaluate.scale.manifest import MANIFEST, Manifest, RunSettings, weights_hash
from jointformer.evaluate.scale.processes import ProcessPool, processors
from jointformer.evaluate.scale.schedule import Outcome, Pool, hand_out, label_here
from jointformer.evaluate.scale.shards import Shard, fold, join_run, zip_if_finished
from jointformer.evaluate.scale.stop import Interrupted, Stop, stop_on_signal
from jointformer.model.network import JointFormer
from jointformer.ops.files import make_dir, remove
from jointformer.track.budget import size_text
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View
from jointformer.track.loop import BAD_FRAME_POLICIES, BadFramePolicy, reset_peak_memory

#: Seconds between two writings of run.json while videos are being finished.
_SAVE_EVERY = 30.0


class FailedVideos(UserError):
    """Some videos could not be finished, all others are. failed: {video: its error}."""

    def __init__(self, failed: dict[str, str], total: int, output: Path) -> None:
        self.failed = failed
        named = "; ".join(f"{video}: {error}" for video, error in list(failed.items())[:2])
        more = f"; and {len(failed) - 2} more" if len(failed) > 2 else ""
        super().__init__(f"{len(failed)} of {total} videos failed ({named}{more})", where=output)

    def __reduce__(self) -> tuple[object, ...]:
        return (UserError, (self.what,))


@dataclass(frozen=True)
class Scale:
    """Who does the work: this process; so many processes (on these devices in turn); or actors of a Ray cluster.

    threads: those of each process for a network on the CPU (default: the processors shared out). ray: "auto" or a
    cluster's address; workers then bounds the actors (default: as many as the cluster has room for), and devices may
    hold one kind, "cuda" or "cpu", where the cluster's differs from this machine's.
    """

    workers: int | None = None
    devices: tuple[str, ...] = ()
    threads: int | None = None
    ray: str | None = None
    shard: Shard | None = None

    def __post_init__(self) -> None:
        for name, value in (("workers", self.workers), ("threads", self.threads)):
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1024):
                raise ConfigError(name, expected="1 to 1024", got=value)

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.workers or max(1, len(self.devices))


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

    Results lie in output/<video>/<frame>.png (or below output/Annotations, as the benchmark wants it), the settings
    and figures in output/run.json; a zip for the submission server is made where there is one and all videos are
    finished. A video is finished when its folder is there: an interrupted run goes on with the others, and several
    runs with equal settings may share a folder (docs/scaling.md). views: sizes and mirrored views whose probabilities
    are averaged (default: config.size, plain). videos: only these. on_bad_frame: see `iter_segmentations`.
    memory_budget: bytes that all processes of this machine may take together (see track/budget.py).

    Raises ConfigError for unknown videos, for a budget that a video cannot keep and for a folder with results of other
    settings, OutputError where nothing can be written, FailedVideos at the end where some videos could not be finished,
    Interrupted after SIGINT.
    """
    config, scale = config or TrackerConfig(), scale or Scale()
    views = tuple(views or (View(config.size),))
    if on_bad_frame not in BAD_FRAME_POLICIES:
        raise ConfigError("on_bad_frame", expected=f"one of {', '.join(BAD_FRAME_POLICIES)}", got=repr(on_bad_frame))
    if overwrite and scale.shard is not None:
        raise ConfigError("overwrite with shard", expected="one of them", hint="empty the folder before the shards")
    output = make_dir(output)
    chosen = _choose(dataset, videos)
    settings = RunSettings(
        dataset=dataset.benchmark.key,
        split=dataset.benchmark.split,
        weights=weights_hash(model),
        precision=str(model.dtype).removeprefix("torch."),
        tracker=config,
        views=views,
        save_all=save_all,
        save_scores=save_scores,
    )
    folder = output / dataset.benchmark.output_folder
    if overwrite:
        _clear(output, folder, dataset)
    join_run(output, settings, [video.name for video in chosen], len(dataset.videos))
    mine = chosen if scale.shard is None else scale.shard.of(chosen)
    work = Work(output.absolute(), folder.absolute(), config, views, save_scores, on_bad_frame)
    if memory_budget is not None:
        work = _within(memory_budget, model, work, mine, scale, progress)
    failed = _label_all(model, work, mine, scale, progress)
    manifest = fold(output)
    clean_up(output)
    zip_if_finished(output, manifest)
    if failed:
        raise FailedVideos(failed, len(mine), output)
    return manifest


def _within(
    budget: int, model: JointFormer, work: Work, videos: list[VideoSource], scale: Scale, progress: bool
) -> Work:
    """Return the work with the objects per pass that keep every unfinished video within a budget."""
    todo = [video for video in videos if not is_finished(work.folder, video.name)]
    plans = plan_videos(model, work.config, work.views, todo, budget, scale.count if scale.ray is None else 1)
    if plans and progress:
        largest = max(plans.values(), key=lambda plan: plan.total)
        print(f"memory: at most {largest}, of {size_text(budget)}", file=sys.stderr)
    return replace(work, passes={name: plan.config.objects_per_pass for name, plan in plans.items()})


def _label_all(
    model: JointFormer, work: Work, videos: list[VideoSource], scale: Scale, progress: bool
) -> dict[str, str]:
    """Label the unfinished videos and return {video: error} of those that failed."""
    todo = [video for video in videos if not is_finished(work.folder, video.name)]
    failed: dict[str, str] = {}
    done, saved = len(videos) - len(todo), time.monotonic()
    reset_peak_memory(model.device)
    bar = tqdm(total=sum(map(frames_of, todo)), unit="frame", disable=not progress)
    with bar, stop_on_signal() as stop:
        bar.set_description(f"{done}/{len(videos)} videos")
        try:
            with closing(_outcomes(model, work, todo, scale, bar.update, stop)) as outcomes:
                for outcome in outcomes:
                    done += 1
                    if outcome.error:
                        failed[outcome.video] = outcome.error
                        data = {"state": "failed", "error": outcome.error}
                        RunFolder(work.output).write_record(outcome.video, data)
                    bar.set_description(f"{done}/{len(videos)} videos, {outcome.video} ended")
                    if time.monotonic() - saved > _SAVE_EVERY:
                        fold(work.output)
                        saved = time.monotonic()
        except Interrupted:
            fold(work.output)
            so_far = f"{done - len(failed)} of {len(videos)} videos are finished"
            raise Interrupted(f"interrupted: {so_far}; the same command goes on from there") from None
    return failed


def _outcomes(
    model: JointFormer, work: Work, videos: list[VideoSource], scale: Scale, on_frames: OnFrames, stop: Stop
) -> Generator[Outcome, None, None]:
    """Return the outcomes of the videos, made by whom `scale` says."""
    threads = torch.get_num_threads()
    if scale.ray is None and scale.count == 1 and not scale.devices:
        torch.set_num_threads(scale.threads or threads)
        try:
            yield from label_here(model, work, videos, on_frames=on_frames, stop=stop)
        finally:
            torch.set_num_threads(threads)
        return
    pool: Pool
    if scale.ray is not None:
        from jointformer.evaluate.scale.ray_actors import RayPool

        kind = (scale.devices or (model.device.type,))[0].partition(":")[0]
        pool = RayPool(scale.ray, pack_model(model), work, device=kind, threads=scale.threads or 1)
        count = scale.workers or pool.room
    else:
        count = scale.count
        shared = scale.threads or max(1, processors() // count)
        pool = ProcessPool(pack_model(model), work, list(scale.devices) or [str(model.device)], shared)
    yield from hand_out(pool, count, videos, on_frames=on_frames, stop=stop)


def _choose(dataset: Dataset, names: Sequence[str] | None) -> list[VideoSource]:
    """Return the videos named, in the benchmark's order; all where none are named."""
    known = {video.name: video for video in dataset.videos}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no video {name!r} in {dataset.benchmark.name}", expected=f"one of {', '.join(known)}")
    return [video for video in dataset.videos if names is None or video.name in names]


def _clear(output: Path, folder: Path, dataset: Dataset) -> None:
    """Remove an earlier run's manifest and the results of this benchmark's videos; nothing else is touched."""
    remove(output / MANIFEST)
    RunFolder(output).clear()
    for video in dataset.videos:
        remove(folder / video.name)
        remove(output / SCORES / video.name)
