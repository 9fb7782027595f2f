"""BURST's HOTA against BURST-benchmark and TrackEval: as shipped, as meant, and with odd predictions."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from jointformer.data.burst import read_burst
from jointformer.errors import DataError, UserError
from jointformer.evaluation.reproduce_rows import figure_key
from jointformer.evaluation.score import score
from jointformer.evaluation.score_burst import iter_sequences
from jointformer.evaluation.score_results import Scores
from jointformer.metrics import burst
from jointformer.metrics.burst import BurstRules, Region, TrackSequence
from jointformer.metrics.burst_classes import COMMON
from jointformer.ops.png import read_index_png
from jointformer.ops.rle import all_fill
from trees import write_grey

Case = Callable[[str], Path]
Golden = Callable[[str], Any]
Same = Callable[..., None]

CASES = ("burst_mix", "burst_simple")
SHIPPED = "BURST-benchmark exemplar_guided"
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "as shipped": (SHIPPED, {}),
    "class-guided": ("BURST-benchmark class_guided", {"rules": "class-guided"}),
    "masks": (f"{SHIPPED}, mask IoU instead of box IoU (not official)", {"similarity": "mask"}),
    "tracks as meant": ("TrackEval EXEMPLAR_GUIDED=True", {"filter_tracks": True}),
    "TrackEval by class": ("TrackEval EXEMPLAR_GUIDED=False", {"rules": "class-guided"}),
}


def check(scores: Scores, expected: Any, same: Same) -> None:
    for measure in ("HOTA", "DetA", "AssA"):
        for group in ("all", "common", "uncommon"):
            same(scores.figures[f"{measure}_{group}"], expected["table"][measure][group], 100)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", CASES)
def test_burst_equals_the_toolkits(name: str, variant: str, case: Case, golden: Golden, same: Same) -> None:
    key, options = VARIANTS[variant]
    folder = case(name)
    expected = golden("burst")["cases"][name]["cutie"][key]
    check(score("burst", folder / "gt", folder / "pred_png", **options), expected, same)


@pytest.mark.parametrize("name", CASES)
def test_each_class_equals_at_every_threshold(name: str, case: Case, golden: Golden) -> None:
    expected = golden("burst")["cases"][name]["cutie"][SHIPPED]
    truth = read_burst(case(name) / "gt/all_classes.json")
    sequences = list(iter_sequences(truth, case(name) / "pred_png", [], BurstRules()))
    counts = [burst.sequence_counts(sequence, BurstRules()) for sequence in sequences]
    per_class = burst.class_counts(counts, burst.scored_classes(map(burst.scored_truth, sequences)))
    assert set(per_class) == set(expected["class_ids"].values())
    for title, category in expected["class_ids"].items():
        ours, theirs = per_class[category], expected["per_class"][title]
        parts = {"HOTA": ours.hota, "DetA": ours.detection, "AssA": ours.association, "LocA": ours.location}
        parts |= {"HOTA_TP": ours.tp, "HOTA_FN": ours.fn, "HOTA_FP": ours.fp}
        for key, values in parts.items():
            np.testing.assert_allclose(values, theirs[key], rtol=0, atol=1e-9)
    for sequence, found in zip(truth.sequences, counts, strict=True):
        theirs = expected["per_sequence_tp_fn_fp"][f"val-{sequence.dataset}-{sequence.name}"]
        for title, numbers in theirs.items():
            ours = found[expected["class_ids"][title]]
            assert ours.tp.tolist() == numbers["HOTA_TP"]
            assert ours.fn.tolist() == numbers["HOTA_FN"]
            assert ours.fp.tolist() == numbers["HOTA_FP"]


def test_predictions_are_read_by_the_workers_and_run_lengths_checked_a_sequence_at_a_time(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = case("burst_simple")
    asked: list[tuple[int, int]] = []
    texts: list[Sequence[str]] = []

    def several(function: Callable[[Any], Any], items: Any, *, workers: int, files: int) -> Iterator[Any]:
        asked.append((workers, files))
        return map(function, pickle.loads(pickle.dumps(items)))

    def together(masks: Sequence[str], size: tuple[int, int]) -> bool:
        texts.append(masks)
        return all_fill(masks, size)

    monkeypatch.setattr("jointformer.evaluation.score_burst.parallel_map", several)
    monkeypatch.setattr("jointformer.data.burst.all_fill", together)
    score("burst", folder / "gt", folder / "pred_png", workers=3)
    content = json.loads((folder / "gt/all_classes.json").read_text())["sequences"]
    assert asked == [(3, sum(len(entry["annotated_image_paths"]) for entry in content))]
    assert len(texts) == len(content)


def predictions_json(folder: Path, empty_masks: bool, skip_first: bool) -> dict[str, Any]:
    """The PNG predictions as a BURST JSON, as the converters write it."""
    content = json.loads((folder / "gt/all_classes.json").read_text())
    for entry in content["sequences"]:
        frames = []
        for image in entry["annotated_image_paths"]:
            place = folder / "pred_png" / f"{entry['dataset']}_-_{entry['seq_name']}"
            labels = read_index_png(place / f"{image[:-4]}.png")
            masks = {track: np.asfortranarray(labels == int(track)) for track in entry["track_category_ids"]}
            frames.append(
                {
                    track: {"rle": coco.encode(mask.astype(np.uint8))["counts"].decode()}
                    for track, mask in masks.items()
                    if empty_masks or mask.any()
                }
            )
        entry["segmentations"] = frames
    content["sequences"] = content["sequences"][skip_first:]
    return content


@pytest.mark.parametrize(
    ("part", "empty_masks", "skip_first"),
    [("cutie", False, False), ("null_masks", True, False), ("first_video_missing", False, True)],
)
@pytest.mark.parametrize("name", CASES)
def test_predictions_as_json_equal_the_toolkit_with_empty_masks_and_missing_videos_too(
    name: str, part: str, empty_masks: bool, skip_first: bool, case: Case, golden: Golden, same: Same, tmp_path: Path
) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(predictions_json(case(name), empty_masks, skip_first)))
    scores = score("burst", case(name) / "gt", path)
    check(scores, golden("burst")["cases"][name][part][SHIPPED], same)
    assert any("counted as missed: 1 (LaSOT_-_bicycle-1)" in note for note in scores.notes) == skip_first


@pytest.mark.parametrize("categories", [None, {}, [1, "a"], [{"name": "x"}], [{"id": [1], "name": "x"}]])
def test_no_figure_depends_on_the_names_of_classes(categories: Any, case: Case, tmp_path: Path) -> None:
    folder = case("burst_simple")
    content = json.loads((folder / "gt/all_classes.json").read_text())
    path = tmp_path / "all_classes.json"
    path.write_text(json.dumps(content | {"categories": categories}))
    named, unnamed = (score("burst", truth, folder / "pred_png") for truth in (folder / "gt", path))
    assert (named.figures, len(named.objects)) == (unnamed.figures, len(unnamed.objects))


def test_an_image_may_have_any_extension(case: Case, tmp_path: Path) -> None:
    folder = case("burst_simple")
    content = json.loads((folder / "gt/all_classes.json").read_text())
    for entry in content["sequences"]:
        entry["annotated_image_paths"] = [f"{image[:-4]}.jpeg" for image in entry["annotated_image_paths"]]
    path = tmp_path / "all_classes.json"
    path.write_text(json.dumps(content))
    assert score("burst", path, folder / "pred_png") == score("burst", folder / "gt", folder / "pred_png")


@pytest.mark.parametrize("place", [".", "val", "annotations/val", "val/annotations", "annotations"])
def test_the_truth_is_found_wherever_it_was_unpacked(place: str, case: Case, tmp_path: Path) -> None:
    folder = case("burst_simple")
    (tmp_path / place).mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "gt/all_classes.json", tmp_path / place)
    assert score("burst", tmp_path, folder / "pred_png") == score("burst", folder / "gt", folder / "pred_png")


def test_a_truth_of_first_frames_alone_is_noted(case: Case, tmp_path: Path) -> None:
    folder = case("burst_simple")
    content = json.loads((folder / "gt/all_classes.json").read_text())
    for entry in content["sequences"]:
        seen: set[str] = set()
        for number, frame in enumerate(entry["segmentations"]):
            entry["segmentations"][number] = {track: found for track, found in frame.items() if track not in seen}
            seen |= frame.keys()
    path = tmp_path / "first_frame_annotations.json"
    path.write_text(json.dumps(content))
    assert any("one frame only" in note for note in score("burst", path, folder / "pred_png").notes)
    assert not any("one frame only" in note for note in score("burst", folder / "gt", folder / "pred_png").notes)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"set_name": "mine.txt"}, "no lists of videos, expected val or test"),
        ({"set_name": "test"}, "annotations of another split, expected test, got val"),
        ({"meta": "meta.json"}, "burst has no meta file"),
        ({"groups": "seen.txt"}, "burst has no list of groups"),
        ({"missing": "empty"}, "--missing: does nothing for burst, which counts missing predictions as empty"),
        ({"strict_toolkit": True}, "--strict-toolkit: does nothing for burst"),
    ],
)
def test_options_that_burst_does_not_have_are_refused(options: dict, message: str, case: Case) -> None:
    folder = case("burst_simple")
    with pytest.raises(UserError, match=message):
        score("burst", folder / "gt", folder / "pred_png", **options)


@pytest.mark.parametrize(("others", "score_of_the_right_one", "found"), [(299, 0.5, 1), (300, 0.5, 0), (300, 2.0, 1)])
def test_no_more_than_the_300_likeliest_predictions_of_a_frame_count(
    others: int, score_of_the_right_one: float, found: int
) -> None:
    right, wrong = (10, 10, 20, 20), (100, 100, 5, 5)
    frame = {track: Region(wrong) for track in range(others)}
    frame[others] = Region(right, score=score_of_the_right_one)
    kind = min(COMMON)
    sequence = TrackSequence([{1: Region(right)}], [frame], {1: kind}, dict.fromkeys(frame, kind))
    counts = burst.sequence_counts(sequence, BurstRules())[kind]
    assert (counts.tp == found).all()
    assert (counts.fp == 300 - found).all()


@pytest.mark.parametrize("class_guided", [True, False])
@pytest.mark.parametrize("of_truth", [True, False])
@pytest.mark.parametrize("listed", ["nowhere", "negative", "not_exhaustive"])
def test_class_guided_scoring_counts_only_predictions_of_classes_that_were_looked_for(
    listed: str, of_truth: bool, class_guided: bool
) -> None:
    right, wrong = Region((10, 10, 20, 20)), Region((100, 100, 5, 5))
    truth_kind, other_kind = sorted(COMMON)[:2]
    kind = truth_kind if of_truth else other_kind  # of the prediction that is nowhere near the truth
    lists = {} if listed == "nowhere" else {listed: frozenset([kind])}
    sequence = TrackSequence([{1: right}], [{1: right, 2: wrong}], {1: truth_kind}, {1: truth_kind, 2: kind}, **lists)
    counts = burst.sequence_counts(sequence, BurstRules(class_guided=class_guided))
    looked_for = {"nowhere": of_truth, "negative": True, "not_exhaustive": False}[listed]
    assert (counts[kind].fp == (looked_for or not class_guided)).all()
    assert (counts[truth_kind].tp == 1).all(), "what is matched always counts"


@pytest.mark.parametrize(
    ("listed", "counted"),
    [({"negative": 207}, 0), ({"negative": 554}, 1), ({"negative": 554, "not_exhaustive": 207}, 1)],
)
def test_class_guided_lists_name_classes_as_they_count_not_as_they_were_before_merging(
    listed: dict[str, int], counted: int
) -> None:
    right, wrong, kind = Region((10, 10, 20, 20)), Region((100, 100, 5, 5)), min(COMMON)
    lists = {name: frozenset([category]) for name, category in listed.items()}
    for predicted in (207, 554):  # which is counted as 554
        sequence = TrackSequence([{1: right}], [{1: right, 2: wrong}], {1: kind}, {1: kind, 2: predicted}, **lists)
        assert (burst.sequence_counts(sequence, BurstRules(class_guided=True))[554].fp == counted).all()


def test_the_common_classes_are_those_of_the_toolkit(golden: Golden) -> None:
    assert sorted(COMMON) == golden("burst")["common_category_ids"]


def test_figures_stand_beside_published_ones_by_their_names(case: Case) -> None:
    scores = score("burst", case("burst_mix") / "gt", case("burst_mix") / "pred_png")
    ours = {name: 100 * scores.figures[figure_key(name)] for name in ("HOTA-all", "HOTA-uncommon")}
    assert {name: round(value, 2) for name, value in ours.items()} == {"HOTA-all": 50.31, "HOTA-uncommon": 31.41}


@pytest.mark.parametrize("workers", [1, 2])
def test_pngs_that_cannot_be_read_are_counted_and_missing_ones_are_empty(
    workers: int, case: Case, tmp_path: Path
) -> None:
    folder = case("burst_simple")
    predictions = shutil.copytree(folder / "pred_png", tmp_path / "pred")
    first, second, third, *_ = sorted(predictions.rglob("*.png"))
    first.write_bytes(first.read_bytes()[:60])
    Image.new("RGB", (8, 8)).save(second)
    with pytest.raises(DataError, match=r"cannot be read or hold no labels: 2 \(.*damaged or.*must hold labels\)"):
        score("burst", folder / "gt", predictions, workers=workers)
    for path in (first, second, third):
        path.unlink()
    scores = score("burst", folder / "gt", predictions, workers=workers)
    assert any(note.startswith("frames without predictions, counted as empty: 3 (") for note in scores.notes)


def test_grey_of_few_bits_says_why_its_labels_are_no_tracks(case: Case, tmp_path: Path) -> None:
    folder = case("burst_simple")
    predictions = shutil.copytree(folder / "pred_png", tmp_path / "pred")
    path = min(predictions.rglob("*.png"))
    shape = read_index_png(path).shape
    write_grey(path, np.zeros(shape, np.uint8), 4)
    notes = score("burst", folder / "gt", predictions).notes
    assert any(note.startswith("grey PNGs of 2 or 4 bits are read stretched") for note in notes)
    write_grey(path, np.full(shape, 15, np.uint8), 4)
    with pytest.raises(DataError, match=r"no track: 1 \(.*/.*\.png \(255\)\); grey PNGs of 2 or 4 bits are read"):
        score("burst", folder / "gt", predictions)


def test_a_json_of_another_split_is_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text(json.dumps(predictions_json(case("burst_simple"), False, False) | {"split": "test"}))
    with pytest.raises(DataError, match="another split, expected val, got test"):
        score("burst", case("burst_simple") / "gt", path)


def test_a_json_without_segmentations_is_refused(case: Case, tmp_path: Path) -> None:
    path = tmp_path / "predictions.json"
    path.write_text('{"sequences": [{"dataset": "a"}]}')
    with pytest.raises(DataError, match="sequence 0 lacks annotated_image_paths"):
        score("burst", case("burst_simple") / "gt", path)


def changed_json(folder: Path, path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The predictions as a JSON at `path`, after `change` of each sequence."""
    content = predictions_json(folder, False, False)
    for entry in content["sequences"]:
        change(entry)
    path.write_text(json.dumps(content))
    return path


def test_the_scores_say_by_which_options_they_were_made(case: Case) -> None:
    folder = case("burst_simple")
    scores = score("burst", folder / "gt", folder / "pred_png", similarity="mask", filter_tracks=True)
    assert scores.to_json()["options"] == {"similarity": "mask", "filter_tracks": True}


@pytest.mark.parametrize("similarity", ["box", "mask"])
def test_a_json_of_pictures_of_another_size_is_refused_before_anything_is_scored(
    similarity: Any, case: Case, tmp_path: Path
) -> None:
    def halve(entry: dict[str, Any]) -> None:
        size = entry["height"] // 2, entry["width"] // 2
        for frame in entry["segmentations"]:
            for track in frame:
                frame[track] = {"rle": coco.encode(np.ones(size, np.uint8, order="F"))["counts"].decode()}
        entry["height"], entry["width"] = size

    folder = case("burst_simple")
    first = json.loads((folder / "gt/all_classes.json").read_text())["sequences"][0]
    size, half = f"{first['width']}x{first['height']}", f"{first['width'] // 2}x{first['height'] // 2}"
    message = rf"predictions.json: sequences of another size: \d+ \({first['dataset']}_-_{first['seq_name']} "
    with pytest.raises(DataError, match=rf"{message}\({half}, annotation {size}\)"):
        score("burst", folder / "gt", changed_json(folder, tmp_path / "predictions.json", halve), similarity=similarity)


def test_frames_that_a_json_lacks_are_named_and_counted_as_empty(case: Case, tmp_path: Path) -> None:
    def drop(entry: dict[str, Any]) -> None:
        del entry["annotated_image_paths"][0], entry["segmentations"][0]

    def empty(entry: dict[str, Any]) -> None:
        entry["segmentations"][0] = {}

    folder = case("burst_simple")
    first = json.loads((folder / "gt/all_classes.json").read_text())["sequences"][0]
    name = f"{first['dataset']}_-_{first['seq_name']}/{Path(first['annotated_image_paths'][0]).stem}"
    lacking, emptied = (
        score("burst", folder / "gt", changed_json(folder, tmp_path / "predictions.json", change))
        for change in (drop, empty)
    )
    (note,) = lacking.notes
    assert re.match(rf"frames without predictions, counted as empty: \d+ \({name}", note)
    assert (lacking.figures, emptied.notes) == (emptied.figures, [])


def test_a_tracks_class_is_asked_for_only_where_it_counts(case: Case, tmp_path: Path) -> None:
    folder = case("burst_mix")
    whole, bare, own, odd = (tmp_path / f"{name}.json" for name in ("whole", "bare", "own", "odd"))
    changed_json(folder, whole, lambda entry: None)
    changed_json(folder, bare, lambda entry: entry.pop("track_category_ids"))

    def move(entry: dict[str, Any]) -> None:
        for track, kind in entry["track_category_ids"].items():
            for region in (frame[track] for frame in entry["segmentations"] if track in frame):
                region["category_id"] = kind
            entry["track_category_ids"][track] = 1

    changed_json(folder, own, move)
    with pytest.raises(DataError, match=r"bare.json: predicted tracks without a category: \d+ \(\w+_-_[\w-]+ \(1\)"):
        score("burst", folder / "gt", bare)
    tied = [score("burst", folder / "gt", path, filter_tracks=True).figures for path in (whole, bare, own)]
    assert tied[0] == tied[1] == tied[2]
    assert score("burst", folder / "gt", own) == score("burst", folder / "gt", whole), "a mask's own class comes first"
    odd.write_text(own.read_text().replace('"category_id": ', '"category_id": 0.5, "was": ', 1))
    with pytest.raises(DataError, match="a category_id that is no number for track"):
        score("burst", folder / "gt", odd)
