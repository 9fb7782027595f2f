"""Runs on one's own videos, and their validation."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import SHORT, small_network, write_video

from jointformer.cli.main import main as jointformer
from jointformer.cli.train import start_logging
from jointformer.data.masks import read_mask_file
from jointformer.errors import ConfigError
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.model.weights import load_model
from jointformer.track import Segmentation, Tracker, TrackerConfig
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.train.datasets import TrainVideo
from jointformer.train.distributed import Processes
from jointformer.train.own_data import check_videos
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
        patch.setattr(Watcher, "__call__", lambda self, trainer, figures: trainer._end())
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


def test_a_validation_that_a_kill_ended_is_made_when_the_run_goes_on(
    tmp_path: Path, videos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "3", "--validate", str(videos), "--validate-every", "2", "--iterations", "3",
               "--resume", *SHORT]  # fmt: skip

    def killed(*_: Any) -> Validation:
        raise SystemExit(9)

    with monkeypatch.context() as patch:
        patch.setattr("jointformer.train.watch.validate", killed)
        with pytest.raises(SystemExit):
            jointformer(command)
    for _ in range(2):  # once only
        assert jointformer(command) == 0
        entries = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [entry["iteration"] for entry in entries if "validation" in entry] == [3]


def test_a_signal_ends_a_validation_which_is_made_when_the_run_goes_on(
    tmp_path: Path, videos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    class Watched(Tracker):
        def step(self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False) -> Segmentation:
            seen.append(1)
            if len(seen) == 2:
                os.kill(os.getpid(), signal.SIGINT)
            return super().step(frame, masks, last=last)

    monkeypatch.setattr("jointformer.train.validate.Tracker", Watched)
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "3", "--validate", str(videos), "--validate-every", "2", "--iterations", "3",
               "--resume", *SHORT]  # fmt: skip
    for code, frames, validated in ((130, 2, []), (0, 2 + 2 * 5, [3])):
        assert jointformer(command) == code
        assert len(seen) == frames
        entries = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [entry["iteration"] for entry in entries if "validation" in entry] == validated


def test_validation_without_a_video_long_enough_is_no_figure(
    tmp_path: Path, videos: Path, weights: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("one", "two"):
        for number in range(4):  # of 6
            Image.fromarray(np.zeros((60, 80), np.uint8)).save(videos / f"Annotations/{name}/{number:05d}.png")
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "2", "--validate", str(videos), "--validate-every", "1", *SHORT]  # fmt: skip
    assert jointformer([*command, "--iterations", "1"]) == 0
    assert "validation: no video has 3 frames from its first object on" in caplog.text
    assert "validation" not in (tmp_path / "run/log.jsonl").read_text()


def test_validation_says_which_videos_it_cannot_use_and_begins_at_the_first_mask_that_is_not_empty(
    tmp_path: Path, videos: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[list[int], bool]] = []

    class Watched(Tracker):
        def step(self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False) -> Segmentation:
            given.append(([] if masks is None else np.unique(np.asarray(masks)).tolist(), last))
            return super().step(frame, masks, last=last)

    monkeypatch.setattr("jointformer.train.validate.Tracker", Watched)
    write_video(videos / "JPEGImages/short", videos / "Annotations/short", length=2)
    for number in range(3):  # of 6
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(videos / f"Annotations/two/{number:05d}.png")
    watcher = Watcher(Settings(tmp_path / "run", validate_on=videos, validate_size=48), tmp_path / "run")
    assert "validation: short: too short" in caplog.text
    found = validate(small_network().eval(), watcher.videos, watcher.settings.validation)
    assert list(found.per_video) == ["one", "two"]
    # The last of 6 and of 3 frames is not scored, and nobody needs its masks.
    assert given == [([0, 1, 2], False), *[([], False)] * 3, ([], True), ([0, 1, 2], False), ([], True)]


def test_validation_tracks_the_pictures_between_the_masks_and_gives_the_score_of_evaluate(tmp_path: Path) -> None:
    for name, given in (("one", (0, 4, 5, 9)), ("two", (1, 3, 6))):
        write_video(tmp_path / "held/JPEGImages" / name, tmp_path / "held/Annotations" / name, length=11)
        for number in set(range(11)) - set(given):
            (tmp_path / f"held/Annotations/{name}/{number:05d}.png").unlink()
    weights = save_weights(small_network(5), tmp_path / "some.safetensors")
    model = load_model(str(weights), "cpu", "float32")
    found = validate(model, check_videos(tmp_path / "held", 3).videos, TrackerConfig(size=60))
    command = ["evaluate", "--dataset", "G", "--generic-path", str(tmp_path / "held"), "--model", str(weights),
               "--size", "60", "--device", "cpu", "--precision", "float32", "-o", str(tmp_path / "G")]  # fmt: skip
    assert jointformer(command) == 0
    files = ["--annotations", str(tmp_path / "held"), "--predictions", str(tmp_path / "G"), "--json"]
    assert jointformer(["score", "generic", *files, str(tmp_path / "scores.json")]) == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert 5 < found.jf < 95
    assert (found.j, found.f) == pytest.approx((100 * scores["figures"]["J"], 100 * scores["figures"]["F"]))
    assert found.per_video == {
        name: pytest.approx(100 * video["J&F"]) for name, video in scores["per_video"].items()
    }  # fmt: skip


def test_pictures_between_the_masks_are_checked_where_they_are_tracked(
    tmp_path: Path, videos: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, number in (("one", 2), ("two", 5)):
        (videos / f"Annotations/{name}/{number:05d}.png").unlink()
        (videos / f"JPEGImages/{name}/{number:05d}.png").write_bytes(b"cut off")  # of "two" behind the last mask
    assert len(check_videos(videos, 3).videos) == 2
    watcher = Watcher(Settings(tmp_path / "run", validate_on=videos), tmp_path / "run")
    assert [video.name for video in watcher.videos] == ["two"]
    assert "validation: " in caplog.text
    assert "one/00002.png: not a picture" in caplog.text


def test_validation_weighs_every_object_equally_as_scores_of_results_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_video(tmp_path / "JPEGImages/two", tmp_path / "Annotations/two", ids=(1, 2))
    write_video(tmp_path / "JPEGImages/one", tmp_path / "Annotations/one", ids=(1,))

    def all_but_the_second(model: JointFormer, pictures: list[Path], *_: Any) -> list[np.ndarray]:
        masks = [Path(str(path).replace("JPEGImages", "Annotations")) for path in pictures]
        return [np.where(ids == 2, 0, ids) for ids in (read_mask_file(path).ids for path in masks)]

    monkeypatch.setattr("jointformer.train.validate._track", all_but_the_second)
    found = validate(small_network(), check_videos(tmp_path, 3).videos, TrackerConfig())
    assert found.per_video == {"one": 100, "two": 50}
    assert found.j == found.f == found.jf == pytest.approx(200 / 3)


def test_validation_keeps_one_frames_masks_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "JPEGImages/one", tmp_path / "Annotations/one", length=6)
    read: list[Path] = []
    ahead: list[int] = []
    read_labels = TrainVideo.read_labels

    def note(video: TrainVideo, mask: Path) -> np.ndarray:
        read.append(mask)
        return read_labels(video, mask)

    def track(model: JointFormer, pictures: list[Path], first: np.ndarray, config: TrackerConfig) -> Iterator[Any]:
        for number in range(len(pictures)):
            ahead.append(len(read) - number)
            yield first

    videos = check_videos(tmp_path, 3).videos
    monkeypatch.setattr(TrainVideo, "read_labels", note)
    monkeypatch.setattr("jointformer.train.validate._track", track)
    validate(small_network(), videos, TrackerConfig())
    assert len(read) == 5
    assert max(ahead) == 1


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
