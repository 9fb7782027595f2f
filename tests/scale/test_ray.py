"""A Ray cluster of two nodes on this machine: deaths survived, the same bytes."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from jointformer.errors import ConfigError
from jointformer.evaluation.scale import ray_actors
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.ray_actors import RayPool
from jointformer.evaluation.scale.schedule import Message
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


@pytest.mark.slow  # not long, but where Ray is at hand in CI
def test_a_cluster_that_does_not_answer_is_one_line(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray", reason="needs Ray: pip install '.[scale]'")
    code, text = runs.run(tmp_path / "out", "--ray", "nonsense://nowhere:1")
    assert code == 2
    assert "no Ray cluster answers" in text
    assert text.count("\n") == 1


class ActorDiedError(Exception):
    """What Ray raises, as far as the pool looks at it."""


class PretendingRay:
    """A cluster of one processor whose actors answer what the test says."""

    def __init__(self, answer: Any = None) -> None:
        self.answer = answer
        self.connected = True
        self.exceptions = SimpleNamespace(RayError=ActorDiedError)

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 1.0}

    def remote(self, *_: Any, **__: Any) -> Any:
        method = SimpleNamespace(remote=object)
        return lambda *_: SimpleNamespace(remote=lambda *_: SimpleNamespace(ready=method, label=method, frames=method))

    def put(self, value: Any) -> Any:
        return value

    def wait(self, answers: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return answers, []

    def get(self, _: Any) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def kill(self, _: Any) -> None:
        pass

    def shutdown(self) -> None:
        self.connected = False


def messages_of(answer: Any, monkeypatch: pytest.MonkeyPatch) -> list[Message]:
    """Return what a pool of one actor says when the actor has answered, after which it is asked for nothing."""
    monkeypatch.setattr(ray_actors, "_connect", lambda address: PretendingRay(answer))
    work: Any = None
    pool = RayPool("auto", b"", work, device="cpu", threads=1)
    try:
        pool.start()
        said = pool.wait(0.05)
        begun = time.monotonic()
        assert pool.wait(0.05) == []
        assert time.monotonic() - begun >= 0.04, "who asks again at once keeps a processor busy for nothing"
    finally:
        pool.stop()
    return said


def test_actors_that_are_idle_are_waited_for_and_not_asked_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    assert messages_of(None, monkeypatch) == [Message(0, "ready")]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "The actor died because of an error raised in its creation task, \x1b[36mray::Labeller.__init__()\x1b[39m\n"
            '  File "ray_actors.py", line 35, in __init__\ntorch.OutOfMemoryError: CUDA out of memory\n\n',
            "torch.OutOfMemoryError: CUDA out of memory",
        ),
        (
            "The actor died unexpectedly before finishing this task.\n\tclass_name: Labeller\n"
            f"The actor is dead because its node has died. {'x' * 300}",
            "The actor died unexpectedly before finishing this task. … "
            f"The actor is dead because its node has died. {'x' * 155}",
        ),
        ("\n The actor is gone. \n", "The actor is gone."),
        ("", "no reason given"),
    ],
    ids=["its beginning failed", "its node is gone", "one line", "nothing"],
)
def test_the_reason_of_an_actors_death_is_what_ray_says_of_it(
    text: str, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert messages_of(ActorDiedError(text), monkeypatch) == [Message(0, "died", f"the Ray actor died: {reason}")]


def test_a_cluster_without_room_is_left_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = PretendingRay()
    monkeypatch.setattr(ray_actors, "_connect", lambda address: ray)
    with pytest.raises(ConfigError, match=r"the Ray cluster has no room for a worker, expected 2 CPU, got 1$"):
        RayPool("auto", b"", cast(Any, None), device="cpu", threads=2)
    assert not ray.connected, "the next run of this process could not connect"


def test_a_process_that_is_connected_already_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = SimpleNamespace(is_initialized=lambda: True, exceptions=SimpleNamespace())
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    said = r"--ray auto: this process is connected to a Ray cluster already; call ray\.shutdown\(\) first$"
    with pytest.raises(ConfigError, match=said):
        RayPool("auto", b"", cast(Any, None), device="cpu", threads=1)
