"""Published masks: fetched, resumed, verified, read in place and scored, without a network or a GPU."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from jointformer.cli.main import main
from jointformer.data.benchmark_rows import BENCHMARKS
from jointformer.evaluation.published_masks import masks_path
from jointformer.evaluation.reproduce_rows import select_rows
from trees import Tree
from weights.conftest_weights import Server


def run(tree: Tree, tmp_path: Path, row: str, *flags: str) -> tuple[int, dict]:
    """(exit code, the row's report)."""
    target = tmp_path / "report.json"
    paths = ["--data-root", str(tree.root), "--output", str(tmp_path / "out"), "--json", str(target)]
    code = main(["reproduce", row, "--published-masks", *paths, *flags, "--quiet"])
    return code, json.loads(target.read_text())[0]


def states(ran: tuple[int, dict]) -> dict[str, str]:
    """Whether each thing that the row needs is here."""
    return {piece["what"]: piece["state"] for piece in ran[1]["pieces"]}


@pytest.mark.parametrize(
    ("key", "row", "file"),
    [
        ("D17", "d17-val/s012", "s012-d17_val.zip"),
        ("VOST", "vost-val/s24", "s24-vost_val.zip"),
        ("VISOR", "visor-val/s7", "s7-visor_val.zip"),
        ("LVOS", "lvos-val/s012", "s012-lvos_val.zip"),
        ("BURST", "burst-val/s012", "s012-burst_val.zip"),
    ],
)
def test_perfect_masks_score_perfectly_on_every_benchmark_with_public_truth(
    key: str,
    row: str,
    file: str,
    whole_tree: Callable[..., Tree],
    masks_zip: Callable[..., bytes],
    release: Server,
    tmp_path: Path,
) -> None:
    tree = whole_tree(key)
    inside = "Annotations/" if BENCHMARKS[key, "val"].output_folder else ""
    release.files[file] = masks_zip(tree, inside)
    code, found = run(tree, tmp_path, row)
    assert (code, found["status"]) == (0, "scored")
    for figure, value in found["ours"].items():
        best = {"V": 0.0, "Delta_tr": 0.0}.get(figure, 100.0)
        # No unseen kitchen and no uncommon class is in the tiny trees.
        assert value is None or value == pytest.approx(best), figure
    assert found["ours"].keys() == found["published"].keys()
    assert [path for path, _ in release.asked] == [f"/{file}"]
    assert not (tmp_path / "out").exists(), "nothing is unpacked"


def test_masks_that_nobody_made_are_empty_ones_where_that_is_asked_for(
    whole_tree: Callable[..., Tree], masks_zip: Callable[..., bytes], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("LVOS")
    packed = io.BytesIO(masks_zip(tree, "Annotations/"))
    with zipfile.ZipFile(packed) as source, zipfile.ZipFile(rest := io.BytesIO(), "w") as target:
        first, gone, *others = sorted(source.namelist())
        for name in (first, *others):
            target.writestr(name, source.read(name))
    release.files["s012-lvos_val.zip"] = rest.getvalue()
    code, found = run(tree, tmp_path, "lvos-val/s012")
    lost = gone.removeprefix("Annotations/")
    assert (code, found["status"]) == (2, "failed")
    assert f"predictions missing: 1 ({lost})" in found["notes"][0]
    assert "--missing empty" in found["notes"][0]
    code, found = run(tree, tmp_path, "lvos-val/s012", "--missing", "empty")
    assert (code, found["status"]) == (0, "scored")
    assert f"missing predictions scored as empty masks: 1 ({lost})" in found["notes"]
    assert found["ours"]["J&F"] < 100


def test_masks_are_fetched_once_and_a_broken_download_is_resumed(
    whole_tree: Callable[..., Tree],
    masks_zip: Callable[..., bytes],
    release: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree = whole_tree("D17")
    release.files["s012-d17_val.zip"] = masks_zip(tree, shift=1)
    monkeypatch.setattr("jointformer.model.download.ATTEMPTS", 1)
    needed = {"published masks": "to fetch", "truth": "here"}
    assert states(run(tree, tmp_path, "d17-val/s012", "--dry-run")) == needed
    release.cut = [700, 0]
    code, found = run(tree, tmp_path, "d17-val/s012")
    assert (code, found["status"]) == (2, "failed")
    assert "700 bytes have arrived and are kept" in found["notes"][0]
    assert run(tree, tmp_path, "d17-val/s012")[0] == 0
    assert release.asked[-1] == ("/s012-d17_val.zip", "bytes=700-")
    asked = len(release.asked)
    code, found = run(tree, tmp_path, "d17-val/s012")
    assert code == 0
    assert states((code, found)) == {"published masks": "here", "truth": "here"}
    assert len(release.asked) == asked
    assert 0 < found["ours"]["J"] < 100


def test_a_zip_that_changed_since_it_was_fetched_is_refused(
    whole_tree: Callable[..., Tree], masks_zip: Callable[..., bytes], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("D17")
    release.files["s012-d17_val.zip"] = masks_zip(tree)
    assert run(tree, tmp_path, "d17-val/s012")[0] == 0
    path = masks_path(select_rows(["d17-val/s012"])[0])
    path.write_bytes(masks_zip(tree, shift=2))
    code, found = run(tree, tmp_path, "d17-val/s012")
    assert (code, found["status"]) == (2, "failed")
    assert "the file has changed since its SHA-256 was noted" in found["notes"][0]


def hostile_zip(name: str, size: int = 10) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, b"\0" * size)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (hostile_zip("../gap/00000.png"), "names leave it"),
        (hostile_zip("/gap/00000.png"), "names leave it"),
        (hostile_zip("gap/00000.png", 65 << 20), "not a zip of masks"),
        (hostile_zip("other/00000.png"), "none of the benchmark's videos is here"),
        (b"<!DOCTYPE html><html>login</html>", "expected a zip of masks, got an HTML page"),
        (b"PK\x03\x04 but no zip", "not a zip of masks"),
        (b"PK\x05\x06" + bytes(18), "not a zip of masks, got an empty zip"),
    ],
    # A zip's bytes name the time it was made at: processes that share the tests out would not find the same ones.
    ids=["above it", "absolute", "grows too far", "other videos", "a page", "no zip", "an empty zip"],
)
def test_what_is_no_zip_of_masks_is_refused_in_one_line(
    body: bytes, message: str, whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("D17")
    release.files["s012-d17_val.zip"] = body
    code, found = run(tree, tmp_path, "d17-val/s012")
    assert (code, found["status"]) == (2, "failed")
    assert message in found["notes"][0]
    assert not list(tmp_path.rglob("00000.png.part"))


def test_no_error_about_published_masks_speaks_of_weights(
    whole_tree: Callable[..., Tree], masks_zip: Callable[..., bytes], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("D17")
    release.files["s012-d17_val.zip"] = masks_zip(tree)
    release.claim = 10**13
    notes = run(tree, tmp_path, "d17-val/s012")[1]["notes"]
    assert "too large for masks" in notes[0]
    release.claim = None
    assert run(tree, tmp_path, "d17-val/s012")[0] == 0
    note = masks_path(select_rows(["d17-val/s012"])[0]).with_suffix(".zip.json")
    note.write_text("{")
    notes += run(tree, tmp_path, "d17-val/s012")[1]["notes"]
    assert "unreadable note of a zip of masks's SHA-256" in notes[1]
    assert not any("weights" in line.split("put the file by hand")[0] for line in notes)


def test_masks_that_nobody_published_are_named(
    whole_tree: Callable[..., Tree], release: Server, tmp_path: Path
) -> None:
    code, found = run(whole_tree("D17"), tmp_path, "d17-val/s02")
    assert code == 2
    assert "s02-d17_val.zip: cannot be downloaded, got HTTP 404" in found["notes"][0]


def test_published_masks_of_a_server_row_are_checked_against_its_rules(
    whole_tree: Callable[..., Tree], masks_zip: Callable[..., bytes], release: Server, tmp_path: Path
) -> None:
    tree = whole_tree("MOSE")
    release.files["s5-mose_val.zip"] = masks_zip(tree)
    code, found = run(tree, tmp_path, "mose-val/s5")
    assert (code, found["status"]) == (0, "checked")
    assert "the truth is with https://codalab" in found["notes"][-1]
    assert found["ours"] == {}


def test_published_masks_go_with_no_model_of_mine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce", "d17-val", "--published-masks", "--model", "tiny"]) == 2
    assert "published masks are not made by a model of yours" in capsys.readouterr().err
    for flags in (["--size", "240"], ["--overwrite"]):
        assert main(["reproduce", "d17-val", "--published-masks", *flags]) == 2
        said = f"{flags[0][2:]}: published masks are scored as they are, and nothing is run"
        assert said in capsys.readouterr().err
