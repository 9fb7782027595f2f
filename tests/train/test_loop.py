from __future__ import annotations

import copy
import errno
import io
import json
import math
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.multiprocessing.spawn import start_processes
from train_helpers import (
    ALONE,
    FixedPlanner,
    Missing,
    MovingSquares,
    batch_of,
    losses,
    rank_environment,
    small_network,
    small_run,
    small_trainer,
    work_of_rank,
    work_of_second,
)

from jointformer.errors import ConfigError, DataError, OutputError
from jointformer.train import state as checkpoint
from jointformer.train.config import RunConfig
from jointformer.train.loop import Trainer
from jointformer.train.optimiser import OptimiserConfig
from jointformer.train.progress import Progress


class Killed(Exception):
    """Stands for a process that ends without a word."""


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, (list, tuple)):
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    else:
        assert one == other


def comparable(trainer: Trainer) -> dict[str, Any]:
    state = trainer.state()
    return {key: state[key] for key in state if key not in ("seconds", "random")}


def test_a_run_that_was_cut_off_and_went_on_ends_bit_equal(tmp_path: Path) -> None:
    whole = small_trainer(tmp_path / "whole")
    whole.train()

    def die(trainer: Trainer) -> None:
        if trainer.iteration == 4:
            raise Killed

    cut = small_trainer(tmp_path / "cut")
    cut.on_save = die
    with pytest.raises(Killed):
        cut.train()
    cut.loader.close()
    resumed = small_trainer(tmp_path / "cut")
    resumed.load_state(checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path / "cut")[-1]))
    assert resumed.iteration == 4
    assert resumed.train()
    assert_same(comparable(whole), comparable(resumed))


def test_resuming_continues_every_random_sequence(tmp_path: Path) -> None:
    def draws() -> tuple[float, float, float]:
        return random.random(), np.random.random(), torch.rand(()).item()  # noqa: NPY002 - libraries draw from it

    trainer = small_trainer(tmp_path)
    state = trainer.state()
    drawn = draws()
    trainer.load_state(state)
    trainer.loader.close()
    assert draws() == drawn


def test_resuming_continues_the_sequence_of_clips(tmp_path: Path) -> None:
    first = small_trainer(tmp_path, iterations=6, save_every=3, ahead=1)
    first.on_save = lambda trainer: setattr(trainer, "_stop", True)
    assert not first.train()
    second = small_trainer(tmp_path, iterations=6)
    second.load_state(checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path)[-1]))
    second.train()
    asked = second.loader.source.asked  # type: ignore[union-attr]
    assert asked == list(range(6, 12))


@pytest.mark.parametrize(("iterations", "clips"), [(6, range(8, 14)), (5, range(8, 11)), (4, range(0)), (2, range(0))])
def test_a_run_goes_on_with_another_batch_and_another_length(tmp_path: Path, iterations: int, clips: range) -> None:
    first = small_trainer(tmp_path, iterations=6, save_every=4)
    first.on_save = lambda trainer: setattr(trainer, "_stop", True)
    assert not first.train()
    assert [plan.iteration for plan in first.loader.pending] == [4]
    second = small_trainer(tmp_path, iterations=iterations, batch=3)
    second.load_state(checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path)[-1]))
    assert second.train()
    assert second.iteration == max(4, iterations)
    assert second.loader.source.asked == list(clips)  # type: ignore[union-attr]


@pytest.mark.slow
def test_a_killed_process_leaves_a_checkpoint_that_ends_bit_equal(tmp_path: Path) -> None:
    whole = small_trainer(tmp_path / "whole", iterations=40, save_every=10)
    whole.train()
    # It waits at its second checkpoint, so that it cannot end before the signal comes, however slow we are.
    script = (
        "import sys, time, torch; sys.path.insert(0, sys.argv[2]); torch.set_num_threads(1)\n"
        "from pathlib import Path; from train_helpers import small_trainer\n"
        "trainer = small_trainer(Path(sys.argv[1]), iterations=40, save_every=10)\n"
        "trainer.on_save = lambda trainer: trainer.iteration >= 20 and time.sleep(600)\n"
        "trainer.train()"
    )
    folder = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", script, str(folder), str(Path(__file__).parent)])
    while not checkpoint.checkpoints(folder):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    resumed = small_trainer(folder, iterations=40, save_every=10)
    resumed.load_state(checkpoint.load_checkpoint(checkpoint.checkpoints(folder)[-1]))
    assert resumed.iteration < 40
    resumed.train()
    assert_same(whole.model.state_dict(), resumed.model.state_dict())


@pytest.mark.usefixtures("heard_hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_with_a_checkpoint_however_often_it_comes(tmp_path: Path, number: int) -> None:
    before = signal.getsignal(number)
    trainer = small_trainer(tmp_path, iterations=1000, save_every=1000)

    def hit(*args: Any) -> None:
        for _ in range(2):
            os.kill(os.getpid(), number)

    trainer.on_report = hit
    assert not trainer.train()
    assert checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path)[-1])["iteration"] == trainer.iteration == 2
    assert signal.getsignal(number) is before


def test_a_run_goes_on_where_nobody_sees_it_any_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "a closed terminal")

    monkeypatch.setattr(sys, "stderr", Closed())
    assert small_trainer(tmp_path).train()
    monkeypatch.undo()
    assert [json.loads(line)["iteration"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [2, 4, 6]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes saw in `work_of_rank`; the first is this one, which has its libraries already."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    second = start_processes(work_of_second, (port, str(folder)), join=False, start_method="spawn")
    try:
        with pytest.MonkeyPatch.context() as patch:
            for name, value in rank_environment(0, port).items():
                patch.setenv(name, value)
            work_of_rank(folder / "0")
        while not second.join():
            pass
    finally:
        for process in second.processes:
            process.kill()
    return [torch.load(folder / str(rank) / "seen.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("frames", [2, 3])
def test_two_processes_have_the_loss_curve_of_one_with_the_doubled_batch(
    tmp_path: Path, two_processes: list[dict[str, Any]], frames: int
) -> None:
    one = losses(tmp_path, ALONE, frames)
    assert one == pytest.approx(two_processes[0]["losses"][frames], rel=2e-5)
    assert one[0] != pytest.approx(one[-1], rel=1e-3)


def test_the_progress_line_counts_the_skipped_clips_of_all_processes(two_processes: list[dict[str, Any]]) -> None:
    assert two_processes[0]["skipped"] == 3


def test_a_signal_that_reaches_any_process_ends_the_run_of_all(two_processes: list[dict[str, Any]]) -> None:
    first, second = (seen["stopped"] for seen in two_processes)
    assert first == second
    (finished, iteration), end = first
    assert not finished
    assert iteration < 9
    assert end == (False, 2)


def test_processes_that_see_different_folders_go_on_from_what_the_first_one_sees(
    two_processes: list[dict[str, Any]],
) -> None:
    first, second = two_processes
    assert_same(first["resumed"], second["resumed"])
    assert not torch.equal(first["begun"]["decoder.pred.bias"], first["resumed"]["decoder.pred.bias"])
    assert_same(first["resumed"], first["finished"])
    assert_same(first["finished"], second["finished"])
    assert first["refused"] == second["refused"]
    assert "holds a run already" in first["refused"]


def test_only_the_last_checkpoints_are_kept_and_a_torn_one_is_named(tmp_path: Path) -> None:
    small_trainer(tmp_path, keep=2).train()
    kept = checkpoint.checkpoints(tmp_path)
    assert [path.name for path in kept] == ["checkpoint_00000004.pt", "checkpoint_00000006.pt"]
    kept[-1].write_bytes(kept[-1].read_bytes()[:1000])
    with pytest.raises(DataError, match=r"checkpoint_00000006\.pt: not a readable checkpoint"):
        checkpoint.load_checkpoint(kept[-1])
    with pytest.raises(DataError, match="no such checkpoint"):
        checkpoint.load_checkpoint(tmp_path / "checkpoint_00000099.pt")


def test_a_checkpoint_just_written_is_never_the_one_removed(tmp_path: Path) -> None:
    for iteration in (3, 4, 5, 1, 2):
        assert checkpoint.save_checkpoint(tmp_path, iteration, {}, 1).is_file()
    assert [path.name for path in checkpoint.checkpoints(tmp_path)] == [
        "checkpoint_00000002.pt",
        "checkpoint_00000005.pt",
    ]


def test_a_run_killed_before_its_last_export_exports_when_it_goes_on(tmp_path: Path) -> None:
    def die(trainer: Trainer) -> None:
        raise Killed

    cut = small_trainer(tmp_path, save_every=100)
    cut.on_save = die
    with pytest.raises(Killed):
        cut.train()
    cut.loader.close()
    exported: list[int] = []
    resumed = small_trainer(tmp_path)
    resumed.on_save = lambda trainer: exported.append(trainer.iteration)
    resumed.load_state(checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path)[-1]))
    assert resumed.train()
    assert exported == [6]


def test_a_clip_that_cannot_be_made_loses_no_iteration(tmp_path: Path) -> None:
    def trainer(name: str, source: MovingSquares) -> Trainer:
        made = small_trainer(tmp_path / name, save_every=100, refuse_broken=True)
        made.loader.source = source
        return made

    whole, broken = trainer("whole", MovingSquares()), trainer("cut", Missing(6))  # of the fourth iteration
    whole.train()
    with pytest.raises(DataError, match="no files of clip 6"):
        broken.train()
    resumed = trainer("cut", MovingSquares())
    resumed.load_state(checkpoint.load_checkpoint(tmp_path / "cut/checkpoint_00000003.pt"))
    resumed.train()
    assert_same(comparable(whole), comparable(resumed))
    with pytest.raises(DataError, match="no files of clip 0"):
        trainer("first", Missing(0)).train()
    assert checkpoint.checkpoints(tmp_path / "first") == []  # nothing was learnt: another try is no resume


def test_an_iteration_is_saved_once(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, iterations=4, save_every=3)
    saved: list[int] = []
    trainer.on_save = lambda trainer: saved.append(trainer.iteration)
    trainer.on_report = lambda trainer, _: trainer.save_alone()
    trainer.train()
    assert saved == [2, 3, 4]


def test_a_run_goes_on_with_loss_scaling_that_had_none(tmp_path: Path) -> None:
    one, other = small_trainer(tmp_path), small_trainer(tmp_path, precision="autocast-float16")
    scale = other.scaler.get_scale()
    other.load_state(one.state())
    assert other.scaler.get_scale() == scale
    one.load_state(other.state())


def test_the_log_is_json_where_a_gradient_overflows(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "log.jsonl", io.StringIO())
    progress.add(2, {"loss": 1.5, "grad": float("inf")})
    assert progress.report(1, 0.1, 0.0, {})["grad"] == float("inf")
    line = json.loads((tmp_path / "log.jsonl").read_text(), parse_constant=pytest.fail)
    assert (line["loss"], line["grad"]) == (1.5, None)


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path: Path) -> None:
    one = small_trainer(tmp_path)
    other = small_trainer(tmp_path, optimiser=OptimiserConfig(muon=True, decay_all=False))
    with pytest.raises(ConfigError, match=r"^the checkpoint of iteration 0: is of another kind of run"):
        one.load_state(other.state())


def test_the_log_has_speed_loss_and_waiting_time(tmp_path: Path) -> None:
    small_trainer(tmp_path, iterations=5).train()
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [(line["iteration"], line["clips"], line["fraction"]) for line in lines] == [
        (2, 4, 0.4), (4, 8, 0.8), (5, 10, 1.0)
    ]  # fmt: skip
    assert all(line["clips_per_s"] > 0 and 0 <= line["waiting"] <= 1 and line["loss"] > 0 for line in lines)


@pytest.mark.parametrize(("mean", "times"), [(False, 3), (True, 1)])
def test_the_loss_is_the_frames_sum_as_published_or_their_mean(tmp_path: Path, mean: bool, times: int) -> None:
    trainer = small_trainer(tmp_path, frames=4, mean_over_frames=mean)
    assert not RunConfig(iterations=1).mean_over_frames
    trainer.loader.ask(FixedPlanner(frames=4).plan(0, 0.0, 0))
    figures = trainer.step(*trainer.loader.next())
    trainer.loader.close()
    assert figures["loss"] == pytest.approx(times * (figures["ce"] + figures["dice"]), rel=1e-5)


@pytest.mark.usefixtures("small_disk")
def test_a_checkpoint_that_the_disk_does_not_take_is_one_line_and_leaves_nothing(tmp_path: Path) -> None:
    path = re.escape(str(tmp_path / "checkpoint_00000002.pt"))
    with pytest.raises(OutputError, match=f"^{path}: cannot be written: the file is too large"):
        small_trainer(tmp_path).train()
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
def test_a_log_that_the_disk_does_not_take_is_one_line(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.symlink_to("/dev/full")
    with pytest.raises(OutputError, match=f"^{re.escape(str(log))}: cannot be written: the disk is full"):
        small_trainer(tmp_path, log_every=1).train()


def test_a_timed_run_ends_when_its_minutes_are_over(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path, iterations=None, minutes=0.02, save_every=1000)
    assert trainer.train()
    assert 1 < trainer.seconds < 10


@pytest.mark.parametrize("precision", ["float32", "autocast-float16"])
@pytest.mark.parametrize("muon", [False, True])
def test_a_gradient_that_is_not_finite_changes_no_weight_and_many_end_the_run(
    tmp_path: Path, precision: str, muon: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.train.loop.NOT_FINITE", 3)
    trainer = small_trainer(tmp_path, precision=precision, optimiser=OptimiserConfig(muon=muon))
    assert trainer.average is not None
    before = copy.deepcopy((trainer.model.state_dict(), trainer.average.average))
    plan = FixedPlanner().plan(0, 0.0, 0)
    trainer.loader.ask(plan)
    plan, batch = trainer.loader.next()
    trainer.loader.close()
    for parameter in trainer.model.parameters():
        parameter.register_hook(lambda grad: grad * float("inf"))
    for _ in range(2):
        trainer.step(plan, batch)
    assert_same(before, (trainer.model.state_dict(), trainer.average.average))
    with pytest.raises(DataError, match="no finite gradient in 3 iterations"):
        trainer.step(plan, batch)


def test_gradients_that_are_not_finite_end_the_run_only_in_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.train.loop.NOT_FINITE", 3)
    trainer = small_trainer(tmp_path)
    norms = (math.inf, math.nan, 1.0) * 3
    assert [trainer._finite(torch.tensor(norm)) for norm in norms] == [False, False, True] * 3


@pytest.mark.slow
def test_one_clip_is_learnt_by_heart(tmp_path: Path) -> None:
    class OneClip(MovingSquares):
        def sample(self, index: int, plan: Any) -> Any:
            return super().sample(7, plan)

    config = small_run(
        iterations=250, optimiser=OptimiserConfig(lr=3e-3, backbone_scale=1.0, clip=1.0), log_every=50, save_every=1000
    )
    trainer = Trainer(small_network(), OneClip(), FixedPlanner(1, frames=3, size=64), config, ALONE, tmp_path)
    best: list[float] = []
    trainer.on_report = lambda _, figures: best.append(figures["iou"])
    trainer.train()
    assert max(best) > 0.95


def test_a_run_needs_exactly_one_budget() -> None:
    with pytest.raises(ConfigError, match="one budget"):
        RunConfig()
    with pytest.raises(ConfigError, match="one budget"):
        RunConfig(iterations=1, minutes=1)
    with pytest.raises(ConfigError, match="keep"):
        RunConfig(iterations=1, keep=0)


def test_clips_skipped_before_a_run_was_stopped_are_counted_when_it_goes_on(tmp_path: Path) -> None:
    begun = small_trainer(tmp_path, iterations=2)
    begun.loader.source = Missing(0, 1, 5)  # 5 is prepared ahead for the iteration that is not reached
    begun.train()
    state = checkpoint.load_checkpoint(checkpoint.checkpoints(tmp_path)[-1])
    going_on = small_trainer(tmp_path, iterations=4)
    going_on.loader.source = Missing(0, 1, 5)
    going_on.load_state(state)
    going_on.train()
    assert (begun.skipped, going_on.skipped) == (2, 3)
    assert json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])["skipped"] == 3


def test_the_iou_of_a_progress_line_is_that_of_the_iterations_with_an_object_to_find(tmp_path: Path) -> None:
    progress = Progress(tmp_path / "log.jsonl")
    progress.add(1, {"loss": 1.0, "iou": 0.8})
    progress.add(1, {"loss": 2.0})
    figures = progress.report(2, 0.5, 0.0, {})
    assert (figures["loss"], figures["iou"]) == (1.5, 0.8)
    progress.add(1, {"loss": 3.0})
    assert "iou" not in progress.report(3, 0.6, 0.0, {})


def test_an_iteration_whose_last_frames_are_empty_has_no_iou(tmp_path: Path) -> None:
    trainer = small_trainer(tmp_path)
    plan, batch = FixedPlanner().plan(0, 0.0, 0), batch_of(0, 1)
    assert 0 <= trainer.step(plan, batch)["iou"] <= 1
    batch.label_maps[:, -1] = 0
    assert "iou" not in trainer.step(plan, batch)
    trainer.loader.close()
