"""`jointformer export`: sessions and folders of masks on the command line."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from export.clips import FRAMES, H, Masks, W, labels, pictures, read_streams, write_video
from jointformer.cli import export as cli_export
from jointformer.cli.main import main
from jointformer.data.export_formats import FORMATS, export
from jointformer.data.export_selection import ExportOptions
from jointformer.session import Session
from jointformer.session.source import ArrayVideo


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, picture in enumerate(pictures()):
        Image.fromarray(picture).save(folder / f"{t:05d}.png")
    return folder


@pytest.fixture
def masks(tmp_path: Path) -> Path:
    return export(Masks(ArrayVideo(pictures())), "palette", tmp_path / "masks")


def test_the_help_names_every_format_and_every_option() -> None:
    for name, row in FORMATS.items():
        assert f"  {name:<13}{row.text.split(',')[0]}" in cli_export.__doc__
    assert set(cli_export._OPTIONS) == ExportOptions.names()


def test_masks_in_a_folder_become_json(
    frames: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    assert main(["export", str(masks), "--video", str(frames), "--format", "coco", "-o", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"format": "coco", "path": str(out)}
    value = json.loads(out.read_text())
    assert [image["file_name"] for image in value["images"]] == [f"frames/{t:05d}.png" for t in range(FRAMES)]


def test_a_session_is_exported_with_its_names_and_colours(
    frames: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Session(frames, folder=tmp_path / "session") as session:
        session.add_masks(0, labels(0))
        session.set_object(1, name="cat", colour=(9, 8, 7))
    arguments = ["export", str(tmp_path / "session"), "--format", "palette", "-o", str(tmp_path / "out"), "--end", "0"]
    assert main(arguments) == 0
    assert capsys.readouterr().out.strip() == str(tmp_path / "out")
    with Image.open(tmp_path / "out" / "00000.png") as image:
        assert image.size == (W, H)
        assert tuple(np.array(image.convert("RGB"))[labels(0) == 1][0]) == (9, 8, 7)
    out = tmp_path / "out.json"
    arguments = ["export", str(tmp_path / "session"), "--format", "coco", "-o", str(out)]
    assert main([*arguments, "--classes", "dog, cat,object 7", "--quiet"]) == 0
    assert [c["name"] for c in json.loads(out.read_text())["categories"]] == ["dog", "cat", "object 7"]
    assert main([*arguments, "--classes", "dog"]) == 2


def test_masks_fit_the_frames_of_a_video_file(tmp_path: Path) -> None:
    video = write_video(tmp_path / "clip.mp4", sound=False)
    folder = tmp_path / "masks"
    folder.mkdir()
    for t in range(FRAMES):
        Image.fromarray(np.pad(labels(t), ((0, 1), (0, 1)))).save(folder / f"{t:05d}.png")
    arguments = ["export", str(folder), "--video", str(video), "--format", "overlay", "--style", "spotlight"]
    assert main([*arguments, "--objects", "1", "--quality", "30", "-o", str(tmp_path / "out.mp4"), "--quiet"]) == 0
    assert (tmp_path / "out.mp4").stat().st_size > 500


@pytest.mark.parametrize(
    ("given", "rate"),
    [("24000/1001", Fraction(24000, 1001)), ("23.976", Fraction(2997, 125)), (".5", Fraction(1, 2)), ("50", 50)],
)
def test_pictures_are_shown_at_the_rate_that_is_asked_for(
    given: str, rate: Fraction, frames: Path, masks: Path, tmp_path: Path
) -> None:
    with Session(frames, folder=tmp_path / "session") as session:
        session.add_masks(0, labels(0))
    for source in (masks, tmp_path / "session"):
        out = tmp_path / f"{source.name}.mp4"
        arguments = ["export", str(source), "--video", str(frames), "--format", "overlay", "--fps", given]
        assert main([*arguments, "-o", str(out), "--quiet"]) == 0
        assert read_streams(out)["rate"] == rate


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--format", "coco"], "masks alone have no frames; give --video"),
        (["--format", "gif", "--video", "{frames}"], "export format, expected palette"),
        (["--format", "coco", "--video", "{frames}", "--style", "fill"], "option of the format coco"),
        (
            ["--format", "coco", "--video", "{frames}", "--objects", "4"],
            "objects to export, expected ids",
        ),
        (["--format", "coco", "--video", "{frames}", "--fps", "1e3"], "--fps, expected 0.001 to 1000, as a decimal"),
        (["--format", "coco", "--video", "nowhere.mp4"], "nowhere.mp4: no such file"),
    ],
)
def test_mistakes_end_with_2_and_one_line(
    frames: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    extra = [word.format(frames=frames) for word in extra]
    assert main(["export", str(masks), "-o", str(tmp_path / "out"), *extra]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_the_folder_above_the_masks_says_where_they_are(
    frames: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(tmp_path), "--video", str(frames), "--format", "coco", "-o", str(tmp_path / "o.json")]
    assert main([*command, "--quiet"]) == 2
    expected = f"{tmp_path}: no masks, expected PNGs of object ids; give {masks}"
    assert capsys.readouterr().err == f"jointformer export: {expected}\n"


@pytest.mark.parametrize("target", ["masks/00000.png", "masks/new.png", "frames/00003.png"])
def test_no_mask_and_no_frame_is_replaced_and_none_is_added(
    frames: Path, masks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.*")}
    arguments = ["export", str(masks), "--video", str(frames), "--format", "sheet", "-o", str(tmp_path / target)]
    assert main(arguments) == 2
    assert f"{target}: cannot be written: " in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.*")} == before
