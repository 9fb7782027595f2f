"""Runs of published stages: one after the other, resumed, refused."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import SHORT, SMALL, batch_of, write_video

from jointformer.cli.main import main as jointformer
from jointformer.cli.train_published import main as published
from jointformer.errors import ConfigError
from jointformer.model.config import PRESETS
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.model.weights import load_model
from jointformer.system.files import temporary_name
from jointformer.train.board import preview
from jointformer.train.datasets import STILL_SETS
from jointformer.train.distributed import Processes
from jointformer.train.loop import Trainer
from jointformer.train.runs import build_network, run_stages
from jointformer.train.settings import Settings
from jointformer.train.stages import parse_stages
from jointformer.train.state import checkpoints
from jointformer.train.watch import Watcher


def test_stage_0_leaves_the_channel_of_other_objects_at_zero(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "tiny", SMALL)
    for set_ in STILL_SETS.values():
        folder = tmp_path / set_.folder / ("a" if set_.classes else "")
        folder.mkdir(parents=True)
        drawn = np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)
        mask = np.zeros((40, 48), np.uint8)
        mask[8:32, 8:40] = 255
        Image.fromarray(drawn).save(folder / "1.jpg")
        Image.fromarray(mask).save(folder / "1.png")
    command = ["--stages", "0", "--model", "tiny", "--data_root", str(tmp_path), "--out", str(tmp_path), *SHORT]
    command += ["--s0_batch_size", "2", "--s0_iterations", "2", "--s0_num_frames", "2", "--s0_crop_size", "32"]
    assert published(command) == 0
    trained = load_model(str(tmp_path / "run_s0/stage_0/weights.safetensors"), "cpu", "float32")
    weight = trained.convmae.patch_embed1_memory.proj.weight
    assert not weight[:, 4].any()  # as a published s0, which had no such channel, is padded when it is loaded
    assert weight[:, 3].any()


def test_published_stages_run_one_after_the_other_and_resume_skips_finished_ones(
    tmp_path: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "data/DAVIS/2017/trainval"
    write_video(base / "JPEGImages/480p/bear", base / "Annotations/480p/bear")
    (base / "ImageSets/2017").mkdir(parents=True)
    (base / "ImageSets/2017/train.txt").write_text("bear\n")
    youtube = tmp_path / "data/YouTubeVOS-2019/train_480p"
    write_video(youtube / "JPEGImages/a", youtube / "Annotations/a")
    lvos = tmp_path / "data/LVOS/train_480p"
    write_video(lvos / "JPEGImages/b", lvos / "Annotations/b")
    command = ["--stages", "26", "--exp_id", "t", "--load_network", str(weights), "--data_root", str(tmp_path / "data"),
               "--out", str(tmp_path / "saves"), *SHORT]  # fmt: skip
    for digit in "26":
        command += [f"--s{digit}_batch_size", "1", f"--s{digit}_iterations", "2", f"--s{digit}_finetune", "1",
                    f"--s{digit}_num_frames", "3", f"--s{digit}_crop_size", "32"]  # fmt: skip
    assert published(command) == 0
    folder = tmp_path / "saves/t_s26"
    given = json.loads((folder / "stage_6/config.json").read_text())["given"]
    assert (given["data"], given["init"]) == (str(tmp_path / "data"), str(weights))
    assert [json.loads((folder / f"stage_{d}/finished.json").read_text())["iterations"] for d in "26"] == [3, 3]
    stamp = (folder / "stage_2/weights.safetensors").stat().st_mtime_ns
    assert published([*command, "--resume"]) == 0
    assert (folder / "stage_2/weights.safetensors").stat().st_mtime_ns == stamp


@pytest.fixture
def lvos(tmp_path: Path, weights: Path) -> list[str]:
    """train.py's flags for stage 6 on one video; the run's folder is `saves/t_s6/stage_6`."""
    base = tmp_path / "data/LVOS/train_480p"
    write_video(base / "JPEGImages/b", base / "Annotations/b")
    return ["--stages", "6", "--exp_id", "t", "--load_network", str(weights), "--data_root", str(tmp_path / "data"),
            "--out", str(tmp_path / "saves"), "--s6_batch_size", "1", "--s6_finetune", "0", "--s6_num_frames", "2",
            "--s6_crop_size", "32", *SHORT]  # fmt: skip


def test_a_batch_that_a_gpu_has_no_memory_for_is_one_line(
    lvos: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(self: Trainer) -> bool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB. Of the rest")

    monkeypatch.setattr(Trainer, "train", full)
    assert published([*lvos, "--s6_iterations", "1"]) == 2
    said = "no memory left on the GPU, got CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has 1 GiB; a smaller"
    assert said in capsys.readouterr().err


def test_a_checkpoint_is_gone_on_from_only_where_no_later_one_is_lost(
    tmp_path: Path, lvos: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stage, elsewhere = tmp_path / "saves/t_s6/stage_6", tmp_path / "kept.pt"
    assert published([*lvos, "--s6_iterations", "4", "--save-every", "2", "--keep", "2"]) == 0
    first, last = checkpoints(stage)
    first.rename(elsewhere)
    (stage / "finished.json").unlink()  # as if it had been cut off
    command = [*lvos, "--s6_iterations", "5", "--load_checkpoint", str(elsewhere)]
    assert published(command) == 2
    assert "holds later checkpoints, expected none after iteration 2, got checkpoint_00000004.pt" in (
        capsys.readouterr().err.strip()
    )
    caplog.set_level("INFO")
    assert published([*command, "--resume"]) == 0
    assert f"going on from {last}, iteration 4" in caplog.text
    for path in (*checkpoints(stage), stage / "finished.json"):
        path.unlink()
    assert published([*command, "--resume"]) == 0
    assert f"going on from {elsewhere}, iteration 2" in caplog.text
    assert [path.name for path in checkpoints(stage)] == ["checkpoint_00000005.pt"]


def test_what_would_end_a_later_stage_is_said_before_the_first_begins(
    tmp_path: Path, lvos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    both = [*lvos, "--stages", "65", "--s5_crop_size", "32", "--s6_iterations", "1"]
    assert published(both) == 2
    assert "MOSE train: no such folder" in capsys.readouterr().err
    assert published([*both, "--s5_lr", "0"]) == 2
    assert "lr: must be positive" in capsys.readouterr().err
    settings, processes = Settings(tmp_path / "saves"), Processes(0, 8, torch.device("cpu"))
    with pytest.raises(ConfigError, match=r"^stage 2: batch: cannot be shared equally, expected a multiple of 8, the"):
        run_stages(settings, processes, parse_stages("02"), tmp_path / "data")
    assert not (tmp_path / "saves").exists()


def test_a_later_stages_folder_that_holds_a_run_is_refused_before_the_first_begins(
    tmp_path: Path, lvos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    base = tmp_path / "data/MOSE/train_480p"
    write_video(base / "JPEGImages/b", base / "Annotations/b")
    (tmp_path / "saves/t_s65/stage_5").mkdir(parents=True)
    (tmp_path / "saves/t_s65/stage_5/finished.json").write_text("{}")
    both = [*lvos, "--stages", "65", "--s6_iterations", "1", "--s5_crop_size", "32"]
    assert published(both) == 2
    assert "stage_5: holds a run already; --resume goes on with it" in capsys.readouterr().err
    assert not (tmp_path / "saves/t_s65/stage_6").exists()


def test_a_stage_begins_with_the_weights_of_the_one_before_also_where_that_one_was_finished_earlier(
    tmp_path: Path, lvos: list[str]
) -> None:
    command = [*lvos, "--stages", "66", "--s6_iterations", "2", "--s6_lr", "1e-3"]
    last = tmp_path / "saves/t_s66/stage_6_1"
    found = []
    for more in ([], ["--resume"]):
        assert published([*command, *more]) == 0
        found.append(load_model(str(last / "weights.safetensors"), "cpu", "float32").state_dict())
        shutil.rmtree(last)
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])


def test_a_later_stage_is_not_taken_for_finished_where_the_one_before_is_trained_further(
    tmp_path: Path, lvos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    command = [*lvos, "--stages", "66", "--resume", "--s6_iterations"]
    folder = tmp_path / "saves/t_s66"
    first, last = folder / "stage_6", folder / "stage_6_1"
    assert published([*command, "1"]) == 0
    assert published([*command, "1"]) == 0  # all is finished
    assert json.loads((last / "config.json").read_text())["after"] == json.loads((first / "finished.json").read_text())
    (checkpoint,) = checkpoints(first)
    capsys.readouterr()
    assert published([*command, "2"]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{last}: holds a run that began with other weights, expected none, or one that began where stage_6" in error
    assert "got one from before stage_6 is finished; move the folder away" in error
    assert "\n" not in error
    assert checkpoints(first) == [checkpoint], "nothing was trained"
    # Trained further alone, as the first stage of another command:
    alone = ["train", "--stages", "6", "--model", "tiny", "--data-root", str(tmp_path / "data"), "--out", str(folder)]
    alone += ["--init", str(tmp_path / "start.safetensors"), "--batch", "1", "--frames", "2", "--size", "32"]
    assert jointformer([*alone, "--iterations", "2", "--resume", *SHORT]) == 0
    for iterations in "12":
        capsys.readouterr()
        assert published([*command, iterations]) == 2
        assert "got one from before stage_6 was trained further or anew" in capsys.readouterr().err
    shutil.rmtree(last)
    assert published([*command, "2"]) == 0
    assert json.loads((last / "finished.json").read_text())["iterations"] == 2


def test_a_finished_stages_data_may_be_gone(tmp_path: Path, lvos: list[str]) -> None:
    command = [*lvos, "--s6_iterations", "1", "--resume"]
    assert published(command) == 0
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    assert published(command) == 0


def test_what_killed_runs_left_half_written_is_removed_and_nothing_else(tmp_path: Path, lvos: list[str]) -> None:
    stage = tmp_path / "saves/t_s6/stage_6"
    assert published([*lvos, "--s6_iterations", "1"]) == 0
    mine = temporary_name(stage / "checkpoint_00000002.pt")
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-4194999-"))
    others = mine.with_name(".jointformer-00000000-1-0a0b0c0d.part"), stage / ".part", stage / "notes.part"
    for path in (mine, dead, *others):
        path.write_bytes(b"half")
    assert published([*lvos, "--s6_iterations", "2"]) == 2  # refused without --resume: nothing is touched
    assert dead.exists()
    assert published([*lvos, "--s6_iterations", "2", "--resume"]) == 0
    assert not dead.exists()
    assert all(path.exists() for path in (mine, *others))


def test_a_finished_stage_goes_on_where_more_iterations_are_wanted(tmp_path: Path, lvos: list[str]) -> None:
    finished = tmp_path / "saves/t_s6/stage_6/finished.json"
    for wanted, total in ((1, 1), (3, 3), (2, 3)):
        assert published([*lvos, "--s6_iterations", str(wanted), "--resume"]) == 0
        assert json.loads(finished.read_text())["iterations"] == total


def test_a_finished_stage_is_finished_no_more_while_it_is_trained_further(
    tmp_path: Path, lvos: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    finished = tmp_path / "saves/t_s6/stage_6/finished.json"
    assert published([*lvos, "--s6_iterations", "1"]) == 0
    assert finished.exists()
    monkeypatch.setattr(Watcher, "__call__", lambda self, trainer, figures: trainer.end())
    assert published([*lvos, "--s6_iterations", "5", "--resume"]) == 130
    assert not finished.exists()


def test_a_finished_stage_is_taken_from_its_exported_weights_where_its_checkpoints_are_gone(
    tmp_path: Path, lvos: list[str], capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    stage = tmp_path / "saves/t_s6/stage_6"
    command = [*lvos, "--s6_iterations", "1", "--resume"]
    assert published(command) == 0
    checkpoints(stage)[0].unlink()
    caplog.set_level("INFO")
    assert published(command) == 0
    assert f"finished with {stage / 'weights.safetensors'}" in caplog.text
    assert published([*lvos, "--s6_iterations", "2", "--resume"]) == 2
    assert "holds a run already; its checkpoints are gone" in capsys.readouterr().err
    (stage / "weights.safetensors").unlink()
    assert published(command) == 2
    assert "a finished stage without its weights" in capsys.readouterr().err


def test_a_run_is_resumed_with_its_own_network_and_kind_only(
    tmp_path: Path, videos: Path, lvos: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert published([*lvos, "--s6_iterations", "1"]) == 0
    other = save_weights(JointFormer(replace(SMALL, depths=(1, 1, 1))), tmp_path / "other.safetensors")
    for iterations in "12":
        capsys.readouterr()
        assert published([*lvos, "--s6_iterations", iterations, "--load_network", str(other), "--resume"]) == 2
        error = capsys.readouterr().err.strip()
        assert "checkpoint_00000001.pt: holds another network, expected small-test: widths (12, 12, 24)" in error
        assert "\n" not in error
    command = ["train", "--data", str(videos), "--init", str(tmp_path / "start.safetensors"), "--iterations", "1",
               "--frames", "2", "--out", str(tmp_path / "saves/t_s6/stage_6"), "--resume", *SHORT]  # fmt: skip
    assert jointformer(command) == 2
    assert "holds another run, expected own videos, got LVOS; choose another folder" in capsys.readouterr().err
    base = tmp_path / "data/MOSE/train_480p"
    write_video(base / "JPEGImages/b", base / "Annotations/b")
    (file,) = checkpoints(tmp_path / "saves/t_s6/stage_6")
    other_stage = [*lvos, "--stages", "5", "--exp_id", "other", "--s5_batch_size", "1", "--s5_crop_size", "32"]
    assert published([*other_stage, "--load_checkpoint", str(file)]) == 2
    error = capsys.readouterr().err.strip()
    assert f"{file}: another stage's checkpoint, expected MOSE, got LVOS; --load_network begins a stage" in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lr", "-1"], "lr: must be positive and finite, got -1.0"),
        (["--batch", "4"], "--batch: goes with --stages and --data only; --load makes iterations smaller or larger"),
        (["--data-root", "."], "--data-root: goes with --stages only"),
        (["--load", "nan"], "load: must be positive and finite, got nan"),
        (["--load", "0"], "load: must be positive and finite, got 0.0"),
        (["--minutes", "nan"], "minutes: must be positive and finite, got nan"),
    ],
)
def test_flags_that_would_do_nothing_for_stills_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], said: str
) -> None:
    length = [] if "--minutes" in flags else ["--iterations", "1"]
    assert jointformer(["train", "--stills", str(tmp_path), "--out", str(tmp_path / "run"), *length, *flags]) == 2
    assert f"jointformer train: {said}" in capsys.readouterr().err


def test_a_missing_data_set_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        jointformer(
            [
                "train",
                "--stages",
                "5",
                "--model",
                "tiny",
                "--data-root",
                str(tmp_path),
                "--out",
                str(tmp_path / "o"),
                *SHORT,
            ]
        )
        == 2
    )
    error = capsys.readouterr().err.strip()
    assert "MOSE train: no such folder" in error
    assert "\n" not in error


def test_a_fresh_network_matches_frames_with_memory_from_the_start() -> None:
    model = build_network("tiny", None, 0)
    assert model.config == PRESETS["tiny"]
    frame = torch.randn(1, 3, 64, 64)
    encoder = model.convmae
    query = encoder.patch_embed1_query(frame)
    memory = encoder.patch_embed1_memory(torch.cat([frame, torch.zeros(1, 2, 64, 64)], 1))
    torch.testing.assert_close(query, memory, atol=1e-5, rtol=0)
    again = build_network("tiny", None, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))


def test_the_preview_shows_given_true_and_predicted_masks() -> None:
    batch = batch_of(0, 1, slots=2)
    logits = torch.randn(2, 3, 32, 32)
    picture = preview(batch, logits)
    assert picture.shape == (96, 64, 3)
    assert picture.dtype == np.uint8
