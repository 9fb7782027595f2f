"""Runs over videos in processes of their own, watched from outside; and a Ray cluster that can lose a node.

For benchmarks/ray_davis.py and tests/scale, which begin runs each in their own way.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Environment of the processes: one thread each, as their masks are compared to the byte.
ENV = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive", "CUDA_VISIBLE_DEVICES": ""}

#: In a process of its own: Ray's threads and warnings stay there. The cluster ends with standard input.
_CLUSTER = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 200 * 2**20})
second = cluster.add_node(num_cpus=1, object_store_memory=200 * 2**20)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(second, allow_graceful=False)
    print("removed", flush=True)
cluster.shutdown()
"""


@dataclass(frozen=True)
class TwoNodes:
    """A Ray cluster of two nodes on this machine, with room for one worker of one thread on each."""

    address: str
    _orders: IO[str]
    _answers: IO[str]

    def remove_second(self) -> None:
        """Take the second node away, with whatever works there; returns when it is gone."""
        self._orders.write("remove\n")
        self._orders.flush()
        if self._answers.readline().strip() != "removed":
            raise RuntimeError("the node was not removed")


@contextmanager
def two_nodes(log: Path) -> Iterator[TwoNodes]:
    """A cluster while the block runs. log: a file for what it says. Raises RuntimeError where it does not start."""
    command = [sys.executable, "-W", "ignore", "-c", _CLUSTER]
    with log.open("w") as errors, subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=ENV
    ) as process:  # fmt: skip
        assert process.stdin is not None and process.stdout is not None  # noqa: PT018
        address = process.stdout.readline().strip()
        if not address:
            raise RuntimeError(f"the cluster did not start: {log.read_text()[-2000:]}")
        yield TwoNodes(address, process.stdin, process.stdout)


def label_pids(output: Path) -> list[int]:
    """Return the processes that have a video in work in an output folder."""
    return [int(path.name.split("-")[2]) for path in output.glob(".jointformer-*") if path.is_dir()]


def finished(output: Path) -> list[str]:
    """Return the finished videos of an output folder."""
    return [path.name for path in output.glob("[!.]*") if path.is_dir()]


def wait_for(condition: Callable[[], object], run: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, or a run is over."""
    while not condition() and run.poll() is None:
        time.sleep(0.02)


def kill_a_worker(output: Path, run: subprocess.Popen[str]) -> int | None:
    """Kill a process that has a video in work, as soon as there is one; None where the run was over before."""
    while run.poll() is None:
        for pid in label_pids(output):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                return pid
        time.sleep(0.005)
    return None


def masks(output: Path) -> dict[str, bytes]:
    """Return every mask's bytes by its path."""
    return {str(path.relative_to(output)): path.read_bytes() for path in sorted(output.rglob("*.png"))}


def stamps(output: Path) -> dict[Path, int]:
    """Return when each mask of the finished videos was written, in nanoseconds."""
    return {path: path.stat().st_mtime_ns for path in output.glob("[!.]*/*.png")}
