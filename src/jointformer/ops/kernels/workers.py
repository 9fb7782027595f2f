"""As many threads as PyTorch uses, for compiled kernels.

Kernels that need no interpreter run on the very threads that PyTorch's own operations use, where these are OpenMP's:
such threads go on looking for work for milliseconds after an operation, and others would have to share their cores.
"""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import torch

Task = TypeVar("Task")


def run_team(kernel: int, shared: int, threads: int) -> None:
    """Enter the machine code at `kernel`, a void (*)(int64_t *), once on each of so many threads.

    All of them get the address `shared` of what they share, and find there what each has to do. Fewer threads than
    asked for may come. Returns when all have left.
    """
    parallel = _openmp_parallel() if threads > 1 else None
    if threads <= 1:
        _ENTER(kernel)(shared)
    elif parallel is not None:
        parallel(kernel, shared, threads, 0)
    else:
        share_out(lambda _: _ENTER(kernel)(shared), range(threads))


#: Makes a Python function of a kernel's address; the interpreter is let go while it runs.
_ENTER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@functools.cache
def _openmp_parallel() -> Any:
    """The OpenMP library's own way to enter a function on several threads, or None where PyTorch brings none.

    GCC's library and LLVM's both have it. PyTorch loads its one for the whole process to see.
    """
    if not torch.backends.openmp.is_available():
        return None
    try:
        parallel = ctypes.CDLL(None).GOMP_parallel
    except (OSError, AttributeError, TypeError):
        return None
    parallel.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint, ctypes.c_uint)
    parallel.restype = None
    return parallel


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
