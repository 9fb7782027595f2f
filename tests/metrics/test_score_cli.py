"""`jointformer score` from the outside: table, JSON, plot, exit codes; and the real masks."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointformer.cli.main import main
from jointformer.evaluation.score import score
from jointformer.ops.png import parse_png_header

Case = Callable[[str], Path]


def command(case: Case, name: str, benchmark: str, *more: str) -> list[str]:
    folder = case(name)
    return ["score", benchmark, "--annotations", f"{folder}/gt", "--predictions", f"{folder}/pred", *more]


def test_the_table_shows_the_toolkits_columns_in_percent(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(case, "davis_mix", "davis17", "--per-object", "--workers", "1")) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("davis17, rules of davis2017-evaluation (9 videos, 17 objects")
    assert out[1].split() == ["J&F-Mean", "J-Mean", "J-Recall", "J-Decay", "F-Mean", "F-Recall", "F-Decay"]
    assert out[2].split() == ["all", "53.65", "53.04", "60.74", "13.08", "54.25", "53.51", "9.40"]
    assert any(line.startswith("label-gap_2 ") for line in out)


def test_json_on_standard_output_is_json_alone(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(case, "vost_mix", "vost", "--json", "-", "--per-frame")) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["figures"]["J"] == pytest.approx(0.6032632566518731, abs=1e-12)
    assert content["per_frame"]["1004_four_frames_1"]["frames"] == ["frame00036", "frame00042"]
    assert set(content["per_video"]) == {each.rsplit("_", 1)[0] for each in content["per_object"]}
    assert "J_tr-Mean" in err


def test_progress_goes_to_standard_error_unless_quiet(case: Case, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(case, "vost_mix", "vost")) == 0
    assert "video/s" in capsys.readouterr().err
    assert main(command(case, "vost_mix", "vost", "--quiet")) == 0
    assert capsys.readouterr().err == ""


def test_json_and_plot_are_written_to_files(case: Case, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib, an extra")
    plot, data = tmp_path / "plot.png", tmp_path / "scores.json"
    assert main(command(case, "visor_mix", "visor", "--json", str(data), "--plot", str(plot))) == 0
    assert json.loads(data.read_text())["rules"] == "davis"
    assert parse_png_header(plot.read_bytes()).width > 1000


def test_a_name_in_a_plot_is_no_formula(tmp_path: Path, save_labels: Callable[..., None]) -> None:
    pytest.importorskip("matplotlib", reason="the plot needs matplotlib, an extra")
    for frame in range(3):
        save_labels(tmp_path / f"masks/a$^$/{frame:05d}.png", [[0, 1], [1, 1]])
    line = ["score", "generic", "--annotations", f"{tmp_path}/masks", "--predictions", f"{tmp_path}/masks"]
    assert main([*line, "--plot", str(tmp_path / "plot.png")]) == 0


def test_a_plots_frames_are_in_the_order_of_their_numbers(
    tmp_path: Path, save_labels: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = pytest.importorskip("matplotlib.figure", reason="the plot needs matplotlib, an extra").Figure
    for frame in range(7, 14):
        save_labels(tmp_path / f"masks/cow/{frame}.png", [[0, 1], [1, 1]])
    figures: list[Any] = []
    monkeypatch.setattr(drawn, "savefig", lambda figure, *_, **__: figures.append(figure))
    line = ["score", "generic", "--annotations", f"{tmp_path}/masks", "--predictions", f"{tmp_path}/masks"]
    assert main([*line, "--plot", str(tmp_path / "plot.png")]) == 0
    assert list(figures[0].axes[1].lines[0].get_xdata()) == [0, 1, 2, 3, 4]


def test_figures_are_there_where_a_plot_cannot_be_drawn(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    data = tmp_path / "scores.json"
    line = command(case, "visor_mix", "visor", "--json", str(data), "--plot", str(tmp_path / "plot.png"))
    assert main(line) == 2
    out, err = capsys.readouterr()
    assert "plots need Matplotlib, which is not installed; pip install 'jointformer[plot]'" in err
    assert out.startswith("visor, rules of VISOR-VOS")
    assert json.loads(data.read_text())["rules"] == "davis"


def test_burst_has_no_plot(case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = case("burst_simple")
    arguments = ["score", "burst", "--annotations", f"{folder}/gt", "--predictions", f"{folder}/pred_png"]
    assert main([*arguments, "--plot", str(tmp_path / "plot.png")]) == 2
    assert "no J per frame to plot" in capsys.readouterr().err
    assert main([*arguments, "--per-video"]) == 2
    assert "--per-video: burst has no row per video" in capsys.readouterr().err
    assert main([*arguments, "--per-frame", "--json", str(tmp_path / "scores.json")]) == 2
    assert "--per-frame: burst has no values per frame" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main([*arguments, "--per-object"]) == 0
    assert capsys.readouterr().out.splitlines()[2].split()[:4] == ["all", "63.74", "70.68", "49.86"]


@pytest.mark.parametrize(
    ("name", "benchmark", "more", "message"),
    [
        ("davis_missing_frame", "davis17", (), "predictions missing: 1 (hole/00003.png)"),
        ("davis_extra_label", "davis17", (), "number of objects: 1 (extra/00003.png (2))"),
        ("davis_mix", "davis18", (), "unknown benchmark"),
        ("davis_mix", "davis17", ("--per-frame",), "add --json FILE"),
        ("davis_mix", "davis17", ("--rules", "none"), "expected davis | vos-benchmark"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    name: str, benchmark: str, more: tuple[str, ...], message: str, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(case, name, benchmark, *more, "--quiet")) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert err.count("\n") == 1


def test_scores_are_not_written_over_what_is_read(
    case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = case("burst_simple")
    truth = tmp_path / "all_classes.json"
    truth.write_bytes((folder / "gt/all_classes.json").read_bytes())
    before = truth.read_bytes()
    line = ["score", "burst", "--annotations", str(truth), "--predictions", f"{folder}/pred_png", "--json", str(truth)]
    assert main(line) == 2
    assert "all_classes.json: cannot be written: input is read from there" in capsys.readouterr().err
    assert truth.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "line", "read"),
    [
        ("davis_mix", "davis17 --json", "pred/three-gap/00003.png"),
        ("davis_mix", "davis17 --plot", "gt/Annotations/480p/border/00001.png"),
        ("davis_mix", "davis17 --json", "gt/ImageSets/2017/val.txt"),
        ("visor_mix", "visor --json", "gt/ImageSets/2022/val_unseen.txt"),
        ("lvos_mix", "lvos --json", "gt/valid_meta.json"),
        ("mose_mix", "mose --rules v2 --json", "gt/meta.json"),
        ("ytvos_mix", "ytvos19 --json", "gt/valid/meta.json"),
        ("ytvos_mix", "ytvos19 --json", "gt/categories.json"),
        ("burst_simple", "burst --json", "gt/all_classes.json"),
        ("burst_simple", "burst --json", "pred/LaSOT_-_bicycle-1/frame0001.png"),
    ],
)
def test_no_mask_and_no_list_that_is_found_is_replaced_by_scores(
    name: str, line: str, read: str, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(case(name), tmp_path / name)
    if name == "burst_simple":
        (folder / "pred_png").rename(folder / "pred")
    before = (folder / read).read_bytes()
    where = ["--annotations", f"{folder}/gt", "--predictions", f"{folder}/pred"]
    assert main(["score", *line.split(), f"{folder}/{read}", *where, "--quiet"]) == 2
    assert f"{folder}/{read}: cannot be written: " in capsys.readouterr().err
    assert (folder / read).read_bytes() == before


def test_scores_may_lie_beside_the_predictions_and_be_replaced(case: Case, tmp_path: Path) -> None:
    folder = shutil.copytree(case("visor_mix"), tmp_path / "visor")
    line = ["score", "visor", "--annotations", f"{folder}/gt", "--predictions", f"{folder}/pred", "--quiet"]
    for _ in range(2):
        assert main([*line, "--json", f"{folder}/pred/scores.json"]) == 0


@pytest.mark.parametrize("flag", ["--json", "--plot"])
def test_where_nothing_can_be_written_nothing_is_scored(
    flag: str, case: Case, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    target = tmp_path / "file/scores.png"
    assert main(command(case, "visor_mix", "visor", flag, str(target))) == 2
    out, err = capsys.readouterr()
    said = "cannot be written: a part of the path is a file, not a folder; choose another output folder"
    assert (out, err) == ("", f"jointformer score: {target}: {said}\n")


def test_an_object_that_comes_later_is_no_gap_in_the_labels(
    tmp_path: Path, save_labels: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for frame in range(5):
        save_labels(tmp_path / f"masks/cow/{frame:05d}.png", [[0, 3], [int(frame > 2), 3]])
    (tmp_path / "list.txt").write_text("cow\n")
    line = ["score", "vost", "--annotations", f"{tmp_path}/masks", "--predictions", f"{tmp_path}/masks"]
    assert main([*line, "--set", f"{tmp_path}/list.txt"]) == 0
    assert "objects that are only gaps in the labels, counted as the toolkit does: 1 (cow_2)" in capsys.readouterr().out


def test_annotations_elsewhere_are_looked_for_in_vain_and_what_is_there_is_said(
    tmp_path: Path, save_labels: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    save_labels(tmp_path / "data/MOSE/valid/Annotations/cow/00000.png", [[0, 1], [1, 1]])
    line = ["score", "mose", "--annotations", f"{tmp_path}/data", "--predictions", f"{tmp_path}/data"]
    assert main(line) == 2
    said = "data: no annotations, expected folders of PNGs, here or in Annotations, got MOSE; name the dataset's folder"
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("benchmark", ["davis17", "mose", "vost"])
def test_given_masks_alone_are_said_to_be_no_truth(
    benchmark: str, tmp_path: Path, save_labels: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    for folder, frames in (("gt", 1), ("pred", 5)):
        for frame in range(frames):
            save_labels(tmp_path / folder / f"cow/{frame:05d}.png", [[0, 1], [1, 1]])
    (tmp_path / "list.txt").write_text("cow\n")
    line = ["score", benchmark, "--annotations", f"{tmp_path}/gt", "--predictions", f"{tmp_path}/pred"]
    assert main([*line, "--set", f"{tmp_path}/list.txt"]) == 2
    said = "nothing to score: the rules leave out every annotated frame, expected the annotations of all frames"
    assert f"{tmp_path}/gt: {said}; are these the given masks alone?" in capsys.readouterr().err


@pytest.mark.realdata
def test_real_masks_score_what_the_official_toolkits_say(
    shared: Path, golden: Callable[[str], Any], same: Callable[..., None]
) -> None:
    expected = golden("davis2016_osvos_real")
    scores = score("davis16", shared / "data/DAVIS/2016", shared / "data/predictions/osvos")
    for measure in ("J", "F"):
        for key, suffix in (("mean", ""), ("recall", "_recall"), ("decay", "_decay")):
            same(scores.figures[measure + suffix], expected["davis2017-evaluation"][measure][key])
            for name, figures in expected["davis2017-evaluation"][measure]["per_object"].items():
                same(scores.objects[name][measure + suffix], figures[key])
    same(scores.figures["J&F"], expected["J&F"])
    assert round(scores.figures["J"], 6) == 0.755841
    assert round(scores.figures["F"], 6) == 0.776346
