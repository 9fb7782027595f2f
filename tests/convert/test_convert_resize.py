"""Data sets at another size, first masks and VISOR's polygons: round trips, resuming, damaged input."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jointformer.cli.main import main
from jointformer.data.convert_first import first_masks
from jointformer.data.convert_resize import ResizeJob, resize_nearest, resize_tree, resized_size
from jointformer.data.convert_visor import INFO, masks_to_visor, polygons
from jointformer.data.masks import read_mask_file, write_mask
from jointformer.errors import ConfigError, DataError, OutputError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.png import parse_png_header, read_index_png
from jointformer.system import parallel
from trees import HEIGHT, WIDTH, draw_frame, draw_ids, make_tree, write_grey


@pytest.fixture
def source(tmp_path: Path) -> Path:
    make_tree(tmp_path / "data", "MOSE")
    (tmp_path / "data/MOSE/valid/meta.json").write_text("{}")
    return tmp_path / "data/MOSE"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_whole_tree_gets_the_size_and_keeps_names_lists_and_palettes(source: Path, tmp_path: Path) -> None:
    done = resize_tree(source, tmp_path / "small", 12)
    assert (done.done, done.kept) == (4, 0)
    assert contents(tmp_path / "small").keys() == contents(source).keys()
    assert (tmp_path / "small/valid/meta.json").read_text() == "{}"
    video = "valid/Annotations/0a1b2c3d/00000.png"
    small, large = read_mask_file(tmp_path / "small" / video), read_mask_file(source / video)
    assert small.ids.shape == (12, 16)
    assert object_ids(small.ids) == object_ids(large.ids)
    assert small.palette is not None
    assert large.palette is not None
    assert np.array_equal(small.palette, large.palette)
    with Image.open(tmp_path / "small/valid/JPEGImages/0a1b2c3d/00001.jpg") as frame:
        assert frame.size == (16, 12)
        wanted = Image.fromarray(draw_frame(1)).resize((16, 12), Image.Resampling.BICUBIC)
        assert np.abs(np.asarray(frame, int) - np.asarray(wanted, int)).mean() < 10


def test_twice_the_size_and_back_gives_the_same_masks(source: Path, tmp_path: Path) -> None:
    resize_tree(source, tmp_path / "large", 2 * HEIGHT)
    resize_tree(tmp_path / "large", tmp_path / "again", HEIGHT)
    for path in (source / "valid/Annotations").rglob("*.png"):
        again = tmp_path / "again" / path.relative_to(source)
        assert np.array_equal(read_index_png(again), read_index_png(path))


def test_pictures_that_have_the_size_are_copied_byte_for_byte(source: Path, tmp_path: Path) -> None:
    resize_tree(source, tmp_path / "same", HEIGHT)
    resize_tree(source, tmp_path / "larger", 2 * HEIGHT, only_shrink=True)
    frame = "valid/JPEGImages/0a1b2c3d/00003.jpg"
    assert (tmp_path / "same" / frame).read_bytes() == (source / frame).read_bytes()
    assert (tmp_path / "larger" / frame).read_bytes() == (source / frame).read_bytes()


def test_sizes_keep_the_shorter_side_exact_whichever_it_is() -> None:
    assert resized_size((1280, 720), 480) == (853, 480)
    assert resized_size((720, 1280), 480) == (480, 853)
    assert resized_size((300, 200), 480) == (720, 480)
    assert resized_size((300, 200), 480, only_shrink=True) == (300, 200)


def test_a_picture_so_narrow_that_it_would_be_scaled_to_gigabytes_is_refused_by_name(tmp_path: Path) -> None:
    folder = tmp_path / "data/JPEGImages/cat"
    folder.mkdir(parents=True)
    Image.new("RGB", (5000, 1)).save(folder / "00000.png")
    with pytest.raises(DataError, match=r"00000\.png: the picture is too narrow .* got 5000x1 scaled to 2400000x480; "):
        resize_tree(tmp_path / "data", tmp_path / "out")
    assert resize_tree(tmp_path / "data", tmp_path / "out", only_shrink=True).done == 1


def test_nearest_never_makes_a_new_label() -> None:
    labels = np.random.default_rng(0).choice(np.array([0, 3, 7, 255], np.uint8), (37, 53))
    assert set(np.unique(resize_nearest(labels, (31, 22)))) <= {0, 3, 7, 255}


def test_a_conversion_that_broke_off_goes_on_where_it_was_and_gives_the_same_bytes(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resize_tree(source, tmp_path / "whole", 12)
    original, calls = ResizeJob.run, []

    def interrupted(job: ResizeJob) -> None:
        calls.append(job)
        if len(calls) == 3:
            raise KeyboardInterrupt
        original(job)

    monkeypatch.setattr(ResizeJob, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        resize_tree(source, tmp_path / "broken", 12)
    monkeypatch.setattr(ResizeJob, "run", original)
    rest = resize_tree(source, tmp_path / "broken", 12)
    assert (rest.done, rest.kept) == (2, 2)
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_a_target_of_another_size_is_not_mixed_with(source: Path, tmp_path: Path) -> None:
    resize_tree(source, tmp_path / "out", 12)
    with pytest.raises(DataError, match="an earlier run's pictures have another size, expected 8x6, got 16x12"):
        resize_tree(source, tmp_path / "out", 6)
    assert resize_tree(source, tmp_path / "out", 12).kept == 4


def test_a_damaged_picture_leaves_no_half_folder(source: Path, tmp_path: Path) -> None:
    (source / "valid/JPEGImages/4e5f6a7b/00002.jpg").write_bytes(b"\xff\xd8\xff\xe0 broken")
    with pytest.raises(DataError, match=r"00002.jpg"):
        resize_tree(source, tmp_path / "out", 12)
    assert [p.name for p in (tmp_path / "out/valid/JPEGImages").iterdir()] == ["0a1b2c3d"]


@pytest.mark.slow  # each process imports PyTorch
def test_several_processes_give_the_same_bytes(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resize_tree(source, tmp_path / "one", 12)
    monkeypatch.setattr(parallel, "_FILES_PER_WORKER", 1)
    resize_tree(source, tmp_path / "two", 12, workers=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_wrong_folders_are_refused_before_anything_is_written(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="inside the source"):
        resize_tree(source, source / "small")
    with pytest.raises(ConfigError, match="expected at least 1 pixel"):
        resize_tree(source, tmp_path / "out", 0)
    with pytest.raises(DataError, match="folders JPEGImages and Annotations"):
        resize_tree(source / "valid/JPEGImages/4e5f6a7b", tmp_path / "out")
    with pytest.raises(ConfigError, match="too few processes"):
        resize_tree(source, tmp_path / "out", workers=0)
    assert main(["data", "resize", str(tmp_path / "none"), str(tmp_path / "out")]) == 2


@pytest.mark.parametrize(("below", "found"), [(".", 4), ("train", 4), ("data/train", 4), ("disk/data/train", None)])
def test_frames_are_looked_for_three_levels_down(source: Path, tmp_path: Path, below: str, found: int | None) -> None:
    root = tmp_path / "root"
    (root / below).parent.mkdir(parents=True, exist_ok=True)
    (source / "valid").rename(root / below)
    if found is None:
        with pytest.raises(DataError, match="no frames or masks"):
            resize_tree(root, tmp_path / "out", 12)
    else:
        assert resize_tree(root, tmp_path / "out", 12).done == found
    with pytest.raises(DataError, match="none: no such folder"):
        resize_tree(tmp_path / "none", tmp_path / "out", 12)


def test_first_masks_keep_of_each_object_where_it_appears(tmp_path: Path) -> None:
    for step, ids in enumerate([(), (1,), (1, 3), (1, 3), (3, 9)]):
        write_mask(tmp_path / f"full/a/{step:05d}.png", draw_ids(ids, step))
    assert first_masks(tmp_path / "full", tmp_path / "first").done == 1
    found = {path.name: object_ids(read_index_png(path)) for path in (tmp_path / "first/a").iterdir()}
    assert found == {"00001.png": (1,), "00002.png": (3,), "00004.png": (9,)}
    assert np.array_equal(read_index_png(tmp_path / "first/a/00004.png"), draw_ids((9,), 4))
    # What is first already stays as it is.
    first_masks(tmp_path / "first", tmp_path / "again")
    assert contents(tmp_path / "first") == contents(tmp_path / "again")


def test_first_masks_do_not_go_among_the_videos_that_they_are_made_of(tmp_path: Path) -> None:
    write_mask(tmp_path / "full/a/0.png", draw_ids((1,), 0))
    for target in (tmp_path / "full/first", tmp_path / "full/a/first"):
        with pytest.raises(ConfigError, match="first: the result would lie inside the source"):
            first_masks(tmp_path / "full", target)
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "a", "0.png"]


def test_a_region_to_ignore_is_no_object(tmp_path: Path) -> None:
    write_mask(tmp_path / "full/a/0.png", draw_ids((1, 255), 0))
    write_mask(tmp_path / "full/a/1.png", draw_ids((255,), 0))
    first_masks(tmp_path / "full", tmp_path / "first")
    assert {p.name: object_ids(read_index_png(p)) for p in (tmp_path / "first/a").iterdir()} == {"0.png": (1,)}


def test_a_video_without_objects_is_named(tmp_path: Path) -> None:
    write_mask(tmp_path / "full/a/0.png", draw_ids((), 0))
    with pytest.raises(DataError, match="none of the masks has an object"):
        first_masks(tmp_path / "full", tmp_path / "first")
    assert not (tmp_path / "first/a").exists()


def test_polygons_drawn_again_give_the_mask_back_with_its_holes() -> None:
    mask = np.zeros((40, 60), np.uint8)
    cv2.circle(mask, (20, 20), 15, 1, -1)
    cv2.circle(mask, (20, 20), 6, 0, -1)
    mask[5:9, 50:58] = 1
    parts = polygons(mask)
    assert len(parts) == 3
    again = np.zeros_like(mask)
    cv2.fillPoly(again, [np.array(part, np.int32) for part in parts], 1)
    assert np.array_equal(again, mask)


def test_visor_gets_every_frame_and_object_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    video = "P01_107_seq_00001"
    write_mask(tmp_path / video / "P01_107_frame_0000000500.png", draw_ids((1, 7), 0))
    write_mask(tmp_path / video / "P01_107_frame_0000000537.png", draw_ids((), 0))
    (tmp_path / "mapping.json").write_text(json.dumps({video: {"1": "left hand", "7": "knife"}}))
    line = ["data", "visor-json", str(tmp_path), str(tmp_path / "out/val.json"), "--quiet", "--json"]
    assert main([*line, "--mapping", str(tmp_path / "mapping.json")]) == 0
    assert json.loads(capsys.readouterr().out)["masks"] == 2
    content = json.loads((tmp_path / "out/val.json").read_text())
    assert content["info"] == INFO
    first, second = content["video_annotations"]
    assert first["image"] == {
        "image_path": "P01_107/P01_107_frame_0000000500.png",
        "name": "P01_107_frame_0000000500.png",
        "video": "P01_107",
        "subsequence": video,
    }
    assert second["annotations"] == []
    again = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, entry in zip((1, 7), first["annotations"], strict=True):
        cv2.fillPoly(again, [np.array(part, np.int32) for part in entry["segments"]], label)
    assert [entry["name"] for entry in first["annotations"]] == ["left hand", "knife"]
    assert np.array_equal(again, draw_ids((1, 7), 0))


def test_visor_leaves_out_the_scores_beside_the_masks(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks/P01_107_seq_00001/a.png", draw_ids((1,), 0))
    (tmp_path / "masks/Scores/P01_107_seq_00001").mkdir(parents=True)
    (tmp_path / "mapping.json").write_text(json.dumps({"P01_107_seq_00001": {"1": "hand"}}))
    counts = masks_to_visor(tmp_path / "masks", tmp_path / "mapping.json", tmp_path / "val.json")
    assert counts == {"sequences": 1, "frames": 1, "masks": 1}


def test_visor_does_not_write_over_its_mapping(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks/P01_107_seq_00001/a.png", draw_ids((1,), 0))
    mapping = tmp_path / "mapping.json"
    mapping.write_text(json.dumps({"P01_107_seq_00001": {"1": "hand"}}))
    before = mapping.read_bytes()
    with pytest.raises(OutputError, match="input is read from there"):
        masks_to_visor(tmp_path / "masks", mapping, mapping)
    assert mapping.read_bytes() == before


def test_visor_needs_a_folder_of_masks(tmp_path: Path) -> None:
    (tmp_path / "masks/Scores").mkdir(parents=True)
    (tmp_path / "mapping.json").write_text("{}")
    with pytest.raises(DataError, match="masks: no videos, expected a folder of masks per video"):
        masks_to_visor(tmp_path / "masks", tmp_path / "mapping.json", tmp_path / "val.json")


def test_visor_refuses_what_the_mapping_does_not_name(tmp_path: Path) -> None:
    write_mask(tmp_path / "masks/P01_107_seq_00001/a.png", draw_ids((1, 7), 0))
    mapping = tmp_path / "mapping.json"
    for content, message in (
        ({"other": {}}, "1 videos are not in the mapping, got P01_107_seq_00001"),
        ({"P01_107_seq_00001": {"1": "hand"}}, "label 7 is not in the mapping"),
        ({"P01_107_seq_00001": ["hand"]}, "not VISOR's mapping"),
    ):
        mapping.write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            masks_to_visor(tmp_path / "masks", mapping, tmp_path / "val.json")
    write_grey(tmp_path / "masks/P01_107_seq_00001/a.png", draw_ids((1,), 0), 2)
    mapping.write_text(json.dumps({"P01_107_seq_00001": {"1": "hand"}}))
    with pytest.raises(
        DataError, match=r"label 85 is not in the mapping.*; grey PNGs of 2 or 4 bits are read stretched"
    ):
        masks_to_visor(tmp_path / "masks", mapping, tmp_path / "val.json")
    assert not (tmp_path / "val.json").exists()


def test_what_is_written_is_a_palette_png(source: Path, tmp_path: Path) -> None:
    resize_tree(source, tmp_path / "small", 12)
    first_masks(source / "valid/Annotations", tmp_path / "first")
    written = [path for folder in ("small", "first") for path in sorted((tmp_path / folder).rglob("*.png"))]
    assert {path.relative_to(tmp_path).parts[0] for path in written} == {"small", "first"}
    for path in written:
        assert parse_png_header(path.read_bytes()).kind == "palette"
