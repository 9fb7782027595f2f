"""`jointformer track` over many videos, and `reproduce` in parts: the guarantees of `evaluate`."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.cli.main import main
from jointformer.data.masks import read_mask_file, write_mask
from jointformer.data.video_writer import VideoWriter
from jointformer.errors import DataError
from jointformer.evaluation.anyvideo import label_any_video
from jointformer.evaluation.manyvideos import Part, find_jobs, holds_videos
from jointformer.evaluation.scale.shards import Shard
from jointformer.system.files import temporary_name
from jointformer.track.engine import Engine
from scale.scale_helpers import leftovers
from trees import draw_frame, draw_ids

LENGTHS = {"a": 3, "b": 6, "film": 4}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two folders of pictures and a film beside a text and a hidden folder, and their masks in both ways."""
    root = tmp_path_factory.mktemp("archive")
    for name in ("a", "b", ".hidden"):
        (root / "videos" / name).mkdir(parents=True)
        for step in range(LENGTHS.get(name, 2)):
            Image.fromarray(draw_frame(step)).save(root / "videos" / name / f"{step:03d}.png")
    with VideoWriter(root / "videos/film.mp4", Fraction(10), (24, 32)) as film:
        for step in range(LENGTHS["film"]):
            film.write(draw_frame(step))
    (root / "videos/readme.md").write_text("not a video")
    (root / "masks/b").mkdir(parents=True)
    write_mask(root / "masks/a.png", draw_ids((1, 3), 0))
    write_mask(root / "masks/b/000.png", draw_ids((7,), 0))
    write_mask(root / "masks/b/002.png", draw_ids((9,), 2))
    write_mask(root / "masks/film.png", draw_ids((3,), 0))
    return root


@pytest.fixture
def track(archive: Path, mini_weights: Path) -> Callable[..., int]:
    """A function that runs `jointformer track` over the archive."""

    def run(output: Path, *more: str, videos: tuple[str, ...] = ()) -> int:
        command = ["track", *(videos or [str(archive / "videos")]), "-o", str(output), "--model", str(mini_weights)]
        if "--masks" not in more:
            command += ["--masks", str(archive / "masks")]
        return main([*command, "--size", "-1", "--precision", "float32", "--device", "cpu", "--quiet", *more])

    return run


@pytest.fixture(scope="module")
def one_by_one(archive: Path, mini_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Every file that tracking the videos by themselves writes."""
    output = tmp_path_factory.mktemp("single")
    for name, masks in (("a", "a.png"), ("b", "b"), ("film.mp4", "film.png")):
        command = ["track", str(archive / "videos" / name), "--masks", str(archive / "masks" / masks)]
        command += ["-o", str(output / Path(name).stem), "--model", str(mini_weights), "--size", "-1"]
        assert main([*command, "--precision", "float32", "--device", "cpu", "--quiet"]) == 0
    return files(output)


def files(output: Path) -> dict[str, bytes]:
    """Return every result's bytes by its path."""
    found = (path for suffix in ("png", "mp4") for path in sorted(output.rglob(f"*.{suffix}")))
    return {str(path.relative_to(output)): path.read_bytes() for path in found}


def test_a_folder_of_videos_gives_the_bytes_of_each_by_itself(
    track: Callable[..., int],
    one_by_one: dict[str, bytes],
    mini_weights: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = tmp_path / "figures.json"
    assert track(tmp_path / "out", "--json", str(figures), "--save-scores") == 0
    assert files(tmp_path / "out") == one_by_one
    assert len(list((tmp_path / "out").glob("*/Scores/masks/*.npz"))) == sum(LENGTHS.values())
    assert len(one_by_one) == sum(LENGTHS.values()) + 3
    assert leftovers(tmp_path / "out") == []
    manifest = json.loads((tmp_path / "out/run.json").read_text())
    assert (manifest["settings"]["command"], manifest["weights_file"]) == ("track", str(mini_weights))
    assert {name: video["frames"] for name, video in manifest["videos"].items()} == LENGTHS
    assert json.loads(figures.read_text())["frames"] == sum(LENGTHS.values())
    assert main(["evaluate", "--merge", str(tmp_path / "out")]) == 0
    assert "3 of 3 videos are finished" in capsys.readouterr().err


def test_several_names_and_a_list_mean_the_same(
    track: Callable[..., int], archive: Path, one_by_one: dict[str, bytes], tmp_path: Path
) -> None:
    assert track(tmp_path / "named", videos=tuple(str(archive / "videos" / n) for n in ("film.mp4", "a", "b"))) == 0
    lines = ["videos/a\tmasks/a.png", "", "videos/film.mp4", f"{archive}/videos/b\t{archive}/masks/b"]
    (archive / "list.txt").write_text("\n".join(lines))
    assert track(tmp_path / "listed", videos=(str(archive / "list.txt"),)) == 0
    assert files(tmp_path / "named") == files(tmp_path / "listed") == one_by_one


def test_shards_of_an_archive_are_put_together(
    track: Callable[..., int], one_by_one: dict[str, bytes], tmp_path: Path
) -> None:
    for number in (1, 2):
        assert track(tmp_path / "out", "--shard", f"{number}/2") == 0
    assert files(tmp_path / "out") == one_by_one
    assert leftovers(tmp_path / "out") == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_give_the_bytes_of_one(
    track: Callable[..., int], one_by_one: dict[str, bytes], tmp_path: Path
) -> None:
    assert track(tmp_path / "out", "--workers", "2", "--threads", "1") == 0
    assert files(tmp_path / "out") == one_by_one


def test_an_interrupted_archive_goes_on_with_the_videos_that_are_left(
    track: Callable[..., int],
    one_by_one: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import jointformer.evaluation.manyvideos as many

    calls = []

    def interrupted(*args: Any, **options: Any) -> object:
        calls.append(args[3])
        if len(calls) == 2:
            signal.raise_signal(signal.SIGINT)
        return label_any_video(*args, **options)

    monkeypatch.setattr(many, "label_any_video", interrupted)
    assert track(tmp_path / "out") == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line == "jointformer track: interrupted: 1 of 3 videos are finished; the same command goes on from there"
    assert [name for name in leftovers(tmp_path / "out") if ".part" in name] == []
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*/masks/*")}
    assert len(stamps) == LENGTHS["a"]
    assert track(tmp_path / "out") == 0
    assert len(calls) == 4, "the finished video is left alone"
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())
    assert files(tmp_path / "out") == one_by_one


@pytest.mark.parametrize("moment", ["load_model", "write", "__exit__"])
def test_an_interrupted_single_video_says_what_is_left_of_it(
    moment: str,
    track: Callable[..., int],
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import jointformer.model.weights
    from jointformer.data.writer import ResultWriter

    holder = jointformer.model.weights if moment == "load_model" else ResultWriter
    original = getattr(holder, moment)

    def interrupted(*args: Any, **options: Any) -> object:
        signal.raise_signal(signal.SIGINT)
        return original(*args, **options)

    monkeypatch.setattr(holder, moment, interrupted)
    masks = ("--masks", str(archive / "masks/a.png"))
    assert track(tmp_path / "out", *masks, videos=(str(archive / "videos/a"),)) == 130
    (line,) = capsys.readouterr().err.strip().splitlines()
    out = tmp_path / "out"
    if moment == "__exit__":
        assert line == f"jointformer track: interrupted, but {out}/masks and {out}/overlay.mp4 were finished before"
        assert len(list(out.rglob("*.*"))) == LENGTHS["a"] + 1
    else:
        said = "interrupted: nothing of this video was kept; the same command starts anew"
        assert line == f"jointformer track: {said}"
        assert list(out.rglob("*")) == []


@pytest.mark.parametrize("flags", [(), ("--output-format", "folder")])
def test_what_a_killed_run_left_of_a_single_video_goes(
    flags: tuple[str, ...], track: Callable[..., int], archive: Path, tmp_path: Path
) -> None:
    gone = temporary_name(tmp_path / "out/masks").name.replace(f"-{os.getpid()}-", "-4194999-")
    (tmp_path / "out" / gone).mkdir(parents=True)
    masks = ("--masks", str(archive / "masks/a.png"))
    assert track(tmp_path / "out", *masks, *flags, videos=(str(archive / "videos/a"),)) == 0
    assert leftovers(tmp_path / "out") == []


def test_a_damaged_video_and_one_without_masks_keep_no_other_waiting(
    track: Callable[..., int],
    archive: Path,
    one_by_one: dict[str, bytes],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(archive / "videos", tmp_path / "videos")
    (tmp_path / "videos/film.mp4").write_bytes(b"not a film")
    (tmp_path / "videos/a").rename(tmp_path / "videos/nobody")
    assert track(tmp_path / "out", videos=(str(tmp_path / "videos"),)) == 1
    err = capsys.readouterr().err
    assert re.search(r"^not finished: film: .*film\.mp4", err, re.MULTILINE)
    assert re.search(r"^not finished: nobody: .*masks: holds no masks of a video, expected nobody\.png", err, re.M)
    assert files(tmp_path / "out") == {name: data for name, data in one_by_one.items() if name.startswith("b/")}
    shutil.copy(archive / "videos/film.mp4", tmp_path / "videos/film.mp4")
    assert track(tmp_path / "out", videos=(str(tmp_path / "videos"),)) == 1
    made = files(tmp_path / "out")
    assert "film/overlay.mp4" in made
    capsys.readouterr()
    (tmp_path / "videos/film.mp4").write_bytes(b"not a film any more")  # what is finished needs it no longer
    assert track(tmp_path / "out", videos=(str(tmp_path / "videos"),)) == 1
    assert re.findall(r"^not finished: (\w+)", capsys.readouterr().err, re.M) == ["nobody"]
    assert files(tmp_path / "out") == made


def test_a_video_that_a_gpu_has_no_memory_for_is_tried_again_and_keeps_no_other_waiting(
    track: Callable[..., int],
    one_by_one: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tries, step = [], Engine.step

    def short_of_memory(engine: Engine, frame: Any, *, new_masks: Any = None, **options: Any) -> Any:
        if new_masks is not None and len(new_masks) == 2:  # a's objects
            tries.append(1)
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return step(engine, frame, new_masks=new_masks, **options)

    monkeypatch.setattr(Engine, "step", short_of_memory)
    assert track(tmp_path / "out") == 1
    err = capsys.readouterr().err
    assert re.search("^not finished: a: no memory left on the GPU, got CUDA out of memory. .*--objects-per", err, re.M)
    assert len(tries) == 3
    assert files(tmp_path / "out") == {name: data for name, data in one_by_one.items() if not name.startswith("a/")}


@pytest.mark.parametrize(
    ("changed", "said"),
    [("masks", r"\(masks\), expected \w+, got \w+"), ("frames", r"\(frames\), expected 6, got 5")],
    ids=["masks", "frames"],
)
def test_a_video_whose_input_changes_before_its_turn_fails_and_is_not_recorded_as_made_of_the_old_one(
    changed: str,
    said: str,
    track: Callable[..., int],
    archive: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    import jointformer.evaluation.manyvideos as many

    shutil.copytree(archive, tmp_path / "here")

    def meanwhile(*args: Any, **options: Any) -> object:
        if changed == "masks":
            write_mask(tmp_path / "here/masks/b/002.png", draw_ids((3,), 2))
        else:
            (tmp_path / "here/videos/b/005.png").unlink()
        monkeypatch.setattr(many, "label_any_video", label_any_video)
        return label_any_video(*args, **options)

    monkeypatch.setattr(many, "label_any_video", meanwhile)
    videos, masks = (str(tmp_path / "here/videos"),), ("--masks", str(tmp_path / "here/masks"))
    assert track(tmp_path / "out", *masks, videos=videos) == 1
    what = f"not finished: b: {videos[0]}/b: its input has changed since the run began "
    assert re.search(f"{re.escape(what)}{said}; run the same command again", capsys.readouterr().err)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".run", "a", "film", "run.json"]
    assert track(tmp_path / "out", *masks, videos=videos) == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_a_video_whose_name_is_no_unicode_is_tracked_as_others_are(
    track: Callable[..., int], archive: Path, one_by_one: dict[str, bytes], tmp_path: Path
) -> None:
    name = os.fsdecode(b"caf\xe9")
    for kind in ("videos", "masks"):
        shutil.copytree(archive / kind / "b", tmp_path / kind / name)
    for _ in range(2):  # the second time it is found finished
        assert track(tmp_path / "out", "--masks", str(tmp_path / "masks"), videos=(str(tmp_path / "videos"),)) == 0
        made = {path.name: path.read_bytes() for path in (tmp_path / "out" / name / "masks").iterdir()}
        assert made == {Path(key).name: data for key, data in one_by_one.items() if key.startswith("b/masks/")}
        assert name in json.loads((tmp_path / "out/run.json").read_text(encoding="utf-8"))["videos"]


@pytest.mark.skipif(os.sep == "\\", reason="such a name is a path there")
def test_a_video_whose_name_is_a_path_on_other_systems_is_refused_before_anything_is_written(
    track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    video = shutil.copytree(archive / "videos/b", tmp_path / "videos" / "b\\c")
    shutil.copytree(archive / "masks/b", tmp_path / "masks" / video.name)
    assert track(tmp_path / "out", "--masks", str(tmp_path / "masks"), videos=(str(video.parent),)) == 2
    assert f"{tmp_path}/out/b\\c: no video can be called b\\c, expected a name" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_other_settings_in_the_same_folder_are_refused_unless_overwritten(
    track: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out") == 0
    assert track(tmp_path / "out", "--topk", "5") == 2
    assert "another tracker.topk, expected 60, got 5" in capsys.readouterr().err
    assert track(tmp_path / "out", "--topk", "5", "--overwrite") == 0


def test_videos_that_are_not_named_stay_finished_where_others_are_overwritten(
    track: Callable[..., int], archive: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out"
    assert track(output) == 0
    before = json.loads((output / "run.json").read_text())["videos"]["film"]
    assert track(output, "--overwrite", videos=tuple(str(archive / "videos" / name) for name in "ab")) == 0
    assert json.loads((output / "run.json").read_text())["videos"]["film"] == before
    assert track(output) == 0


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_videos_and_masks_are_never_replaced(
    flags: tuple[str, ...], track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(archive, tmp_path / "here")
    before = files(tmp_path)
    videos = (str(tmp_path / "here/videos"),)
    masks = ("--masks", str(tmp_path / "here/masks"))
    assert track(tmp_path / "here/videos", *masks, *flags, videos=videos) == 2
    assert "videos/a: cannot be written: input is read from there" in capsys.readouterr().err
    assert track(tmp_path / "here/masks", *masks, *flags, videos=videos) == 2
    assert "masks/b: cannot be written: input is read from there" in capsys.readouterr().err
    assert track(tmp_path / "out", *masks, *flags, "--json", f"{videos[0]}/film.mp4", videos=videos) == 2
    assert "film.mp4: cannot be written: input is read from there" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_masks_of_a_damaged_video_are_never_replaced_either(
    track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(archive, tmp_path / "here")
    for frame in (tmp_path / "here/videos/b").iterdir():
        frame.write_bytes(b"not a picture")
    before, given = files(tmp_path), tmp_path / "here/masks"
    videos = (str(tmp_path / "here/videos"),)
    for _ in range(2):  # with masks of one video in two places it is not said which are right
        assert track(given, "--masks", str(given), "--overwrite", videos=videos) == 2
        assert "masks/b: cannot be written: input is read from there" in capsys.readouterr().err
        write_mask(given / "b.png", draw_ids((7,), 0))
    (given / "b.png").unlink()
    assert files(tmp_path) == before


def test_results_beside_the_masks_are_not_taken_for_masks(
    track: Callable[..., int], archive: Path, one_by_one: dict[str, bytes], tmp_path: Path
) -> None:
    shutil.copytree(archive / "masks", tmp_path / "out", ignore=shutil.ignore_patterns("b"))
    videos = tuple(str(archive / "videos" / name) for name in ("a", "film.mp4"))
    for flags in ((), (), ("--overwrite",)):
        assert track(tmp_path / "out", "--masks", str(tmp_path / "out"), *flags, videos=videos) == 0
        assert files(tmp_path / "out").items() >= {k: v for k, v in one_by_one.items() if k[:2] != "b/"}.items()


@pytest.mark.parametrize("flags", [(), ("--overwrite",)])
def test_the_root_of_all_files_is_no_video_whose_results_are_the_whole_output(
    flags: tuple[str, ...], track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.md").write_text("precious")
    (tmp_path / "list.txt").write_text(f"/\n{archive / 'videos/a'}\n")
    assert track(tmp_path / "out", *flags, videos=(str(tmp_path / "list.txt"),)) == 2
    assert "jointformer track: /: has no name for its folder of results" in capsys.readouterr().err
    assert (tmp_path / "out/notes.md").read_text() == "precious"


def test_a_budget_is_planned_for_every_video_and_changes_no_byte(
    track: Callable[..., int], one_by_one: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out", "--memory-budget", "64GB") == 0
    assert files(tmp_path / "out") == one_by_one
    assert track(tmp_path / "other", "--memory-budget", "100MB") == 2
    assert "the memory budget is too small" in capsys.readouterr().err


def test_figures_that_cannot_be_written_are_refused_before_anything_is_tracked(
    track: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert track(tmp_path / "out", "--json", str(tmp_path / "file/run.json")) == 2
    assert "file/run.json: cannot be written: a part of the path is a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_finished_video_that_has_lost_its_overlay_is_named(
    track: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out") == 0
    (tmp_path / "out/b/overlay.mp4").unlink()
    assert track(tmp_path / "out") == 2
    assert f"files of 1 finished videos are gone, got b {LENGTHS['b']} of 7" in capsys.readouterr().err


def test_one_video_by_itself_is_planned_as_it_is_among_many(
    track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    film, masks = str(archive / "videos/film.mp4"), str(archive / "masks/film.png")
    assert track(tmp_path / "out", "--masks", masks, "--memory-budget", "64GB", videos=(film,)) == 0
    assert re.search(r"memory: .* for film.mp4: .* a step with all objects at once", capsys.readouterr().err)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--shard", "1/2", "--overwrite"), "overwrite does not go with shard; empty the output folder"),
        (("--workers", "0"), "workers, expected 1 to 1024, got 0"),
        (("--when-late", "drop"), "--when-late is for one stream"),
        (("--on-bad-frame", "pray"), "--on-bad-frame, expected one of stop, skip, hold"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    flags: tuple[str, ...], message: str, track: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out", *flags) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_part_that_one_video_does_not_have_is_said_with_its_name(
    track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out", "--end", "5") == 2
    said = f"jointformer track: {archive}/videos/a: --start/--end, expected frame numbers from 0 to 2, start first, got"
    assert said in capsys.readouterr().err


def test_flags_for_many_are_refused_for_one(
    track: Callable[..., int], archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path / "out", "--workers", "2", videos=(str(archive / "videos/a"),)) == 2
    assert "--workers is for several videos" in capsys.readouterr().err


def test_a_rate_for_folders_says_which_videos_keep_their_own(
    archive: Path, mini_weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(archive / "videos" / name) for name in ("a", "film.mp4")]
    command = ["track", *given, "--masks", str(archive / "masks"), "-o", str(tmp_path / "out"), "--fps", "12"]
    assert main([*command, "--model", str(mini_weights), "--size", "-1", "--end", "0", "--no-overlay"]) == 0
    assert "--fps is for 1 of 2 videos; files keep their own rate: film\n" in capsys.readouterr().err


def test_lists_that_are_none_are_refused_with_their_line(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a\tb\tc\n")
    with pytest.raises(DataError, match=r"list\.txt:1: bad line, expected a video, or a video, a tab and its masks"):
        find_jobs([tmp_path / "list.txt"], None, Part())
    (tmp_path / "list.txt").write_text("\n\n")
    with pytest.raises(DataError, match="no videos"):
        find_jobs([tmp_path / "list.txt"], None, Part())
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(DataError, match="cannot be read, got not UTF-8"):
        find_jobs([tmp_path / "list.txt"], None, Part())
    (tmp_path / "list.txt").write_text("nothing.mp4\n")
    with pytest.raises(DataError, match="no masks are named for it"):
        find_jobs([tmp_path / "list.txt"], None, Part())


def test_a_video_that_is_not_there_is_said_to_lack_more_than_its_masks(archive: Path) -> None:
    first, second = find_jobs([archive / "videos/a", archive / "videos/gone.mp4"], archive / "masks", Part())
    assert (first.error, str(second.error)) == (None, f"{archive / 'videos/gone.mp4'}: no such file")


def test_two_videos_of_one_name_are_refused(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive / "videos/a", tmp_path / "a")
    with pytest.raises(DataError, match="two videos are called a"):
        find_jobs([archive / "videos/a", tmp_path / "a"], archive / "masks", Part())
    (tmp_path / "a").rename(tmp_path / "A")
    with pytest.raises(DataError, match="videos are called A and a"):
        find_jobs([archive / "videos/a", tmp_path / "A"], archive / "masks", Part())


def test_a_folders_name_is_kept_whole_and_a_file_loses_its_suffix(archive: Path, tmp_path: Path) -> None:
    shutil.copytree(archive / "videos/a", tmp_path / "take.v2")
    shutil.copy(archive / "videos/film.mp4", tmp_path / "take.v3.mp4")
    for name, mask in (("take.v2", "a"), ("take.v3", "film")):
        write_mask(tmp_path / f"masks/{name}.png", read_mask_file(archive / f"masks/{mask}.png").ids)
    jobs = find_jobs([tmp_path / "take.v2", tmp_path / "take.v3.mp4"], tmp_path / "masks", Part())
    assert [(job.name, job.error) for job in jobs] == [("take.v2", None), ("take.v3", None)]


def test_a_plan_counts_overlay_and_scores_only_where_they_are_written(archive: Path) -> None:
    (job,) = find_jobs([archive / "videos/b"], archive / "masks", Part(fps=Fraction(5)))
    assert (job.objects, job.tracked_frames, job.size) == (2, 6, (24, 32))
    assert job.memory_size(True).writing > job.memory_size(False).writing == 0
    assert job.memory_size(True, scores=True).writing > job.memory_size(True).writing


def test_a_name_in_a_list_that_the_system_refuses_keeps_no_other_waiting(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"{archive / 'videos/a'}\n{'x' * 300}\n")
    first, second = find_jobs([tmp_path / "list.txt"], archive / "masks", Part())
    assert first.error is None
    assert str(second.error).startswith(f"{tmp_path / ('x' * 300)}: cannot be opened, got ")


def test_a_folder_of_pictures_is_one_video_and_a_folder_of_those_are_many(archive: Path) -> None:
    assert not holds_videos(archive / "videos/a")
    assert holds_videos(archive / "videos")
    assert not holds_videos(archive / "masks/nothing")
    jobs = find_jobs([archive / "videos"], archive / "masks", Part(end=2))
    assert {job.name: job.tracked_frames for job in jobs} == {"a": 3, "b": 3, "film": 3}
    assert [job.name for job in Shard(1, 1).of(jobs)] == ["a", "b", "film"]
    assert np.prod(jobs[0].size) == 24 * 32
