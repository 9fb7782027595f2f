"""Parts of a run that know nothing of each other, and the whole put together."""

from __future__ import annotations

import dataclasses
import json
import shutil
import tracemalloc
import zipfile
from pathlib import Path

import pytest

from jointformer.cli.main import main
from jointformer.data.benchmarks import open_benchmark
from jointformer.evaluation.scale.claims import RUN
from jointformer.evaluation.scale.shards import Shard
from scale.scale_helpers import Runs, leftovers
from trees import make_tree
from watched import masks


@pytest.mark.parametrize("count", [1, 2, 3, 6, 9])
def test_every_video_is_in_one_part_and_the_parts_are_about_equal(runs: Runs, count: int) -> None:
    videos = open_benchmark("G", "val", "..", generic_path=runs.tree).videos
    parts = [Shard(number, count).of(videos) for number in range(1, count + 1)]
    assert sorted(v.name for part in parts for v in part) == [f"v{k}" for k in range(6)]
    assert parts == [Shard(number, count).of(videos) for number in range(1, count + 1)]
    loads = [sum(video.tracked_frames for video in part) for part in parts]
    assert max(loads) - min(loads) <= max(video.tracked_frames for video in videos)


def test_the_longest_goes_to_the_part_with_the_fewest_frames_in_whatever_order_videos_are_found(runs: Runs) -> None:
    videos = list(open_benchmark("G", "val", "..", generic_path=runs.tree).videos)
    videos[2] = dataclasses.replace(videos[4], name="a twin of v4")
    for found in (videos, videos[::-1]):
        parts = [{video.name for video in Shard(number, 3).of(found)} for number in (1, 2, 3)]
        assert parts == [{"v1", "v0"}, {"v5", "v4"}, {"v3", "a twin of v4"}], [v.tracked_frames for v in videos]


def test_parts_beyond_the_number_of_videos_are_empty_and_take_no_memory(runs: Runs) -> None:
    videos = open_benchmark("G", "val", "..", generic_path=runs.tree).videos
    tracemalloc.start()
    parts = [Shard(number, 100_000).of(videos) for number in (1, 2, 3, 4, 5, 6, 7, 100_000)]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert [[video.name for video in part] for part in parts] == [
        ["v1"],
        ["v5"],
        ["v3"],
        ["v4"],
        ["v0"],
        ["v2"],
        [],
        [],
    ]
    assert peak < 1 << 20


def test_shards_give_the_bytes_of_one_process_and_the_last_one_completes_the_run(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    for number in (2, 1, 3):
        assert runs.here(output, "--shard", f"{number}/3", "--threads", "1") == 0
        manifest = json.loads((output / "run.json").read_text())
        states = [video["state"] for video in manifest["videos"].values()]
        assert len(states) == 6
        if number == 2:
            assert main(["evaluate", "--merge", str(output)]) == 1
            err = capsys.readouterr().err
            assert err.count("not finished: ") == states.count("open") > 0
    assert set(states) == {"finished"}
    assert masks(output) == undisturbed
    assert leftovers(output) == []
    assert main(["evaluate", "--merge", str(output)]) == 0
    assert "6 of 6 videos are finished" in capsys.readouterr().err


def test_a_shard_with_other_settings_is_refused(runs: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert runs.here(tmp_path / "out", "--shard", "1/3", "--topk", "9") == 0
    assert runs.here(tmp_path / "out", "--shard", "2/3", "--topk", "10") == 2
    assert "another tracker.topk, expected 9, got 10" in capsys.readouterr().err


def test_a_video_removed_by_hand_is_found_and_made_again(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    assert runs.here(output, "--threads", "1") == 0
    shutil.rmtree(output / "v4")
    assert main(["evaluate", "--merge", str(output)]) == 1
    assert "not finished: v4" in capsys.readouterr().err
    assert runs.here(output, "--threads", "1") == 0
    assert masks(output) == undisturbed


def test_merging_makes_the_servers_zip_only_when_nothing_is_missing(tmp_path: Path, mini_weights: Path) -> None:
    tree = make_tree(tmp_path / "data", "MOSE")
    common = ["evaluate", "--dataset", "MOSE", "--data-root", str(tree.root), "--model", str(mini_weights)]
    common += ["-o", str(tmp_path / "out"), "--sizes", "24", "--precision", "float32", "--quiet"]
    assert main([*common, "--shard", "1/2"]) == 0
    assert not list((tmp_path / "out").glob("*.zip"))
    assert main([*common, "--shard", "2/2"]) == 0
    (archive,) = (tmp_path / "out").glob("*.zip")
    whole = archive.read_bytes()
    archive.unlink()
    assert main(["evaluate", "--merge", str(tmp_path / "out")]) == 0
    assert archive.read_bytes() == whole
    assert len(zipfile.ZipFile(archive).namelist()) == 12


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no run's manifest"),
        ("{", "not a run's manifest"),
        ("[]", "not a run's manifest"),
        ('{"settings": {}, "videos": {}}', "names no known benchmark"),
        ('{"settings": {}, "videos": {"a": 3}}', "not a run's manifest"),
        ('{"settings": {}, "videos": {"a": {"state": "finished", "frames": 1e999}}}', "not a run's manifest"),
        ('{"settings": {}, "videos": {"../a": {"state": "finished"}}}', "not a run's manifest"),
        ("[" * 100_000, "not a run's manifest"),
    ],
)
def test_a_damaged_manifest_is_one_line(
    content: str | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    assert main(["evaluate", "--merge", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_merging_takes_the_command_of_its_run_and_nothing_that_would_label(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    for flags in (["--shard", "1/2"], ["--overwrite"], ["--videos", "v1"], ["--workers", "2"], ["--ray", "auto"]):
        assert main(["evaluate", "--merge", str(output), *flags]) == 2
        assert f"{flags[0]} does not go with --merge" in capsys.readouterr().err
    assert main(["evaluate", "--merge", str(output), "-o", str(tmp_path)]) == 2
    assert "--merge and --output name two folders" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize("place", ["run.json", f"{RUN}/x.json"])
def test_a_strangers_run_packs_nothing_from_beside_it(place: str, tmp_path: Path) -> None:
    (tmp_path / "private").mkdir()
    (tmp_path / "private" / "key").write_text("secret")
    output = tmp_path / "out"
    (output / RUN).mkdir(parents=True)
    record = {"run": "a", "state": "finished", "video": "../private"}
    videos = {record["video"]: record} if place == "run.json" else {}
    settings = {"dataset": "D17", "split": "test"}
    manifest = {"run": "a", "settings": settings, "dataset_videos": 1, "videos": videos}
    (output / "run.json").write_text(json.dumps(manifest))
    if not videos:
        (output / place).write_text(json.dumps(record))
    main(["evaluate", "--merge", str(output)])
    assert not list(output.glob("*.zip"))
