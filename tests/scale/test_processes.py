"""Several processes on one machine: the same bytes, deaths survived, failures named."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import time
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from jointformer.data.benchmarks import open_benchmark
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.label import longest_first, pack_model, unpack_model
from jointformer.evaluation.scale.manifest import weights_hash
from scale.scale_helpers import Runs, leftovers
from watched import kill_a_worker, masks


def test_two_processes_give_the_bytes_of_one(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert runs.here(tmp_path / "out", "--workers", "2", "--threads", "1") == 0
    assert capfd.readouterr().err.count("\n") == 1
    assert masks(tmp_path / "out") == undisturbed
    assert leftovers(tmp_path / "out") == []
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert {name: v["state"] for name, v in manifest["videos"].items()} == {f"v{k}": "finished" for k in range(6)}
    assert manifest["frames"] == 49
    assert all(v["threads"] == 1 and v["seconds"] > 0 for v in manifest["videos"].values())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_worker_is_replaced_and_its_video_given_to_another(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    output = tmp_path / "out"
    with ExitStack() as held:
        # The last video is ours until the worker is dead, so the run cannot be over before, however slow we are.
        assert held.enter_context(RunFolder(output).claim("v2"))
        with runs.start(output, "--workers", "2", "--threads", "1") as process:
            killed = kill_a_worker(output, process)
            held.close()
            _, text = process.communicate(timeout=800)
    assert process.returncode == 0, text
    assert killed not in (None, process.pid)
    assert masks(output) == undisturbed
    assert leftovers(output) == []


def test_a_video_that_fails_is_named_and_the_others_are_finished(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.tree, tmp_path / "tree")
    broken = tmp_path / "tree" / "JPEGImages" / "v3" / "00004.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    damaged = Runs(tmp_path / "tree", runs.weights)
    assert damaged.here(tmp_path / "out", "--threads", "1") == 1
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 2
    assert lines[1].startswith("not finished: v3: ")
    assert "00004.jpg" in lines[1]
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["videos"]["v3"]["state"] == "failed"
    assert masks(tmp_path / "out") == {k: v for k, v in undisturbed.items() if not k.startswith("v3/")}
    assert damaged.here(tmp_path / "out", "--on-bad-frame", "hold", "--threads", "1") == 0
    held = masks(tmp_path / "out")
    assert held.keys() == undisturbed.keys()
    assert held["v3/00004.png"] == held["v3/00003.png"] == undisturbed["v3/00003.png"]
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    assert manifest["videos"]["v3"]["bad_frames"] == 1
    assert leftovers(tmp_path / "out") == []


def test_a_skipped_frame_has_no_file_and_the_run_says_so(
    runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(runs.tree, tmp_path / "tree")
    (tmp_path / "tree" / "JPEGImages" / "v3" / "00004.jpg").write_bytes(b"")
    damaged = Runs(tmp_path / "tree", runs.weights)
    assert damaged.here(tmp_path / "out", "--on-bad-frame", "skip", "--videos", "v3") == 0
    assert [p.stem for p in sorted((tmp_path / "out" / "v3").iterdir())] == [f"{k:05d}" for k in range(9) if k != 4]
    assert capsys.readouterr().err.strip().endswith(", 1 frames could not be read (see run.json)")
    assert damaged.here(tmp_path / "out", "--merge", str(tmp_path / "out")) == 0
    assert "1 of 1 videos are finished, 1 frames could not be read (see run.json)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_video_that_another_process_labels_is_waited_for(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path
) -> None:
    run = RunFolder(tmp_path / "out")
    with run.claim("v1") as mine:
        assert mine
        process = runs.start(tmp_path / "out", "--threads", "1")
        while len(list((tmp_path / "out").glob("v*"))) < 5 and process.poll() is None:
            time.sleep(0.05)
        time.sleep(0.5)
        assert process.poll() is None, "it waits"
        assert not (tmp_path / "out" / "v1").exists()
    with process:
        process.communicate(timeout=800)
    assert process.returncode == 0
    assert masks(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_runs_in_one_folder_share_the_work(runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path) -> None:
    both = [runs.start(tmp_path / "out", "--threads", "1") for _ in range(2)]
    for process in both:
        with process:
            _, text = process.communicate(timeout=800)
        assert process.returncode == 0, text
    assert masks(tmp_path / "out") == undisturbed
    assert leftovers(tmp_path / "out") == []


def test_a_network_survives_the_way_to_another_process_to_the_bit(mini_weights: Path) -> None:
    from jointformer.model.weights import load_model

    for precision in ("float32", "bfloat16"):
        model = load_model(mini_weights, device="cpu", precision=precision)
        copy = unpack_model(pack_model(model))
        assert weights_hash(copy) == weights_hash(model)
        assert (copy.dtype, copy.training) == (model.dtype, False)
        assert not any(p.requires_grad or p.is_meta for p in copy.parameters())
        assert isinstance(copy.state_dict()["convmae.cls_token"], torch.Tensor)


def test_the_longest_video_comes_first(runs: Runs) -> None:
    videos = open_benchmark("G", "val", "..", generic_path=runs.tree).videos
    assert [video.name for video in longest_first(videos)] == ["v1", "v5", "v3", "v4", "v0", "v2"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--workers", "0"), "workers, expected 1 to 1024, got 0"),
        (("--threads", "-2"), "threads, expected 1 to 1024, got -2"),
        (("--shard", "5/4"), "shard, expected I/N with I from 1 to N, got 5/4"),
        (("--shard", "a"), "shard, expected I/N such as 1/4"),
        (("--shard", "1/2", "--overwrite"), "overwrite does not go with shard; empty the output folder"),
        (("--devices", "cpu,tpu"), "device, expected auto, cpu"),
        (("--on-bad-frame", "pray"), "on_bad_frame, expected one of stop, skip, hold, got 'pray'"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    flags: tuple[str, ...], message: str, runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.here(tmp_path / "out", *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_worker_that_cannot_take_the_network_says_why_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    from jointformer.evaluation.scale import processes

    ours, theirs = multiprocessing.Pipe()
    ours.send(b"no network")
    before, threads = signal.getsignal(signal.SIGINT), torch.get_num_threads()
    try:
        processes._serve(theirs, cast(Any, None), "cpu", 1)
    finally:
        signal.signal(signal.SIGINT, before)
        torch.set_num_threads(threads)
    theirs.close()
    pool = processes.ProcessPool(b"", cast(Any, None), ["cpu"], 1)
    ended = cast(Any, SimpleNamespace(join=lambda seconds: None, exitcode=0))
    pool._workers[0] = processes._Worker(ended, cast(Any, ours))
    heard = [message for _ in range(3) for message in pool.wait(0)]
    assert [(message.worker, message.kind) for message in heard] == [(0, "died")]
    assert "Error" in heard[0].value
    assert capfd.readouterr().err == ""
