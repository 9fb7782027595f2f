"""The heap keeps what every frame needs."""

from __future__ import annotations

import ctypes
import os
import platform
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, torch
from jointformer.ops.heap import keep_freed_memory

class Info(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in
                "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split()]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "kept":
    keep_freed_memory()
before = mallinfo().hblks
block = torch.empty(20 << 20, dtype=torch.uint8)
print(mallinfo().hblks - before)
"""


def mapped(how: str) -> int:
    """How many blocks of a large tensor's are mapped on their own, and so given back when it is freed."""
    unset = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    command = [sys.executable, "-c", PROGRAM, how]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120, env=unset)
    return int(done.stdout)


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" or not hasattr(ctypes.CDLL(None), "mallinfo2"),
    reason="other C libraries, and glibc before 2.33, cannot be asked",
)
def test_large_tensors_come_from_the_heap_and_stay_there() -> None:
    assert mapped("left") == 1
    assert mapped("kept") == 0
