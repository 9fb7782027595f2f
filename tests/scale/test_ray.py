"""A Ray cluster of two nodes on this machine: deaths survived, the same bytes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack

import pytest
from scale_helpers import ENV, Runs, label_pids, leftovers, make_videos, masks

from jointformer.errors import ConfigError
from jointformer.evaluate.scale.claims import RunFolder

#: Runs in a process of its own: Ray's threads and warnings stay out of the tests'.
CLUSTER = """
import sys, time
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "object_store_memory": 100 * 2**20})
second = cluster.add_node(num_cpus=1, object_store_memory=100 * 2**20)
print(cluster.address, flush=True)
for line in sys.stdin:
    if line.strip() == "remove":
        cluster.remove_node(second, allow_graceful=False)
        print("removed", flush=True)
    else:
        break
cluster.shutdown()
"""


def wait_for(condition, process: subprocess.Popen[str]) -> None:
    """Wait until a condition holds, or a run is over."""
    while not condition() and process.poll() is None:
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_worker_and_a_node_may_die_and_the_masks_are_those_of_one_process(mini_weights, tmp_path):
    pytest.importorskip("ray", reason="needs Ray: pip install 'jointformer[scale]'")
    runs = Runs(make_videos(tmp_path / "tree", [40, 60, 30, 50, 200, 45, 200, 35]), mini_weights)
    assert runs.here(tmp_path / "whole", "--threads", "1") == 0
    output = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", CLUSTER],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=ENV,
    ) as cluster:  # fmt: skip
        assert cluster.stdin is not None and cluster.stdout is not None  # noqa: PT018
        address = cluster.stdout.readline().strip()
        assert address, "the cluster did not start"
        start = time.monotonic()
        # One video is ours until the node is gone, so the run cannot be over before, however slow we are.
        with ExitStack() as held, subprocess.Popen(
            runs.command(output, "--ray", address, "--threads", "1", "--json"),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENV,
        ) as process:  # fmt: skip
            assert held.enter_context(RunFolder(output).claim("v2"))
            wait_for(lambda: label_pids(output), process)
            os.kill(label_pids(output)[0], signal.SIGKILL)
            wait_for(lambda: len(list(output.glob("v*"))) >= 2, process)
            stamps = {path: path.stat().st_mtime_ns for path in output.glob("v*/*.png")}
            cluster.stdin.write("remove\n")
            cluster.stdin.flush()
            assert cluster.stdout.readline().strip() == "removed"
            held.close()
            figures, text = process.communicate(timeout=1000)
        print(f"{time.monotonic() - start:.1f} s from start to end")
        cluster.stdin.write("end\n")
        cluster.stdin.close()
    assert process.returncode == 0, text
    assert masks(output) == masks(tmp_path / "whole")
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items()), "nothing is computed twice"
    assert leftovers(output) == []
    manifest = json.loads((output / "run.json").read_text())
    assert json.loads(figures)["videos"] == manifest["videos"], "Ray's own words are not among the figures"
    assert {video["state"] for video in manifest["videos"].values()} == {"finished"}


def test_a_cluster_that_does_not_answer_is_one_line(runs, tmp_path, capsys):
    pytest.importorskip("ray", reason="needs Ray: pip install 'jointformer[scale]'")
    code, text = runs.run(tmp_path / "out", "--ray", "nonsense://nowhere:1")
    assert code == 2
    assert "no Ray cluster answers" in text
    assert text.count("\n") == 1


def test_without_ray_the_extra_is_named(monkeypatch):
    from jointformer.evaluate.scale import ray_actors

    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ConfigError, match=r"pip install 'jointformer\[scale\]'"):
        ray_actors._connect("auto")
