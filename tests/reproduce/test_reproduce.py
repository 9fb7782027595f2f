"""Published rows from nothing to the compared table, cut off and continued, with every missing piece named."""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointformer.cli.main import main
from jointformer.data.published import published_rows
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.reproduce import Options
from jointformer.evaluation.reproduce_parts import caught_up
from jointformer.evaluation.reproduce_result import RowResult
from jointformer.evaluation.reproduce_rows import row_name, select_rows, truth_piece, weights_piece
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.run import Scale
from jointformer.evaluation.scale.shards import Shard
from jointformer.model.network import JointFormer, SegmentOutput
from trees import LENGTH, Tree
from weights.conftest_weights import Server


def command(tree: Tree, output: Path, *more: str) -> list[str]:
    """A command line over a tiny tree, at a size that takes no time."""
    paths = ["--data-root", str(tree.root), "--output", str(output), "--json", str(output) + ".json", "--size", "24"]
    return ["reproduce", *paths, "--precision", "float32", "--device", "cpu", "--quiet", *more]


def report(output: Path) -> list[dict]:
    return json.loads(output.with_name(output.name + ".json").read_text())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*.png"))}


def test_a_row_comes_from_nothing_to_the_compared_table(
    whole_tree: Callable[..., Tree], release: Server, home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = whole_tree("D17", full_resolution="Full-Resolution")
    output = tmp_path / "out"
    markdown = tmp_path / "report/table.md"
    assert main(command(tree, output, "d17-val/s012", "--markdown", str(markdown))) == 0
    assert [path for path, _ in release.asked] == ["/jointformer_s012.pth"]
    assert (home / "jointformer_s012.pth").is_file()
    (row,) = report(output)
    assert row["status"] == "scored"
    assert (row["max_memory_frames"], row["topk"]) == (1, 60)
    assert row["published"] == {"J&F": 90.1, "J": 87.0, "F": 93.2}
    settings = json.loads((output / "d17-val/s012/run.json").read_text())["settings"]
    assert (settings["tracker"]["max_memory_frames"], settings["tracker"]["topk"]) == (1, 60)
    for figure in ("J&F", "J", "F"):
        assert 0 <= row["ours"][figure] <= 100
        assert row["difference"][figure] == pytest.approx(row["ours"][figure] - row["published"][figure])
    text = capsys.readouterr().out
    assert [line.split()[:4] for line in text.splitlines()[1:2]] == [
        ["d17-val/s012", "J&F", "90.1", f"{row['ours']['J&F']:.2f}"]
    ]
    assert row["notes"][0] == "shorter side 24 instead of the published 480"
    line = f"| d17-val/s012 | F | 93.2 | {row['ours']['F']:.2f} | {row['difference']['F']:+.2f} |"
    assert line in markdown.read_text()
    # The figures are the scorer's own, on the masks that lie there.
    scored = tmp_path / "scores.json"
    truth = ["--annotations", str(tree.root / "DAVIS/2017/trainval"), "--json", str(scored)]
    assert main(["score", "D17", *truth, "--predictions", str(output / "d17-val/s012")]) == 0
    assert row["ours"]["J"] == 100 * json.loads(scored.read_text())["figures"]["J"]


def test_a_run_that_was_cut_off_goes_on_and_ends_with_the_same_masks_and_figures(
    whole_tree: Callable[..., Tree],
    release: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = whole_tree("VOST")
    assert main(command(tree, tmp_path / "whole", "vost-val/s24")) == 0
    original, calls = JointFormer.segment, []

    def interrupted(network: JointFormer, *args: Any, **options: Any) -> SegmentOutput:
        calls.append(1)
        if len(calls) == LENGTH + 1:  # a video takes one call less than it has frames: this is in the second one
            raise KeyboardInterrupt
        return original(network, *args, **options)

    monkeypatch.setattr(JointFormer, "segment", interrupted)
    assert main(command(tree, tmp_path / "cut", "vost-val/s24")) == 130
    assert [path.name for path in (tmp_path / "cut/vost-val/s24").glob("[!.]*") if path.is_dir()] == ["1_cut_apple"]
    calls = [0] * LENGTH * 2
    assert main(command(tree, tmp_path / "cut", "vost-val/s24")) == 0
    assert len(calls) == 2 * LENGTH + LENGTH - 1, "the finished video is not run again"
    assert contents(tmp_path / "cut") == contents(tmp_path / "whole")
    assert report(tmp_path / "cut")[0]["ours"] == report(tmp_path / "whole")[0]["ours"]
    assert [path for path, _ in release.asked] == ["/jointformer_s24.pth"], "weights are fetched once"
    assert set(report(tmp_path / "cut")[0]["ours"]) == {"J", "J_tr", "Delta_tr"}


@pytest.mark.slow
def test_the_published_size_is_the_default_and_needs_no_note(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    line = command(whole_tree("D17"), tmp_path / "out", "d17-val/s012")
    at = line.index("--size")
    assert main(line[:at] + line[at + 2 :]) == 0
    settings = json.loads((tmp_path / "out/d17-val/s012/run.json").read_text())["settings"]
    assert settings["views"] == [{"size": 480, "flipped": False}]
    assert not any("instead of" in note for note in report(tmp_path / "out")[0]["notes"])


@pytest.mark.slow
def test_a_killed_process_leaves_whole_videos_and_the_next_one_goes_on(
    whole_tree: Callable[..., Tree], release: Server, home: Path, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    output = tmp_path / "out"
    line = command(tree, output, "vost-val/s24")
    line[line.index("--size") + 1] = "240"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    first = output / "vost-val/s24/1_cut_apple"
    # The second video is taken by somebody else until the process is dead, so it cannot finish before, however slow
    # we are.
    with RunFolder(output / "vost-val/s24").claim("2_break_egg") as mine:
        assert mine
        process = subprocess.Popen([sys.executable, "-m", "jointformer", *line], env=environment)
        while not first.is_dir() and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert first.is_dir()
    assert not (output / "vost-val/s24/2_break_egg").exists()
    before = {path: path.stat().st_mtime_ns for path in first.iterdir()}
    assert main(line) == 0
    assert {path: path.stat().st_mtime_ns for path in first.iterdir()} == before
    assert report(output)[0]["status"] == "scored"
    assert not list(output.rglob("*.part*"))


def test_weights_whose_download_broke_off_are_resumed(
    whole_tree: Callable[..., Tree], release: Server, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = whole_tree("VOST")
    monkeypatch.setattr("jointformer.model.download.ATTEMPTS", 1)
    release.cut = [5000, 0]
    assert main(command(tree, tmp_path / "out", "vost-val/s24")) == 2
    (row,) = report(tmp_path / "out")
    assert row["status"] == "failed"
    assert "5,000 bytes have arrived and are kept" in row["notes"][0]
    assert main(command(tree, tmp_path / "out", "vost-val/s24")) == 0
    assert release.asked[-1] == ("/jointformer_s24.pth", "bytes=5000-")


@pytest.mark.parametrize(("key", "split", "name"), [("MOSE", "val", "mose-val/s5"), ("LVOS", "test", "lvos-test/s012")])
def test_where_the_truth_is_with_a_server_the_archive_is_checked_and_packed(
    key: str,
    split: str,
    name: str,
    whole_tree: Callable[..., Tree],
    release: Server,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = whole_tree(key, split)
    if key == "LVOS":
        # The object's range begins before its first mask: the runner starts later, the server wants a file.
        (tree.masks / "0tCWPOrc/00000006.png").unlink()
        for path in sorted((tree.masks / "0tCWPOrc").iterdir())[:1]:
            path.unlink()
    assert main(command(tree, tmp_path / "out", name)) == 0
    (row,) = report(tmp_path / "out")
    assert row["status"] == "packed"
    assert row["ours"] == {}
    assert [str(path) for path in (tmp_path / "out").rglob("*.zip")] == [row["archive"]]  # none to be taken for it
    with zipfile.ZipFile(row["archive"]) as archive:
        names = archive.namelist()
    inside = "Annotations/" if key == "LVOS" else ""
    wanted = {f"{inside}{video}/{frame}.png" for video, content in tree.videos.items() for frame in content.saved}
    assert set(names) == wanted
    text = " ".join(row["notes"])
    assert f"upload {row['archive']} to https://codalab" in text
    assert ("packed as empty masks: 1 (0tCWPOrc/00000006.png)" in text) == (key == "LVOS")
    assert "shorter side 24 instead of the published 480" in text
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith(name))
    assert line.split()[-2:] == ["-", "-"]


def test_frames_before_the_first_given_mask_are_empty_in_our_own_masks(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("LVOS")
    # The objects' ranges begin before their first mask: our run writes no files of those frames.
    given = tree.masks / "0tCWPOrc"
    (given / "00000006.png").rename(given / "00000016.png")
    (given / "00000011.png").unlink()
    assert main(command(tree, tmp_path / "out", "lvos-val/s012")) == 0
    (row,) = report(tmp_path / "out")
    assert row["status"] == "scored"
    assert "frames before the first given mask, scored as empty masks: 1 (0tCWPOrc/00000011.png)" in row["notes"]
    line = ["score", "lvos", "--annotations", str(tree.root / "LVOS/valid"), "--quiet", "--predictions"]
    assert main([*line, str(tmp_path / "out/lvos-val/s012")]) == 2, "anybody else's masks may lack nothing"


def test_no_archive_of_earlier_masks_outlives_a_run_that_overwrites_them(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("MOSE", "val")
    assert main(command(tree, tmp_path / "out", "mose-val/s5")) == 0
    (archive,) = (tmp_path / "out").rglob("*.zip")
    assert archive == Path(report(tmp_path / "out")[0]["archive"])
    sorted((tree.images / "4e5f6a7b").iterdir())[3].write_bytes(b"")
    assert main(command(tree, tmp_path / "out", "mose-val/s5", "--overwrite")) == 2
    assert report(tmp_path / "out")[0]["status"] == "failed"
    assert list((tmp_path / "out").rglob("*.zip")) == []


def test_a_run_that_may_not_overwrite_leaves_the_archive_of_the_earlier_one(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("MOSE", "val")
    assert main(command(tree, tmp_path / "out", "mose-val/s5")) == 0
    before = {path: path.read_bytes() for path in (tmp_path / "out/mose-val").rglob("*") if path.is_file()}
    assert main(command(tree, tmp_path / "out", "mose-val/s5", "--overwrite", "--memory-budget", "100MB")) == 2
    assert "the memory budget is too small" in report(tmp_path / "out")[0]["notes"][0]
    assert {path: path.read_bytes() for path in (tmp_path / "out/mose-val").rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("flag", ["--json", "--markdown"])
def test_a_report_that_cannot_be_written_is_refused_before_anything_runs(
    flag: str, release: Server, whole_tree: Callable[..., Tree], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    line = command(whole_tree("D17"), tmp_path / "out", "d17-val/s012")
    assert main([*line, flag, str(tmp_path / "file/report")]) == 2
    assert "file/report: cannot be written: a part of the path is a file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert release.asked == []


def test_a_dry_run_names_every_missing_piece_and_does_nothing(
    tmp_path: Path, release: Server, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").mkdir()
    line = ["reproduce", "lvos-val/s012", "y19-val/s02", "--data-root", str(tmp_path / "data"), "--dry-run"]
    assert main([*line, "--output", str(tmp_path / "out"), "--json", "-"]) == 2
    rows = {row["row"]: row for row in json.loads(capsys.readouterr().out)}
    lvos = {piece["what"]: (piece["state"], piece["text"]) for piece in rows["lvos-val/s012"]["pieces"]}
    assert lvos["weights s012"] == ("to fetch", f"{release.base}/jointformer_s012.pth")
    state, text = lvos["frames and masks"]
    assert state == "missing"
    assert "LVOS/valid/JPEGImages" in text
    assert "https://lingyihongfd.github.io" in text
    state, text = lvos["truth"]
    assert state == "missing"
    assert "LVOS/valid/Annotations" in text
    assert "truth" not in {piece["what"] for piece in rows["y19-val/s02"]["pieces"]}, "it is with the server"
    assert release.asked == []
    assert not (tmp_path / "out").exists()
    assert not home.exists()


def test_a_dry_run_with_everything_there_says_so(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = whole_tree("VISOR")
    assert main(command(tree, tmp_path / "out", "visor-val", "--dry-run")) == 0
    text = capsys.readouterr().out
    assert text.count("planned") == 2
    assert "frames and masks: here, 2 videos of VISOR val" in text


def test_rows_with_missing_pieces_do_not_stop_the_others(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    assert main(command(tree, tmp_path / "out", "d17-val/s012", "vost-val")) == 2
    found = {row["row"]: row["status"] for row in report(tmp_path / "out")}
    assert found == {"d17-val/s012": "missing", "vost-val/s24": "scored", "vost-val/s024": "failed"}
    notes = {row["row"]: row["notes"] for row in report(tmp_path / "out")}
    assert "jointformer_s024.pth: cannot be downloaded, got HTTP 404" in notes["vost-val/s024"][0]


def test_annotations_that_are_first_masks_only_are_noticed_before_anything_runs(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    for folder in tree.masks.iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    assert main(command(tree, tmp_path / "out", "vost-val/s24")) == 2
    (row,) = report(tmp_path / "out")
    assert row["status"] == "missing"
    assert any("only first masks, nothing to score" in piece["text"] for piece in row["pieces"])
    assert release.asked == []


def test_annotations_that_are_not_whole_are_noticed_before_anything_runs(whole_tree: Callable[..., Tree]) -> None:
    root = whole_tree("LVOS").root
    mask = sorted((root / "LVOS/valid/Annotations").glob("*/*.png"))[2]
    burst = whole_tree("BURST").root / "BURST/val/all_classes.json"
    for row, file, said in (
        ("lvos-val/s012", mask, f"annotations missing: 1 ({mask.parent.name}/{mask.name})"),
        ("burst-val/s012", burst, "all_classes.json: not a json file"),
    ):
        (published,) = select_rows([row])
        assert truth_piece(published, root).state == "here"
        file.rename(file.with_suffix(".lost"))
        if file == burst:
            file.write_text("{")
        piece = truth_piece(published, root)
        assert piece.state == "missing"
        assert said in piece.text


def test_other_weights_run_with_the_rows_settings_and_say_so(
    whole_tree: Callable[..., Tree], release: Server, mini_bytes: bytes, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    (tmp_path / "run7").mkdir()
    (tmp_path / "run7/weights.pth").write_bytes(mini_bytes)
    assert main(command(tree, tmp_path / "out", "vost-val/s24", "--model", str(tmp_path / "run7/weights.pth"))) == 0
    (row,) = report(tmp_path / "out")
    assert row["masks"].endswith("vost-val/s24@run7-weights")  # not that of other runs' weights.pth
    assert any("instead of the row's own" in note for note in row["notes"])
    assert release.asked == []
    assert main(command(tree, tmp_path / "out", "vost-val/s24", "--model", str(tmp_path / "none.pth"))) == 2
    assert report(tmp_path / "out")[0]["pieces"][0]["state"] == "missing"


def test_weights_are_looked_for_where_they_will_be_loaded_from(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    Path("s012").touch()  # a bare name is the published file's all the same
    Path("own.pth").touch()
    states = {name: weights_piece(name).state for name in ("tiny", "s012", "own.pth", "~/own.pth", "none.pth")}
    assert states == {"tiny": "here", "s012": "to fetch", "own.pth": "here", "~/own.pth": "here", "none.pth": "missing"}


def test_the_list_has_every_published_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "--list", "--json", str(tmp_path / "rows.json")]) == 0
    assert len(json.loads((tmp_path / "rows.json").read_text())) == 33
    lines = capsys.readouterr().out.splitlines()[1:]
    assert len(lines) == len(published_rows()) == 33
    assert lines[2].split()[0] == "d17-val/s012"
    assert lines[2].endswith("1     60  J&F 90.1, J 87.0, F 93.2")


def test_listing_rows_does_not_wait_for_pytorch() -> None:
    code = "import sys, jointformer.cli.main as c; c.main(['reproduce', '--list']); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize(
    ("pattern", "count"),
    [("d17-val/s012", 1), ("D17-val", 3), ("d17", 6), ("s24", 1), ("lvos-*/s02*", 4), ("*-test/*", 10), ("mose", 3)],
)
def test_rows_are_chosen_by_name_benchmark_weights_or_pattern(pattern: str, count: int) -> None:
    assert len(select_rows([pattern])) == count


def test_every_row_has_a_name_of_its_own_and_a_wrong_one_a_hint() -> None:
    assert len({row_name(row) for row in published_rows()}) == 33
    assert len(select_rows()) == 33
    with pytest.raises(ConfigError, match=r"did you mean d17-val/s012\?"):
        select_rows(["d17-vla/s012"])


def test_settings_that_cannot_be_are_refused() -> None:
    assert Options(workers=1).workers == 1
    with pytest.raises(ConfigError, match="workers: too few processes, expected at least 1, got 0"):
        Options(workers=0)
    with pytest.raises(ConfigError, match="overwrite does not go with shard"):
        Options(overwrite=True, scale=Scale(shard=Shard(1, 2)))


def test_shards_of_a_row_are_scored_by_the_last_one(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    assert main(command(tree, tmp_path / "whole", "vost-val/s24")) == 0
    assert main(command(tree, tmp_path / "out", "vost-val/s24", "--shard", "2/2")) == 0
    (row,) = report(tmp_path / "out")
    assert row["status"] == "open"
    assert row["notes"][0].startswith("1 of 2 videos are finished; scored by the part that finishes the last one")
    assert main(command(tree, tmp_path / "out", "vost-val/s24", "--shard", "1/2", "--memory-budget", "64GB")) == 0
    assert report(tmp_path / "out")[0]["ours"] == report(tmp_path / "whole")[0]["ours"]
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


@pytest.mark.parametrize("moment", ["jointformer.evaluation.reproduce.evaluate", "jointformer.cli.reproduce._write"])
def test_parts_that_end_at_once_share_a_report_and_no_open_row_replaces_a_scored_one(
    moment: str,
    whole_tree: Callable[..., Tree],
    release: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tree = whole_tree("VOST")
    markdown = tmp_path / "table.md"
    line = command(tree, tmp_path / "out", "vost-val/s24", "--markdown", str(markdown))
    modules, _, name = moment.rpartition(".")
    original = getattr(importlib.import_module(modules), name)

    def while_the_other_part_ends(*args: Any, **options: Any) -> Any:
        """Another part labels the last video, scores the row and reports: before or after this one has looked."""
        monkeypatch.setattr(moment, original)
        made = original(*args, **options) if name == "evaluate" else None
        assert main([*line, "--shard", "1/2"]) == 0
        assert report(tmp_path / "out")[0]["status"] == "scored"
        return original(*args, **options) if made is None else made

    monkeypatch.setattr(moment, while_the_other_part_ends)
    assert main([*line, "--shard", "2/2"]) == 0
    (row,) = report(tmp_path / "out")
    assert row["status"] == "scored"
    assert set(row["ours"]) == {"J", "J_tr", "Delta_tr"}
    assert "**vost-val/s24**: scored" in markdown.read_text()
    tables = capsys.readouterr().out.split("row  ")
    assert tables[1] == tables[2], "both parts print the same figures"


def test_a_parts_row_stays_open_where_only_an_earlier_run_was_scored(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    line = command(tree, tmp_path / "out", "vost-val/s24")
    assert main(line) == 0
    shutil.rmtree(tmp_path / "out/vost-val/s24/1_cut_apple")  # to be made anew, in the same run
    assert main([*line, "--shard", "2/2"]) == 0
    assert report(tmp_path / "out")[0]["status"] == "open"
    for made in ("run.json", "1_cut_apple", "2_break_egg"):
        path = tmp_path / "out/vost-val/s24" / made
        shutil.rmtree(path, ignore_errors=True)
        path.unlink(missing_ok=True)
    assert main([*line, "--shard", "2/2"]) == 0
    assert report(tmp_path / "out")[0]["status"] == "open"


def test_a_row_that_cannot_be_scored_is_failed_for_all_its_parts(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = whole_tree("VOST")
    line = command(tree, tmp_path / "out", "vost-val/s24")

    def refuse(*_: Any, **__: Any) -> Any:
        raise DataError("annotations cannot be read")

    monkeypatch.setattr("jointformer.evaluation.reproduce.score", refuse)
    assert main(line) == 2
    (result,) = select_rows(["vost-val/s24"])
    (row,) = caught_up([RowResult(result, "open", where=tmp_path / "out/vost-val/s24")])
    assert (row.status, row.notes[-1]) == ("failed", "annotations cannot be read")


def test_frames_that_cannot_be_read_are_told_of_beside_the_figures(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    sorted((tree.images / "2_break_egg").iterdir())[3].write_bytes(b"")
    assert main(command(tree, tmp_path / "out", "vost-val/s24")) == 2
    assert report(tmp_path / "out")[0]["status"] == "failed"
    assert main(command(tree, tmp_path / "out", "vost-val/s24", "--on-bad-frame", "hold")) == 0
    (row,) = report(tmp_path / "out")
    assert (row["status"], row["notes"][0]) == ("scored", "1 frames could not be read (--on-bad-frame hold)")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_give_a_rows_figures_too(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("VOST")
    more = ("vost-val/s24", "--threads", "1")
    assert main(command(tree, tmp_path / "one", *more)) == 0
    assert main(command(tree, tmp_path / "two", *more, "--workers", "2")) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert report(tmp_path / "one")[0]["ours"] == report(tmp_path / "two")[0]["ours"]
