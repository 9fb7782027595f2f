"""What a run may find in its folder: only its own results count, whoever else was or is at work there."""

from __future__ import annotations

import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest
from PIL import Image

import jointformer.data.fingerprint as fingerprinting
from jointformer.cli.main import main
from jointformer.data.fingerprint import fingerprint
from jointformer.data.masks import write_mask
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.shards import fold
from scale.scale_helpers import Runs, last_line
from trees import Tree, draw_frame, draw_ids, make_tree
from watched import masks


@pytest.fixture
def mose(tmp_path: Path) -> Tree:
    """A benchmark whose results go to a server as a zip."""
    return make_tree(tmp_path / "data", "MOSE")


@pytest.fixture
def evaluate(mose: Tree, mini_weights: Path) -> Callable[..., int]:
    """A function that evaluates the benchmark."""

    def run(output: Path, *more: str) -> int:
        command = ["evaluate", "--dataset", "MOSE", "--data-root", str(mose.root), "--model", str(mini_weights)]
        return main([*command, "-o", str(output), "--sizes", "24", "--precision", "float32", "--quiet", *more])

    return run


def test_masks_of_another_program_are_refused_and_never_zipped(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, name = tmp_path / "out", next(iter(mose.videos))
    shutil.copytree(mose.masks / name, output / name)
    theirs = masks(output)
    assert evaluate(output) == 2
    assert f"{output}: holds results that no run of JointFormer has recorded, got {name}; choose" in last_line(capsys)
    assert masks(output) == theirs
    assert not list(output.glob("*.zip"))
    assert evaluate(output, "--overwrite") == 0
    assert len(masks(output)) == 12


def test_a_zip_of_another_program_is_refused_too(
    evaluate: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / "out" / "MOSE_val.zip"
    archive.parent.mkdir()
    archive.write_bytes(b"theirs")
    assert evaluate(tmp_path / "out", "--shard", "1/2") == 2
    assert "got MOSE_val.zip" in last_line(capsys)
    assert archive.read_bytes() == b"theirs"


def test_merging_counts_what_the_run_has_recorded_and_no_other_folder(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert evaluate(output, "--shard", "1/2") == 0
    (missing,) = (name for name in mose.videos if not (output / name).exists())
    shutil.copytree(mose.masks / missing, output / missing)
    assert main(["evaluate", "--merge", str(output)]) == 1
    assert f"not finished: {missing}" in last_line(capsys)
    assert not list(output.glob("*.zip"))
    assert evaluate(output, "--shard", "2/2") == 2
    assert f"got {missing};" in last_line(capsys)


def test_results_whose_manifest_is_gone_are_nobodys(
    two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two.here(tmp_path / "out") == 0
    (tmp_path / "out" / "run.json").unlink()
    assert two.here(tmp_path / "out") == 2
    assert "got v0, v1; choose another --output" in last_line(capsys)


def test_a_run_of_an_earlier_version_is_refused(two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert two.here(tmp_path / "out") == 0
    manifest = json.loads((tmp_path / "out" / "run.json").read_text())
    del manifest["run"]
    (tmp_path / "out" / "run.json").write_text(json.dumps(manifest))
    assert two.here(tmp_path / "out") == 2
    assert "a run of an earlier version" in last_line(capsys)
    assert two.here(tmp_path / "out", "--overwrite") == 0


def test_a_run_at_work_is_not_overwritten(two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "out"
    assert two.here(output) == 0
    before = masks(output)
    with RunFolder(output).claim("v1") as mine:
        assert mine
        assert two.here(output, "--topk", "9", "--overwrite") == 2
        assert "another run is at work in this folder; stop it first" in last_line(capsys)
    assert masks(output) == before
    assert two.here(output, "--topk", "9", "--overwrite") == 0


@pytest.mark.parametrize("moment", ["between two videos", "before the last figures"])
def test_a_run_whose_folder_was_begun_anew_ends_and_mixes_nothing(
    moment: str, two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two.here(tmp_path / "alone", "--topk", "1") == 0
    output, calls = tmp_path / "out", []
    name = "claim" if moment == "between two videos" else "manifest_lock"
    original = getattr(RunFolder, name)

    def overtaken(self: RunFolder, *args: Any) -> object:
        calls.append(args)
        # A claim is asked for per video; before the last fold the lock is taken to join and twice per video.
        if len(calls) == (2 if name == "claim" else 6):
            assert two.here(output, "--topk", "1", "--overwrite") == 0
        return original(self, *args)

    monkeypatch.setattr(RunFolder, name, overtaken)
    assert two.here(output) == 2
    assert f": {output}: this run cannot go on: another one was begun in its folder" in last_line(capsys)
    assert masks(output) == masks(tmp_path / "alone")
    assert json.loads((output / "run.json").read_text())["settings"]["tracker"]["topk"] == 1


def test_a_record_of_another_run_counts_for_nothing(two: Runs, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert two.here(output, "--shard", "1/2") == 0
    run = json.loads((output / "run.json").read_text())["run"]
    record = next((output / ".run").glob("*.json"))
    video = json.loads(record.read_text())["video"]
    assert fold(output, run).videos.keys() == {video}
    manifest = json.loads((output / "run.json").read_text())
    manifest["videos"][video] = {"state": "open"}
    (output / "run.json").write_text(json.dumps({**manifest, "run": "another"}))
    assert fold(output).videos == {}


def test_a_failure_elsewhere_does_not_hide_that_a_video_is_finished(two: Runs, tmp_path: Path) -> None:
    output = tmp_path / "out"
    assert two.here(output, "--shard", "1/2") == 0
    manifest = fold(output)
    (video,) = manifest.videos
    RunFolder(output, manifest.run).write_record(video, {"state": "failed", "error": "somebody else's try"})
    manifest = fold(output)
    assert (list(manifest.videos), manifest.failed) == ([video], {})


def test_what_cannot_run_is_refused_before_anything_is_overwritten(
    two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert two.here(output) == 0
    before = masks(output)
    assert two.here(output, "--overwrite", "--topk", "9", "--memory-budget", "100MB") == 2
    assert "the memory budget is too small" in last_line(capsys)
    assert masks(output) == before
    assert (output / "run.json").is_file()


def test_a_zip_of_earlier_results_does_not_outlive_them(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path
) -> None:
    output, names = tmp_path / "out", list(mose.videos)
    archive = output / "MOSE_val.zip"
    assert evaluate(output) == 0
    assert archive.is_file()
    assert evaluate(output, "--overwrite", "--topk", "7", "--videos", names[0]) == 0
    assert not archive.exists()
    assert evaluate(output, "--topk", "7") == 0
    assert archive.is_file()
    shutil.rmtree(output / names[1])
    assert main(["evaluate", "--merge", str(output)]) == 1
    assert not archive.exists()


def test_of_a_run_with_equal_settings_only_the_chosen_videos_are_overwritten(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, (first, other) = tmp_path / "out", list(mose.videos)
    assert evaluate(output) == 0
    whole, before = masks(output), json.loads((output / "run.json").read_text())
    finished = before["videos"][other]
    write_mask(output / first / "00001.png", draw_ids((7,), 0))
    stamps = {path.name: path.stat().st_mtime_ns for path in (output / other).iterdir()}
    RunFolder(output, before["run"]).write_record(other, finished)  # as a killed run leaves it
    before["videos"][other] = {"state": "open"}
    (output / "run.json").write_text(json.dumps(before))
    assert evaluate(output, "--overwrite", "--videos", first, "--memory-budget", "100MB") == 2
    assert json.loads((output / "run.json").read_text()) == before
    there: list[str] = []
    original = RunFolder.claim

    def claim(self: RunFolder, video: str) -> Any:  # from here on the run may be killed
        there.extend(path.name for path in output.iterdir() if not path.name.startswith("."))
        return original(self, video)

    monkeypatch.setattr(RunFolder, "claim", claim)
    assert evaluate(output, "--overwrite", "--videos", first) == 0
    assert sorted(there) == sorted([other, "run.json"])
    after = json.loads((output / "run.json").read_text())
    assert after["videos"][other] == finished
    assert after["run"] != before["run"], "what comes back of the old run must end"
    assert {path.name: path.stat().st_mtime_ns for path in (output / other).iterdir()} == stamps
    assert masks(output) == whole
    assert (output / "MOSE_val.zip").is_file()


def test_how_many_videos_of_other_settings_are_overwritten_is_said(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output, name = tmp_path / "out", next(iter(mose.videos))
    assert evaluate(output) == 0
    assert not caplog.messages
    assert evaluate(output, "--overwrite", "--videos", name, "--topk", "7") == 0
    assert caplog.messages == [f"{output}: 2 finished videos of other or unknown settings are removed"]
    assert [path.name for path in output.iterdir() if path.is_dir()] == [name]


def test_nothing_is_overwritten_where_other_videos_of_the_run_have_lost_files(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, (first, other) = tmp_path / "out", list(mose.videos)
    assert evaluate(output) == 0
    (output / other / "00002.png").unlink()
    before = masks(output)
    assert evaluate(output, "--overwrite", "--videos", first) == 2
    assert f"files of 1 finished videos are gone, got {other} " in last_line(capsys)
    assert masks(output) == before
    assert evaluate(output, "--overwrite", "--videos", other) == 0


def test_no_zip_lacks_the_mask_of_a_skipped_frame(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, (name, video) = tmp_path / "out", next(iter(mose.videos.items()))
    (mose.images / name / f"{video.frames[3]}.jpg").write_bytes(b"not a picture")
    remedy = ["--overwrite", "--videos", name, "--on-bad-frame", "hold"]
    note = f"note: there is no zip, as masks of 1 frames are lacking; {' '.join(remedy)} writes them"
    assert evaluate(output, "--on-bad-frame", "skip") == 0
    assert last_line(capsys) == note
    assert main(["evaluate", "--merge", str(output)]) == 0
    assert last_line(capsys) == note
    assert not list(output.glob("*.zip"))
    assert evaluate(output, *remedy) == 0
    assert "note" not in last_line(capsys)
    with zipfile.ZipFile(output / "MOSE_val.zip") as archive:
        assert len(archive.namelist()) == 12


def test_a_zip_of_earlier_results_goes_before_a_video_is_made_anew(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, there = tmp_path / "out", []
    archive, original = output / "MOSE_val.zip", RunFolder.claim
    assert evaluate(output) == 0
    shutil.rmtree(output / next(iter(mose.videos)))

    def claim(self: RunFolder, video: str) -> Any:  # from here on the run may be killed
        there.append(archive.exists())
        return original(self, video)

    monkeypatch.setattr(RunFolder, "claim", claim)
    assert evaluate(output) == 0
    assert there == [False]
    assert archive.is_file()


def test_a_finished_video_that_has_lost_a_mask_is_named_and_made_anew_once_its_folder_is_removed(
    evaluate: Callable[..., int], mose: Tree, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, name = tmp_path / "out", next(iter(mose.videos))
    assert evaluate(output) == 0
    whole = masks(output)
    frames = sorted((output / name).iterdir())
    frames[2].unlink()
    for again in (lambda: evaluate(output), lambda: main(["evaluate", "--merge", str(output)])):
        assert again() == 2
        said = f"files of 1 finished videos are gone, got {name} {len(frames) - 1} of {len(frames)}; put them back, or"
        assert said in last_line(capsys)
    shutil.rmtree(output / name)
    assert evaluate(output) == 0
    assert masks(output) == whole


def other_ids(tree: Path) -> None:
    write_mask(tree / "Annotations/v1/00000.png", draw_ids((7, 9), 1))


def one_more_frame(tree: Path) -> None:
    shutil.copy(tree / "JPEGImages/v1/00001.jpg", tree / "JPEGImages/v1/00002.jpg")


def other_names(tree: Path) -> None:
    (tree / "JPEGImages/v1/00001.jpg").rename(tree / "JPEGImages/v1/00003.jpg")


def another_first_frame(tree: Path) -> None:
    frame = tree / "JPEGImages/v1/00000.jpg"
    frame.write_bytes(frame.read_bytes()[:-3] + b"\0\xff\xd9")


def another_second_frame(tree: Path) -> None:
    Image.fromarray(draw_frame(0)).save(tree / "JPEGImages/v1/00001.jpg", quality=30)


def a_larger_video(tree: Path) -> None:
    for frame in (tree / "JPEGImages/v1").iterdir():
        Image.fromarray(draw_frame(1, 2)).save(frame)
    write_mask(tree / "Annotations/v1/00000.png", draw_ids((1, 3), 1, 2))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (other_ids, "masks"),
        (one_more_frame, "frames"),
        (other_names, "frame names"),
        (another_first_frame, "first frame"),
        (another_second_frame, "frame bytes"),
        (a_larger_video, "size"),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_results_of_another_input_are_refused_and_one_video_can_be_made_anew(
    change: Callable[[Path], None], named: str, two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two.tree, tmp_path / "tree")
    runs, output = Runs(tmp_path / "tree", two.weights), tmp_path / "out"
    assert runs.here(output) == 0
    before = masks(output)
    change(tmp_path / "tree")
    assert runs.here(output) == 2
    assert f"the results of v1 were made with another input ({named}), expected " in last_line(capsys)
    assert masks(output) == before
    shutil.rmtree(output / "v1")
    assert runs.here(output) == 0
    assert runs.here(tmp_path / "anew") == 0
    assert masks(output) == masks(tmp_path / "anew")


def test_finished_videos_inputs_are_looked_at_while_nobody_waits_for_the_manifest(
    two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "out"
    looked: list[bool] = []

    def look(*args: Any) -> dict[str, str]:
        with RunFolder(output)._locked("manifest.lock", 0) as free:
            looked.append(free)
        return fingerprint(*args)

    assert two.here(output, "--videos", "v0") == 0
    monkeypatch.setattr("jointformer.data.sources.fingerprint", look)
    assert two.here(output) == 0
    assert looked == [True, True]


def test_the_lengths_of_frames_are_asked_for_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other, YouTube-VOS's 76,000 frames take a network mount more than half a minute."""
    files = [tmp_path / f"{number}.jpg" for number in range(8)]
    for path in files:
        path.write_bytes(b"12345")
    together, length = Barrier(4), fingerprinting._length

    def wait(path: Path) -> int:
        together.wait(10)
        return length(path)

    monkeypatch.setattr(fingerprinting, "_length", wait)
    assert fingerprint(files, [path.stem for path in files], (2, 3), {})["frame_bytes"] == "40"


def test_the_same_data_at_another_place_is_the_same_input(two: Runs, tmp_path: Path) -> None:
    shutil.copytree(two.tree, tmp_path / "tree")
    assert two.here(tmp_path / "out", "--shard", "1/2") == 0
    assert Runs(tmp_path / "tree", two.weights).here(tmp_path / "out", "--shard", "2/2") == 0
    assert len(masks(tmp_path / "out")) == 5


@pytest.mark.parametrize("share", [("1/2", "2/2"), ("1/1", "1/1")], ids=["its own part", "the same videos"])
def test_runs_that_began_together_with_other_data_do_not_end_as_one(
    share: tuple[str, str],
    evaluate: Callable[..., int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output, other, calls = tmp_path / "out", make_tree(tmp_path / "other", "MOSE"), []
    for path in other.masks.rglob("*.png"):
        write_mask(path, np.where(draw_ids((1, 3), 0) == 1, 9, 0).astype(np.uint8))
    original = RunFolder.claim

    def meanwhile(self: RunFolder, *args: Any) -> object:
        calls.append(args)
        if len(calls) == 1:  # we have found nothing to compare, and begin
            assert evaluate(output, "--data-root", str(other.root), "--shard", share[0]) == 0
        return original(self, *args)

    monkeypatch.setattr(RunFolder, "claim", meanwhile)
    assert evaluate(output, "--shard", share[1]) == 2
    assert "were made with another input (masks)" in last_line(capsys)
    assert ([path.name for path in output.glob("*.zip")] == []) is (share[0] == "1/2")


def test_many_videos_of_ones_own_are_held_to_their_input_too(
    mini_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from fractions import Fraction

    from jointformer.data.video_writer import VideoWriter

    def film(first: int) -> None:
        (tmp_path / "videos").mkdir(exist_ok=True)
        with VideoWriter(tmp_path / "videos/film.mp4", Fraction(10), (24, 32)) as writer:
            for step in range(first, first + 2):
                writer.write(draw_frame(step))

    def track() -> int:
        command = ["track", str(tmp_path / "videos"), "--masks", str(tmp_path / "masks"), "-o", str(tmp_path / "out")]
        return main([*command, "--model", str(mini_weights), "--size", "-1", "--device", "cpu", "--quiet"])

    film(0)
    (tmp_path / "masks").mkdir()
    write_mask(tmp_path / "masks/film.png", draw_ids((1, 3), 0))
    assert track() == 0
    assert track() == 0
    write_mask(tmp_path / "masks/film.png", draw_ids((7,), 0))
    assert track() == 2
    assert "the results of film were made with another input (masks)" in last_line(capsys)
    write_mask(tmp_path / "masks/film.png", draw_ids((1, 3), 0))
    film(1)
    assert track() == 2
    assert "the results of film were made with another input (f" in last_line(capsys)


def test_input_is_never_overwritten(
    two: Runs, mini_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(two.tree, tmp_path / "tree")
    images, given = tmp_path / "tree/JPEGImages", tmp_path / "tree/Annotations"
    before = masks(tmp_path / "tree"), len(list(images.rglob("*.jpg")))
    for command in (
        ["track", str(images), "--masks", str(given), "--size", "-1"],
        ["evaluate", "--dataset", "G", "--generic-path", str(tmp_path / "tree"), "--sizes", "-1"],
    ):
        for output in (images, given):
            flags = ["-o", str(output), "--model", str(mini_weights), "--device", "cpu", "--quiet"]
            assert main([*command, *flags]) == 2
            assert f"{output / 'v0'}: cannot be written: input is read from there" in last_line(capsys)
            assert main([*command, *flags, "--overwrite"]) == 2
            assert f"{output / 'v0'}: cannot be written: input is read from there" in last_line(capsys)
    assert (masks(tmp_path / "tree"), len(list(images.rglob("*.jpg")))) == before
