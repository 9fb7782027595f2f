"""Every picture and json format, read back and compared with the masks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco
from pycocotools.coco import COCO

from export.clips import BLUE, FRAMES, RED, H, Masks, W, labels, pictures
from jointformer.data.burst import burst_frames
from jointformer.data.export_formats import FORMATS, export
from jointformer.data.export_source import ExportObject, FolderSource
from jointformer.data.masks import write_mask, write_scores
from jointformer.data.video import open_video
from jointformer.errors import ConfigError, DataError, OutputError, UserError
from jointformer.session.source import ArrayVideo

#: pycocotools' own decoder returns arrays in a way that NumPy 2 warns about.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


@pytest.fixture
def masks() -> Masks:
    return Masks(ArrayVideo(pictures()))


def test_palette_pngs_hold_ids_and_the_objects_colours(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "palette", tmp_path / "out")
    files = sorted(folder.iterdir())
    assert [f.name for f in files] == [f"{t:05d}.png" for t in range(FRAMES)]
    for t, path in enumerate(files):
        image = Image.open(path)
        assert image.mode == "P"
        assert np.array_equal(np.array(image), labels(t))
    rgb = np.array(Image.open(files[3]).convert("RGB"))
    assert tuple(rgb[labels(3) == 1][0]) == RED
    assert tuple(rgb[labels(3) == 7][0]) == BLUE


@pytest.mark.parametrize(("objects", "said"), [([1, 255], True), ([1], False), ([255], False)])
def test_an_object_255_beside_others_is_told_to_be_taken_for_void(
    masks: Masks,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    objects: list[int],
    said: bool,
) -> None:
    monkeypatch.setattr(Masks, "objects", (ExportObject(1, "cat", RED), ExportObject(255, "dog", BLUE)))
    export(masks, "palette", tmp_path / "out", objects=objects)
    assert ("object 255 is taken for void" in caplog.text) is said


def test_binary_pngs_hold_one_object_each(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "binary", tmp_path / "out", start=1, end=4)
    assert sorted(f.name for f in folder.iterdir()) == ["object-1", "object-7"]
    for number in (1, 7):
        files = sorted((folder / f"object-{number}").iterdir())
        assert len(files) == 4
        for t, path in enumerate(files, 1):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            assert image is not None
            assert image.dtype == np.uint8
            assert np.array_equal(image, (labels(t) == number) * 255)


def test_soft_pngs_have_sixteen_bits(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "soft", tmp_path / "out")
    image = cv2.imread(str(folder / "object-1" / "00000.png"), cv2.IMREAD_UNCHANGED)
    assert image is not None
    assert image.dtype == np.uint16
    assert np.array_equal(image, (labels(0) == 1) * round(0.75 * 65535))


def test_coco_json_loads_in_pycocotools_with_the_same_masks(
    masks: Masks, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = export(masks, "coco", tmp_path / "out")
    assert path.suffix == ".json"
    loaded = COCO(str(path))
    capsys.readouterr()
    assert loaded.dataset["videos"][0]["length"] == FRAMES
    for t in range(FRAMES):
        image = loaded.dataset["images"][t]
        assert (image["height"], image["width"], image["frame_id"]) == (H, W, t)
        seen = loaded.loadAnns(loaded.getAnnIds(imgIds=image["id"]))
        assert {a["track_id"] for a in seen} == set(np.unique(labels(t))) - {0}
        for annotation in seen:
            mask = labels(t) == annotation["track_id"]
            assert np.array_equal(loaded.annToMask(annotation), mask)
            assert annotation["area"] == mask.sum()
            y, x = np.nonzero(mask)
            assert annotation["bbox"] == [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]


def test_youtube_vis_json_has_a_mask_or_null_per_frame(masks: Masks, tmp_path: Path) -> None:
    value = json.loads(export(masks, "youtube-vis", tmp_path / "out.json").read_text())
    assert value["videos"][0]["file_names"] == [f"clip/{t:05d}.jpg" for t in range(FRAMES)]
    assert [c["name"] for c in value["categories"]] == ["cat", "dög"]
    for annotation in value["annotations"]:
        for t, encoded in enumerate(annotation["segmentations"]):
            mask = labels(t) == annotation["track_id"]
            if not mask.any():
                assert encoded is annotation["bboxes"][t] is annotation["areas"][t] is None
            else:
                assert np.array_equal(coco.decode(encoded), mask)


def test_burst_json_is_read_by_this_projects_own_reader(masks: Masks, tmp_path: Path) -> None:
    path = export(masks, "burst", tmp_path / "out.json")
    assert burst_frames(path) == {"JointFormer_-_clip": [f"{t:05d}" for t in range(FRAMES)]}
    (sequence,) = json.loads(path.read_text())["sequences"]
    assert sequence["annotated_image_paths"][1] == "00001.jpg"  # BURST's readers put the sequence's folder before it
    for t, row in enumerate(sequence["segmentations"]):
        assert set(row) == {str(i) for i in np.unique(labels(t)) if i}
        for number, one in row.items():
            encoded = {"size": [sequence["height"], sequence["width"]], "counts": one["rle"]}
            assert np.array_equal(coco.decode(encoded), labels(t) == int(number))
            assert one["is_gt"] is (t == 0)


def test_yolo_labels_are_drawn_as_the_masks_were(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "yolo", tmp_path / "out", start=1)
    names = [f"clip_{t:05d}" for t in range(1, FRAMES)]
    assert sorted(path.name for path in folder.iterdir()) == ["data.yaml", "images", "labels"]
    for split, some in (("train", names[:-1]), ("val", names[-1:])):
        assert sorted(path.name for path in (folder / "images" / split).iterdir()) == [f"{name}.jpg" for name in some]
        assert sorted(path.name for path in (folder / "labels" / split).iterdir()) == [f"{name}.txt" for name in some]
    for t, name in enumerate(names, 1):
        split = "val" if name == names[-1] else "train"
        image = cv2.imread(str(folder / f"images/{split}/{name}.jpg"))
        assert image is not None
        assert np.abs(image[..., ::-1].astype(int) - pictures()[t]).mean() < 4
        drawn = np.zeros((H, W), np.uint8)
        for line in (folder / f"labels/{split}/{name}.txt").read_text().splitlines():
            kind, *shares = line.split()
            points = np.asarray(shares, np.float32).reshape(-1, 2) * np.asarray([W, H], np.float32)
            cv2.fillPoly(drawn, [points.astype(np.int32)], {"0": 1, "1": 7}[kind])
        assert np.array_equal(drawn, labels(t))
    settings = (folder / "data.yaml").read_text(encoding="utf-8").splitlines()
    assert settings[0] == "train: images/train"
    assert settings[2:] == ["val: images/val", "names:", '  0: "cat"', '  1: "dög"']


def test_yolo_counts_objects_of_one_name_as_one_class_and_leaves_out_frames_without_masks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Masks, "objects", (ExportObject(1, 'cat: "1"', RED), ExportObject(7, 'cat: "1"', BLUE)))
    folder = export(Masks(ArrayVideo(pictures()), known=4), "yolo", tmp_path / "out")
    files = sorted((folder / "labels").rglob("*.txt"), key=lambda path: path.name)
    assert [path.stem for path in files] == [f"clip_{t:05d}" for t in range(4)]
    assert [line.split()[0] for line in files[3].read_text().splitlines()] == ["0", "0"]
    assert (folder / "data.yaml").read_text().endswith('names:\n  0: "cat: \\"1\\""\n')
    assert "2 of 6 frames have no masks: they were left out" in caplog.text
    single = export(Masks(ArrayVideo(pictures()), known=4), "yolo", tmp_path / "single", end=0)
    assert "\nval: images/train\n" in (single / "data.yaml").read_text()
    assert not (single / "images/val").exists()


def test_objects_of_one_name_are_one_category(masks: Masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readers refuse a file that has two categories of one name."""
    monkeypatch.setattr(Masks, "objects", (ExportObject(1, "cat", RED), ExportObject(7, "cat", BLUE)))
    for format in ("coco", "youtube-vis"):
        value = json.loads(export(masks, format, tmp_path / format).read_text())
        assert [(c["id"], c["name"], c["color"]) for c in value["categories"]] == [(1, "cat", list(RED))]
        assert {(a["track_id"], a["category_id"]) for a in value["annotations"]} == {(1, 1), (7, 1)}
    value = json.loads(export(masks, "burst", tmp_path / "burst").read_text())
    assert [c["name"] for c in value["categories"]] == ["cat"]
    assert value["sequences"][0]["track_category_ids"] == {"1": 1, "7": 1}


def test_classes_are_numbered_as_given_in_every_video(masks: Masks, tmp_path: Path) -> None:
    classes = ["bird", "dög", "cat"]
    folder = export(masks, "yolo", tmp_path / "yolo", classes=classes, objects=[7])
    lines = "".join(path.read_text() for path in (folder / "labels").rglob("*.txt")).splitlines()
    assert {line.split()[0] for line in lines} == {"1"}
    assert (folder / "data.yaml").read_text(encoding="utf-8").endswith('  0: "bird"\n  1: "dög"\n  2: "cat"\n')
    value = json.loads(export(masks, "coco", tmp_path / "coco", classes=classes).read_text())
    assert [c["name"] for c in value["categories"]] == classes
    assert {(a["track_id"], a["category_id"]) for a in value["annotations"]} == {(1, 3), (7, 2)}
    with pytest.raises(ConfigError, match="classes, expected the name of every object, such as 'cat', got"):
        export(masks, "coco", tmp_path / "other", classes=["dög"])
    for wrong in (["cat", "cat"], "cat", [], [""], [1]):
        with pytest.raises(ConfigError, match="classes, expected a list of different names"):
            export(masks, "coco", tmp_path / "other", classes=wrong)
    assert not list(tmp_path.glob("other*"))


@pytest.mark.parametrize("format", ["coco", "youtube-vis", "burst"])
def test_a_video_whose_name_is_no_unicode_is_exported_with_it(
    masks: Masks, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    name = os.fsdecode(b"caf\xe9")
    monkeypatch.setattr(Masks, "title", name)
    value = json.loads(export(masks, format, tmp_path / "out.json").read_text(encoding="utf-8"))
    assert name in (value["sequences"][0]["seq_name"] if format == "burst" else value["videos"][0]["name"])


@pytest.mark.parametrize(("given", "below"), [("take.v2", ""), (".", "take.v2"), ("..", "take.v2/sub")])
def test_frames_of_a_folder_are_called_by_its_whole_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, below: str
) -> None:
    (tmp_path / "take.v2" / "sub").mkdir(parents=True)
    (tmp_path / "masks").mkdir()
    cv2.imwrite(str(tmp_path / "take.v2" / "a.png"), pictures()[0])
    write_mask(tmp_path / "masks" / "a.png", labels(0))
    monkeypatch.chdir(tmp_path / below)
    path = export(FolderSource(tmp_path / "masks", open_video(given)), "coco", tmp_path / "out")
    document = json.loads(path.read_text())
    assert document["videos"][0]["name"] == "take.v2"
    assert document["images"][0]["file_name"] == "take.v2/a.png"


def test_cutouts_keep_the_objects_pixels_and_nothing_else(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "rgba", tmp_path / "out", objects=[1])
    for t in range(FRAMES):
        image = np.array(Image.open(folder / f"{t:05d}.png"))
        mask = labels(t) == 1
        assert image.shape == (H, W, 4)
        assert np.array_equal(image[..., 3], mask * 255)
        assert np.array_equal(image[mask][:, :3], pictures()[t][mask])
        assert not image[~mask].any()
    soft = export(masks, "rgba", tmp_path / "soft", objects=[1], soft=True)
    assert set(np.unique(np.array(Image.open(soft / "00000.png"))[..., 3])) == {0, round(0.75 * 255)}


def test_the_contact_sheet_shows_as_many_frames_as_asked_for(masks: Masks, tmp_path: Path) -> None:
    path = export(masks, "sheet", tmp_path / "sheet.png", pictures=4, columns=2)
    with Image.open(path) as image:
        width, height = image.size
    assert width >= 2 * W
    assert height >= 2 * H


@pytest.mark.parametrize(
    ("format", "name", "options", "kind", "message"),
    [
        ("gif", "x", {}, ConfigError, "export format, expected palette"),
        ("palette", "x", {"style": "fill"}, ConfigError, "option of the format palette"),
        ("overlay", "x", {"colour": 1}, ConfigError, "export option"),
        ("overlay", "x", {"style": "neon"}, ConfigError, "style, expected fill"),
        ("overlay", "x", {"opacity": 2}, ConfigError, "opacity"),
        (
            "overlay",
            "x.mov",
            {},
            ConfigError,
            r"x\.mov: no name for the format overlay, .* \.mov is for prores",
        ),
        ("overlay", "x.avi", {}, ConfigError, r"x\.avi: no name for the format overlay, expected \.mp4$"),
        ("sheet", "x.jpg", {}, ConfigError, r"expected \.png$"),
        ("rgba", "x.JSON", {}, ConfigError, r"expected the name of a folder; \.json is for coco, youtube-vis, burst$"),
        ("palette", "x.png", {}, ConfigError, r"expected the name of a folder; \.png is for sheet"),
        ("palette", "x", {"objects": 5}, ConfigError, "objects, expected a list of ids, got 5"),
        ("palette", "x", {"objects": [[1]]}, ConfigError, "objects, expected a list of ids"),
        ("palette", "x", {"objects": "1"}, ConfigError, "objects, expected a list of ids"),
        ("palette", "x", {"start": "a"}, ConfigError, "start, expected a frame's number, got 'a'"),
        ("palette", "x", {"end": 2.0}, ConfigError, "end, expected a frame's number"),
        ("overlay", "x", {"sound": 0}, ConfigError, "sound, expected true or false, got 0"),
        ("overlay", "x", {"opacity": float("nan")}, ConfigError, "opacity, expected 0 to 1, got nan"),
        ("palette", "x", {"objects": [3]}, ConfigError, r"expected ids out of \[1, 7\]"),
        ("palette", "x", {"start": 4, "end": 2}, ConfigError, "frames to export"),
        ("palette", "full", {}, OutputError, "something already"),
        ("coco", "full.json", {}, OutputError, "a folder of that name"),
        ("coco", "full", {}, OutputError, "full: a folder of that name"),
        ("coco", "new/..", {}, OutputError, "a folder of that name"),
        ("sheet", "/", {}, OutputError, "a folder of that name"),
        ("sheet", "", {}, OutputError, "a folder of that name"),
    ],
)
def test_mistakes_are_told_in_one_line_and_write_nothing(
    masks: Masks, tmp_path: Path, format: str, name: str, options: dict[str, Any], kind: type[UserError], message: str
) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious.txt").write_text("mine")
    (tmp_path / "full.json").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(kind, match=message) as error:
        export(masks, format, tmp_path / name, **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_dots_that_promise_no_kind_of_file_are_part_of_the_name(masks: Masks, tmp_path: Path) -> None:
    assert export(masks, "binary", tmp_path / "take.v2").is_dir()
    assert export(masks, "coco", tmp_path / "take.v3").name == "take.v3.json"
    (tmp_path / "there.mov").mkdir()
    assert any(export(masks, "palette", tmp_path / "there.mov").iterdir())


def test_frames_without_masks_are_written_empty_and_said_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = export(Masks(ArrayVideo(pictures()), known=2), "palette", tmp_path / "out")
    assert len(list(folder.iterdir())) == FRAMES
    assert "4 of 6 frames have no masks" in caplog.text


def test_of_a_sheets_frames_those_shown_count_as_empty(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    export(Masks(ArrayVideo(pictures()), known=2), "sheet", tmp_path / "out", pictures=2)
    assert "1 of 2 frames have no masks" in caplog.text


def test_a_failed_export_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no probabilities"):
        export(Masks(ArrayVideo(pictures()), known=2), "soft", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_was_put_into_the_folder_meanwhile_is_not_replaced(masks: Masks, tmp_path: Path) -> None:
    def put(done: int, total: int) -> None:
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "precious.txt").write_text("mine")

    with pytest.raises(OutputError, match="out: there is something already; choose"):
        export(masks, "palette", tmp_path / "out", progress=put)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious.txt"]


def test_what_a_killed_export_left_is_removed_by_the_next(masks: Masks, tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from jointformer.system.files import atomic_path
with atomic_path(Path(sys.argv[1])) as path:
    path.write_text("half")
    os._exit(1)
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "other.mov")], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    path = export(masks, "coco", tmp_path / "out")
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_of_masks_is_a_source_too(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "palette", tmp_path / "masks")
    source = FolderSource(folder, ArrayVideo(pictures()))
    assert [(o.id, o.colour) for o in source.objects] == [(1, RED), (7, BLUE)]
    again = export(source, "palette", tmp_path / "again")
    for path in folder.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_scores_beside_a_folder_of_masks_are_its_probabilities(masks: Masks, tmp_path: Path) -> None:
    source = FolderSource(export(masks, "palette", tmp_path / "cat"), ArrayVideo(pictures()))
    with pytest.raises(DataError, match=r"no probabilities were kept.*00003\.npz.*--save-scores"):
        source.prob(3)
    (tmp_path / "Scores" / "cat").mkdir(parents=True)
    for frame in range(FRAMES):
        prob = masks.prob(frame)
        write_scores(tmp_path / "Scores" / "cat" / f"{frame:05d}.npz", np.stack(list(prob.values())), list(prob))
    for format, options in dict[str, Any](soft={}, rgba={"soft": True}).items():
        kept, again = (
            export(s, format, tmp_path / format / name, **options) for s, name in ((masks, "a"), (source, "b"))
        )
        for path in kept.rglob("*.png"):
            assert path.read_bytes() == (again / path.relative_to(kept)).read_bytes()
    write_scores(tmp_path / "Scores" / "cat" / "00003.npz", np.zeros((1, 8, 9), np.float32), [1])
    with pytest.raises(DataError, match=r"no scores of this video.*65x49.*\(1, 8, 9\)"):
        source.prob(3)


@pytest.mark.parametrize(("first", "ids"), [((1, 255), [1]), ((255,), [1, 255])])
def test_255_alone_in_a_later_mask_is_an_object_only_where_it_is_in_the_first(
    first: tuple[int, ...], ids: list[int], tmp_path: Path
) -> None:
    for frame, named in enumerate([(), first, (255,), (1,), (1, 255), (255,)]):
        found = np.zeros((H, W), np.uint8)
        for number in named:
            found[number % 40 : number % 40 + 6, 8:20] = number
        write_mask(tmp_path / f"{frame:05d}.png", found)
    source = FolderSource(tmp_path, ArrayVideo(pictures()))
    assert [one.id for one in source.objects] == ids
    label_maps = [source.label_map(frame) for frame in (0, 2, 4)]
    assert [set(np.unique(found)) - {0} for found in label_maps if found is not None] == [set(), set(ids) - {1}, {1}]


def test_a_folder_of_masks_that_fits_no_video_is_refused(masks: Masks, tmp_path: Path) -> None:
    folder = export(masks, "palette", tmp_path / "masks")
    with pytest.raises(DataError, match="expected names 00000 to 00003, or 4 files, got 6 files"):
        FolderSource(folder, ArrayVideo(pictures()[:4]))
    with pytest.raises(DataError, match="another size than its frame, expected 60x49, got 65x49"):
        FolderSource(folder, ArrayVideo(np.ascontiguousarray(pictures()[:, :, :60])))


def test_every_format_has_a_test() -> None:
    tests = {"palette", "binary", "soft", "coco", "youtube-vis", "burst", "yolo", "rgba", "sheet"}
    assert set(FORMATS) == tests | {"overlay", "prores", "webm"}
