"""Every benchmark's figures against its official toolkit, to 1e-9, from the dataset down to the single frame."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jointformer.errors import DataError
from jointformer.evaluation.score import score
from jointformer.evaluation.score_results import Scores

Case = Callable[[str], Path]
Golden = Callable[[str], Any]
Same = Callable[..., None]
STATISTICS = (("mean", ""), ("recall", "_recall"), ("decay", "_decay"))


def check_davis(scores: Scores, expected: Any, same: Same, measures: tuple[str, ...] = ("J", "F")) -> None:
    """The layout in which the DAVIS family's results are stored."""
    for measure in measures:
        assert set(scores.objects) == set(expected[measure]["per_object"])
        for key, suffix in STATISTICS:
            same(scores.figures[measure + suffix], expected[measure][key])
            for name, figures in expected[measure]["per_object"].items():
                same(scores.objects[name][measure + suffix], figures[key])
    frames = {each.name: each for each in scores.frames}
    for name, values in expected.get("per_frame", {}).items():
        assert list(frames[name].frames) == values["frames"]
        for measure in measures:
            for value, wanted in zip(frames[name].values[measure], values[measure], strict=True):
                same(value, wanted)


def check_vos_benchmark(scores: Scores, expected: Any, same: Same) -> None:
    assert set(scores.objects) == set(expected["per_object"])
    for measure in ("J&F", "J", "F"):
        same(scores.figures[measure], expected[measure], 100)
    for name, figures in expected["per_object"].items():
        for measure in ("J", "F"):
            same(scores.objects[name][measure], figures[measure], 100)


def test_davis_2017_equals_its_toolkit(case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("davis_mix"), golden("davis")["cases"]["davis_mix"]["davis2017-evaluation"]
    scores = score("davis17", folder / "gt", folder / "pred")
    check_davis(scores, expected, same)
    same(scores.figures["J&F"], expected["J&F"])
    assert any("gaps in the labels" in note and "label-gap_2" in note for note in scores.notes)
    assert any("late-object label 2 (from 00003)" in note for note in scores.notes)


def test_long_videos_decay_soundly_by_default_and_as_the_toolkit_on_request(
    case: Case, golden: Golden, same: Same
) -> None:
    folder, expected = case("davis_long"), golden("davis")["cases"]["davis_long"]["davis2017-evaluation"]
    strict = score("davis17", folder / "gt", folder / "pred", strict_toolkit=True)
    check_davis(strict, expected, same)
    assert strict.to_json()["figures"]["J_decay"] is None
    sound = score("davis17", folder / "gt", folder / "pred")
    assert sound.figures["J_decay"] == pytest.approx(0.0276, abs=1e-4)
    same(sound.figures["J"], expected["J"]["mean"])
    same(sound.objects["long-257_1"]["J_decay"], expected["J"]["per_object"]["long-257_1"]["decay"])
    assert any("computed soundly" in note and "4 (long-258_1" in note for note in sound.notes)


@pytest.mark.parametrize(
    ("name", "message"), [("davis_extra_label", r"1 \(extra/00003.png \(2\)\)"), ("davis_missing_frame", "00003.png")]
)
def test_where_the_davis_toolkit_stops_without_a_number_so_do_we(name: str, message: str, case: Case) -> None:
    with pytest.raises(DataError, match=message):
        score("davis17", case(name) / "gt", case(name) / "pred")


@pytest.mark.parametrize(
    ("name", "file", "benchmark", "rules", "key"),
    [
        ("davis_mix", "davis", "davis17", "vos-benchmark", "skip_first_and_last"),
        ("davis_mix", "davis", "generic", "all-frames", "all_frames"),
        ("mose_mix", "mose", "mose", "vos-benchmark", "skip_first_and_last"),
        ("mose_mix", "mose", "generic", "all-frames", "all_frames"),
        ("mose_mix", "mose", "generic", None, "skip_first_and_last"),
    ],
)
def test_vos_benchmark_rules_equal_vos_benchmark(
    name: str, file: str, benchmark: str, rules: str | None, key: str, case: Case, golden: Golden, same: Same
) -> None:
    expected = golden(file)
    expected = expected["cases"][name] if "cases" in expected else expected
    scores = score(benchmark, case(name) / "gt", case(name) / "pred", rules=rules)
    check_vos_benchmark(scores, expected["vos-benchmark"][key], same)


def test_davis_2016_equals_the_tool_that_merges_labels(case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("davis16_mix"), golden("davis2016")["result"]
    for rules in ("soft", "davis"):  # the predictions are 0 and 255, so both thresholds see the same
        check_davis(score("davis16", folder / "gt", folder / "pred", rules=rules), expected, same)


def test_vost_equals_its_toolkit_and_delta_is_the_loss_at_the_end(case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("vost_mix"), golden("vost")["result"]
    scores = score("vost", folder / "gt", folder / "pred")
    check_davis(scores, expected, same, ("J",))
    for key, suffix in STATISTICS:
        same(scores.figures["J_tr" + suffix], expected["J_last"][key])
        for name, figures in expected["J_last"]["per_object"].items():
            same(scores.objects[name]["J_tr" + suffix], figures[key])
    same(scores.figures["delta_tr"], expected["delta"])
    assert any("1005_extra_label/frame00054.png (3)" in note for note in scores.notes)


def test_visor_equals_its_toolkit_over_all_and_over_unseen_kitchens(case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("visor_mix"), golden("visor")["result"]
    scores = score("visor", folder / "gt", folder / "pred")
    check_davis(scores, expected["val"], same)
    same(scores.figures["J&F"], expected["val"]["J&F"])
    same(scores.figures["J&F_unseen"], expected["val_unseen"]["J&F"])
    check_davis(score("visor", folder / "gt", folder / "pred", set_name="val_unseen"), expected["val_unseen"], same)


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ("2024", "lvos-evaluation"),
        ("2024-compiled", "lvos-evaluation-cython"),
        ("2022", "lvos-evaluation-2022"),
    ],
)
def test_lvos_equals_its_toolkit_of_that_year(rules: str, key: str, case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("lvos_mix"), golden("lvos")[key]
    scores = score(
        "lvos", folder / "gt", folder / "pred", rules=rules, groups=folder / "unseen_videos.txt", strict_toolkit=True
    )
    same(scores.figures["J&F"], expected["J&F"])
    for measure in ("J", "F", "V"):
        for suffix, part in (("", "mean"), ("_seen", "seen"), ("_unseen", "unseen")):
            same(scores.figures[measure + suffix], expected[measure][part])
        for name, value in expected[measure]["per_object"].items():
            same(scores.objects[name][measure], value)
    for measure in ("J", "F"):
        same(scores.figures[f"{measure}_over_objects"], expected[measure]["mean_over_all_objects"])
        for part in ("recall", "decay"):
            every = [figures[f"{measure}_{part}"] for figures in scores.objects.values()]
            for value, wanted in zip(every, expected[measure][f"{part}_per_object"], strict=True):
                same(value, wanted)
        for each in scores.frames:
            for value, wanted in zip(each.values[measure], expected["per_frame"][each.name][measure], strict=True):
                same(value, wanted)


def test_lvos_without_unseen_videos_is_the_mean_of_the_seen_unless_strict(
    case: Case, same: Same, tmp_path: Path
) -> None:
    folder, empty = case("lvos_mix"), tmp_path / "none.txt"
    empty.write_text("")
    scores = score("lvos", folder / "gt", folder / "pred", groups=empty)
    same(scores.figures["J"], scores.figures["J_seen"])
    assert any(note.startswith("no unseen object; the mean is over the others") for note in scores.notes)
    strict = score("lvos", folder / "gt", folder / "pred", groups=empty, strict_toolkit=True)
    same(strict.figures["J&F"], None)


def test_mose_follows_the_davis_rule_with_the_labels_of_the_first_frame(case: Case, same: Same) -> None:
    folder = case("mose_mix")
    scores = score("mose", folder / "gt", folder / "pred")
    assert round(100 * scores.objects["2c3d4e5f_1"]["J"], 1) == 71.8


def test_mose_v2_rules_equal_its_public_scorer(case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("mose_mix"), golden("mose")["MOSE-api (MOSEv2 score.py)"]
    scores = score("mose", folder / "gt", folder / "pred", rules="v2")
    for key, value in expected["global"].items():
        same(scores.figures[key], value)
    frames = {each.name: each.values for each in scores.frames}
    for name, figures in expected["per_object"].items():
        for measure, values in figures.pop("per_frame").items():
            for value, wanted in zip(frames[name][measure], values, strict=True):
                same(value, wanted)
        for key, value in figures.items():
            same(scores.objects[name][key], value)


def test_a_mose_videos_disappearances_are_those_of_its_objects_that_have_any(
    case: Case, golden: Golden, same: Same
) -> None:
    objects = golden("mose")["MOSE-api (MOSEv2 score.py)"]["per_object"]
    scores = score("mose", case("mose_mix") / "gt", case("mose_mix") / "pred", rules="v2")
    for name in ("disappear_J", "disappear_F_adaptive", "reappear_J", "reappear_F_adaptive"):
        same(scores.videos["1b2c3d4e"][name], objects["1b2c3d4e_3"][name])
    for figures in (scores.figures, *scores.videos.values(), *scores.objects.values()):
        same(figures["J&F_adaptive"], (figures["J"] + figures["F_adaptive"]) / 2)


@pytest.mark.parametrize(
    ("rules", "key"),
    [
        ("all_listed", "all_listed_frames"),
        ("after_first", "without_first_listed_frame"),
        ("after_first_without_last", "without_first_listed_and_video_last"),
    ],
)
def test_youtube_vos_in_three_readings(rules: str, key: str, case: Case, golden: Golden, same: Same) -> None:
    folder, expected = case("ytvos_mix"), golden("ytvos")["result"]
    scores = score("ytvos19", folder / "gt", folder / "pred", rules=rules)
    for ours, theirs in (("G", "G"), ("J_S", "J_seen"), ("F_S", "F_seen"), ("J_U", "J_unseen"), ("F_U", "F_unseen")):
        same(scores.figures[ours], expected[key][theirs])
    assert "not the server's number" in scores.table()
    if rules == "all_listed":
        for each in scores.frames:
            wanted = expected["per_object"][each.name]
            assert (list(each.frames), each.group) == (wanted["frames"], wanted["set"])
            for measure in ("J", "F"):
                for value, number in zip(each.values[measure], wanted[measure], strict=True):
                    same(value, number)
