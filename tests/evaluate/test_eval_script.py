"""eval.py over tiny trees of every published layout."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jointformer.cli.main import main as cli_main
from jointformer.cli.published import main
from jointformer.data.benchmark_rows import BENCHMARKS
from jointformer.data.benchmarks import Dataset
from jointformer.data.frames import picture_size
from jointformer.data.masks import read_mask_file, read_scores
from jointformer.data.sources import VideoSource
from jointformer.errors import ConfigError
from jointformer.evaluation.scale.label import BenchmarkWork
from jointformer.evaluation.scale.manifest import VideoRecord
from trees import HEIGHT, WIDTH, Tree, make_tree

ROWS = sorted(BENCHMARKS)


def run(tree: Tree, weights: Path, output: Path, *more: str) -> int:
    root = ["--generic_path" if tree.key == "G" else "--data_root", str(tree.root)]
    return main(
        ["--model", str(weights), "--dataset", tree.key, "--split", tree.split, *root, "--output", str(output),
         "--precision", "float32", "--quiet", *more]
    )  # fmt: skip


@pytest.mark.parametrize(("key", "split"), ROWS)
def test_every_layout_runs_and_writes_the_frames_its_scorer_wants(
    key: str, split: str, tmp_path: Path, mini_weights: Path
) -> None:
    tree = make_tree(tmp_path / "data", key, split)
    output = tmp_path / "out"
    size = () if key in ("D16", "D17") else ("--size", "24")
    assert run(tree, mini_weights, output, *size) == 0
    row = BENCHMARKS[key, split]
    for name, video in tree.videos.items():
        folder = output / row.output_folder / name
        saved = video.saved[video.saved.index(next(iter(video.masks))) :] if key == "G" else video.saved
        assert {p.name for p in folder.iterdir()} == {f"{frame}.png" for frame in saved}
        known: set[int] = set()
        for frame in video.frames:
            known |= set(video.masks.get(frame, ()))
            if frame in saved:
                with Image.open(folder / f"{frame}.png") as mask:
                    assert mask.mode == "P"
                    assert set(np.unique(np.asarray(mask))) <= known | {0}, "only the data's own ids"
    manifest = json.loads((output / "run.json").read_text())
    assert set(manifest["videos"]) == set(tree.videos)
    assert manifest["frames"] > 0
    assert manifest["fps"] > 0
    zips = list(output.glob("*.zip"))
    assert bool(zips) == row.zips_masks
    for archive in zips:
        with zipfile.ZipFile(archive) as opened:
            names = opened.namelist()
        prefix = "Annotations/" if row.zip_holds == "Annotations" else ""
        expected = {f"{prefix}{name}/{frame}.png" for name, video in tree.videos.items() for frame in video.saved}
        assert set(names) == expected


@pytest.mark.parametrize(("sizes", "scale"), [("480", 1), ("480,600", 2), ("-1", 2), ("480,-1", 2), ("-1,480", 2)])
def test_frames_of_davis_are_read_in_full_resolution_where_their_own_size_is_one_of_several(
    sizes: str, scale: int, tmp_path: Path, mini_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "data", "D17", full_resolution="Full-Resolution")
    opened: list[tuple[int, int]] = []

    def stop(model: object, dataset: Dataset, *_: object, **__: object) -> None:
        opened.extend(video.size for video in dataset.videos)
        raise ConfigError("enough is known")

    monkeypatch.setattr("jointformer.evaluation.runner.evaluate", stop)
    assert run(tree, mini_weights, tmp_path / "out", f"--sizes={sizes}") == 2
    assert set(opened) == {(scale * HEIGHT, scale * WIDTH)}


def test_all_frames_are_no_archive_where_the_server_wants_some(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, output = make_tree(tmp_path / "data", "Y19"), tmp_path / "out"
    assert run(tree, mini_weights, output, "--size", "24", "--save_all") == 0
    assert len(list(output.rglob("*.png"))) == sum(len(video.frames) for video in tree.videos.values()) - 1
    assert not list(output.glob("*.zip"))
    command = f"jointformer submit pack Y19 {output} --split val --data-root {tree.root}"
    note = f"note: there is no zip, as it would hold frames that are not scored; `{command}` makes the archive"
    assert capsys.readouterr().err.splitlines()[-1] == note
    assert cli_main([*command.split()[1:], "-o", str(tmp_path / "y19.zip")]) == 0
    assert run(tree, mini_weights, tmp_path / "one", "--size", "24", "--save_all", "--videos", min(tree.videos)) == 0
    assert "submit pack" not in capsys.readouterr().err, "a part of the videos is nothing to pack"


def test_an_archive_without_frames_that_lvos_asks_for_is_said_to_be_that(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "LVOS", "test")
    assert run(tree, mini_weights, tmp_path / "whole", "--size", "24") == 0
    assert "submit pack" not in capsys.readouterr().err
    (tree.masks / "0tCWPOrc/00000006.png").unlink()
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 0
    note = (
        "note: there are no masks of frames before the first given one, which LVOS asks for; `jointformer submit pack"
    )
    assert capsys.readouterr().err.splitlines()[-1].startswith(note)


def test_the_given_mask_is_the_first_result(tmp_path: Path, mini_weights: Path) -> None:
    tree = make_tree(tmp_path / "data", "G")
    assert run(tree, mini_weights, tmp_path / "out", "--size", "-1") == 0
    name, video = next((n, v) for n, v in tree.videos.items() if 255 not in next(iter(v.masks.values())))
    first = next(iter(video.masks))
    given = read_mask_file(tree.masks / name / f"{first}.png").ids
    assert np.array_equal(given, read_mask_file(tmp_path / "out" / name / f"{first}.png").ids)


def test_an_interrupted_run_goes_on_with_the_unfinished_videos_and_gives_the_same_bytes(
    tmp_path: Path, mini_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    assert run(tree, mini_weights, tmp_path / "whole", "--size", "24") == 0
    original = BenchmarkWork.label_claimed
    calls: list[str] = []

    def interrupted(work: BenchmarkWork, model: Any, video: VideoSource, *args: Any, **options: Any) -> VideoRecord:
        calls.append(video.name)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return original(work, model, video, *args, **options)

    monkeypatch.setattr(BenchmarkWork, "label_claimed", interrupted)
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 130
    monkeypatch.setattr(BenchmarkWork, "label_claimed", original)
    finished = tmp_path / "out" / calls[0]
    stamps = {p: p.stat().st_mtime_ns for p in finished.iterdir()}
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 0
    assert all(p.stat().st_mtime_ns == stamp for p, stamp in stamps.items()), "finished videos are left alone"
    for path in (tmp_path / "whole").rglob("*.png"):
        assert path.read_bytes() == (tmp_path / "out" / path.relative_to(tmp_path / "whole")).read_bytes()


def test_a_folder_with_results_of_other_settings_is_refused(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 0
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24", "--topk_num", "7") == 2
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "another tracker.topk, expected 30, got 7" in message
    assert "--overwrite" in message
    assert run(tree, mini_weights, tmp_path / "out", "--sizes", "24,32", "--flip") == 2
    said = "another size or view, expected 24, got 24, 24 mirrored, 32, 32 mirrored; choose"
    assert said in capsys.readouterr().err
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24", "--topk_num", "7", "--overwrite") == 0


def test_given_masks_are_never_replaced(tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tree = make_tree(tmp_path / "data", "G", "val")
    before = {path: path.read_bytes() for path in tree.root.rglob("*.*")}
    command = ["evaluate", "--dataset", "G", "--generic-path", str(tree.root)]
    for more in ([], ["--overwrite"]):
        target = ["-o", str(tree.root / "Annotations"), "--model", str(mini_weights), "--quiet"]
        assert cli_main([*command, *target, *more]) == 2
        assert "cannot be written: input is read from there" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tree.root.rglob("*.*")} == before


def test_eval_says_when_its_settings_are_not_the_published_ones(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    run(tree, mini_weights, tmp_path / "out", "--size", "24")
    assert "published MOSE rows used --max_memory_frames 3 --topk_num 180" in capsys.readouterr().err
    run(tree, mini_weights, tmp_path / "out2", "--size", "24", "--max_memory_frames", "3", "--topk_num", "180")
    assert "published" not in capsys.readouterr().err


def test_flipped_and_multi_scale_views_are_averaged_in_one_run(tmp_path: Path, mini_weights: Path) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    options = ("--save_scores", "--videos", next(iter(tree.videos)))
    for name, flags in {
        "plain": ("--size", "24"),
        "flip": ("--size", "24", "--flip"),
        "large": ("--size", "32"),
        "large_flip": ("--size", "32", "--flip"),
        "all": ("--sizes", "24,32", "--flip"),
    }.items():
        assert run(tree, mini_weights, tmp_path / name, *flags, *options) == 0
    video = tree.videos[options[2]]
    for frame in video.saved:
        scores = {
            name: read_scores(tmp_path / name / "Scores" / options[2] / f"{frame}.npz")[1]
            for name in ("plain", "flip", "large", "large_flip", "all")
        }
        mean = (scores["plain"] + scores["flip"] + scores["large"] + scores["large_flip"]) / 4
        np.testing.assert_allclose(scores["all"], mean, atol=2e-3)


@pytest.mark.parametrize("more", [(), ("--flip",), ("--sizes", "32,40", "--flip")])
@pytest.mark.parametrize("key", ["D16", "D17"])
def test_davis_in_another_size_is_read_in_full_and_saved_at_480p(
    key: str, more: tuple[str, ...], tmp_path: Path, mini_weights: Path
) -> None:
    tree = make_tree(tmp_path / "data", key, full_resolution="Full-Resolution")  # masks are in 480p only
    assert run(tree, mini_weights, tmp_path / "out", "--size", "32", *more) == 0
    for name, video in tree.videos.items():
        folder = tmp_path / "out" / name
        assert {picture_size(folder / f"{frame}.png") for frame in video.saved} == {(HEIGHT, WIDTH)}
        first = read_mask_file(folder / f"{video.saved[0]}.png").ids
        assert (first == read_mask_file(tree.masks / name / f"{video.saved[0]}.png").ids).mean() > 0.95


def test_a_depth_that_the_weights_do_not_have_is_refused(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    assert run(tree, mini_weights, tmp_path / "out", "--update_block_depth", "3") == 2
    assert "--update_block_depth: expected 2" in capsys.readouterr().err.replace(", expected", ": expected")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--dataset", "D18"), "unknown dataset"),
        (("--split", "train"), "no such split"),
        (("--topk_num", "0"), "--topk_num, expected 1 or more, got 0; --topk_block None keeps all keys"),
        (("--size", "5"), "size"),
        (("--max_memory_frames", "-1"), "max_memory_frames"),
        (("--mem_every", "0"), "memory_every"),
        (("--topk_range", "some"), "topk range"),
        (("--model", "s0123"), "s012"),
        (("--videos", "nothing"), "no video 'nothing'"),
        (("--data_root", "/nowhere"), "no such folder"),
        (("--device", "tpu"), "device"),
        (("--precision", "int8"), "precision"),
        (("--sizes", "24,x"), "--sizes"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    flags: tuple[str, str], message: str, tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24", *flags) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "note:" not in line]
    assert len(lines) == 1
    assert message in lines[0]
    assert not list((tmp_path).glob("out/*.png"))


def test_no_permission_to_write_is_one_line(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    tree = make_tree(tmp_path / "data", "MOSE")
    original = Path.mkdir

    def refuse(path: Path, *args: Any, **options: Any) -> None:
        if "out" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        original(path, *args, **options)

    monkeypatch.setattr(Path, "mkdir", refuse)  # Python 3.10 looks os.mkdir up once, when pathlib is imported
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 2
    assert "no permission to write" in capsys.readouterr().err


def test_a_full_disk_loses_no_finished_video(
    tmp_path: Path, mini_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno
    import os

    tree = make_tree(tmp_path / "data", "MOSE")
    original = os.replace
    count: list[Path] = []

    def full(source: Path, target: Path) -> None:
        count.append(target)
        if len(count) > 10:
            raise OSError(errno.ENOSPC, "No space left on device", str(target))
        original(source, target)

    monkeypatch.setattr(os, "replace", full)
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 2
    assert "disk is full" in capsys.readouterr().err
    monkeypatch.setattr(os, "replace", original)
    (done,) = (p for p in (tmp_path / "out").iterdir() if p.is_dir() and p.name != ".run")
    stamp = done.stat().st_mtime_ns
    assert run(tree, mini_weights, tmp_path / "out", "--size", "24") == 0
    assert done.stat().st_mtime_ns == stamp
    assert len([p for p in (tmp_path / "out").iterdir() if p.is_dir()]) == len(tree.videos)
