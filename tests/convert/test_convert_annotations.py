"""COCO, YouTube-VIS and LabelMe -> PNGs: our own exports come back, other tools' files mean what they say."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco

from jointformer import Session
from jointformer.cli.main import main
from jointformer.data.convert_annotations import annotations_to_masks
from jointformer.errors import DataError, OutputError
from jointformer.ops.png import read_index_png
from jointformer.ops.rle import decode_rle
from jointformer.types import Mask
from trees import draw_frame, draw_ids

SIZE = (20, 30)
SQUARE = [[4, 5], [14, 5], [14, 12], [4, 12]]


def patch() -> str:
    """LabelMe's mask of three pixels."""
    buffer = io.BytesIO()
    Image.fromarray(np.array([[255, 0], [255, 255]], np.uint8)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


PATCH = patch()


def box(y: slice, x: slice) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[y, x] = True
    return mask


def coco_file(*annotations: dict[str, Any], images: int = 1, **rest: Any) -> dict[str, Any]:
    listed = [{"id": 7 + k, "file_name": f"{k:05d}.jpg", "height": 20, "width": 30} for k in range(images)]
    return {"images": listed, "annotations": list(annotations), **rest}


def annotation(image: int = 7, segmentation: Any = None, category: int = 1, **rest: Any) -> dict[str, Any]:
    outline = [[4, 5, 14, 5, 14, 12, 4, 12]] if segmentation is None else segmentation
    return {"id": 1, "image_id": image, "category_id": category, "segmentation": outline, **rest}


def labelme(*shapes: dict[str, Any], **rest: Any) -> dict[str, Any]:
    return {"version": "5.5.0", "shapes": list(shapes), "imageHeight": 20, "imageWidth": 30, **rest}


def shape(label: str = "cat", points: Any = SQUARE, kind: str = "polygon", **rest: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, **rest}


def converted(tmp_path: Path, content: Any, **options: Any) -> dict[str, np.ndarray]:
    """The masks of a json by their path in the target without suffix."""
    source, target = tmp_path / "source.json", tmp_path / "target"
    source.write_text(json.dumps(content))
    annotations_to_masks(source, target, **options)
    return {str(p.relative_to(target).with_suffix("")): read_index_png(p) for p in sorted(target.rglob("*.png"))}


@pytest.mark.parametrize("kind", ["coco", "youtube-vis"])
def test_our_own_exports_come_back(kind: str, tmp_path: Path) -> None:
    pictures = tmp_path / "clip"
    pictures.mkdir()
    for step in range(3):
        Image.fromarray(draw_frame(step)).save(pictures / f"shot{step:03d}.png")
    with Session(pictures) as session:
        for step in range(3):
            session.add_masks(step, draw_ids((3, 1), step))
        session.export(kind, tmp_path / "out.json")
        expected = {f"shot{step:03d}": draw_ids((3, 1), step) for step in range(3)}
    annotations_to_masks(tmp_path / "out.json", tmp_path / "masks")
    for name, label_map in expected.items():
        np.testing.assert_array_equal(read_index_png(tmp_path / "masks" / f"{name}.png"), label_map)


def test_outlines_and_run_lengths_are_drawn_as_coco_draws_them(tmp_path: Path) -> None:
    outline = [3.2, 2.0, 20.5, 4.4, 12.0, 17.9]
    rle: dict[str, Any] = coco.encode(np.asfortranarray(box(slice(2, 6), slice(20, 28)), np.uint8))
    compressed = {"size": rle["size"], "counts": rle["counts"].decode()}
    plain = {"size": [20, 30], "counts": [5, 3, 592]}
    rows = [annotation(segmentation=each, track_id=k) for k, each in enumerate(([outline], compressed, plain), 1)]
    found = converted(tmp_path, coco_file(*rows))
    drawn = decode_rle(coco.frPyObjects([outline], 20, 30)[0]["counts"].decode(), SIZE)
    expected = drawn * 1
    expected[2:6, 20:28] = 2
    expected[5:8, 0] = 3
    np.testing.assert_array_equal(found["00000"], expected)


def test_an_outline_that_leaves_the_picture_is_cut_by_its_border(tmp_path: Path) -> None:
    # Corners moved onto the border would bend the edges between them.
    points = np.array([[-10, 12], [12, -10], [40, 18], [18, 40]])
    drawn = converted(tmp_path, labelme(shape(points=points.tolist())))["source"]
    larger = coco.frPyObjects([(points + 50).ravel().tolist()], 150, 150)[0]["counts"].decode()
    expected = decode_rle(larger, (150, 150))[50:70, 50:80]
    assert (drawn != expected).sum() <= 6  # of 571: COCO rounds numbers below 0 towards 0


def test_several_outlines_are_one_object_and_later_objects_lie_on_top(tmp_path: Path) -> None:
    two = [[4, 5, 14, 5, 14, 12, 4, 12], [20, 5, 25, 5, 25, 12, 20, 12]]
    found = converted(
        tmp_path, coco_file(annotation(segmentation=two), annotation(segmentation=[[10, 0, 22, 0, 22, 19, 10, 19]]))
    )
    np.testing.assert_array_equal(found["00000"][8, [5, 12, 21, 24]], [1, 2, 2, 1])


@pytest.mark.parametrize(
    ("said", "ids"),
    [
        ([{"track_id": 3}, {"track_id": 200}], [3, 200]),
        ([{"attributes": {"track_id": 0, "occluded": False}}, {"attributes": {"track_id": 4}}], [1, 2]),  # CVAT's
        ([{"instance_id": "b"}, {"instance_id": "a"}], [1, 2]),
        ([{"track_id": 300}, {"track_id": 2}], [1, 2]),
        ([{"track_id": 5, "instance_id": 8}, {"track_id": 6, "instance_id": 7}], [5, 6]),
        ([{}, {"category": 2}], [1, 2]),
        ([{"track_id": ""}, {"category": 2, "attributes": {"instance_id": ""}}], [1, 2]),
        ([{"track_id": "", "instance_id": 8}, {"attributes": {"track_id": "", "instance_id": 7}}], [8, 7]),
    ],
)
def test_an_object_is_the_same_in_all_pictures(
    said: list[dict[str, Any]], ids: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left, right = [[2, 2, 8, 2, 8, 8, 2, 8]], [[20, 2, 28, 2, 28, 8, 20, 8]]
    rows = [
        annotation(7, left, **said[0]), annotation(7, right, **said[1]),
        annotation(8, right, **said[0]), annotation(8, left, **said[1]),
    ]  # fmt: skip
    names = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog\x1b[2J"}]
    (tmp_path / "coco.json").write_text(json.dumps(coco_file(*rows, images=2, categories=names)))
    assert main(["data", "masks", str(tmp_path / "coco.json"), str(tmp_path / "masks"), "--json"]) == 0
    found = {name: read_index_png(tmp_path / f"masks/{name}.png") for name in ("00000", "00001")}
    assert [found["00000"][5, 5], found["00000"][5, 24]] == ids
    assert [found["00001"][5, 24], found["00001"][5, 5]] == ids
    out, err = capsys.readouterr()
    assert f"object {ids[0]}: 'cat'\n" in err
    assert "\x1b" not in err
    assert json.loads(out) == {"target": str(tmp_path / "masks"), "masks": 2, "objects": 2}


def test_pictures_without_regions_get_no_mask(tmp_path: Path) -> None:
    assert list(converted(tmp_path, coco_file(annotation(8), images=3))) == ["00001"]


def test_pictures_of_several_folders_are_several_videos(tmp_path: Path) -> None:
    content = coco_file(annotation(7), annotation(8), images=2)
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "../one/a.jpg", "videos\\two\\a.jpg"
    assert list(converted(tmp_path, content)) == ["one/a", "two/a"]


@pytest.mark.parametrize(("one", "two"), [("v1/img/a.jpg", "v2/img/b.jpg"), ("source/a.jpg", "b.jpg")])
def test_two_videos_of_one_name_are_not_taken_for_one(one: str, two: str, tmp_path: Path) -> None:
    content = coco_file(annotation(7), annotation(8), images=2)
    content["images"][0]["file_name"], content["images"][1]["file_name"] = one, two
    with pytest.raises(DataError, match="two videos would be written to one folder"):
        converted(tmp_path, content)
    assert not (tmp_path / "target").exists()


def test_bare_boxes_are_left_out_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    boxed = annotation(segmentation=[], bbox=[1, 1, 5, 5])
    found = converted(tmp_path, coco_file(boxed, annotation(iscrowd=1)))
    assert set(np.unique(found["00000"])) == {0, 1}
    assert "1 annotations have no region" in caplog.text


def test_objects_that_others_cover_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    outside = [[-9, -9, -5, -9, -5, -5]]
    rows = [annotation(segmentation=each, track_id=k) for k, each in enumerate((None, None, outside), 4)]
    assert set(np.unique(converted(tmp_path, coco_file(*rows))["00000"])) == {0, 5}
    assert "00000: no pixel is left of objects 4, 6, which lie under others or outside" in caplog.text


def test_masks_are_named_by_number_for_pictures_taken_out_of_a_video(tmp_path: Path) -> None:
    content = coco_file(annotation(7), annotation(8), images=2)
    content["images"][0]["file_name"], content["images"][1]["file_name"] = "2_frame_000000.PNG", "2_frame_000012.PNG"
    (tmp_path / "coco.json").write_text(json.dumps(content))
    assert main(["data", "masks", "--by-number", str(tmp_path / "coco.json"), str(tmp_path / "masks")]) == 0
    assert sorted(path.name for path in (tmp_path / "masks").iterdir()) == ["0.png", "12.png"]


def test_labelme_shapes(tmp_path: Path) -> None:
    content = labelme(
        shape("a"),
        shape("b", [[20, 2], [28, 8]], "rectangle"),
        shape("c", [[22, 14], [22, 17]], "circle"),
        shape("d", [[1, 1], [2, 2]], "mask", mask=PATCH),
        shape("e", [[1, 1]], "point"),
        shape("f", [[5, 14], [8, 14], [8, 18], [5, 18]], "oriented_rectangle"),
    )
    label_map = converted(tmp_path, content)["source"]
    np.testing.assert_array_equal(label_map[5:12, 4:14], 1)
    np.testing.assert_array_equal(label_map[2:8, 20:28], 2)
    assert (label_map == 3).sum() == pytest.approx(np.pi * 9, rel=0.15)
    assert label_map[14, 22] == 3
    np.testing.assert_array_equal(label_map[1:3, 1:3], [[4, 0], [4, 4]])
    np.testing.assert_array_equal(label_map[14:18, 5:8], 5)
    assert set(np.unique(label_map)) == {0, 1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    ("path", "name"),
    [("../frames/00012.jpg", "00012"), ("C:\\shots\\f.2.png", "f.2"), ("f3", "f3"), ("", "source"), (None, "source")],
)
def test_a_labelme_mask_is_named_after_the_picture(path: str | None, name: str, tmp_path: Path) -> None:
    assert list(converted(tmp_path, labelme(shape(), imagePath=path))) == [name]


def test_empty_groups_of_labelme_are_none(tmp_path: Path) -> None:
    two = (shape(group_id=""), shape(points=[[20, 2], [28, 8]], kind="rectangle", group_id=""))
    assert set(np.unique(converted(tmp_path, labelme(*two))["source"])) == {0, 1, 2}


def test_a_folder_of_labelme_files_is_a_video(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    parts = [shape("cat", group_id=1), shape("cat", [[20, 2], [28, 8]], "rectangle", group_id=2)]
    (folder / "f2.json").write_text(json.dumps(labelme(*parts)))
    (folder / "f10.json").write_text(
        json.dumps(labelme(*parts[::-1], shape("dog", [[0, 16], [5, 19]], "rectangle", group_id=1)))
    )
    (folder / "f2.jpg").write_bytes(b"")
    (folder / "._f2.json").write_bytes(b"macOS's")
    assert main(["data", "masks", str(folder), str(tmp_path / "masks"), "--quiet"]) == 0
    first, second = (read_index_png(tmp_path / f"masks/{name}.png") for name in ("f2", "f10"))
    assert [first[8, 8], first[5, 24], second[8, 8], second[5, 24], second[17, 2]] == [1, 2, 1, 2, 3]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ([], "no annotations"),
        ({"sequences": []}, "burst-masks"),
        ({"images": {}, "annotations": []}, "has no list 'images'"),
        (coco_file(), "no picture has a region"),
        (coco_file(annotation(9)), "belongs to no image"),
        (coco_file(annotation(segmentation="x")), "segmentation that is none"),
        (coco_file(annotation(segmentation=[[1, 2, 3, 4]])), "segmentation that is none"),
        (coco_file(annotation(segmentation=[[1, 2, 3, 4, float("nan"), 6]])), "points that are none"),
        (coco_file(annotation(segmentation=[[1, 2, 3, 4, 1e8, 6]])), "far outside"),
        (coco_file(annotation(segmentation=[[1, 2, 3, 4, -1e8, 6]])), "far outside"),
        (coco_file(annotation(segmentation={"size": [20, 30], "counts": [5, 3]})), "damaged run lengths"),
        (coco_file(annotation(segmentation={"size": [20, 30], "counts": [700, -100]})), "damaged run lengths"),
        (coco_file(annotation(segmentation={"size": [20, 31], "counts": [620]})), "another size"),
        (coco_file(annotation(segmentation={"size": [20, 30], "counts": "zz"})), "damaged run lengths"),
        (coco_file(annotation(7), annotation(7), annotation(8), images=2), "which is which"),
        (coco_file(*(annotation(track_id=k) for k in range(255))), "more objects"),
        ({"annotations": [], "images": [{"id": 7, "file_name": "..", "height": 2, "width": 3}]}, "name"),
        ({"annotations": [], "images": [{"id": 7, "file_name": "a\ud800.png", "height": 2, "width": 3}]}, "name"),
        ({"annotations": [], "images": [{"id": 7, "file_name": "a.png", "height": 2, "width": 1 << 40}]}, "size"),
        (labelme(shape(kind="cuboid")), "encloses pixels"),
        (labelme(shape(points=[[1, 2], [3]])), "points that are none"),
        (labelme(shape(points=[[1, 1], [2, 2]], kind="mask", mask="?")), "not base64"),
        (labelme(shape(points=[[1, 1], [2, 2]], kind="mask", mask="AAAA")), "damaged mask"),
        (labelme(shape(points=[[29, 1], [30, 2]], kind="mask", mask=PATCH)), "beyond the picture"),
        (labelme(shape(points=[[1, 19], [2, 20]], kind="mask", mask=PATCH)), "beyond the picture"),
        (labelme(shape(points=[[-1, 1], [0, 2]], kind="mask", mask=PATCH)), "beyond the picture"),
        (labelme(shape(), imagePath="../.."), "imagePath has no picture's name"),
        (labelme(shape(label=None)), "no label"),  # type: ignore[arg-type]
        (labelme({}), "no label"),
        ({"videos": [], "annotations": [{"id": 1, "video_id": 1, "segmentations": []}]}, "belongs to no video"),
        ({"videos": [{"id": 1, "file_names": [], "height": 2, "width": 3}] * 2, "annotations": []}, "id of another"),
        (
            {
                "videos": [{"id": 1, "file_names": ["v/1.jpg"], "height": 2, "width": 3}],
                "annotations": [{"id": 1, "video_id": 1, "segmentations": [None, None]}],
            },
            "2 segmentations for 1 pictures",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_written(content: Any, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what):
        converted(tmp_path, content)
    assert not list(tmp_path.rglob("*.png"))
    assert [path.name for path in tmp_path.iterdir()] == ["source.json"]


def test_two_pictures_of_one_name_are_refused(tmp_path: Path) -> None:
    content = coco_file(annotation(7), annotation(8), images=2)
    content["images"][1]["file_name"] = "00000.png"
    with pytest.raises(DataError, match=r"two pictures of one name.*00000"):
        converted(tmp_path, content)


@pytest.mark.parametrize("videos", [1, 2])
def test_a_folder_that_holds_something_is_not_replaced_nor_kept_for_new(videos: int, tmp_path: Path) -> None:
    content = coco_file(annotation(7), annotation(8), images=2)
    for number, image in enumerate(content["images"]):
        image["file_name"] = f"v{number % videos}/{number}.jpg"
    (tmp_path / "target/v0").mkdir(parents=True)
    (tmp_path / "target/v0/mine.png").write_bytes(b"x")
    with pytest.raises(OutputError, match="there already"):
        converted(tmp_path, content)
    assert [path.name for path in (tmp_path / "target").rglob("*.png")] == ["mine.png"]
