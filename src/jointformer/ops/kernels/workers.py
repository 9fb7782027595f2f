"""As many threads as PyTorch uses, for compiled kernels.

These are the very threads that PyTorch's own operations use, where those are OpenMP's: such threads go on looking for
work for milliseconds after an operation, and others would have to share their cores. Work that needs the interpreter
(`share_out`) goes there, too.
"""

from __future__ import annotations

import ctypes
import functools
import itertools
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
        share_out(lambda worker, task: _ENTER(kernel)(shared), range(threads))


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


def share_out(work: Callable[[int, Task], None], tasks: Sequence[Task]) -> None:
    """Call work(worker, task) for every task, on as many threads as PyTorch uses; the caller's is one of them.

    worker: a number below that of threads, which no other thread has meanwhile. PyTorch's operations within `work`
    take one thread where there are several. Once all threads have left, what went wrong first is raised.
    """
    threads = min(torch.get_num_threads(), len(tasks))
    if threads <= 1:
        for task in tasks:
            work(0, task)
        return
    waiting = iter(tasks)  # a list's iterator hands every task out once, to whichever thread asks
    numbers = itertools.count()
    errors: list[BaseException] = []

    def work_off() -> Iterator[None]:
        try:
            yield
            worker = next(numbers)
            for task in waiting:
                work(worker, task)
        except BaseException as error:  # an interrupt, too
            errors.append(error)

    # Begun up to their `yield`, and gone on with from C: an interrupt that waits for the next line of Python comes
    # within their `try`. At a callback's own first line ctypes would print and forget it.
    parts = [work_off() for _ in range(threads)]
    for part in parts:
        next(part)
    work_on = functools.partial(next, map(next, iter(parts)))

    parallel = _openmp_parallel()
    if parallel is not None:
        entry = _ENTER(work_on)
        parallel(ctypes.cast(entry, ctypes.c_void_p), None, threads, 0)
    else:
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(1)  # what threads that begin now start with
            pool = _pool(os.getpid(), before - 1)
            futures = [pool.submit(_alone, work_on) for _ in range(threads - 1)]
            work_on(None)
            for future in futures:
                future.result()
        finally:
            torch.set_num_threads(before)
    if errors:
        try:
            raise errors[0]
        finally:
            errors.clear()  # else the error, whose traceback has this list, would keep every tensor for a while


def _alone(work: Callable[[None], None]) -> None:
    if torch.get_num_threads() != 1:  # of this thread
        torch.set_num_threads(1)
    work(None)


@functools.lru_cache(maxsize=1)
def _pool(process: int, threads: int) -> ThreadPoolExecutor:
    """This process's worker threads (a forked child has none of its parent's)."""
    return ThreadPoolExecutor(threads, thread_name_prefix="kernels")
