"""SIGKILL at random instants: what is finished stays, nothing half-written is taken for a result."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from scale.scale_helpers import Runs, leftovers, make_videos
from watched import masks

#: Rounds of the kill test; each costs about one start of Python and PyTorch.
KILLS = int(os.environ.get("JOINTFORMER_KILLS", "25"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_runs_killed_at_random_end_with_the_bytes_of_an_undisturbed_one(mini_weights: Path, tmp_path: Path) -> None:
    lengths = [3 + 5 * k % 11 for k in range(3 * KILLS)]
    runs = Runs(make_videos(tmp_path / "tree", lengths), mini_weights)
    output, chance = tmp_path / "out", random.Random(7)
    finished_before: dict[str, bytes] = {}
    for _ in range(KILLS):
        # A process forked from this one starts at once and dies the same death.
        pid = os.fork()
        if pid == 0:
            os._exit(runs.here(output, "--threads", "1"))
        if chance.random() < 0.8:  # the others die while they start
            wait_for_a_video(output, pid)
        time.sleep(chance.uniform(0.0, 0.3))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        now = masks_of_finished(output)
        assert finished_before.items() <= now.items(), "finished videos are left alone"
        finished_before = now
    open_videos = len(lengths) - len({name.partition("/")[0] for name in finished_before})
    assert runs.here(output, "--threads", "1") == 0
    assert leftovers(output) == []
    whole = tmp_path / "whole"
    assert runs.here(whole, "--threads", "1") == 0
    assert masks(output) == masks(whole)
    assert open_videos < len(lengths), "the runs that were killed got somewhere"
    print(f"{KILLS} kills, {open_videos} of {len(lengths)} videos left for the last run")


def wait_for_a_video(output: Path, pid: int) -> None:
    """Wait until a run has begun a video."""
    end = time.monotonic() + 120
    while not any(f"-{pid}-" in path.name for path in output.glob(".jointformer-*")) and time.monotonic() < end:
        time.sleep(0.002)


def masks_of_finished(output: Path) -> dict[str, bytes]:
    """Return the masks of finished videos."""
    return {name: data for name, data in masks(output).items() if not name.startswith(".")} if output.exists() else {}
