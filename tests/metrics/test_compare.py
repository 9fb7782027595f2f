"""`jointformer compare`: differences, their interval, and files that cannot be compared."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointformer.cli.main import main
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_compare import compare

VIDEOS = [f"v{k:02d}" for k in range(12)]


def scores(path: Path, values: dict[str, float | None], **changes: Any) -> Path:
    """A file as `jointformer score --json` writes it: the videos' J, and F a tenth below."""
    per_video = {video: {"J": value, "F": None if value is None else value - 0.1} for video, value in values.items()}
    mean = float(np.mean([value for value in values.values() if value is not None])) if values else None
    content = {"benchmark": "davis17", "rules": "davis", "figures": {"J": mean, "F": None}, "per_video": per_video}
    path.write_text(json.dumps({**content, **changes}))
    return path


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return scores(tmp_path / "old.json", dict.fromkeys(VIDEOS, 0.5))


def test_differences_and_their_interval(old: Path, tmp_path: Path) -> None:
    gaps = np.linspace(-0.02, 0.09, 12)
    found = compare([old, scores(tmp_path / "new.json", dict(zip(VIDEOS, 0.5 + gaps, strict=True)))])
    (difference,) = found.differences
    assert difference.mean == pytest.approx(gaps.mean())
    assert (difference.higher, difference.lower, difference.equal) == (9, 2, 1)
    # The bootstrap's interval is close to the normal one: 1.96 standard errors to both sides.
    error = 1.96 * gaps.std() / np.sqrt(12)
    assert difference.low == pytest.approx(gaps.mean() - error, abs=0.001)
    assert difference.high == pytest.approx(gaps.mean() + error, abs=0.001)
    assert compare([old, tmp_path / "new.json"]).differences == found.differences
    assert found.videos[:3] == ("v11", "v10", "v09")
    assert found.figure == "J"


def test_the_table_names_what_differs_most(old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    new = scores(tmp_path / "new.json", {**dict.fromkeys(VIDEOS, 0.5), "v05": 0.25, "v07": None})
    assert main(["compare", str(old), str(new), "--json", str(tmp_path / "out.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "davis17, rules davis, 12 videos, in percent"
    assert lines[4].split() == ["new", "-", "old", "-2.27", "-"]
    assert "higher in 0, lower in 1, equal in 10" in lines[6]
    assert lines[9].split() == ["v05", "50.00", "25.00", "-25.00"]
    assert lines[-1] == "and 2 videos that differ less"
    assert main(["compare", str(old), str(new), "--per-video"]) == 0
    assert "v07   50.00      -           -" in capsys.readouterr().out
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["differences"][0]["lower"] == 1
    assert content["results"]["new"]["per_video"]["v07"] is None
    assert content["results"]["old"]["figures"] == {"J": 0.5, "F": None}


def test_the_figure_is_chosen_and_json_has_standard_output_to_itself(
    old: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    new = scores(tmp_path / "new.json", {**dict.fromkeys(VIDEOS, 0.5), "v05": 0.5 + 1e-9}, figures={"J": 0.5})
    assert main(["compare", str(old), str(new), "--figure", "F", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    content = json.loads(out)
    assert content["figure"] == "F"
    assert content["differences"][0]["equal"] == 12
    assert err.splitlines()[1].split() == ["J"]  # the figures that both have


def test_videos_come_in_the_order_of_the_largest_difference(old: Path, tmp_path: Path) -> None:
    first = scores(tmp_path / "a.json", {**dict.fromkeys(VIDEOS, 0.5), "v03": 0.6})
    second = scores(tmp_path / "b.json", {**dict.fromkeys(VIDEOS, 0.5), "v09": 0.2})
    assert compare([old, first, second]).videos[:2] == ("v09", "v03")


def test_several_results_and_results_of_one_name(old: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = scores(tmp_path / "b/old.json", dict.fromkeys(VIDEOS, 0.6))
    found = compare([old, other, old], figure="F")
    assert [result.name for result in found.results] == [str(old), str(other), str(old)]
    assert [each.mean for each in found.differences] == pytest.approx([0.1, 0])
    assert found.table().splitlines()[-12].split()[:3] == ["F", "of", str(old)]


def test_a_single_video_has_no_interval(tmp_path: Path) -> None:
    found = compare([scores(tmp_path / f"{k}.json", {"v": k / 10}) for k in (5, 6)])
    assert found.differences[0].mean == pytest.approx(0.1)
    assert "mean +10.00, 95 % interval - to - " in found.table()
    assert found.to_json()["differences"][0]["low"] is None


def test_names_that_cannot_be_printed_are_escaped(tmp_path: Path) -> None:
    table = compare([scores(tmp_path / f"{k}.json", {"é\ud800\x1b[2J": k / 10}) for k in (5, 6)]).table()
    assert table.splitlines()[-1].split() == ["é\\ud800\\x1b[2J", "50.00", "60.00", "+10.00"]


def test_benchmarks_without_videos_have_their_figures_compared(tmp_path: Path) -> None:
    paths = [scores(tmp_path / f"{k}.json", {}, figures={"HOTA_all": k / 10}, per_video={}) for k in (6, 7)]
    lines = compare(paths).table().splitlines()
    assert lines[0] == "davis17, rules davis, in percent"
    assert lines[-1].split() == ["7", "-", "6", "+10.00"]


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"benchmark": "vost"}, "other benchmark"),
        ({"rules": "vos-benchmark"}, "other rules"),
        ({"per_video": {"v00": {"J": 0.5}}}, "11 videos are not in both"),
        ({"per_video": []}, "has no 'per_video'"),
        ({"per_video": {"v00": 0.5}}, "per_video.v00 holds no figures"),
        ({"options": 1}, "'options' is no object"),
        ({"figures": None}, "figures holds no figures"),
        ({"figures": {"J": "0.5"}}, "no figure"),
        ({"figures": {"J": 10**400}}, "no figure"),
        ({"benchmark": None}, "not scores"),
    ],
)
def test_what_cannot_be_compared_is_said(changes: dict[str, Any], what: str, old: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what):
        compare([old, scores(tmp_path / "new.json", dict.fromkeys(VIDEOS, 0.5), **changes)])


BURST: dict[str, Any] = {
    "per_video": {},
    "options": {"similarity": "box", "filter_tracks": False},
    "counts": {"videos": 3, "classes": 2, "scored frames": 40},
    "per_class": {"805 person": {"HOTA": 0.5}, "235 car": {"HOTA": 0.5}},
}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        (
            {"options": {"similarity": "mask", "filter_tracks": False}},
            "other --similarity .*expected 'box', got 'mask'",
        ),
        ({"options": {"similarity": "box", "filter_tracks": True}}, "other --filter-tracks .*expected False, got True"),
        ({"per_class": {"805 person": {}, "4 plane": {}}}, "2 classes are not in both this file and .*, got 235"),
        ({"counts": {"videos": 9, "classes": 2}}, "other number of videos than .*, expected 3, got 9"),
        ({"counts": {"scored frames": 41}}, "other number of scored frames than .*, expected 40, got 41"),
    ],
)
def test_bursts_sets_and_options_are_told_apart(changes: dict[str, Any], what: str, tmp_path: Path) -> None:
    first = scores(tmp_path / "a.json", {}, **BURST)
    with pytest.raises(DataError, match=what):
        compare([first, scores(tmp_path / "b.json", {}, **{**BURST, **changes})])


def test_what_a_file_does_not_say_of_its_set_is_not_held_against_it(tmp_path: Path) -> None:
    first = scores(tmp_path / "a.json", {}, **BURST)
    earlier = scores(tmp_path / "b.json", {}, per_video={})
    unnamed = scores(tmp_path / "c.json", {}, **{**BURST, "per_class": {"805": {}, "235": {}}})
    assert len(compare([first, earlier, unnamed]).results) == 3


def test_an_objects_frames_may_depend_on_the_predictions(tmp_path: Path) -> None:
    values: dict[str, float | None] = dict.fromkeys(VIDEOS, 0.5)
    paths = [scores(tmp_path / f"{k}.json", values, counts={"objects": 12, "object-frames": k}) for k in (40, 41)]
    assert compare(paths).videos


def test_one_file_and_unknown_figures_are_refused(old: Path) -> None:
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare([old])
    with pytest.raises(ConfigError, match="unknown figure, expected J, F, got G"):
        compare([old, old], figure="G")
