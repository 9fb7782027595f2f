"""A Ray cluster of two nodes on this machine: deaths survived, the same bytes."""

from __future__ import annotations

import json
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from jointformer.evaluation.scale.claims import RunFolder
from scale.scale_helpers import Runs, leftovers, make_videos
from watched import ENV, finished, kill_a_worker, masks, stamps, two_nodes, wait_for


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_and_a_node_may_die_and_the_masks_are_those_of_one_process(mini_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[scale]'")
    runs = Runs(make_videos(tmp_path / "tree", [40, 60, 30, 50, 200, 45, 200, 35]), mini_weights)
    assert runs.here(tmp_path / "whole", "--threads", "1") == 0
    output = tmp_path / "out"
    with two_nodes(tmp_path / "cluster.log") as cluster:
        start = time.monotonic()
        # One video is ours until the node is gone, so the run cannot be over before, however slow we are.
        with ExitStack() as held, subprocess.Popen(
            runs.command(output, "--ray", cluster.address, "--threads", "1", "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
        ) as process:  # fmt: skip
            assert held.enter_context(RunFolder(output).claim("v2"))
            assert kill_a_worker(output, process) is not None
            wait_for(lambda: len(finished(output)) >= 2, process)
            before = stamps(output)
            cluster.remove_second()
            held.close()
            figures, text = process.communicate(timeout=1000)
        print(f"{time.monotonic() - start:.1f} s from start to end")
    assert process.returncode == 0, text
    assert masks(output) == masks(tmp_path / "whole")
    assert before.items() <= stamps(output).items(), "nothing is computed twice"
    assert leftovers(output) == []
    manifest = json.loads((output / "run.json").read_text())
    assert json.loads(figures)["videos"] == manifest["videos"], "Ray's own words are not among the figures"
    assert {video["state"] for video in manifest["videos"].values()} == {"finished"}


def test_a_cluster_that_does_not_answer_is_one_line(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[scale]'")
    code, text = runs.run(tmp_path / "out", "--ray", "nonsense://nowhere:1")
    assert code == 2
    assert "no Ray cluster answers" in text
    assert text.count("\n") == 1
