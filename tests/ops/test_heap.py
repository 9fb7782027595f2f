"""The heap keeps what every frame needs."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from jointformer.ops.heap import keep_freed_memory

def step():
    blocks = [torch.ones(3 << 20, dtype=torch.uint8) for _ in range(8)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

torch.set_num_threads(1)
if sys.argv[1] == "kept":
    keep_freed_memory()
counts = [step() for _ in range(14)]
print((counts[-1] - counts[3]) // 10)
"""


def faults(how: str) -> int:
    """Page faults of a step that takes and frees 24 MB, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True, timeout=120)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries learn nothing")
def test_a_second_step_needs_no_new_pages() -> None:
    left = faults("left")
    assert left > 1000  # else this test tests nothing
    assert faults("kept") < left / 20
