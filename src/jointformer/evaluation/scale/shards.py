"""One run in parts that know nothing of each other: which videos are whose, and the whole put together."""

from __future__ import annotations

import heapq
import logging
import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jointformer.data.benchmark_rows import BENCHMARKS, Benchmark
from jointformer.data.frames import natural_key
from jointformer.data.writer import SCORES, is_finished, make_zip
from jointformer.errors import ConfigError, DataError, OutputError, require
from jointformer.evaluation.scale.claims import RunFolder, clean_up, look_anew
from jointformer.evaluation.scale.label import J, Job
from jointformer.evaluation.scale.manifest import (
    MANIFEST,
    TRACK,
    Manifest,
    check_input,
    check_settings,
    no_manifest,
    read_manifest,
    read_run_id,
)
from jointformer.system.files import count_files, is_temporary, remove

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, numbered from 1. Raises ConfigError."""

    number: int
    count: int

    def __post_init__(self) -> None:
        for value in (self.number, self.count):
            require("shard", value, int, "whole numbers, such as Shard(1, 4)")
        if not 1 <= self.number <= self.count:
            raise ConfigError("shard", expected="I/N with I from 1 to N", got=f"{self.number}/{self.count}")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Return the shard written as I/N. Raises ConfigError."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and len(text) < 20):
            raise ConfigError("shard", expected="I/N such as 1/4, counted from 1", got=repr(text[:40]))
        return cls(int(number), int(count))

    def of(self, videos: Sequence[J]) -> list[J]:
        """Return this part's videos, in their order; all parts together are all videos, about equally many frames.

        The same videos give the same parts on every machine: the longest goes to the part with the fewest frames.
        """
        loads = [(0, part) for part in range(1, min(self.count, len(videos)) + 1)]  # there is none for further parts
        mine: set[str] = set()
        for video in sorted(videos, key=lambda v: (-v.tracked_frames, v.name)):
            frames, part = heapq.heappop(loads)
            heapq.heappush(loads, (frames + video.tracked_frames, part))
            if part == self.number:
                mine.add(video.name)
        return [video for video in videos if video.name in mine]


def join_run(
    output: Path,
    data: dict[str, Any],
    jobs: Sequence[J],
    dataset_videos: int,
    overwritten: Iterable[Path] | None = None,
    *,
    weights_file: str = "",
) -> Manifest:
    """Enter videos into the manifest of an output folder and return it, with what is finished.

    Half-written files go, and so does a zip of earlier results where videos are missing.

    data: the settings as the manifest holds them. dataset_videos: how many videos the whole dataset has. overwritten:
    the results that go first (see `_clear`); None: the run that is there goes on. weights_file: what a manifest that is
    begun says about it.

    Raises ConfigError where the folder holds results of other settings, of another input or of unknown origin, or where
    what would be overwritten is in work; DataError for a damaged manifest, or lost files of videos that stay;
    OutputError where what would be overwritten cannot be removed, or a video's folder cannot be put where it belongs.
    """
    run = RunFolder(output)
    if overwritten is None:
        _look_at_inputs(output, data, jobs)
    with run.manifest_lock():
        if overwritten is not None:
            _clear(run, data, {job.name for job in jobs}, overwritten)
        found = read_manifest(output)
        manifest = found or Manifest(data, run=secrets.token_hex(8), weights_file=weights_file)
        check_settings(output, manifest.settings, data)
        if not manifest.run:
            raise ConfigError(
                "this folder holds a run of an earlier version, which noted too little to go on",
                where=output,
                hint="choose another --output, or --overwrite to start anew",
            )
        folder, archive = results_folder(output, manifest), _archive(output, manifest)
        look_anew(folder)
        there = {job.name for job in jobs if is_finished(folder, job.name)}  # first: their records are older
        run.take_up(manifest, folder)
        unknown = sorted(there - manifest.videos.keys(), key=natural_key)
        if found is None and archive is not None and archive.exists():
            unknown.append(archive.name)
        _refuse_unknown(output, unknown)
        _refuse_in_the_way(folder, [job.name for job in jobs if job.name not in there])
        check_inputs(output, manifest, jobs)
        manifest.wanted.update(job.name for job in jobs)
        manifest.dataset_videos = dataset_videos
        manifest.save(output)
        _remove_old_zip(archive, manifest)
        clean_up(output)
    return manifest


def _look_at_inputs(output: Path, data: dict[str, Any], jobs: Iterable[Job]) -> None:
    """Take the fingerprints of finished videos, which jobs keep, before others have to wait for the manifest.

    Thousands of files may take minutes on a network mount; others wait one minute for the lock.
    """
    found = read_manifest(output)
    if found is None:
        return
    check_settings(output, found.settings, data)
    folder = results_folder(output, found)
    for job in jobs:
        if is_finished(folder, job.name):
            _ = job.fingerprint


def _clear(run: RunFolder, data: dict[str, Any], chosen: set[str], results: Iterable[Path]) -> None:
    """Remove what is to be made anew and take it out of the manifest; nothing else is touched.

    chosen: the videos, which go alone, with the zip, where the run that is there has these settings. Else all `results`
    go with its manifest: a folder has one set of settings.
    """
    if run.in_use():
        raise ConfigError(
            "another run is at work in this folder", where=run.output, hint="stop it first, or choose another --output"
        )
    paths = list(results)
    rest = _rest(run, data, chosen, {path.name for path in paths})
    if rest is not None:
        row = _benchmark(run.output, rest)
        archive = row and zip_path(run.output, row)
        paths = [path for path in paths if path.name in chosen or path == archive]
    elif lost := {path.name for path in paths if is_finished(path.parent, path.name)}:
        logger.warning("%s: %d finished videos of other or unknown settings are removed", run.output, len(lost))
    if rest is not None and rest.wanted:  # first: what the manifest does not name is nobody's
        rest.save(run.output)
    else:
        paths.insert(0, run.output / MANIFEST)
    for path in paths:
        remove(path)
        if os.path.lexists(path):
            raise OutputError("cannot be removed", where=path, hint="see whose it is, or choose another --output")


def _rest(run: RunFolder, data: dict[str, Any], chosen: set[str], known: set[str]) -> Manifest | None:
    """Return the run that is there without the chosen videos and under a new id; None where it has other settings.

    known: of a benchmark the names of all results, as others are no longer its videos'.
    """
    try:
        found = read_manifest(run.output)
        if found is None or not found.run:
            return None
        check_settings(run.output, found.settings, data)
    except (ConfigError, DataError):
        return None
    folder = results_folder(run.output, found)
    run.take_up(found, folder)
    kept = found.wanted - chosen
    if found.settings.get("command") != TRACK:
        kept &= known
    rest = replace(
        found,
        run=secrets.token_hex(8),
        videos={name: record for name, record in found.videos.items() if name in kept},
        failed={name: error for name, error in found.failed.items() if name in kept},
        wanted=kept,
    )
    check_files(folder, rest)  # where it cannot go on, nothing is removed
    return rest


def _refuse_unknown(output: Path, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise ConfigError(
            "holds results that no run of JointFormer has recorded",
            where=output,
            got=f"{', '.join(names[:3])}{more}",
            hint="choose another --output, or --overwrite to replace them",
        )


def _refuse_in_the_way(folder: Path, names: Iterable[str]) -> None:
    """Raise OutputError for the first of these videos whose folder could not get its name in `folder`."""
    for name in names:  # in this order: another process may just have finished it
        if os.path.lexists(folder / name) and not is_finished(folder, name):
            raise OutputError(
                "cannot be written: a file or a link to nothing is in the way",
                where=folder / name,
                hint="remove it, choose another --output, or --overwrite to replace it",
            )


def check_inputs(output: Path, manifest: Manifest, jobs: Iterable[J]) -> None:
    """Raise ConfigError for the first finished video that was made of other frames or masks than its job names."""
    for job in jobs:
        record = manifest.videos.get(job.name)
        if record is not None:
            check_input(output, job.name, record.input, job.fingerprint)


def check_files(folder: Path, manifest: Manifest) -> None:
    """Raise DataError where finished videos have fewer files in `folder` than they were given."""
    lost = []
    for name in sorted(manifest.videos, key=natural_key):
        there, given = count_files(folder / name), manifest.videos[name].files
        if there < given:
            lost.append(f"{name} {there} of {given}")
    if lost:
        more = f" and {len(lost) - 3} more" if len(lost) > 3 else ""
        raise DataError(
            f"files of {len(lost)} finished videos are gone",
            where=folder,
            got=f"{', '.join(lost[:3])}{more}",
            hint="put them back, or remove these videos' folders and run the same command to make them anew",
        )


def fold(output: Path, run: str | None = None) -> Manifest:
    """Return the manifest with all records taken up; written, and the records removed once nothing is left to do.

    run: the id of the run that asks; None: whichever has the folder. Raises OutputError where another run has it by
    now, DataError for a folder without a manifest or with a damaged one.
    """
    claims = RunFolder(output, run)
    with claims.manifest_lock():
        manifest = claims.manifest()
        folder, archive = results_folder(output, manifest), _archive(output, manifest)
        claims.take_up(manifest, folder)
        manifest.save(output)
        _remove_old_zip(archive, manifest)
        if not manifest.holes:
            _remove_half_written(output, folder)
            claims.clear()
    return manifest


def _remove_old_zip(archive: Path | None, manifest: Manifest) -> None:
    """Remove the zip where none would be made: it is of an earlier time, and would be taken for this run's."""
    if archive is not None and not manifest.fills_a_zip:
        remove(archive)


def _remove_half_written(output: Path, folder: Path) -> None:
    """Remove folders of videos that were cut off, other machines' too: all videos are finished, so nobody writes."""
    for root in (folder, output / SCORES):
        for path in root.glob(".*"):
            if is_temporary(path) and path.is_dir():
                remove(path)


def results_folder(output: Path, manifest: Manifest) -> Path:
    """Return the folder of the videos' folders. Raises DataError for a manifest of an unknown benchmark."""
    row = _benchmark(output, manifest)
    return output if row is None else output / row.output_folder


def zip_path(output: Path, row: Benchmark) -> Path | None:
    """Return where the zip for a benchmark's submission server is made; None where no server wants masks."""
    return output / f"{row.key}_{row.split}.zip" if row.zips_masks else None


def zip_if_finished(output: Path, manifest: Manifest) -> Path | None:
    """Return the submission server's zip, made once every video of the benchmark is finished and whole; else None."""
    row, path = _benchmark(output, manifest), _archive(output, manifest)
    if row is None or path is None or not manifest.fills_a_zip:
        return None
    return make_zip(path, results_folder(output, manifest), sorted(manifest.wanted), inside=row.zip_folder)


def lacking_for_zip(output: Path, manifest: Manifest) -> dict[str, int]:
    """Return how many masks a finished run's videos lack, where there is no zip for that reason alone; else nothing."""
    return manifest.lacking if manifest.is_whole and _archive(output, manifest) is not None else {}


def _archive(output: Path, manifest: Manifest) -> Path | None:
    row = _benchmark(output, manifest)
    if row is None or not row.zips_run(bool(manifest.settings.get("save_all"))):
        return None
    return zip_path(output, row)


def _benchmark(output: Path, manifest: Manifest) -> Benchmark | None:
    """Return the benchmark of a run, None where the videos are anybody's. Raises DataError for an unknown one."""
    if manifest.settings.get("command") == TRACK:
        return None
    key = (str(manifest.settings.get("dataset")), str(manifest.settings.get("split")))
    if key not in BENCHMARKS:
        raise DataError("names no known benchmark", where=output / MANIFEST, got=" ".join(key))
    return BENCHMARKS[key]


def merge(output: str | Path) -> tuple[Manifest, list[str]]:
    """Return a run's manifest and its holes, after run.json (and the zip, where nothing is missing) were written."""
    output = Path(output)
    if not output.is_dir():
        raise DataError("no such folder", where=output, expected="the --output folder of a run")
    if read_run_id(output) is None:  # whatever folder it is, no lock is to be put there
        raise no_manifest(output)
    manifest = fold(output)
    clean_up(output)
    check_files(results_folder(output, manifest), manifest)
    zip_if_finished(output, manifest)
    return manifest, manifest.holes
