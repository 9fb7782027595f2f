"""This process's memory: how much it is, and what the C library's heap keeps of what is freed."""

from __future__ import annotations

import ctypes
import functools
import platform
import sys
from pathlib import Path

#: glibc learns from what is freed: from then on blocks up to this size come from its heap, and up to twice as much
#: stays there unused. It learns nothing from larger ones (DEFAULT_MMAP_THRESHOLD_MAX; less a page for its own notes).
LARGEST_LESSON = (32 << 20) - 8192

_WINDOWS = sys.platform == "win32"

# glibc's mallopt parameters (malloc.h).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4


@functools.cache
def keep_freed_memory() -> None:
    """Let glibc's heap keep up to 64 MiB of freed memory, once per process; elsewhere this does nothing.

    A step of a network takes and frees tens of megabytes in blocks of a few. Left alone, the heap is cut back whenever
    its end is free, and the next step has to fetch the same pages from the system, cleared anew: 6,000 page faults, 6 %
    of a step of `tiny` at 480×854. One block taken and freed, whose pages are never touched, teaches glibc that blocks
    of this size come and go. Settings of the user's own (`MALLOC_TRIM_THRESHOLD_`, `MALLOC_MMAP_THRESHOLD_`) hold.
    """
    if platform.libc_ver()[0] == "glibc":
        import torch  # only here: to ask how much memory there is takes no library

        block = torch.empty(LARGEST_LESSON, dtype=torch.uint8, device="cpu")
        del block


def keep_all_freed_memory() -> bool:
    """Let this process keep all memory that it ever took, and return whether the C library can (glibc only).

    For training: every large tensor would be mapped afresh and its pages cleared on first touch, some 30,000 page
    faults an iteration of the tiny network, a tenth of its time on a CPU.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    settings = ((M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1), (M_TOP_PAD, 64 << 20))
    return all(mallopt(name, value) == 1 for name, value in settings)


def give_back_freed_memory() -> None:
    """Give freed memory back to the system now (glibc only)."""
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def resident_size() -> int:
    """Return the bytes of memory that this process holds; on systems that do not tell, the most so far."""
    if _WINDOWS:
        return _counters().WorkingSetSize
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return largest_resident_size()
    import resource

    return pages * resource.getpagesize()


def largest_resident_size() -> int:
    """Return the most bytes of memory that this process has held."""
    if _WINDOWS:
        return _counters().PeakWorkingSetSize
    try:
        # What getrusage says is, on Linux, no less than what the process held that started this one.
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


class _Counters(ctypes.Structure):
    """Windows' PROCESS_MEMORY_COUNTERS."""

    _fields_ = [
        ("cb", ctypes.c_uint32),
        ("PageFaultCount", ctypes.c_uint32),
        ("PeakWorkingSetSize", ctypes.c_size_t),
        ("WorkingSetSize", ctypes.c_size_t),
        ("others", ctypes.c_size_t * 6),
    ]


def _counters() -> _Counters:
    """What Windows says of this process's memory; nothing there but 0 where it says nothing."""
    counters = _Counters(cb=ctypes.sizeof(_Counters))
    kernel = ctypes.WinDLL("kernel32")  # type: ignore[attr-defined]
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.cb)
    return counters
