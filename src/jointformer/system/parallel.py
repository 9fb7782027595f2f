"""Work shared out to processes of this machine: they end when their parent says so, or with it, and not at Ctrl-C."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TypeVar

from jointformer.errors import ConfigError
from jointformer.system.quota import cpu_quota

Item = TypeVar("Item")
Result = TypeVar("Result")

#: Fewer files than this are not worth another process.
_FILES_PER_WORKER = 200
#: More processes than this one pool cannot wait for on Windows.
_MOST_ON_WINDOWS = 61


def parallel_map(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int, files: int
) -> Iterator[Result]:
    """The results in order, by as many of the `workers` processes as `files` files are worth.

    Raises what the function raised; ConfigError for too few workers, and where a worker is killed.
    """
    if workers < 1:
        raise ConfigError("too few processes", where="workers", expected="at least 1", got=workers)
    workers = min(workers, len(items), files // _FILES_PER_WORKER + 1)
    if sys.platform == "win32":
        workers = min(workers, _MOST_ON_WINDOWS)
    if workers <= 1:
        yield from map(function, items)
        return
    # "spawn" because the parent may have started threads, which a fork does not survive.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)
    try:
        with without_ctrl_c():
            results = pool.map(function, items)
        yield from results
    except BrokenProcessPool:
        raise ConfigError(
            "a worker process was ended from outside, most likely for want of memory",
            hint="run the same command again with fewer --workers",
        ) from None
    finally:
        pool.shutdown(cancel_futures=True)


def processors() -> int:
    """The number of processors this process may use: those it may run on, or fewer where its time is limited."""
    try:
        there = len(os.sched_getaffinity(0))
    except AttributeError:  # not on every system
        there = os.cpu_count() or 1
    quota = cpu_quota()
    return there if quota is None else min(there, quota)


@contextmanager
def without_ctrl_c() -> Iterator[None]:
    """A block in which processes are born deaf to Ctrl-C, which a terminal sends to everybody; ours waits so long."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # started later, it would open our ears again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Let a worker end with its parent and be quiet: one OpenCV thread (the others have theirs), and no Ctrl-C where it
    was born with ears."""
    threading.Thread(target=_end_with_parent, name="end with parent", daemon=True).start()
    import cv2  # only here: to count processors takes no library of pictures

    cv2.setNumThreads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _end_with_parent() -> None:
    """End this worker when its parent is gone: the pool's queues, whose ends all workers hold, never tell it."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
