"""A run over videos, whatever is done with them: settings compared, videos labelled, the manifest written."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from jointformer.data.inputs import refuse_inputs
from jointformer.errors import ConfigError, UserError, require
from jointformer.evaluation.scale.budget import plan_videos
from jointformer.evaluation.scale.claims import RunFolder, clean_up
from jointformer.evaluation.scale.label import J, OnFrames, Work, pack_model
from jointformer.evaluation.scale.manifest import Manifest, made_with, manifest_stamp
from jointformer.evaluation.scale.processes import ProcessPool
from jointformer.evaluation.scale.schedule import Outcome, Pool, hand_out, label_here
from jointformer.evaluation.scale.shards import Shard, check_files, check_inputs, fold, join_run, zip_if_finished
from jointformer.model.device import choose_device, reset_peak_memory
from jointformer.model.network import JointFormer
from jointformer.system.files import make_dir
from jointformer.system.parallel import processors
from jointformer.system.stop import Interrupted, Stop, at_once, stop_on_signal
from jointformer.track.budget import VideoSize, size_text

#: Seconds between two writings of run.json while videos are being finished, whichever process does it.
_SAVE_EVERY = 30.0


class FailedVideos(UserError):
    """Some videos could not be finished, all others are. failed: {video: its error}. manifest: what the run took."""

    def __init__(self, failed: dict[str, str], total: int, output: Path, manifest: Manifest) -> None:
        self.failed = failed
        self.manifest = manifest
        self._begun_with = failed, total, output, manifest
        named = "; ".join(f"{video}: {error}" for video, error in list(failed.items())[:2])
        more = f"; and {len(failed) - 2} more" if len(failed) > 2 else ""
        super().__init__(f"{len(failed)} of {total} videos failed ({named}{more})", where=output)

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), self._begun_with


@dataclass(frozen=True)
class Scale:
    """Who does the work: this process; so many processes (on these devices in turn); or actors of a Ray cluster.

    threads: those of each process for a network on the CPU (default: OMP_NUM_THREADS, else the processors shared out).
    ray: "auto" or a cluster's address; workers then bounds the actors (default: as many as the cluster has room for),
    and devices may hold one kind, "cuda" or "cpu", where the cluster's differs from this machine's. shard: only this
    part. Raises ConfigError.
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
        if isinstance(self.devices, list):  # what is frozen holds no list
            object.__setattr__(self, "devices", tuple(self.devices))
        if not isinstance(self.devices, tuple) or not all(isinstance(device, str) for device in self.devices):
            raise ConfigError(
                "devices", expected='a tuple of names, such as ("cuda:0", "cuda:1")', got=repr(self.devices)
            )
        if self.ray is not None:
            require("ray", self.ray, str, '"auto", the address of a cluster, or None')
        if self.shard is not None:
            require("shard", self.shard, Shard, "a Shard, such as Shard(1, 4), or None")
        if self.ray is not None and self.devices not in ((), ("cuda",), ("cpu",)):  # Ray says which GPU is whose
            raise ConfigError("devices with Ray", expected="cuda or cpu", got=",".join(self.devices))

    @property
    def count(self) -> int:
        """The number of processes."""
        return self.workers or max(1, len(self.devices))

    @property
    def others(self) -> int:
        """The number of processes besides this one that do the work; 0: this one does. With Ray, the most actors."""
        return self.count if self.ray is not None or self.count > 1 or self.devices else 0

    def kind(self, here: torch.device) -> str:
        """Return the kind of device that does the work, the first one's of several. here: this process's network's."""
        if not self.devices:
            return here.type
        return self.devices[0] if self.ray is not None else choose_device(self.devices[0]).type

    def refuse_budget(self) -> None:
        """Raise ConfigError where it is not known what a memory budget is to be divided by, or planned for."""
        if self.ray is not None and self.workers is None:
            hint = "give --workers, the number of actors that share it"
            raise ConfigError("a memory budget with Ray needs workers", hint=hint)
        kinds = () if self.ray is not None else sorted({choose_device(name).type for name in self.devices})
        if len(kinds) > 1:
            raise ConfigError("a memory budget with devices", expected="those of one kind", got=" and ".join(kinds))

    def refuse_overwriting(self) -> None:
        """Raise ConfigError for a shard: it must not remove what the other parts have finished."""
        if self.shard is not None:
            hint = "empty the output folder, then start the shards"
            raise ConfigError("overwrite does not go with shard", hint=hint)


def run_jobs(
    model: JointFormer,
    work: Work[J],
    jobs: Sequence[J],
    settings: dict[str, Any],
    *,
    dataset_videos: int,
    scale: Scale,
    size_of: Callable[[J], VideoSize],
    overwritten: Iterable[Path] | None = None,
    memory_budget: int | None = None,
    progress: bool = True,
) -> Manifest:
    """Label every video that is not finished and return what the run took.

    settings: what the results depend on besides the network, the tracker and the views, as plain data. dataset_videos:
    how many the whole dataset has. size_of: what a memory plan has to know of a video. overwritten: the results that go
    first, of an earlier run with equal settings those of `jobs` alone; None: this run goes on where that one ended.

    Raises ConfigError for a budget that a video cannot keep or that cannot be divided, for a folder with other results
    (see `join_run`) and for a shard that would overwrite the other parts, OutputError where nothing can be written, a
    result would replace what is read or another run has taken the folder, FailedVideos at the end where some videos
    could not be finished, Interrupted after SIGINT or SIGTERM, whatever was going on: it says how to go on.
    """
    output, folder = work.output, work.folder
    require("scale", scale, Scale, "a Scale, such as Scale(workers=4)")
    if memory_budget is not None:
        require("memory_budget", memory_budget, Integral, "a whole number of bytes, such as 2 * 10**9, or None")
        scale.refuse_budget()
    if overwritten is not None:
        scale.refuse_overwriting()
        overwritten = list(overwritten)
    work.refuse_names(job.name for job in jobs)
    results = [*(overwritten or ()), *(folder / job.name for job in jobs)]
    refuse_inputs(results, (path for job in jobs for path in job.inputs))
    mine = list(jobs) if scale.shard is None else scale.shard.of(jobs)
    with stop_on_signal() as stop:
        settings = {**settings, **made_with(model, work.config, work.views)}
        make_dir(output)
        if overwritten is not None:  # what cannot be is refused before anything is removed
            work = _within(memory_budget, model, work, map(size_of, mine), scale, progress)
        try:
            manifest = join_run(
                output, settings, jobs, dataset_videos, overwritten, weights_file=str(model.weights_file or "")
            )
            work = replace(work, run=manifest.run)
            check_files(folder, manifest)
            todo = [job for job in mine if job.name not in manifest.videos]
            if overwritten is None:
                work = _within(memory_budget, model, work, map(size_of, todo), scale, progress)
            failed = _label_all(model, work, todo, len(mine), scale, progress, stop)
            manifest = fold(output, work.run)
            clean_up(output)
            with at_once():  # only the zip is written, which may take a while and appears when it is whole
                check_inputs(output, manifest, jobs)  # parts that began at the same time may have been given other data
                check_files(folder, manifest)
                zip_if_finished(output, manifest)
            if stop():
                raise Interrupted
        except Interrupted:
            manifest = fold(output, work.run)
            clean_up(output)
            done = sum(job.name in manifest.videos for job in mine)
            raise Interrupted(
                f"interrupted: {done} of {len(mine)} videos are finished; the same command goes on from there"
            ) from None
    if failed:
        raise FailedVideos(failed, len(mine), output, manifest)
    return manifest


def _within(
    budget: int | None, model: JointFormer, work: Work[J], sizes: Iterable[VideoSize], scale: Scale, progress: bool
) -> Work[J]:
    """Return the work with the settings that keep every video within a budget, if there is one."""
    if budget is None:
        return work
    with at_once():  # it only reads
        kind = scale.kind(model.device)
        plans = plan_videos(model, work.config, work.views, sizes, budget, scale.others, kind)
    if plans and progress:
        largest = max(plans.values(), key=lambda plan: plan.total)
        print(f"memory: at most {largest}, of {size_text(budget)}", file=sys.stderr)
    return replace(work, configs={name: plan.config for name, plan in plans.items()})


def _label_all(
    model: JointFormer, work: Work[J], todo: list[J], total: int, scale: Scale, progress: bool, stop: Stop
) -> dict[str, str]:
    """Label videos and return {video: error} of those that failed. total: with the finished ones."""
    failed: dict[str, str] = {}
    run = RunFolder(work.output, work.run)
    done, looked, stamp = total - len(todo), time.monotonic(), manifest_stamp(work.output)
    reset_peak_memory(model.device)
    with tqdm(total=sum(job.tracked_frames for job in todo), unit="frame", disable=not progress) as bar:
        bar.set_description(f"{done}/{total} videos")
        with closing(_outcomes(model, work, todo, scale, bar.update, stop)) as outcomes:
            for outcome in outcomes:
                done += 1
                if outcome.error:
                    failed[outcome.video] = outcome.error
                    run.write_record(outcome.video, {"state": "failed", "error": outcome.error})
                bar.set_description(f"{done}/{total} videos, {outcome.video} ended")
                if time.monotonic() - looked > _SAVE_EVERY:
                    if stamp == manifest_stamp(work.output):  # of hundreds of parts one writes: the others would wait
                        fold(work.output, work.run)
                    looked, stamp = time.monotonic(), manifest_stamp(work.output)
    return failed


def _outcomes(
    model: JointFormer, work: Work[J], jobs: list[J], scale: Scale, on_frames: OnFrames, stop: Stop
) -> Generator[Outcome, None, None]:
    """Return the outcomes of the videos, made by whom `scale` says."""
    threads = torch.get_num_threads()
    if not scale.others:
        torch.set_num_threads(scale.threads or threads)
        try:
            yield from label_here(model, work, jobs, on_frames=on_frames, stop=stop)
        finally:
            torch.set_num_threads(threads)
        return
    pool: Pool
    if scale.ray is not None:
        from jointformer.evaluation.scale.ray_actors import RayPool

        kind = scale.kind(model.device)
        pool = RayPool(scale.ray, pack_model(model), work, device=kind, threads=scale.threads or 1)
        count = scale.workers or pool.room
    else:
        count = scale.others
        given = threads if "OMP_NUM_THREADS" in os.environ else max(1, processors() // count)
        pool = ProcessPool(pack_model(model), work, list(scale.devices) or [str(model.device)], scale.threads or given)
    yield from hand_out(pool, count, jobs, on_frames=on_frames, stop=stop)
