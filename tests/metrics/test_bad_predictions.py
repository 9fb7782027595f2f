"""What predictions can be wrong with: each is said in one line with the first files and the count."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from jointformer.errors import ConfigError, DataError
from jointformer.evaluation import score_sources
from jointformer.evaluation.score import score
from jointformer.evaluation.score_plans import VideoPlan
from jointformer.evaluation.score_results import Scores
from jointformer.evaluation.score_run import ScoreJob, score_videos
from jointformer.evaluation.score_sources import MaskTree
from jointformer.metrics.protocols import find_protocol
from jointformer.system import parallel
from trees import write_grey

Save = Callable[..., None]
VIDEOS, FRAMES = ("bear", "cow"), 5


def labels(frame: int, ids: tuple[int, ...] = (1, 2)) -> np.ndarray:
    """Two squares that move to the right."""
    image = np.zeros((24, 32), np.uint8)
    for index, label in enumerate(ids):
        image[2 + 11 * index : 10 + 11 * index, 2 + 2 * frame : 12 + 2 * frame] = label
    return image


@pytest.fixture
def tree(tmp_path: Path, save_labels: Save) -> Path:
    """A DAVIS-like folder with two videos and perfect predictions."""
    for video in VIDEOS:
        for frame in range(FRAMES):
            for place in ("gt/Annotations/480p", "pred"):
                save_labels(tmp_path / place / video / f"{frame:05d}.png", labels(frame))
    lists = tmp_path / "gt/ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(VIDEOS) + "\n")
    return tmp_path


def test_perfect_predictions_score_one(tree: Path) -> None:
    scores = score("davis17", tree / "gt", tree / "pred")
    assert (scores.figures["J"], scores.figures["F"], scores.notes) == (1.0, 1.0, [])
    assert scores.counts == {"videos": 2, "objects": 4, "object-frames": 12}


def test_a_grey_prediction_is_the_object_from_where_its_rules_say(tree: Path, save_labels: Save) -> None:
    for frame in range(FRAMES):
        for video in VIDEOS:
            grey = 128 if (frame, video) == (2, "bear") else 129
            save_labels(tree / "pred" / video / f"{frame:05d}.png", grey * (labels(frame) > 0), "L")
    assert score("davis16", tree / "gt", tree / "pred").figures["J"] == 1.0
    soft = score("davis16", tree / "gt", tree / "pred", rules="soft").videos
    assert [soft[video]["J"] for video in ("bear", "cow")] == pytest.approx([2 / 3, 1])


def test_label_255_is_void_or_an_object_by_the_rules(tree: Path, save_labels: Save) -> None:
    for frame in range(FRAMES):
        save_labels(tree / "gt/Annotations/480p/bear" / f"{frame:05d}.png", labels(frame, (1, 255)))
        save_labels(tree / "pred/bear" / f"{frame:05d}.png", labels(frame, (1, 255)))
    with pytest.raises(DataError, match=r"labels above the number of objects: 3 \(bear/00001.png \(255\)"):
        score("davis17", tree / "gt", tree / "pred")
    found = score("davis17", tree / "gt", tree / "pred", rules="vos-benchmark").objects
    assert [name for name in found if "bear" in name] == ["bear_1", "bear_255"]


def test_missing_predictions_are_counted_and_the_first_ones_named(tree: Path) -> None:
    for frame in (1, 2, 3):
        (tree / f"pred/bear/{frame:05d}.png").unlink()
    (tree / "pred/cow/00003.png").unlink()
    with pytest.raises(
        DataError, match=r"missing: 4 \(bear/00001.png, bear/00002.png, bear/00003.png, …\); .*--missing empty"
    ):
        score("davis17", tree / "gt", tree / "pred")
    for lists in tree.rglob("val.txt"):
        lists.unlink()
    with pytest.raises(DataError, match="no list of the set 'val' was found: name one with --set; --missing empty"):
        score("davis17", tree / "gt", tree / "pred")
    scores = score("davis17", tree / "gt", tree / "pred", missing="empty")
    assert scores.videos["bear"]["J"] == 0
    assert scores.videos["cow"]["J"] == pytest.approx(2 / 3)
    assert any("scored as empty masks: 4 (" in note for note in scores.notes)


def test_masks_in_a_folder_per_object_are_not_called_missing_frames_alone(tree: Path) -> None:
    for file in (tree / "pred/cow").glob("*.png"):
        file.unlink()
    (tree / "pred/cow/.DS_Store").touch()
    with pytest.raises(DataError, match="--missing empty scores them as empty masks"):
        score("davis17", tree / "gt", tree / "pred")
    for number in "12":
        (tree / "pred/cow" / number).mkdir()
    expected = r"predictions missing: 3 .*; cow holds 1, 2, not a PNG of all objects' ids per frame$"
    with pytest.raises(DataError, match=expected):
        score("davis17", tree / "gt", tree / "pred")


def test_frames_that_no_rule_scores_may_be_missing(tree: Path) -> None:
    for video in VIDEOS:
        for name in ("00000.png", "00004.png"):
            (tree / "pred" / video / name).unlink()
    assert score("davis17", tree / "gt", tree / "pred").figures["J"] == 1


def test_colour_and_size_are_found_before_anything_is_scored(tree: Path, save_labels: Save) -> None:
    save_labels(tree / "pred/bear/00001.png", labels(1), "RGB")
    save_labels(tree / "pred/bear/00002.png", labels(2), "RGBA")
    save_labels(tree / "pred/bear/00003.png", labels(3), "I;16")
    save_labels(tree / "pred/cow/00001.png", np.zeros((12, 16)))
    (tree / "pred/cow/00002.png").write_bytes(b"GIF89a")
    with pytest.raises(DataError) as caught:
        score("davis17", tree / "gt", tree / "pred")
    text = str(caught.value)
    assert "in colour instead of labels: 2 (bear/00001.png (RGB), bear/00002.png (RGBA))" in text
    assert "of 16 bits, where labels have 8: 1 (bear/00003.png (grey))" in text
    assert "of another size: 1 (cow/00001.png (16x12, annotation 32x24))" in text
    assert "that cannot be read: 1 (cow/00002.png (not a PNG file))" in text
    assert "\n" not in text


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_scored_as_the_toolkits_read_it_and_named(tree: Path, bits: int) -> None:
    said = r"grey PNGs of 2 or 4 bits are read stretched to 0\.\.255, as by the toolkits: use 8 bits or a palette: 3 \("
    for frame in range(FRAMES):
        write_grey(tree / f"pred/bear/{frame:05d}.png", labels(frame), bits)
    scores = score("generic", tree / "gt", tree / "pred")
    assert (scores.videos["bear"]["J"], scores.videos["cow"]["J"]) == (0, 1)
    assert any(re.match(said + "bear/00001.png", note) for note in scores.notes)
    with pytest.raises(DataError, match=r"labels above the number of objects: 3 .*; " + said):
        score("davis17", tree / "gt", tree / "pred")
    whole = score("davis16", tree / "gt", tree / "pred")  # where any grey is the object
    assert whole.figures["J"] == 1
    assert not any("grey" in note for note in whole.notes)
    shutil.copytree(tree / "pred/bear", tree / "gt/Annotations/480p/bear", dirs_exist_ok=True)
    shutil.copytree(tree / "pred/cow", tree / "pred/bear", dirs_exist_ok=True)
    notes = score("generic", tree / "gt", tree / "pred").notes
    assert any(note.endswith("a palette: 1 (annotation bear/00001.png)") for note in notes)


def test_truncated_predictions_are_counted(tree: Path) -> None:
    for name, kept in (("00001.png", -40), ("00003.png", 40)):
        path = tree / "pred/cow" / name
        path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"cannot be decoded: 2 \(cow/00001.png \(damaged or truncated PNG") as caught:
        score("davis17", tree / "gt", tree / "pred")
    assert " object at 0x" not in str(caught.value)


def test_labels_above_the_number_of_objects_stop_as_the_toolkit_does_and_255_is_one(
    tree: Path, save_labels: Save
) -> None:
    save_labels(tree / "pred/bear/00002.png", labels(2, (1, 3)))
    save_labels(tree / "pred/cow/00003.png", labels(3, (1, 255)))
    with pytest.raises(DataError, match=r"objects: 2 \(bear/00002.png \(3\), cow/00003.png \(255\)\)"):
        score("davis17", tree / "gt", tree / "pred")


def test_a_zip_is_read_in_place_whatever_folder_encloses_it(tree: Path) -> None:
    for prefix in ("", "Annotations/", "results/", "results/Annotations/"):
        path = tree / "pred.zip"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("__MACOSX/bear/00001.png", b"junk")
            for file in sorted((tree / "pred").rglob("*.png")):
                archive.write(file, prefix + str(file.relative_to(tree / "pred")))
        before = set(tree.rglob("*"))
        assert score("davis17", tree / "gt", path).figures["J&F"] == 1
        assert set(tree.rglob("*")) == before


def test_names_beyond_ascii_are_found_in_a_zip_that_does_not_say_utf8(tree: Path) -> None:
    shutil.copytree(tree / "pred", tree / "marked")  # same length as in UTF-8, to be replaced in the bytes
    (tree / "marked/cow").rename(tree / "marked/vach__")
    for place in ("gt/Annotations/480p", "pred"):
        (tree / place / "cow").rename(tree / place / "vaché")
    path = Path(shutil.make_archive(str(tree / "pred"), "zip", tree / "marked"))
    path.write_bytes(path.read_bytes().replace(b"vach__", "vaché".encode()))
    folder = score("generic", tree / "gt/Annotations/480p", tree / "pred")
    zipped = score("generic", tree / "gt/Annotations/480p", path)
    assert (zipped.figures, zipped.counts, zipped.notes) == (folder.figures, folder.counts, folder.notes)
    assert zipped.counts["videos"] == 2


@pytest.mark.parametrize("benchmark", ["davis16", "davis17", "mose"])
@pytest.mark.parametrize("zipped", [False, True])
def test_files_that_systems_leave_behind_change_no_score(
    tree: Path, save_labels: Save, benchmark: str, zipped: bool
) -> None:
    for frame in (1, 2):
        save_labels(tree / f"pred/bear/{frame:05d}.png", labels(frame + 1))
    (tree / "out").mkdir()
    shutil.move(tree / "pred", tree / "out/results")
    truth, place = tree / "gt/Annotations/480p", tree / "out/results"
    clean = score(benchmark, truth if benchmark == "mose" else tree / "gt", tree / "out")
    assert clean.figures["J"] < 1
    (tree / "gt/Annotations/.Trashes").mkdir()
    for folder in (truth / "bear", place / "bear", *(base / "__MACOSX/bear" for base in (truth, place, tree / "out"))):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("._00000.png", ".DS_Store", "Thumbs.db"):
            (folder / name).write_bytes(b"\0\5\x16\7")
    for folder in (tree / "gt/Annotations/.Trashes", truth / ".Trashes", place / ".Trashes"):
        save_labels(folder / "00000.png", labels(0))
    predictions = tree / "out"
    if zipped:
        predictions = tree / "pred.zip"
        with zipfile.ZipFile(predictions, "w") as archive:
            for file in sorted((tree / "out").rglob("*.*")):
                archive.write(file, file.relative_to(tree / "out"))
    scores = score(benchmark, truth if benchmark == "mose" else tree / "gt", predictions)
    assert (scores.figures, scores.counts, scores.notes) == (clean.figures, clean.counts, clean.notes)


def test_the_suffix_may_be_in_capitals(tree: Path) -> None:
    for file in [*(tree / "gt").rglob("00001.png"), *(tree / "pred").rglob("00002.png")]:
        file.rename(file.with_suffix(".PNG"))
    assert score("davis17", tree / "gt", tree / "pred").figures["J&F"] == 1


def test_videos_that_are_links_to_nothing_are_not_left_out(tree: Path) -> None:
    (tree / "pred/cow").rename(tree / "moved")
    (tree / "pred/cow").symlink_to(tree / "unmounted")
    with pytest.raises(DataError, match=r"predictions missing: 3 \(cow/00001\.png"):
        score("generic", tree / "gt/Annotations/480p", tree / "pred")
    shutil.rmtree(tree / "gt/Annotations/480p/cow")
    (tree / "gt/Annotations/480p/cow").symlink_to(tree / "unmounted")
    with pytest.raises(DataError, match="cow: a video without annotations"):
        score("generic", tree / "gt/Annotations/480p", tree / "pred")


def test_frames_are_in_the_order_of_their_numbers(tree: Path) -> None:
    for video in VIDEOS:
        for frame in range(FRAMES):
            for place in ("gt/Annotations/480p", "pred"):
                (tree / place / video / f"{frame:05d}.png").rename(tree / place / video / f"{frame + 7}.png")
    scores = score("generic", tree / "gt/Annotations/480p", tree / "pred")
    assert {each.frames for each in scores.frames} == {("8", "9", "10")}


@pytest.mark.parametrize("place", ["Annotations", "results", "results/Annotations"])
def test_a_folder_is_found_inside_the_usual_ones(tree: Path, place: str) -> None:
    target = tree / "out" / place
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(tree / "pred", target)
    assert score("davis17", tree / "gt", tree / "out").figures["J&F"] == 1


def test_lists_are_found_beside_and_behind_annotations_that_are_a_link(tree: Path) -> None:
    shutil.copytree(tree / "gt/Annotations/480p/cow", tree / "gt/Annotations/480p/not in the list")
    (tree / "link").symlink_to(tree / "gt/Annotations")
    assert score("davis17", tree / "link", tree / "pred").counts["videos"] == 2
    (tree / "gt/Annotations").rename(tree / "elsewhere")
    (tree / "gt/Annotations").symlink_to(tree / "elsewhere")
    for place in (tree / "gt", tree / "gt/Annotations", tree / "gt/Annotations/480p"):
        assert score("davis17", place, tree / "pred").counts["videos"] == 2


@pytest.mark.parametrize("name", ["../bear/00001.png", "/bear/00001.png", "a/..\\..\\bear/00001.png"])
def test_a_zip_whose_names_leave_it_is_refused(tree: Path, name: str) -> None:
    path = tree / "pred.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, (tree / "pred/bear/00001.png").read_bytes())
    with pytest.raises(DataError, match="names leave it"):
        score("davis17", tree / "gt", path)


@pytest.mark.parametrize("name", ["../bear", "a/b", "..", "a\\b"])
def test_a_list_with_a_path_instead_of_a_name_is_refused(tree: Path, name: str) -> None:
    (tree / "gt/ImageSets/2017/val.txt").write_text(f"bear\n{name}\n")
    with pytest.raises(DataError, match=r"val\.txt: not a video's name"):
        score("davis17", tree / "gt", tree / "pred")


def test_a_damaged_zip_member_is_named(tree: Path) -> None:
    path = tree / "pred.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in sorted((tree / "pred").rglob("*.png")):
            archive.write(file, str(file.relative_to(tree / "pred")))
    content = bytearray(path.read_bytes())
    spot = content.find(b"IDAT", content.find(b"cow/00002.png"))
    content[spot + 6] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"cannot be read: 1 \(cow/00002.png \(.*CRC"):
        score("davis17", tree / "gt", path)


def test_a_damaged_member_of_a_zip_is_named_however_it_was_packed(tree: Path) -> None:
    for number, packing in enumerate((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)):
        path = tree / f"pred{number}.zip"
        with zipfile.ZipFile(path, "w", packing) as archive:
            for file in sorted((tree / "pred").rglob("*.png")):
                archive.write(file, str(file.relative_to(tree / "pred")))
            member = archive.getinfo("cow/00002.png")
        content = bytearray(path.read_bytes())
        begin = member.header_offset + 30 + len(member.filename)
        for spot in range(begin + 9, begin + member.compress_size):  # LZMA's properties take 9 bytes
            content[spot] ^= 0xFF
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"cannot be read: 1 \(cow/00002.png \(cannot read the mask"):
            score("davis17", tree / "gt", path)


def test_a_zip_member_that_grows_beyond_any_mask_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score_sources, "MOST_BYTES", 10_000)
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bear/0.png", bytes(10_000))
        archive.writestr("bear/1.png", bytes(10_001))
    masks = score_sources.open_masks(tmp_path / "a.zip", ["bear"])
    assert len(masks.read_bytes("bear", "0")) == 10_000
    with pytest.raises(DataError, match=r"a\.zip/bear/1\.png: the mask is too large, expected at most 10,000 bytes"):
        masks.read_bytes("bear", "1")


def test_predictions_of_other_videos_say_what_was_expected_and_found(tree: Path) -> None:
    (tree / "pred/bear").rename(tree / "pred/dog")
    (tree / "pred/cow").rename(tree / "pred/eel")
    with pytest.raises(DataError, match="expected folders such as bear, cow, got dog, eel"):
        score("davis17", tree / "gt", tree / "pred")


def test_labels_that_the_truth_never_has_are_dropped_by_vos_benchmark_and_named(tree: Path, save_labels: Save) -> None:
    for frame in (2, 3):
        save_labels(tree / f"pred/bear/{frame:05d}.png", labels(frame, (1, 9)))
    scores = score("generic", tree / "gt", tree / "pred")
    assert set(scores.objects) == {"bear_1", "bear_2", "cow_1", "cow_2"}
    assert scores.notes == [
        "predictions with labels that are no object here, which are dropped: 1 (bear/00002.png (9))"
    ]


def test_vos_benchmark_leaves_out_videos_without_predictions_and_says_so(tree: Path) -> None:
    shutil.rmtree(tree / "pred/cow")
    scores = score("generic", tree / "gt", tree / "pred")
    assert list(scores.videos) == ["bear"]
    assert any("no predictions, as the toolkit does: 1 (cow)" in note for note in scores.notes)
    assert score("generic", tree / "gt", tree / "pred", missing="empty").videos["cow"]["J"] == 0


def test_a_truth_of_0_and_255_is_told_apart_from_labels(tree: Path, save_labels: Save) -> None:
    for video in VIDEOS:
        for frame in range(FRAMES):
            save_labels(tree / f"gt/Annotations/480p/{video}/{frame:05d}.png", 255 * (labels(frame) > 0), "L")
    with pytest.raises(DataError, match="davis16 scores masks of 0 and 255"):
        score("davis17", tree / "gt", tree / "pred")
    scores = score("davis16", tree / "gt", tree / "pred")
    assert scores.figures["J"] == 1
    assert "all 2 videos of the annotations" in scores.notes[0]


def test_a_video_of_two_frames_is_left_out_and_stops_a_strict_run(tree: Path) -> None:
    for frame in (2, 3, 4):
        (tree / f"gt/Annotations/480p/cow/{frame:05d}.png").unlink()
    scores = score("davis17", tree / "gt", tree / "pred")
    assert list(scores.videos) == ["bear"]
    assert any("no frame of theirs is scored: 1 (cow)" in note for note in scores.notes)
    with pytest.raises(DataError, match="the toolkit crashes"):
        score("davis17", tree / "gt", tree / "pred", strict_toolkit=True)


@pytest.mark.parametrize(
    ("benchmark", "rules", "crashes"),
    [
        *[(name, "davis", True) for name in ("davis16", "davis17", "vost", "generic")],
        *[(name, "vos-benchmark", False) for name in ("davis16", "davis17", "mose", "generic")],
        ("mose", "davis", False),
    ],
)
def test_a_strict_run_stops_at_a_video_of_two_frames_where_the_toolkit_crashes(
    benchmark: str, rules: str, crashes: bool, tree: Path
) -> None:
    for frame in (2, 3, 4):
        (tree / f"gt/Annotations/480p/cow/{frame:05d}.png").unlink()
    with pytest.raises(DataError, match=r"crashes: 1 \(cow\)") if crashes else nullcontext():
        scores = score(benchmark, tree / "gt/Annotations/480p", tree / "pred", rules=rules, strict_toolkit=True)
        assert list(scores.videos) == ["bear"]


def test_mose_v2_counts_the_objects_of_a_video_of_two_frames_as_zeros(tree: Path) -> None:
    (tree / "meta.json").write_text(
        json.dumps({"videos": {video: {"objects": {"1": {}, "2": {}}} for video in VIDEOS}})
    )

    def scored() -> Scores:
        return score("mose", tree / "gt", tree / "pred", rules="v2", meta=tree / "meta.json")

    whole = scored().objects
    for frame in (2, 3, 4):
        (tree / f"gt/Annotations/480p/cow/{frame:05d}.png").unlink()
    scores = scored()
    for name in ("J", "F", "F_adaptive", "J&F_adaptive"):
        assert [scores.objects[each][name] for each in ("cow_1", "cow_2")] == [0, 0]
        assert scores.figures[name] == pytest.approx((whole["bear_1"][name] + whole["bear_2"][name]) / 4)
    assert math.isnan(scores.objects["cow_1"]["disappear_J"])
    assert scores.counts == {"videos": 2, "objects": 4, "object-frames": 6}
    assert scores.notes == ["videos without a scored frame, whose objects the toolkit counts as 0: 1 (cow)"]
    for frame in (2, 3, 4):
        (tree / f"gt/Annotations/480p/bear/{frame:05d}.png").unlink()
    with pytest.raises(DataError, match="are these the given masks alone"):
        scored()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"set_name": "train"}, "no such set"),
        ({"rules": "2024"}, r"expected davis \| vos-benchmark"),
        ({"meta": "x.json"}, "davis17 has no meta file"),
        ({"similarity": "mask"}, "no similarity"),
        ({"missing": "skip"}, "expected toolkit | empty"),
        ({"workers": 0}, "at least 1"),
    ],
)
def test_wrong_options_are_named(tree: Path, options: dict, message: str) -> None:
    with pytest.raises((ConfigError, DataError), match=message):
        score("davis17", tree / "gt", tree / "pred", **options)


def test_a_set_may_be_a_text_file(tree: Path) -> None:
    (tree / "mine.txt").write_text("cow\n")
    assert list(score("davis17", tree / "gt", tree / "pred", set_name=str(tree / "mine.txt")).videos) == ["cow"]


def test_a_benchmark_without_lists_takes_a_text_file_only(tree: Path) -> None:
    (tree / "mine.txt").write_text("cow\n")
    assert list(score("mose", tree / "gt", tree / "pred", set_name=str(tree / "mine.txt")).videos) == ["cow"]
    with pytest.raises(ConfigError, match="mose has no named sets"):
        score("mose", tree / "gt", tree / "pred", set_name="val")
    (tree / "mine.txt").write_text("cow\nyak\n")
    with pytest.raises(DataError, match="without annotations, got yak"):
        score("mose", tree / "gt", tree / "pred", set_name=str(tree / "mine.txt"))


def test_lvos_names_frames_that_do_not_exist(tree: Path) -> None:
    (tree / "gt/valid_meta.json").write_text(
        '{"videos": {"bear": {"objects": {"1": {"frame_range": {"start": 1, "end": 21, "frame_nums": 5}}}}}}'
    )
    with pytest.raises(DataError, match=r"annotations missing: 3 \(bear/00000006.png"):
        score("lvos", tree / "gt", tree / "pred")


def test_lvos_takes_a_text_file_of_videos_too(tree: Path) -> None:
    for place in (tree / "gt/Annotations/480p", tree / "pred"):
        for video in VIDEOS:
            for frame in range(FRAMES):
                (place / video / f"{frame:05d}.png").rename(place / video / f"{1 + 5 * frame:08d}.png")
    objects = {"1": {"frame_range": {"start": 1, "end": 21, "frame_nums": 6}}}
    (tree / "gt/valid_meta.json").write_text(json.dumps({"videos": {video: {"objects": objects} for video in VIDEOS}}))
    (tree / "mine.txt").write_text("cow\n")
    scores = score("lvos", tree / "gt", tree / "pred", set_name=str(tree / "mine.txt"))
    assert list(scores.videos) == ["cow"]
    assert any(note.startswith("1 entries of frame_nums") for note in scores.notes)


def test_lvos_counts_zeros_of_a_video_that_has_nothing_but_them(tree: Path) -> None:
    for place in (tree / "gt/Annotations/480p", tree / "pred"):
        for frame in range(FRAMES):
            (place / f"bear/{frame:05d}.png").rename(place / f"bear/{1 + 5 * frame:08d}.png")
    whole = {"1": {"frame_range": {"start": 1, "end": 21, "frame_nums": 5}}}
    nothing = {"1": {"frame_range": {"start": 1, "end": 6, "frame_nums": 5}}}
    objects = {"bear": {"objects": whole}, "cow": {"objects": nothing}}
    (tree / "gt/valid_meta.json").write_text(json.dumps({"videos": objects}))
    scores = score("lvos", tree / "gt", tree / "pred")
    assert scores.objects["cow_1"]["J"] == 0
    assert scores.figures["J"] == 0.5
    assert any(note.startswith("3 entries of frame_nums without a frame") for note in scores.notes)


def test_a_broken_meta_file_is_named(tree: Path) -> None:
    (tree / "gt/valid_meta.json").write_text('{"videos": [1]}')
    with pytest.raises(DataError, match=r"valid_meta.json: videos is of the wrong type, expected an object"):
        score("lvos", tree / "gt", tree / "pred")


@pytest.mark.parametrize(
    ("benchmark", "entry", "message"),
    [
        ("ytvos19", {"1": {"category": "cat", "frames": [0, 5]}}, "objects need a category and frames"),
        ("ytvos19", {"1": {"category": ["cat"], "frames": []}}, "objects need a category and frames"),
        ("ytvos19", {"cat": {"category": "cat", "frames": []}}, "no label, expected 1..255, got 'cat'"),
        ("lvos", {"300": {"frame_range": {"start": 1, "end": 6, "frame_nums": 2}}}, "no label"),
        ("lvos", {"1": {"frame_range": {"start": 1, "end": math.inf, "frame_nums": 2}}}, "end is no frame number"),
        ("lvos", {"1": {"frame_range": {"start": 1, "end": 99999999, "frame_nums": 2}}}, "too long a frame_range"),
        ("lvos", {"1": {"frame_range": {"start": 1, "end": 6, "frame_nums": 10**15}}}, "frame_nums is no frame number"),
        ("mose", {"a": {}}, "no label"),
    ],
)
def test_a_meta_file_with_odd_objects_is_named(benchmark: str, entry: dict, message: str, tree: Path) -> None:
    rules = "v2" if benchmark == "mose" else None
    (tree / "meta.json").write_text(json.dumps({"videos": {video: {"objects": entry} for video in VIDEOS}}))
    (tree / "seen.txt").write_text("cat\n")
    groups = None if benchmark == "mose" else tree / "seen.txt"
    with pytest.raises(DataError, match=rf"meta.json: .*{message}"):
        score(benchmark, tree / "gt", tree / "pred", rules=rules, meta=tree / "meta.json", groups=groups)


def test_a_video_whose_objects_have_no_frames_is_left_out_and_named(tree: Path) -> None:
    bear, cow = VIDEOS
    objects = {"1": {"category": "cat", "frames": ["00000", "00001"]}}
    (tree / "meta.json").write_text(json.dumps({"videos": {bear: {"objects": {}}, cow: {"objects": objects}}}))
    (tree / "seen.txt").write_text("cat\n")
    scores = score("ytvos19", tree / "gt", tree / "pred", meta=tree / "meta.json", groups=tree / "seen.txt")
    assert list(scores.videos) == [cow]
    assert any(f"no frame of theirs is scored: 1 ({bear})" in note for note in scores.notes)


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfa"])
def test_a_list_of_groups_that_cannot_be_read_is_named(content: bytes | None, tree: Path) -> None:
    if content is not None:
        (tree / "unseen.txt").write_bytes(content)
    objects = {"1": {"frame_range": {"start": 1, "end": 6, "frame_nums": 2}}}
    (tree / "gt/valid_meta.json").write_text(json.dumps({"videos": {VIDEOS[0]: {"objects": objects}}}))
    with pytest.raises(DataError, match=r"unseen.txt: cannot read the list"):
        score("lvos", tree / "gt", tree / "pred", groups=tree / "unseen.txt")


def test_a_list_that_begins_with_a_byte_order_mark_is_the_same_list(tree: Path) -> None:
    (tree / "mine.txt").write_text("\ufeffcow\r\n", encoding="utf-8")
    assert list(score("davis17", tree / "gt", tree / "pred", set_name=str(tree / "mine.txt")).videos) == ["cow"]


@pytest.mark.slow
def test_two_processes_give_the_same_numbers_as_one(tree: Path) -> None:
    for video in VIDEOS:
        for frame in range(FRAMES, 150):
            for place in ("gt/Annotations/480p", "pred"):
                shutil.copy(tree / place / video / "00001.png", tree / place / video / f"{frame:05d}.png")
    one = score("davis17", tree / "gt", tree / "pred")
    two = score("davis17", tree / "gt", tree / "pred", workers=2)
    assert (one.figures, one.objects, one.frames) == (two.figures, two.objects, two.frames)


class Deadly(MaskTree):
    """Masks whose reader is killed."""

    def only(self, video: str) -> MaskTree:
        return self

    def frames(self, video: str) -> frozenset[str]:
        os.kill(os.getpid(), signal.SIGKILL)
        return frozenset()


def test_a_process_that_is_killed_while_it_scores_is_one_line(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "_FILES_PER_WORKER", 1)
    protocol, truth = find_protocol("generic"), MaskTree(str(tree / "gt/Annotations/480p"))
    jobs = [
        ScoreJob(VideoPlan(video, "00000", ("00000", "00001")), protocol, truth, Deadly(str(tree / "pred")))
        for video in VIDEOS
    ]
    with pytest.raises(ConfigError, match="a worker process was ended from outside"):
        list(score_videos(jobs, workers=2))
