"""Validation while a run goes on."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from train_helpers import SHORT, small_network, write_video

from jointformer.cli.main import main as jointformer
from jointformer.data.masks import read_mask_file
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.model.weights import load_model
from jointformer.track import Segmentation, Tracker, TrackerConfig
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.train.datasets import TrainVideo
from jointformer.train.own_data import check_videos
from jointformer.train.settings import Settings
from jointformer.train.validate import Validation, validate
from jointformer.train.watch import Watcher


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


def interrupted_by(happens: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let something happen in a validation's second frame; the list grows with every frame."""
    seen: list[int] = []

    class Watched(Tracker):
        def step(self, frame: FrameLike, masks: MasksLike | None = None, **settings: Any) -> Segmentation:
            seen.append(1)
            if len(seen) == 2:
                happens()
            return super().step(frame, masks, **settings)

    monkeypatch.setattr("jointformer.train.validate.Tracker", Watched)
    return seen


def test_a_signal_ends_a_validation_which_is_made_when_the_run_goes_on(
    tmp_path: Path, videos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = interrupted_by(lambda: os.kill(os.getpid(), signal.SIGINT), monkeypatch)
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(tmp_path / "run"), "--batch", "1",
               "--size", "32", "--frames", "3", "--validate", str(videos), "--validate-every", "2", "--iterations", "3",
               "--resume", *SHORT]  # fmt: skip
    for code, frames, validated in ((130, 2, []), (0, 2 + 2 * 5, [3])):
        assert jointformer(command) == code
        assert len(seen) == frames
        entries = [json.loads(line) for line in (tmp_path / "run/log.jsonl").read_text().splitlines()]
        assert [entry["iteration"] for entry in entries if "validation" in entry] == validated


def test_a_signal_ends_the_validation_at_the_end_of_a_run_which_is_finished_when_it_goes_on(
    tmp_path: Path, videos: Path, weights: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    seen = interrupted_by(lambda: signal.raise_signal(signal.SIGTERM), monkeypatch)
    caplog.set_level("INFO")
    out = tmp_path / "run"
    command = ["train", "--data", str(videos), "--init", str(weights), "--out", str(out), "--batch", "1", "--size",
               "32", "--frames", "2", "--validate", str(videos), "--iterations", "1", "--resume", *SHORT]  # fmt: skip
    outside = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("nobody has noted the signal"))
    try:
        for code, frames in ((130, 2), (0, 2 + 2 * 5)):
            assert jointformer(command) == code
            assert len(seen) == frames
            assert "stopped after iteration 1: --resume goes on from there" in caplog.text
            assert (out / "finished.json").is_file() == (code == 0)
    finally:
        signal.signal(signal.SIGTERM, outside)
    assert caplog.text.count("validation: J&F") == 1


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
        def step(
            self, frame: FrameLike, masks: MasksLike | None = None, *, last: bool = False, **settings: Any
        ) -> Segmentation:
            given.append(([] if masks is None else np.unique(np.asarray(masks)).tolist(), last))
            return super().step(frame, masks, last=last, **settings)

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
