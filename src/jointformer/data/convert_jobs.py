"""Conversions of many videos: by several processes, resumed after a break, each folder whole or not there."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
from tqdm import tqdm

from jointformer.errors import ConfigError, DataError
from jointformer.ops.files import remove_temporaries

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Fewer files than this are not worth another process.
_FILES_PER_WORKER = 200


class Job(Protocol):
    """One video's conversion; small enough to send to another process."""

    @property
    def target(self) -> Path:
        """The folder that is there when the job is finished."""

    @property
    def files(self) -> int:
        """About how many files it handles."""

    def run(self) -> None:
        """Writes ``target``, whole or not at all. Raises UserError."""


@dataclass(frozen=True)
class Converted:
    """How many videos were converted now, and how many were there from before."""

    done: int
    kept: int


def run_jobs(jobs: Sequence[Job], *, workers: int = 1, progress: bool = False) -> Converted:
    """Runs the jobs whose folders are not there yet, and returns how many those were.

    The first failure stops the rest; what is finished stays, and the next call goes on from there. Raises what
    the job raised, ConfigError for too few workers.
    """
    twice = _first_repeated(str(job.target) for job in jobs)
    if twice is not None:
        raise DataError("two videos would be written to one folder", where=twice)
    for folder in {job.target.parent for job in jobs}:
        remove_temporaries(folder)
    todo = [job for job in jobs if not job.target.is_dir()]
    results = parallel_map(_run, todo, workers=workers, files=sum(job.files for job in todo))
    bar = tqdm(results, total=len(jobs), initial=len(jobs) - len(todo), unit="video", disable=not progress)
    for _ in bar:
        pass
    return Converted(len(todo), len(jobs) - len(todo))


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, files: int
) -> Iterator[Result]:
    """The results in order, by as many of the ``workers`` processes as ``files`` files are worth."""
    if workers < 1:
        raise ConfigError("too few processes", where="workers", expected="at least 1", got=workers)
    workers = min(workers, len(items), files // _FILES_PER_WORKER + 1)
    if workers <= 1:
        yield from map(function, items)
        return
    # "spawn" because the parent may have started threads, which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        yield from pool.map(function, items)
    except BrokenProcessPool:
        raise ConfigError(
            "a worker process was ended from outside, most likely for want of memory",
            hint="run the same command again with fewer --workers; what is finished stays",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """The number of processors this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        return os.cpu_count() or 1


def _run(job: Job) -> None:
    job.run()


def _begin() -> None:
    """Make a worker quiet: one thread (the others have theirs), and Ctrl-C is for the parent to handle."""
    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _first_repeated(names: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
