"""What the heap keeps of freed memory, and how much memory a process says it holds."""

from __future__ import annotations

import ctypes
import functools
import mmap
import os
import platform
import subprocess
import sys
from typing import Any

import pytest

from jointformer.system import heap
from jointformer.system.heap import largest_resident_size, resident_size

PROGRAM = """
import ctypes, os, sys, torch
from jointformer.system import heap

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
for call in ["", *sys.argv[1:]]:
    if os.fork() == 0:  # what was asked of a heap cannot be taken back
        assert not call or getattr(heap, call)() in (None, True)
        before = mallinfo().hblks
        block = torch.empty(20 << 20, dtype=torch.uint8)
        print(mallinfo().hblks - before, flush=True)
        os._exit(0)
    assert os.wait()[1] == 0
"""


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="other C libraries, and glibc before 2.33, cannot be asked",
)
def test_large_tensors_come_from_the_heap_and_stay_there() -> None:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, "keep_freed_memory", "keep_all_freed_memory"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=unset)
    assert done.returncode == 0, done.stderr
    # How many blocks of a large tensor's are mapped on their own, and so given back when it is freed.
    assert done.stdout.split() == ["1", "0", "0"]


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux tells")
def test_the_peak_is_this_processs_own_not_that_of_the_one_that_started_it() -> None:
    program = "from jointformer.system.heap import largest_resident_size; print(largest_resident_size())"

    def peak() -> int:
        done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=120)
        return int(done.stdout)

    # Far more than the other process takes, whatever this one has loaded.
    size = resident_size() + (100 << 20)
    # Not from the heap, which keeps what is freed once another test has set it so.
    with mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE):
        assert peak() < size < resident_size() <= largest_resident_size()
    assert resident_size() < largest_resident_size()


def test_windows_which_has_no_resource_module_is_asked_by_its_own_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Kernel:
        def __init__(self) -> None:
            self.GetCurrentProcess = functools.partial(lambda: 2**64 - 1)  # takes a restype

        def K32GetProcessMemoryInfo(self, process: ctypes.c_void_p, where: Any, size: int) -> int:
            assert process.value == 2**64 - 1
            assert size == ctypes.sizeof(where._obj) == 72  # as windows.h has it
            where._obj.WorkingSetSize, where._obj.PeakWorkingSetSize = 5 << 30, 6 << 30
            return 1

    monkeypatch.setitem(sys.modules, "resource", None)
    monkeypatch.setattr(heap, "_WINDOWS", True)
    monkeypatch.setattr(ctypes, "WinDLL", lambda name: Kernel(), raising=False)
    assert (resident_size(), largest_resident_size()) == (5 << 30, 6 << 30)
