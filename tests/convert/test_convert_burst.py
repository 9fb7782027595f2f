"""BURST's json <-> PNGs: the published converter's own numbers, round trips, damaged input."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from jointformer.cli.main import main
from jointformer.data.convert_burst import burst_frames_tree, burst_to_masks, masks_to_burst
from jointformer.data.convert_first import first_masks
from jointformer.data.frames import list_pictures
from jointformer.data.masks import write_mask
from jointformer.errors import DataError, OutputError
from jointformer.ops.png import read_index_png
from jointformer.ops.rle import decode_rle, encode_rle
from trees import write_grey

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "burst.json").read_text())["cases"]


@pytest.fixture(scope="module", params=sorted(EXPECTED))
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    spec = importlib.util.spec_from_file_location("make_cases", GOLDEN / "make_cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cases"] = module
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp(request.param)
    module.make_case(request.param, folder)
    return request.param, folder


def segmentations(path: Path) -> list[Any]:
    return [entry["segmentations"] for entry in json.loads(path.read_text())["sequences"]]


def test_masks_become_exactly_the_published_converters_json(case: tuple[str, Path], tmp_path: Path) -> None:
    name, folder = case
    expected = EXPECTED[name]["mask_to_burst_json"]
    target = tmp_path / "out.json"
    counts = masks_to_burst(folder / "pred_png", folder / "gt/all_classes.json", target)
    found = segmentations(target)
    assert found[0][:2] == expected["first_sequence_first_two_frames"]
    assert hashlib.sha256(json.dumps(found).encode()).hexdigest() == expected["sha256_of_segmentations"]
    assert counts["masks"] == sum(len(frame) for sequence in found for frame in sequence)
    template = json.loads((folder / "gt/all_classes.json").read_text())
    written = json.loads(target.read_text())
    for entry in (*template["sequences"], *written["sequences"]):
        del entry["segmentations"]
    assert written == template, "everything but the masks is kept"


def test_truth_drawn_and_encoded_again_is_the_truth(case: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = case
    truth = folder / "gt/all_classes.json"
    burst_to_masks(truth, tmp_path / "png")
    for path in (folder / "gt_png").rglob("*.png"):
        drawn = read_index_png(tmp_path / "png" / path.relative_to(folder / "gt_png"))
        assert np.array_equal(drawn, read_index_png(path))
    masks_to_burst(tmp_path / "png", truth, tmp_path / "again.json")
    without_extras = [
        [{track: {"rle": mask["rle"]} for track, mask in frame.items()} for frame in sequence]
        for sequence in segmentations(truth)
    ]
    assert [[dict(sorted(f.items())) for f in s] for s in without_extras] == segmentations(tmp_path / "again.json")


def test_first_only_keeps_the_frame_where_a_track_appears(case: tuple[str, Path], tmp_path: Path) -> None:
    _, folder = case
    burst_to_masks(folder / "gt/all_classes.json", tmp_path / "png", first_only=True)
    for entry in json.loads((folder / "gt/all_classes.json").read_text())["sequences"]:
        video = f"{entry['dataset']}_-_{entry['seq_name']}"
        first: dict[str, set[int]] = {}
        known: set[str] = set()
        for image, frame in zip(entry["annotated_image_paths"], entry["segmentations"], strict=True):
            if new := set(frame) - known:
                first[f"{image[:-4]}.png"] = set(map(int, new))
                known |= new
        files = {path.name: set(np.unique(read_index_png(path))) - {0} for path in (tmp_path / "png" / video).iterdir()}
        assert files == first


def make_json(folder: Path, **changes: Any) -> Path:
    mask = np.zeros((4, 6), np.uint8)
    mask[1:3, 2:5] = 1
    frame = {"3": {"rle": encode_rle(mask)}, "12": {"rle": encode_rle(mask[:, ::-1])}}
    entry = {
        "dataset": "AVA",
        "seq_name": "clip 1",
        "height": 4,
        "width": 6,
        "annotated_image_paths": ["a1.jpg", "a2.jpg"],
        "all_image_paths": ["a1.jpg", "b.jpg", "a2.jpg"],
        "track_category_ids": {"3": 1, "12": 7},
        "segmentations": [frame, {}],
    } | changes
    path = folder / "burst.json"
    path.write_text(json.dumps({"split": "val", "sequences": [entry]}))
    return path


def test_a_track_that_others_hide_where_it_begins_is_given_where_it_is_first_seen(tmp_path: Path) -> None:
    boxes = np.zeros((3, 4, 6), np.uint8)
    boxes[0, 1:3, 1:3], boxes[1, :, :4], boxes[2, :, 4:] = 1, 1, 1
    small, large, beside = ({"rle": encode_rle(box)} for box in boxes)
    frames = [{"3": small, "12": large}, {"3": small, "12": beside}]
    path = make_json(tmp_path, segmentations=frames)
    burst_to_masks(path, tmp_path / "first", first_only=True)
    burst_to_masks(path, tmp_path / "all")
    first_masks(tmp_path / "all", tmp_path / "of all")
    for name, track in (("a1", 12), ("a2", 3)):
        drawn = [read_index_png(tmp_path / way / f"AVA_-_clip 1/{name}.png") for way in ("first", "of all")]
        assert set(np.unique(drawn[0])) == {0, track}
        assert np.array_equal(drawn[0], drawn[1])


def test_a_finished_sequence_is_not_drawn_again(tmp_path: Path) -> None:
    path = make_json(tmp_path)
    assert burst_to_masks(path, tmp_path / "png").done == 1
    (tmp_path / "png/AVA_-_clip 1/a2.png").unlink()
    again = burst_to_masks(path, tmp_path / "png")
    assert (again.done, again.kept) == (0, 1)
    assert not (tmp_path / "png/AVA_-_clip 1/a2.png").exists()


def test_frames_are_put_into_one_folder_per_sequence(tmp_path: Path) -> None:
    path = make_json(tmp_path)
    source = tmp_path / "frames/AVA/clip 1"
    source.mkdir(parents=True)
    for name in ("a1", "b", "a2"):
        Image.new("RGB", (6, 4)).save(source / f"{name}.jpg")
    burst_frames_tree(path, tmp_path / "frames", tmp_path / "few")
    burst_frames_tree(path, tmp_path / "frames", tmp_path / "every", every=True)
    assert sorted(p.name for p in (tmp_path / "few/AVA_-_clip 1").iterdir()) == ["a1.jpg", "a2.jpg"]
    assert len(list((tmp_path / "every/AVA_-_clip 1").iterdir())) == 3
    (source / "a2.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 2 frames are missing, got no a2\.jpg"):
        burst_frames_tree(path, tmp_path / "frames", tmp_path / "third")
    assert not (tmp_path / "third/AVA_-_clip 1").exists()


def test_frames_that_are_links_arrive_as_pictures(tmp_path: Path) -> None:
    source = tmp_path / "frames/AVA/clip 1"
    source.mkdir(parents=True)
    for name in ("a1", "a2"):
        Image.new("RGB", (6, 4)).save(tmp_path / f"{name}.jpg")
        (source / f"{name}.jpg").symlink_to(f"../../../{name}.jpg")
    burst_frames_tree(make_json(tmp_path), tmp_path / "frames", tmp_path / "burst/val/JPEGImages")
    assert len(list_pictures(tmp_path / "burst/val/JPEGImages/AVA_-_clip 1")) == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seq_name": "../up"}, "not a file name"),
        ({"annotated_image_paths": ["a1.jpg"]}, "not one segmentation per annotated image"),
        ({"height": 5}, "damaged run lengths"),
        ({"segmentations": [{"300": {"rle": encode_rle(np.ones((4, 6)))}}, {}]}, "an 8-bit mask cannot hold"),
        ({"segmentations": [{"1": {}}, {}]}, "damaged run lengths .* for track 1 at 'a1.jpg'"),
        ({"segmentations": [[1], {}]}, "no tracks at 'a1.jpg'"),
        ({"width": None}, "no size"),
        (
            {"annotated_image_paths": ["../a1.jpg", "a2.jpg"]},
            "annotated_image_paths with something that is not a file name",
        ),
        ({"segmentations": [{"0": {"rle": encode_rle(np.ones((4, 6)))}}, {}]}, "expected 1..255, got '0'"),
        ({"segmentations": [{"256": {"rle": encode_rle(np.ones((4, 6)))}}, {}]}, "expected 1..255, got '256'"),
        ({"height": 0}, "no size"),
        ({"width": 32_769}, "no size"),
    ],
)
def test_a_damaged_json_is_refused_in_one_line(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        burst_to_masks(make_json(tmp_path, **changes), tmp_path / "png")
    assert not list((tmp_path / "png").glob("*"))


@pytest.mark.parametrize("content", ["[]", "{}", '{"sequences": {}}'])
def test_a_json_of_another_kind_is_refused_in_one_line(content: str, tmp_path: Path) -> None:
    (tmp_path / "burst.json").write_text(content)
    with pytest.raises(DataError, match="not a BURST json, expected an object with a list 'sequences'"):
        burst_to_masks(tmp_path / "burst.json", tmp_path / "png")


def test_a_frame_without_a_file_has_no_objects_and_the_others_keep_their_places(tmp_path: Path) -> None:
    label_map = np.zeros((4, 6), np.uint8)
    label_map[0] = 12
    write_mask(tmp_path / "AVA_-_clip 1/a2.png", label_map)
    counts = masks_to_burst(tmp_path, make_json(tmp_path), tmp_path / "out.json")
    assert segmentations(tmp_path / "out.json") == [[{}, {"12": {"rle": encode_rle(label_map > 0)}}]]
    assert counts == {"sequences": 1, "frames": 2, "masks": 1}


def test_frames_are_copied_where_there_are_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr("os.link", refuse)
    for name in ("a1", "a2"):
        path = tmp_path / f"frames/AVA/clip 1/{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    burst_frames_tree(make_json(tmp_path), tmp_path / "frames", tmp_path / "tree")
    assert [path.read_text() for path in sorted((tmp_path / "tree/AVA_-_clip 1").iterdir())] == ["a1", "a2"]


def test_predictions_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path = make_json(tmp_path)
    with pytest.raises(DataError, match="1 of 1 sequences have no folder of masks, got no AVA_-_clip 1"):
        masks_to_burst(tmp_path, path, tmp_path / "out.json")
    label_map = np.zeros((4, 6), np.uint8)
    label_map[0] = 5
    write_mask(tmp_path / "AVA_-_clip 1/a1.png", label_map)
    with pytest.raises(DataError, match=r"label 5 is no track of this sequence, expected 3, 12$"):
        masks_to_burst(tmp_path, path, tmp_path / "out.json")
    write_grey(tmp_path / "AVA_-_clip 1/a1.png", label_map // 5 * 3, 2)
    with pytest.raises(DataError, match=r"label 255 is no track of .*; grey PNGs of 2 or 4 bits are read stretched"):
        masks_to_burst(tmp_path, path, tmp_path / "out.json")
    write_mask(tmp_path / "AVA_-_clip 1/a1.png", label_map.T)
    with pytest.raises(DataError, match="another size, expected 6x4, got 4x6"):
        masks_to_burst(tmp_path, path, tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_the_command_line_converts_there_and_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_json(tmp_path)
    assert main(["data", "burst-masks", str(path), str(tmp_path / "out/Annotations"), "--quiet"]) == 0
    again = tmp_path / "again.json"
    line = ["data", "burst-json", str(tmp_path / "out"), str(again), "--like", str(path), "--quiet", "--json"]
    assert main(line) == 0
    assert json.loads(capsys.readouterr().out)["masks"] == 2
    found = segmentations(again)[0]
    # The later track covers the earlier one, so only the later one is as it was.
    assert found[0]["12"] == segmentations(path)[0][0]["12"]


def test_the_json_to_be_filled_in_is_not_written_over(tmp_path: Path) -> None:
    path = make_json(tmp_path)
    burst_to_masks(path, tmp_path / "out")
    before = path.read_bytes()
    with pytest.raises(OutputError, match="input is read from there"):
        masks_to_burst(tmp_path / "out", path, path)
    assert path.read_bytes() == before


def test_run_lengths_are_pycocotools_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for height, width in ((1, 1), (1, 9), (7, 5), (64, 96), (480, 854)):
        for share in (0.0, 0.02, 0.5, 1.0):
            mask = rng.random((height, width)) < share
            theirs = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
            assert encode_rle(mask) == theirs["counts"].decode()
            assert np.array_equal(decode_rle(encode_rle(mask), (height, width)), mask)


@pytest.mark.parametrize("counts", ["", "P", "é", "0", "8888888888", "~~~~~~~~~0", "x", None])
def test_damaged_run_lengths_are_refused(counts: str | None) -> None:
    with pytest.raises(DataError, match="damaged run lengths"):
        decode_rle(counts, (4, 6))  # type: ignore[arg-type]  # None: as json may hold anything
