"""CVAT's XML -> PNGs: key frames of tracks, shapes of pictures, and nothing from a file that is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from jointformer.cli.main import main
from jointformer.data.convert_annotations import annotations_to_masks
from jointformer.errors import DataError
from jointformer.ops.png import read_index_png
from jointformer.types import Mask

SIZE = (20, 30)
META = "<meta><task><original_size><width>30</width><height>20</height></original_size></task></meta>"
BOX = 'xtl="4" ytl="5" xbr="14" ybr="12"'


def video(*tracks: str, meta: str = META) -> str:
    return f"<annotations><version>1.1</version>{meta}{''.join(tracks)}</annotations>"


def images(*shapes: str, more: str = "") -> str:
    image = f'<image id="0" name="clip/frame_000003.png" width="30" height="20">{"".join(shapes)}</image>'
    return f"<annotations>{image}{more}</annotations>"


def converted(tmp_path: Path, content: str) -> dict[str, np.ndarray]:
    """The masks of an XML by their names."""
    source, target = tmp_path / "annotations.xml", tmp_path / "target"
    source.write_text(content, encoding="utf-8")
    annotations_to_masks(source, target)
    return {path.stem: read_index_png(path) for path in sorted(target.iterdir())}


def inside(y: slice, x: slice) -> Mask:
    mask = np.zeros(SIZE, bool)
    mask[y, x] = True
    return mask


def test_key_frames_of_tracks_become_masks_named_by_their_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cat = f"""<track id="4" label="cat">
        <box frame="2" keyframe="1" outside="0" {BOX}/>
        <box frame="3" keyframe="0" outside="0" {BOX}/>
        <polygon frame="7" keyframe="1" outside="0" points="20.0,5.0;28.0,5.0;28.0,12.0;20.0,12.0"/>
        <box frame="9" keyframe="1" outside="1" {BOX}/></track>"""
    dog = f'<track id="2" label="dog"><box frame="7" keyframe="1" outside="0" {BOX}/></track>'
    (tmp_path / "annotations.xml").write_text(video(cat, dog))
    assert main(["data", "masks", str(tmp_path / "annotations.xml"), str(tmp_path / "target")]) == 0
    found = {path.stem: read_index_png(path) for path in sorted((tmp_path / "target").iterdir())}
    assert list(found) == ["000002", "000007"]
    assert np.array_equal(found["000002"], 4 * inside(slice(5, 12), slice(4, 14)))
    left, right = inside(slice(5, 12), slice(4, 14)), inside(slice(5, 12), slice(20, 28))
    assert np.array_equal(found["000007"], 2 * left + 4 * right)
    assert "object 2: 'dog'" in capsys.readouterr().err


def test_shapes_of_pictures_mean_what_cvat_means(tmp_path: Path) -> None:
    shapes = (
        '<mask label="a" rle="0, 2, 1, 3" left="3" top="4" width="3" height="2"/>',
        f'<box label="b" {BOX}/>',
        '<ellipse label="c" cx="22" cy="10" rx="6" ry="3"/>',
        '<box label="d" xtl="1" ytl="15" xbr="5" ybr="17" rotation="90"/>',
        '<tag label="outdoors"/><points label="e" points="1,1;2,2"/>',
    )
    (found,) = converted(tmp_path, images(*shapes)).values()
    expected = np.zeros((2, 3), bool)
    expected[0, :2], expected[1] = True, True
    assert np.array_equal(found[4:6, 3:6] == 1, expected & (found[4:6, 3:6] != 2))  # b lies over it
    assert np.array_equal(found == 2, inside(slice(5, 12), slice(4, 14)))
    rows, columns = np.nonzero(found == 3)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (7, 12, 16, 27)
    assert abs((found == 3).sum() - np.pi * 18) < 4
    assert np.array_equal(found == 4, inside(slice(14, 18), slice(2, 4)))


def test_the_higher_z_order_lies_on_top(tmp_path: Path) -> None:
    shapes = (f'<box label="a" {BOX} z_order="2"/>', f'<box label="b" {BOX} z_order="-1"/>')
    (found,) = converted(tmp_path, images(*shapes)).values()
    assert set(np.unique(found)) == {0, 2}  # b comes first then, and all of it lies under a


def test_pictures_objects_are_known_by_attribute_or_group(tmp_path: Path) -> None:
    second = f"""<image id="1" name="clip/frame_000004.png" width="30" height="20">
        <box label="a" group_id="1" {BOX}/><box label="a" xtl="20" ytl="5" xbr="28" ybr="12">
        <attribute name="track_id">9</attribute></box></image>"""
    first = (
        f'<box label="a" {BOX}><attribute name="track_id">9</attribute></box>',
        '<box label="a" group_id="1" xtl="20" ytl="5" xbr="28" ybr="12"/>',
    )
    found = converted(tmp_path, images(*first, more=second))
    assert [found["frame_000003"][8, 8], found["frame_000003"][8, 24]] == [1, 2]
    assert [found["frame_000004"][8, 8], found["frame_000004"][8, 24]] == [2, 1]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "not an XML file"),
        ("<annotations>", "not an XML file"),
        ("<?xml version='1.0' encoding='no-such'?><annotations/>", "not an XML file"),
        ("<html></html>", "no annotations, expected CVAT's XML"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations>&b;</annotations>", "an XML file with a DOCTYPE"),
        ("<annotations></annotations>", "no picture has a region"),
        (images(f'<box label="a" {BOX}/>').replace('width="30"', 'width="x"'), "image 0 has a width that is none"),
        (images(f'<box label="a" {BOX}/>').replace('width="30"', f'width="{"9" * 30}"'), "a width that is none"),
        (images(f'<box label="a" {BOX}/>').replace('name="clip/frame_000003.png"', ""), "no picture's name"),
        (images('<box label="a" xtl="1" ytl="2" xbr="nan" ybr="3"/>'), "points that are none"),
        (images('<box label="a" xtl="1" ytl="2" xbr="5"/>'), "image 0, box 0 has a ybr that is none"),
        (images('<box label="a" xtl="1" ytl="2" xbr="1e8" ybr="3"/>'), "far outside"),
        (images('<polygon label="a" points="1,2;3,4"/>'), "encloses no pixels, expected 3 points or more, got 2"),
        (images('<polygon label="a" points="1,2;3"/>'), "points that are none"),
        (images('<mask label="a" rle="1,2" left="0" top="0" width="2" height="2"/>'), "damaged run lengths"),
        (images('<mask label="a" rle="1,x" left="0" top="0" width="2" height="2"/>'), "a rle that is none"),
        (images('<mask label="a" rle="0,4" left="29" top="0" width="2" height="2"/>'), "beyond the picture"),
        (images('<mask label="a" rle="0,4000" left="0" top="0" width="100" height="40"/>'), "beyond the picture"),
        (video(f'<track label="a"><box frame="0" {BOX}/></track>'), "track 0 has no id"),
        (video(f'<track id="1" label="a"><box frame="-1" {BOX}/></track>'), "has a frame that is none"),
        (video(f'<track id="1" label="a"><box frame="0" {BOX}/></track>', meta=""), "not one video"),
        (video(f'<track id="1" label="a"><box frame="0" {BOX}/></track>', meta=META * 2), "tasks one by one"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_and_nothing_is_written(content: str, what: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=what):
        converted(tmp_path, content)
    assert [path.name for path in tmp_path.iterdir()] == ["annotations.xml"]


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.xml: no such file"):
        annotations_to_masks(tmp_path / "none.xml", tmp_path / "target")
