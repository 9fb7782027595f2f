"""A folder of results -> the archive a submission server takes, after everything in it was checked."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jointformer.data.benchmark_rows import BENCHMARKS, Benchmark
from jointformer.data.benchmarks import Dataset
from jointformer.data.convert_visor import read_mapping, visor_content
from jointformer.data.frames import natural_key
from jointformer.data.masks import encode_mask
from jointformer.data.published import published_on
from jointformer.data.sources import VideoSource
from jointformer.data.writer import SCORES, zip_entry
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_check import Problems
from jointformer.evaluation.score_sources import MaskTree, open_masks
from jointformer.ops.label_maps import object_ids
from jointformer.ops.png import GREY, STRETCHED
from jointformer.system.files import atomic_write
from jointformer.system.parallel import parallel_map
from jointformer.types import pixels_text


@dataclass
class Submission:
    """What a benchmark's rules say to results: `problems` nobody can mend but their maker, `mended` by packing.

    `files` counts the masks that the server wants.
    """

    dataset: Dataset
    masks: MaskTree
    files: int
    problems: Problems = field(default_factory=Problems)
    mended: Problems = field(default_factory=Problems)

    @property
    def server(self) -> str | None:
        """Where the archive goes, or the benchmark's page, which leads there; None where only a toolkit scores it."""
        row = self.dataset.benchmark
        published = published_on(row.key, row.split)
        place = row.server or (published[0].scored_by if published else row.download)
        return None if place.startswith("https://github.com/") else place

    @property
    def uploadable(self) -> bool:
        """Whether it can be packed, or uploaded as it is where it is a zip already."""
        return not self.problems.files and not (self.masks.archive and self.mended.files)

    def lines(self) -> list[str]:
        """The findings, one line each."""
        packing = "packing mends" if self.masks.archive is None else "packing anew mends"
        return [*self.problems.lines(), *(f"{packing} {line}" for line in self.mended.lines())]


def submitted_benchmarks() -> list[tuple[str, str]]:
    """The (key, split) of all benchmarks for which an archive is made."""
    return [name for name, row in BENCHMARKS.items() if row.zip_holds]


def refuse_without_server(row: Benchmark) -> None:
    """Raise ConfigError for a benchmark for which no archive is made."""
    if (row.key, row.split) not in submitted_benchmarks():
        raise ConfigError(
            f"{row.name} has no submission server",
            expected=", ".join(f"{key} {split}" for key, split in submitted_benchmarks()),
            hint="its truth is public: `jointformer score`",
        )


def check_submission(
    dataset: Dataset, predictions: str | Path, *, workers: int = 1, progress: bool = False
) -> Submission:
    """What is wrong with a folder or zip of results for the benchmark's server; every mask is read.

    Asked for are all videos, every frame that the benchmark scores (also before an object's first mask), the
    frames' size, labels that the given masks name, palette PNGs, and names for all objects where the server takes
    polygons (VISOR's). Raises ConfigError for benchmarks without a server, DataError where no results are found at
    all, and for polygons where there is no file of names, or a zip of masks to make them from.
    """
    row = dataset.benchmark
    refuse_without_server(row)
    masks = open_masks(Path(predictions), [video.name for video in dataset.videos])
    names = None
    if row.mapping is not None:
        if masks.archive is not None:
            what = f"{row.key}'s polygons are made from a folder of masks"
            raise DataError(what, where=predictions, hint="unpack it first")
        names = read_mapping(dataset.root / row.mapping)
    submission = Submission(dataset, masks, sum(len(video.frames_to_save) for video in dataset.videos))
    there = set(masks.videos())
    for video in dataset.videos:
        if video.name not in there:
            submission.problems.add("videos missing", video.name)
    for name in sorted(there - {video.name for video in dataset.videos} - {SCORES}, key=natural_key):
        if not name.startswith("."):  # a run keeps its own records in such a folder
            submission.mended.add("videos that are not asked for, left out", name)
    if masks.archive and masks.folder != row.zip_folder:
        wanted = f"{row.zip_folder}/" if row.zip_folder else "the root"
        submission.mended.add(f"video folders that do not lie in {wanted}", f"{masks.folder or '.'}/")
    jobs = []
    for video in (video for video in dataset.videos if video.name in there):
        named = None if names is None else names.get(video.name)
        if names is not None and named is None:
            submission.problems.add("videos that are not in the mapping", video.name)
        jobs.append(_VideoJob(video, masks.only(video.name), None if named is None else frozenset(named)))
    results = parallel_map(_check_video, jobs, workers=workers, files=submission.files)
    for problems, mended in tqdm(results, total=len(jobs), unit="video", disable=not progress):
        submission.problems.extend(problems)
        submission.mended.extend(mended)
    return submission


def pack_submission(submission: Submission, target: str | Path, *, workers: int = 1) -> Path:
    """Writes the archive of checked results and returns its path; the same masks give the same bytes.

    Frames before the first given mask become empty masks where they are missing, grey masks get the palette;
    what is not asked for is left out. Raises DataError where the check found problems, OutputError.
    """
    target = Path(target)
    submission.problems.stop(str(submission.masks.archive or submission.masks.folder), "nothing was packed")
    if submission.dataset.benchmark.mapping is not None:
        return _pack_polygons(submission, target, workers)
    folder = submission.dataset.benchmark.zip_folder
    with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for video in sorted(submission.dataset.videos, key=lambda video: natural_key(video.name)):
            present = submission.masks.frames(video.name)
            for index in sorted(video.frames_to_save):
                name = f"{video.name}/{video.frame_names[index]}.png"
                content = _content(submission.masks, video, video.frame_names[index], present)
                archive.writestr(zip_entry(f"{folder}/{name}" if folder else name), content)
    return target


@dataclass(frozen=True)
class _VideoJob:
    """named: the labels that have a name; None where none is asked for."""

    video: VideoSource
    masks: MaskTree
    named: frozenset[str] | None


def _check_video(job: _VideoJob) -> tuple[Problems, Problems]:
    """(problems, what packing mends) of one video's masks."""
    problems, mended = Problems(), Problems()
    video, present = job.video, job.masks.frames(job.video.name)
    allowed = {i for index in video.masks for i in object_ids(video.read_mask(index))}
    wanted = [video.frame_names[index] for index in sorted(video.frames_to_save)]
    for index in sorted(video.frames_to_save):
        frame = video.frame_names[index]
        if frame in present:
            _check_mask(job, frame, allowed, problems, mended)
        elif index < video.first_mask:
            mended.add("missing frames before the first given mask, packed as empty masks", f"{video.name}/{frame}.png")
        else:
            problems.add("masks missing", f"{video.name}/{frame}.png")
    for frame in sorted(present.difference(wanted), key=natural_key):
        mended.add("frames that are not asked for, left out", f"{video.name}/{frame}.png")
    return problems, mended


def _check_mask(job: _VideoJob, frame: str, allowed: set[int], problems: Problems, mended: Problems) -> None:
    video, file = job.video, f"{job.video.name}/{frame}.png"
    try:
        header = job.masks.header(video.name, frame)
        if not header.is_index:
            problems.add(f"masks {header.fault}", f"{file} ({header.kind})")
            return
        if header.size != video.output_size:
            sizes = f"{pixels_text(header.size)}, the frame {pixels_text(video.output_size)}"
            problems.add("masks of another size", f"{file} ({sizes})")
            return
        labels = set(object_ids(job.masks.read(video.name, frame)))
    except DataError as error:
        problems.add("masks that cannot be read", f"{file} ({error.what})")
        return
    foreign = labels - allowed
    if foreign:
        problems.add("masks with labels that no given mask names", f"{file} ({_listed(foreign)})")
        if header.is_stretched:
            problems.add(STRETCHED, file)
    unnamed = set() if job.named is None else {label for label in labels & allowed if str(label) not in job.named}
    if unnamed:
        problems.add("masks with labels that are not in the mapping", f"{file} ({_listed(unnamed)})")
    if header.colour_type == GREY:
        mended.add("grey masks, packed with the palette", file)


def _listed(labels: set[int]) -> str:
    return ", ".join(map(str, sorted(labels)))


def _content(masks: MaskTree, video: VideoSource, frame: str, present: frozenset[str]) -> bytes:
    """The bytes of one mask as the server gets it. present: the frames that have one."""
    if frame not in present:
        return encode_mask(np.zeros(video.output_size, np.uint8), video.palette)
    if masks.header(video.name, frame).colour_type == GREY:
        return encode_mask(masks.read(video.name, frame), video.palette)
    return masks.read_bytes(video.name, frame)


def _pack_polygons(submission: Submission, target: Path, workers: int) -> Path:
    """VISOR's server takes val.json alone."""
    row = submission.dataset.benchmark
    names = read_mapping(submission.dataset.root / str(row.mapping))
    frames = {
        video.name: {video.frame_names[index] for index in video.frames_to_save} for video in submission.dataset.videos
    }
    content, _ = visor_content(Path(submission.masks.folder), names, frames=frames, workers=workers)
    with atomic_write(target) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        entry = zip_entry(row.zip_holds)
        entry.compress_type = zipfile.ZIP_DEFLATED
        archive.writestr(entry, json.dumps(content))
    return target
