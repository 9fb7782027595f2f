"""One run in parts that know nothing of each other: which videos are whose, and the whole put together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointformer.data.benchmark_rows import BENCHMARKS
from jointformer.data.writer import SCORES, is_finished, make_zip
from jointformer.errors import ConfigError, DataError
from jointformer.evaluate.scale.claims import RunFolder, clean_up
from jointformer.evaluate.scale.label import J
from jointformer.evaluate.scale.manifest import MANIFEST, TRACK, Manifest, check_settings, read_manifest
from jointformer.ops.files import is_temporary, remove


@dataclass(frozen=True)
class Shard:
    """Part `number` of `count`, numbered from 1."""

    number: int
    count: int

    def __post_init__(self) -> None:
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
        loads = [(0, part) for part in range(1, self.count + 1)]
        mine: set[str] = set()
        for video in sorted(videos, key=lambda v: (-v.tracked_frames, v.name)):
            frames, part = heapq.heappop(loads)
            heapq.heappush(loads, (frames + video.tracked_frames, part))
            if part == self.number:
                mine.add(video.name)
        return [video for video in videos if video.name in mine]


def join_run(output: Path, data: dict[str, Any], wanted: Sequence[str], dataset_videos: int) -> None:
    """Enter videos into the manifest of an output folder, made where there is none; half-written files go.

    data: the settings as the manifest holds them. dataset_videos: how many videos the whole dataset has.

    Raises ConfigError where the folder holds results of other settings, DataError for a damaged manifest.
    """
    with RunFolder(output).manifest_lock():
        manifest = read_manifest(output) or Manifest(data)
        check_settings(output, manifest.settings, data)
        manifest.wanted.update(wanted)
        manifest.dataset_videos = dataset_videos
        manifest.save(output)
        clean_up(output)


def fold(output: Path) -> Manifest:
    """Return the manifest with all records taken up; written, and the records removed once nothing is left to do.

    Raises DataError for a folder without a manifest or with a damaged one.
    """
    run = RunFolder(output)
    with run.manifest_lock():
        manifest = read_manifest(output)
        if manifest is None:
            raise DataError("no run's manifest", where=output / MANIFEST, hint="name the --output folder of a run")
        folder = results_folder(output, manifest)
        for video, data in run.records().items():
            # A record comes just before its folder: a process may have died between the two.
            if data.get("state") != "finished" or is_finished(folder, video):
                try:
                    manifest.add(video, data)
                except (TypeError, ValueError):
                    continue
        for video in [name for name in manifest.videos if not is_finished(folder, name)]:
            del manifest.videos[video]
        manifest.save(output)
        if not manifest.wanted - manifest.videos.keys():
            _remove_half_written(output, folder)
            run.clear()
    return manifest


def _remove_half_written(output: Path, folder: Path) -> None:
    """Remove folders of videos that were cut off, other machines' too: all videos are finished, so nobody writes."""
    for root in (folder, output / SCORES):
        for path in root.glob(".*"):
            if is_temporary(path) and path.is_dir():
                remove(path)


def results_folder(output: Path, manifest: Manifest) -> Path:
    """Return the folder of the videos' folders. Raises DataError for a manifest of an unknown benchmark."""
    if manifest.settings.get("command") == TRACK:
        return output
    key = (str(manifest.settings.get("dataset")), str(manifest.settings.get("split")))
    if key not in BENCHMARKS:
        raise DataError("names no known benchmark", where=output / MANIFEST, got=" ".join(key))
    return output / BENCHMARKS[key].output_folder


def holes(output: Path, manifest: Manifest) -> list[str]:
    """Return the videos that are wanted and not finished, by name."""
    folder = results_folder(output, manifest)
    return sorted(name for name in manifest.wanted if not is_finished(folder, name))


def zip_if_finished(output: Path, manifest: Manifest) -> Path | None:
    """Return the submission server's zip, made once every video of the benchmark is finished; None before that."""
    settings = manifest.settings
    if settings.get("command") == TRACK:
        return None
    row = BENCHMARKS[str(settings["dataset"]), str(settings["split"])]
    if not row.zip_holds or len(manifest.wanted) < manifest.dataset_videos or holes(output, manifest):
        return None
    inside = "Annotations" if row.zip_holds == "Annotations" else ""
    path = output / f"{row.key}_{row.split}.zip"
    return make_zip(path, results_folder(output, manifest), sorted(manifest.wanted), inside=inside)


def merge(output: str | Path) -> tuple[Manifest, list[str]]:
    """Return a run's manifest and its holes, after run.json (and the zip, where nothing is missing) were written."""
    output = Path(output)
    if not output.is_dir():
        raise DataError("no such folder", where=output, expected="the --output folder of a run")
    manifest = fold(output)
    clean_up(output)
    zip_if_finished(output, manifest)
    return manifest, holes(output, manifest)
