from __future__ import annotations

import json
from pathlib import Path

import av
import pytest
import torch
from PIL import Image

from jointformer.cli import demo as command
from jointformer.cli.main import build_parser, main
from jointformer.data import demo as clips
from jointformer.model.config import PRESETS
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(JointFormer(PRESETS["tiny"]), path)
    return path


@pytest.fixture
def short_clip(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = clips.demo_clip
    monkeypatch.setattr(clips, "demo_clip", lambda: whole(frames=3))


@pytest.mark.usefixtures("short_clip")
def test_the_demo_prints_every_object_and_writes_a_video_and_a_sheet(
    random_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "folder"
    arguments = ["demo", "--model", str(random_weights), "-o", str(output), "--size", "96", "--device", "cpu"]
    assert main([*arguments, "--json", "--quiet"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in figures["objects"]] == ["1 fish", "2 turtle", "mean"]
    for row in figures["objects"]:
        assert 0 <= row["J"] <= 1
        assert row["J&F"] == pytest.approx((row["J"] + row["F"]) / 2)
    assert figures["frames"] == 3
    with av.open(str(output / command.OVERLAY)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 3
        assert (video.streams.video[0].height, video.streams.video[0].width) == (240, 432)
    with Image.open(output / command.SHEET) as sheet:
        assert sheet.size[0] > 4 * 320
    assert sorted(path.name for path in output.iterdir()) == [command.SHEET, command.OVERLAY]
    (output / command.SHEET).unlink()
    before = (output / command.OVERLAY).stat()
    assert main([*arguments, "--quiet"]) == 2
    assert f"{command.OVERLAY}: the results already exist; --overwrite" in capsys.readouterr().err
    assert (output / command.OVERLAY).stat() == before
    assert main([*arguments, "--quiet", "--overwrite"]) == 0
    assert (output / command.SHEET).is_file()


def test_a_wrong_setting_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "-o", str(tmp_path / "out"), "--max-memory-frames", "-1"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "max_memory_frames" in error
    assert not (tmp_path / "out").exists()


def test_the_defaults_are_the_embedded_weights_and_the_clips_own_size() -> None:
    parser, _ = build_parser("demo")
    args = parser.parse_args([])
    assert (args.model, args.size, str(args.output)) == ("tiny", -1, "demo")
