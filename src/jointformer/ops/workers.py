"""Threads of this process for compiled kernels that let go of the interpreter: as many as PyTorch uses."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Task = TypeVar("Task")


def share_out(work: Callable[[Task], None], tasks: Sequence[Task]) -> None:
    """Call work(task) for every task, on as many threads as PyTorch uses; the caller's is one of them."""
    threads = min(torch.get_num_threads(), len(tasks))
    waiting = iter(tasks)
    if threads <= 1:
        _work_off(work, waiting)
        return
    pool = _pool(os.getpid(), torch.get_num_threads() - 1)
    futures = [pool.submit(_work_off, work, waiting) for _ in range(threads - 1)]
    try:
        _work_off(work, waiting)
    finally:
        for future in futures:
            future.result()


def _work_off(work: Callable[[Task], None], tasks: Iterator[Task]) -> None:
    for task in tasks:  # a list's iterator hands every task out once, to whichever thread asks
        work(task)


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """This process's worker threads (a forked child has none of its parent's)."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
