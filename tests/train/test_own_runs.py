"""Runs on one's own videos."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from train_helpers import ALONE, SHORT, small_network, write_video

from jointformer.cli.main import main as jointformer
from jointformer.cli.train import start_logging
from jointformer.errors import ConfigError
from jointformer.model.weights import load_model
from jointformer.train.distributed import Processes
from jointformer.train.runs import run_own
from jointformer.train.settings import Settings
from jointformer.train.stages import own_stage
from jointformer.train.state import checkpoints
from jointformer.train.validate import Validation, validate
from jointformer.train.watch import Watcher


def test_own_videos_train_from_given_weights_to_weights_that_load(
    tmp_path: Path,
    videos: Path,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "run"
    validated_with: list[list[str]] = []

    def looking(*args: Any) -> Validation:
        validated_with.append([path.name for path in checkpoints(out)])
        return validate(*args)

    monkeypatch.setattr("jointformer.train.watch.validate", looking)
    code = jointformer(
        ["train", "--data", str(videos), "--init", str(weights), "--out", str(out), "--iterations", "3", "--batch", "2",
         "--size", "32", "--frames", "3", "--tensorboard", "--validate", str(videos), "--validate-every", "2", *SHORT]
    )  # fmt: skip
    assert code == 0
    # At the interval and, with the weights that will be used, at the end.
    assert validated_with == [["checkpoint_00000002.pt"], ["checkpoint_00000002.pt", "checkpoint_00000003.pt"]]
    assert "clips/s" in capsys.readouterr().err
    assert json.loads((out / "finished.json").read_text())["iterations"] == 3
    noted = json.loads((out / "config.json").read_text())
    assert noted["stage"]["title"] == "own videos"
    wanted = {
        "data": str(videos),
        "init": str(weights),
        "validate_on": str(videos),
        "validate_every": 2,
        "processes": 1,
    }
    assert {name: noted["given"][name] for name in wanted} == wanted
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert any(0 <= entry["validation"]["j"] <= 100 for entry in entries if "validation" in entry)
    assert list((out / "board").glob("events.out.*"))
    trained, start = load_model(str(out / "weights.safetensors"), "cpu", "float32"), small_network()
    assert trained.config.widths == start.config.widths
    assert any(not torch.equal(a, b) for a, b in zip(trained.parameters(), start.parameters(), strict=True))


def test_a_run_ends_with_the_place_of_its_weights_or_with_how_to_go_on(
    tmp_path: Path, videos: Path, weights: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level("INFO")
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "2", "--iterations", "4", "--resume", *SHORT]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(Watcher, "__call__", lambda self, trainer, figures: trainer.end())
        assert jointformer(command) == 130
    assert re.search(r"stopped after iteration \d: --resume goes on from there$", caplog.text.strip())
    assert jointformer(command) == 0
    assert caplog.text.strip().endswith(f"finished: {tmp_path / 'run/weights.safetensors'}")


def test_what_all_processes_would_say_alike_the_first_one_says(monkeypatch: pytest.MonkeyPatch) -> None:
    levels: list[int] = []
    monkeypatch.setattr("logging.basicConfig", lambda **settings: levels.append(settings["level"]))
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        start_logging()
    monkeypatch.delenv("RANK")
    start_logging()
    assert levels == [logging.INFO, logging.WARNING, logging.INFO]


def test_problems_of_own_videos_are_said_and_end_the_run_where_it_is_strict(
    tmp_path: Path, videos: Path, weights: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    write_video(videos / "JPEGImages/short", videos / "Annotations/short", length=1)
    command = ["train", "--data", str(videos), "--init", str(weights), "--iterations", "1", "--batch", "1",
               "--size", "32", "--frames", "2", *SHORT, "--out"]  # fmt: skip
    assert jointformer([*command, str(tmp_path / "strict"), "--strict"]) == 2
    assert f"{videos}: 1 problems; they are listed above" in capsys.readouterr().err
    assert "short: too short" in caplog.text
    assert not (tmp_path / "strict").exists()
    assert jointformer([*command, str(tmp_path / "run")]) == 0


def test_a_network_with_random_weights_is_said_where_a_run_begins_with_it(
    tmp_path: Path, videos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.train.runs.build_network", lambda *_: small_network())
    monkeypatch.setattr("jointformer.train.runs.run", lambda *given: bool(given[4]()))  # looks at the data only
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun/checkpoint_00000001.pt").touch()
    stage = own_stage(iterations=2, batch=1, frames=2, objects=1, size=32, lr=1e-5, max_skip=10)
    for folder, model, init, hint in (
        ("new", "base", None, "give --init s02"),
        ("new", "tiny", None, "give --init tiny"),
        ("new", "tiny", "tiny", None),
        ("begun", "tiny", None, None),
    ):
        caplog.clear()
        assert run_own(Settings(tmp_path / folder, model, init, resume=True), ALONE, videos, stage)
        said = "no --init: a network with random weights is trained, which a few videos cannot teach; "
        assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == (
            [said + hint] if hint else []
        )


def test_a_run_that_goes_on_validates_at_its_intervals_and_ends_and_logs_the_learning_rate_it_was_given(
    tmp_path: Path, videos: Path, weights: Path
) -> None:
    log = tmp_path / "run/log.jsonl"
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "3", "--lr", "1e-4", "--validate", str(videos), "--validate-every", "4",
               "--resume", *SHORT]  # fmt: skip
    for iterations, validated in (("3", [3]), ("5", [3, 4, 5]), ("7", [3, 4, 5, 7]), ("8", [3, 4, 5, 7, 8])):
        assert jointformer([*command, "--iterations", iterations]) == 0
        entries = [json.loads(line) for line in log.read_text().splitlines()]
        assert [entry["iteration"] for entry in entries if "validation" in entry] == validated
    assert entries[0]["lr"] == pytest.approx(1e-4 / 3)  # the first of a warm-up over all 3


def test_what_a_killed_run_makes_anew_stands_in_the_log_once(tmp_path: Path, videos: Path, weights: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(out), "--batch", "1",
               "--size", "32", "--frames", "3", "--validate", str(videos), "--validate-every", "2",
               "--resume", *SHORT]  # fmt: skip
    assert jointformer([*command, "--iterations", "5"]) == 0
    for path in checkpoints(out)[-2:]:
        path.unlink()  # of iterations 4 and 5, as if it had been killed before
    with (out / "log.jsonl").open("a") as log:
        log.write('{"iteration": 6, "lo')
    assert jointformer([*command, "--iterations", "6"]) == 0
    entries = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [entry["iteration"] for entry in entries if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    assert [entry["iteration"] for entry in entries if "validation" in entry] == [2, 4, 6]


def test_a_folder_that_holds_a_run_is_not_overwritten(
    tmp_path: Path, videos: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"),
               "--iterations", "1",
               "--batch", "1", "--size", "32", "--frames", "2", *SHORT]  # fmt: skip
    assert jointformer(command) == 0
    assert jointformer(command) == 2
    assert "--resume" in capsys.readouterr().err
    assert jointformer([*command, "--resume"]) == 0


def test_a_batch_that_processes_cannot_share_leaves_a_finished_run_of_own_videos_as_it_was(
    tmp_path: Path, videos: Path
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run/finished.json").write_text('{"iterations": 1}')
    stage = own_stage(iterations=2, batch=4, frames=2, objects=1, size=32, lr=1e-5, max_skip=10)
    settings, processes = Settings(tmp_path / "run", resume=True), Processes(0, 3, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^own videos: batch: cannot be shared equally, expected a multiple of 3"):
        run_own(settings, processes, videos, stage)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["finished.json"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--seed", "-1"], "seed: out of range, expected 0 to 2^63 - 1, got -1"),
        (["--seed", str(1 << 70)], "seed: out of range"),
        (["--workers", "0"], "workers: must be positive, got 0"),
        (["--validate-every", "0"], "validate_every: must be positive, got 0"),
        (["--validate-size", "5"], "size, expected 16 to 8192 pixels"),
        (["--iterations", "0"], "own videos: iterations: must be positive, got 0"),
        (["--batch", "0"], "own videos: batch: must be positive, got 0"),
        (["--objects", "0"], "own videos: objects: must be positive, got 0"),
        (["--objects", "255"], "own videos: objects: too many, expected at most 254, got 255"),
        (["--precision", "fp8"], "precision: unknown, expected float32 | bfloat16 |"),
        (["--checkpointing", "--precision", "bfloat16"], "precision: does not go with activation checkpointing"),
        (["--init", "nothing"], "nothing: no such weights"),
        (["--validate", "nowhere"], "nowhere: not in the expected layout"),
        (["--lr", "0"], "lr: must be positive and finite, got 0.0"),
        (["--lr", "inf"], "lr: must be positive and finite, got inf"),
        (["--load", "2"], "--load: goes with --stills only"),
        (["--data-root", "."], "--data-root: goes with --stages only"),
    ],
)
def test_settings_that_cannot_be_are_said_before_anything_runs(
    tmp_path: Path, videos: Path, weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
    flags: list[str], said: str,
) -> None:  # fmt: skip
    monkeypatch.delattr("jointformer.train.runs.check_videos")  # which reads every mask
    out = tmp_path / "run"
    usual = ["--iterations", "1", "--size", "32", "--frames", "2", "--validate", str(videos), *SHORT]
    assert jointformer(["train", "--data", str(videos), "--init", str(weights), "--out", str(out), *usual, *flags]) == 2
    assert f"jointformer train: {said}" in capsys.readouterr().err
    assert not out.exists()
