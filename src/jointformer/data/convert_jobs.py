"""Conversions of many videos: by several processes, resumed after a break, each folder whole or not there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from operator import methodcaller
from pathlib import Path
from typing import Protocol

from tqdm import tqdm

from jointformer.errors import DataError
from jointformer.system.files import remove_temporaries
from jointformer.system.parallel import parallel_map


class Job(Protocol):
    """One video's conversion; small enough to send to another process."""

    @property
    def target(self) -> Path:
        """The folder that is there when the job is finished."""

    @property
    def files(self) -> int:
        """About how many files it handles."""

    def run(self) -> None:
        """Writes `target`, whole or not at all. Raises UserError."""


@dataclass(frozen=True)
class Converted:
    """How many videos were converted now, and how many were there from before."""

    done: int
    kept: int


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, progress: bool = False) -> Converted:
    """Runs the jobs whose folders are not there yet, and returns how many those were.

    The first failure stops the rest; what is finished stays, and the next call goes on from there. Raises what
    the job raised, ConfigError for too few workers, DataError for two jobs with one folder.
    """
    times = Counter(job.target for job in jobs)
    for target in times:
        if times[target] > 1:
            raise DataError("two videos would be written to one folder", where=target)
    for folder in {target.parent for target in times}:
        remove_temporaries(folder)
    todo = [job for job in jobs if not job.target.is_dir()]
    results = parallel_map(methodcaller("run"), todo, workers=workers, files=sum(job.files for job in todo))
    bar = tqdm(results, total=len(jobs), initial=len(jobs) - len(todo), unit="video", disable=not progress)
    for _ in bar:
        pass
    return Converted(len(todo), len(jobs) - len(todo))
