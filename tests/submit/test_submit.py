"""Submission archives: what the rules ask for, what packing mends, what it refuses."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointformer.cli.main import main
from jointformer.data.benchmark_rows import BENCHMARKS
from jointformer.data.benchmarks import open_benchmark
from jointformer.data.masks import write_mask
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.submit import Submission, check_submission, pack_submission, submitted_benchmarks
from jointformer.ops.label_maps import object_ids
from jointformer.ops.png import STRETCHED, parse_png_header, read_index_png
from trees import HEIGHT, WIDTH, Tree, draw_ids, make_tree, write_grey

WITH_SERVER = submitted_benchmarks()


def make_results(tree: Tree, folder: Path) -> Path:
    """Results as the evaluation writes them: every frame to save from the first given mask on."""
    inside = BENCHMARKS[tree.key, tree.split].output_folder
    for name, video in tree.videos.items():
        ids = {i for given in video.masks.values() for i in given} - {9, 255}
        for step, frame in enumerate(video.frames):
            if frame in video.saved:
                write_mask(folder / inside / name / f"{frame}.png", draw_ids(tuple(ids), step))
    if tree.key == "VISOR":
        names = {name: {"1": "hand", "7": "knife"} for name in tree.videos}
        (tree.root / "VISOR/val_data_mapping.json").write_text(json.dumps(names))
    return folder


def check(tree: Tree, results: Path) -> Submission:
    return check_submission(open_benchmark(tree.key, tree.split, tree.root), results)


@pytest.fixture
def davis(tmp_path: Path) -> tuple[Tree, Path]:
    tree = make_tree(tmp_path / "data", "D17", "test")
    return tree, make_results(tree, tmp_path / "out")


@pytest.mark.parametrize("key", ["VOST", "G"])
def test_a_benchmark_without_a_server_is_refused_before_its_data_are_looked_for(
    key: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["submit", "check", key, str(tmp_path), "--data-root", str(tmp_path / "nothing")]) == 2
    assert " has no submission server, expected D17 test, " in capsys.readouterr().err


@pytest.mark.parametrize(("key", "split"), WITH_SERVER)
def test_whole_results_of_every_benchmark_pack_to_what_its_server_wants(key: str, split: str, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "data", key, split)
    results = make_results(tree, tmp_path / "out")
    found = check(tree, results)
    assert found.uploadable
    assert not found.lines()
    first = pack_submission(found, tmp_path / "a.zip").read_bytes()
    assert pack_submission(check(tree, results), tmp_path / "b.zip").read_bytes() == first, "the same bytes every time"
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        names = archive.namelist()
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    if key == "VISOR":
        assert names == ["val.json"]
        return
    prefix = "Annotations/" if BENCHMARKS[key, split].zip_holds == "Annotations" else ""
    assert sorted(names) == sorted(
        f"{prefix}{name}/{frame}.png" for name, video in tree.videos.items() for frame in video.saved
    )
    assert check(tree, tmp_path / "a.zip").uploadable, "a packed archive is in order as it is"


def test_lvos_test_gets_empty_masks_before_the_first_given_one(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "data", "LVOS", "test")
    video = tree.videos["0tCWPOrc"]
    # The object's range begins a frame before its first mask, as for one real video of the test set.
    (tree.masks / "0tCWPOrc" / f"{video.frames[1]}.png").unlink()
    results = make_results(tree, tmp_path / "out")
    (results / "Annotations/0tCWPOrc" / f"{video.frames[1]}.png").unlink()
    for path in (results / "Annotations/0tCWPOrc").iterdir():
        write_mask(path, draw_ids((3,), 0))
    found = check(tree, results)
    file = f"0tCWPOrc/{video.frames[1]}.png"
    assert found.uploadable
    assert found.lines() == [
        f"packing mends missing frames before the first given mask, packed as empty masks: 1 ({file})"
    ]
    with zipfile.ZipFile(pack_submission(found, tmp_path / "a.zip")) as archive:
        empty = archive.read(f"Annotations/{file}")
    assert parse_png_header(empty).kind == "palette"
    assert read_index_png(empty).shape == (HEIGHT, WIDTH)
    assert object_ids(read_index_png(empty)) == ()
    # The same frame after the first mask is a hole that nobody can mend.
    (results / "Annotations/0tCWPOrc" / f"{video.frames[3]}.png").unlink()
    assert not check(tree, results).uploadable


def test_each_kind_of_problem_is_counted_and_named(davis: tuple[Tree, Path], tmp_path: Path) -> None:
    tree, results = davis
    (results / "gap/00001.png").unlink()
    write_mask(results / "gap/00002.png", draw_ids((9,), 0))
    write_mask(results / "gap/00003.png", np.zeros((4, 4), np.uint8))
    Image.new("RGB", (WIDTH, HEIGHT)).save(results / "gap/00004.png")
    (results / "gap/00005.png").write_bytes(b"nothing")
    Image.fromarray(np.zeros((HEIGHT, WIDTH), np.uint16)).save(results / "gap/00000.png")
    for path in (results / "one").iterdir():
        path.unlink()
    (results / "one").rmdir()
    found = check(tree, results)
    assert not found.uploadable
    assert found.problems.files == {
        "videos missing": ["one"],
        "masks missing": ["gap/00001.png"],
        "masks with labels that no given mask names": ["gap/00002.png (9)"],
        "masks of another size": [f"gap/00003.png (4x4, the frame {WIDTH}x{HEIGHT})"],
        "masks in colour instead of labels": ["gap/00004.png (RGB)"],
        "masks of 16 bits, where labels have 8": ["gap/00000.png (grey)"],
        "masks that cannot be read": ["gap/00005.png (not a PNG file)"],
    }
    with pytest.raises(DataError, match="videos missing: 1 "):
        pack_submission(found, tmp_path / "a.zip")
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize(("height", "width"), [(4, WIDTH), (HEIGHT, 4)])
def test_a_mask_of_another_height_or_width_is_named(davis: tuple[Tree, Path], height: int, width: int) -> None:
    tree, results = davis
    write_mask(results / "gap/00003.png", np.zeros((height, width), np.uint8))
    found = check(tree, results).problems.files
    assert found == {"masks of another size": [f"gap/00003.png ({width}x{height}, the frame {WIDTH}x{HEIGHT})"]}


def test_labels_that_grey_of_few_bits_only_seems_to_have_say_why(davis: tuple[Tree, Path]) -> None:
    tree, results = davis
    write_grey(results / "gap/00002.png", draw_ids((1,), 0), 2)
    write_grey(results / "gap/00003.png", np.zeros((HEIGHT, WIDTH), np.uint8), 2)  # nothing to be misread
    found = check(tree, results).problems.files
    assert found == {"masks with labels that no given mask names": ["gap/00002.png (85)"], STRETCHED: ["gap/00002.png"]}


def test_a_damaged_mask_is_found_although_its_header_is_whole(davis: tuple[Tree, Path]) -> None:
    tree, results = davis
    path = results / "gap/00001.png"
    path.write_bytes(path.read_bytes()[:60])
    assert list(check(tree, results).problems.files) == ["masks that cannot be read"]


def test_what_is_not_asked_for_is_left_out_and_grey_gets_the_palette(davis: tuple[Tree, Path], tmp_path: Path) -> None:
    tree, results = davis
    write_mask(results / "gap/99999.png", draw_ids((1,), 0))
    write_mask(results / "more/00000.png", draw_ids((1,), 0))
    Image.fromarray(draw_ids((1,), 3)).save(results / "gap/00003.png")
    (results / "run.json").write_text("{}")
    for records in (".run", "Scores"):  # what a run keeps beside its masks is no video
        (results / records).mkdir()
    found = check(tree, results)
    assert found.uploadable
    assert found.mended.files == {
        "videos that are not asked for, left out": ["more"],
        "frames that are not asked for, left out": ["gap/99999.png"],
        "grey masks, packed with the palette": ["gap/00003.png"],
    }
    with zipfile.ZipFile(pack_submission(found, tmp_path / "a.zip")) as archive:
        assert len(archive.namelist()) == found.files
        with Image.open(io.BytesIO(archive.read("gap/00003.png"))) as mask:
            assert mask.mode == "P"
            assert np.array_equal(np.asarray(mask), draw_ids((1,), 3))


def test_a_zip_with_another_layout_is_not_in_order_but_can_be_packed_anew(
    davis: tuple[Tree, Path], tmp_path: Path
) -> None:
    tree, results = davis
    with zipfile.ZipFile(tmp_path / "wrong.zip", "w") as archive:
        for path in results.rglob("*.png"):
            archive.write(path, f"mine/{path.relative_to(results)}")
    found = check(tree, tmp_path / "wrong.zip")
    assert not found.uploadable
    assert found.lines() == ["packing anew mends video folders that do not lie in the root: 1 (mine/)"]
    right = pack_submission(found, tmp_path / "right.zip")
    assert check(tree, right).uploadable
    assert right.read_bytes() == pack_submission(check(tree, results), tmp_path / "b.zip").read_bytes()


def test_a_zip_that_leaves_its_place_is_refused(davis: tuple[Tree, Path], tmp_path: Path) -> None:
    tree, _ = davis
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../gap/00000.png", b"")
    with pytest.raises(DataError, match="names leave it"):
        check(tree, tmp_path / "evil.zip")


def test_a_benchmark_with_public_truth_has_no_server(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "data", "VOST")
    with pytest.raises(ConfigError, match="VOST val has no submission server, expected D17 test, "):
        check(tree, make_results(tree, tmp_path / "out"))


@pytest.mark.parametrize("action", ["check", "pack"])
def test_visors_mapping_must_name_every_video_and_label(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "VISOR")
    results = make_results(tree, tmp_path / "out")
    path = tree.root / "VISOR/val_data_mapping.json"
    names = json.loads(path.read_text())
    first, second = names
    del names[first], names[second]["1"]
    path.write_text(json.dumps(names))
    line = ["submit", action, "VISOR", str(results), "--data-root", str(tree.root), "--quiet"]
    assert main([*line, *(["-o", str(tmp_path / "a.zip")] if action == "pack" else [])]) == 2
    said = capsys.readouterr().err
    assert f"videos that are not in the mapping: 1 ({first})" in said or f"1 videos ({first})" in said
    assert "masks with labels that are not in the mapping" in said
    assert not (tmp_path / "a.zip").exists()


@pytest.mark.parametrize("action", ["check", "pack"])
def test_visors_mapping_is_looked_for_before_masks_are_read(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "VISOR")
    results = make_results(tree, tmp_path / "out")
    (tree.root / "VISOR/val_data_mapping.json").unlink()
    line = ["submit", action, "VISOR", str(results), "--data-root", str(tree.root)]
    assert main([*line, *(["-o", str(tmp_path / "a.zip")] if action == "pack" else [])]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("val_data_mapping.json: no such file; VISOR's visor_to_davis.py makes it with the frames")


@pytest.mark.parametrize("action", ["check", "pack"])
def test_a_zip_of_masks_is_not_in_order_for_visor(
    action: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", "VISOR")
    results = make_results(tree, tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "results.zip", "w") as archive:
        for path in results.rglob("*.png"):
            archive.write(path, path.relative_to(results))
    line = ["submit", action, "VISOR", str(tmp_path / "results.zip"), "--data-root", str(tree.root), "--quiet"]
    assert main([*line, *(["-o", str(tmp_path / "a.zip")] if action == "pack" else [])]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert said.endswith("results.zip: VISOR's polygons are made from a folder of masks; unpack it first")
    assert not (tmp_path / "a.zip").exists()


def test_a_zip_that_was_cut_off_is_said_to_be_that(davis: tuple[Tree, Path], tmp_path: Path) -> None:
    tree, results = davis
    whole = pack_submission(check(tree, results), tmp_path / "whole.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="got a zip that is cut off or damaged"):
        check(tree, tmp_path / "cut.zip")


def test_the_command_line_checks_and_packs(
    davis: tuple[Tree, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, results = davis
    common = ["D17", str(results), "--split", "test", "--data-root", str(tree.root), "--quiet", "--json"]
    assert main(["submit", "check", *common]) == 0
    assert json.loads(capsys.readouterr().out)["in_order"]
    assert main(["submit", "pack", *common, "--output", str(tmp_path / "a.zip")]) == 0
    report = json.loads(capsys.readouterr().out)
    assert Path(report["archive"]).is_file()
    assert report["masks"] == 12
    assert "codalab" in report["server"]
    (results / "one/00003.png").unlink()
    assert main(["submit", "check", *common]) == 2
    assert json.loads(capsys.readouterr().out)["problems"] == {"masks missing": ["one/00003.png"]}
    assert main(["submit", "pack", *common, "--output", str(tmp_path / "b.zip")]) == 2
    assert "masks missing: 1 (one/00003.png); nothing was packed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "split", "server"),
    [
        ("VISOR", "val", "https://codalab.lisn.upsaclay.fr/competitions/9767"),
        ("Y18", "test", "https://youtube-vos.org/dataset/vos/"),
        ("LVOS", "val", None),
        ("BURST", "test", None),
    ],
)
def test_a_toolkit_is_no_place_to_upload_to(
    key: str, split: str, server: str | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = make_tree(tmp_path / "data", key, split)
    results = make_results(tree, tmp_path / "out")
    line = ["submit", "check", key, str(results), "--split", split, "--data-root", str(tree.root), "--quiet", "--json"]
    assert main(line) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["server"] == server
    assert err.endswith(f", in order; for {server}\n" if server else ", in order\n")


def test_the_zip_that_is_read_is_not_packed_over(
    davis: tuple[Tree, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, results = davis
    monkeypatch.chdir(tmp_path)
    pack_submission(check(tree, results), tmp_path / "D17_test.zip")
    before = (tmp_path / "D17_test.zip").read_bytes()
    line = ["submit", "pack", "D17", "D17_test.zip", "--split", "test", "--data-root", str(tree.root), "--quiet"]
    assert main(line) == 2
    assert capsys.readouterr().err.startswith("jointformer submit: D17_test.zip: cannot be written: input is read from")
    assert (tmp_path / "D17_test.zip").read_bytes() == before
    assert main([*line, "--output", "again.zip"]) == 0


def test_an_archive_that_cannot_be_written_is_refused_before_masks_are_read(
    davis: tuple[Tree, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, results = davis
    (tmp_path / "file").touch()
    line = ["submit", "pack", "D17", str(results), "--split", "test", "--data-root", str(tree.root)]
    assert main([*line, "--output", str(tmp_path / "file/a.zip")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert f"{tmp_path}/file/a.zip: cannot be written: a part of the path is a file" in said


def test_no_picture_that_is_read_is_packed_over(
    davis: tuple[Tree, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, results = davis
    name, video = next(iter(tree.videos.items()))
    frame = video.frames[0]
    line = ["submit", "pack", "D17", str(results), "--split", "test", "--data-root", str(tree.root), "--quiet"]
    for picture in (
        tree.masks / name / f"{frame}.png",
        tree.images / name / f"{frame}.jpg",
        results / name / f"{frame}.png",
    ):
        before = picture.read_bytes()
        assert main([*line, "--output", str(picture)]) == 2
        assert f"{picture}: cannot be written: the pictures beside it are read" in capsys.readouterr().err
        assert picture.read_bytes() == before
    assert main([*line, "--output", str(results / name / "a.zip")]) == 0
