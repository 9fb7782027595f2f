"""Reading a folder of stills."""

from __future__ import annotations

import logging
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from data_stills.conftest import centroid
from jointformer.data.clips.pack import StillsPack, find_regions
from jointformer.errors import DataError


def test_every_still_is_read_with_its_regions(stills_folder: Path) -> None:
    pack = StillsPack(stills_folder)
    assert len(pack) == 8
    assert pack.skipped == []
    assert set(pack.by_source) == {"bsds500", "ccp", "coco_small", "carparts"}
    still = pack[0]
    assert still.picture.shape == (144, 96, 3)
    assert still.half.shape == (72, 48, 3)
    for row, number in enumerate(still.regions[0].ids):
        rows, columns = np.nonzero(still.masks[0] == number)
        left, top, right, bottom = still.regions[0].boxes[row]
        assert still.regions[0].areas[row] == len(rows)
        assert (left, top) <= (columns.min(), rows.min())
        assert abs(right - 1 - columns.max()) <= 2
        assert abs(bottom - 1 - rows.max()) <= 2


def test_large_pictures_are_reduced_to_the_short_side(stills_folder: Path) -> None:
    tall, wide = StillsPack(stills_folder, short_side=48).stills[:2]
    assert tall.picture.shape == (72, 48, 3)
    assert tall.masks[0].shape == (72, 48)
    assert wide.picture.shape == (48, 72, 3)
    assert wide.half.shape == (24, 36, 3)


@pytest.mark.parametrize("size", [(640, 480), (1000, 700)])
def test_regions_of_a_reduced_picture_stay_where_they_are_in_it(stills_folder: Path, size: tuple[int, int]) -> None:
    width, height = size
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 5, height // 4), 20, 0, 360, 255, -1)
    for name in ("0.png", "0_mask.png"):
        Image.fromarray(mask).save(stills_folder / name)
    still = StillsPack(stills_folder, short_side=384)[0]
    assert np.allclose(centroid(still.masks[0]), centroid(still.picture[..., 0]), rtol=0, atol=0.1)


def _break_picture(folder: Path) -> str:
    (folder / "1.png").write_bytes(b"no picture")
    return "1.png"


def _empty_picture(folder: Path) -> str:
    (folder / "1.png").write_bytes(b"")
    return "1.png"


def _remove_picture(folder: Path) -> str:
    (folder / "1.png").unlink()
    return "1.png"


def _cut_mask(folder: Path) -> str:
    path = folder / "1_mask.png"
    path.write_bytes(path.read_bytes()[:60])
    return "1_mask.png"


def _empty_mask(folder: Path) -> str:
    image = Image.new("P", (144, 96))
    image.putpalette([0, 0, 0])
    image.save(folder / "1_mask.png")
    return "1_mask.png"


def _colour_mask(folder: Path) -> str:
    Image.new("RGB", (144, 96)).save(folder / "1_mask.png")
    return "1_mask.png"


def _deep_mask(folder: Path) -> str:
    Image.fromarray(np.full((96, 144), 300, np.uint16)).save(folder / "1_mask.png")
    return "1_mask.png"


def _jpeg_mask(folder: Path) -> str:
    Image.open(folder / "1_mask.png").convert("L").save(folder / "1_mask.png", "JPEG")
    return "1_mask.png"


def _huge_picture(folder: Path) -> str:
    _write_huge(folder / "1.png")
    return "1.png"


def _huge_mask(folder: Path) -> str:
    _write_huge(folder / "1_mask.png")
    return "1_mask.png"


def _write_huge(path: Path) -> None:
    """Writes a PNG whose header tells of 40,000 x 40,000 pixels."""
    data = path.read_bytes()
    header = b"IHDR" + struct.pack(">II", 40_000, 40_000) + data[24:29]
    path.write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])


def _small_mask(folder: Path) -> str:
    Image.new("L", (14, 9), 1).save(folder / "1_mask.png")
    return "1_mask.png"


@pytest.mark.parametrize(
    "damage",
    [_break_picture, _empty_picture, _remove_picture, _huge_picture, _cut_mask, _empty_mask, _colour_mask, _deep_mask,
     _jpeg_mask, _small_mask, _huge_mask],
)  # fmt: skip
def test_a_broken_still_is_named_and_left_out_or_refused(
    stills_folder: Path, damage: Callable[[Path], str], caplog: pytest.LogCaptureFixture
) -> None:
    name = damage(stills_folder)
    with caplog.at_level(logging.WARNING):
        pack = StillsPack(stills_folder)
    assert len(pack) == 7
    assert pack.skipped == ["1.png"]
    assert name in caplog.text
    assert "1 of 8" in caplog.text
    with pytest.raises(DataError, match=name):
        StillsPack(stills_folder, strict=True)


def test_masks_of_stills_may_be_what_masks_of_frames_may_be(stills_folder: Path) -> None:
    ids = StillsPack(stills_folder)[1].masks[0]
    painted = np.zeros((*ids.shape, 3), np.uint8)
    for i, colour in ((1, (128, 0, 0)), (2, (0, 128, 0)), (3, (128, 128, 0))):  # as DAVIS paints them
        painted[ids == i] = colour
    wide = Image.fromarray(ids.astype(np.uint16) * 257)
    for image, read in ((Image.fromarray(painted), ids), (wide, ids), (Image.fromarray(ids > 1), ids > 1)):
        image.save(stills_folder / "1_mask.png")
        assert np.array_equal(StillsPack(stills_folder, strict=True)[1].masks[0], read)


def test_255_beside_other_regions_is_none_and_alone_is_one(stills_folder: Path) -> None:
    ids = StillsPack(stills_folder)[1].masks[0]
    for marked, left in ((np.where(ids == 3, 255, ids), [1, 2]), (np.where(ids == 3, 255, 0), [255])):
        Image.fromarray(marked.astype(np.uint8)).save(stills_folder / "1_mask.png")
        still = StillsPack(stills_folder)[1]
        assert still.regions[0].ids.tolist() == left
        assert np.array_equal(still.masks[0] > 0, np.isin(marked, left))


def test_a_folder_without_a_manifest_is_refused_in_one_line(tmp_path: Path) -> None:
    missing = re.escape(f"{tmp_path / 'manifest.csv'}: cannot read the list of stills (No such file or directory); a")
    with pytest.raises(DataError, match=f"^{missing}") as caught:
        StillsPack(tmp_path)
    assert "\n" not in str(caught.value)
    (tmp_path / "manifest.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="set,image,mask"):
        StillsPack(tmp_path)
    (tmp_path / "manifest.csv").write_text("set,image,mask,width,height,objects\n")
    with pytest.raises(DataError, match="no usable still"):
        StillsPack(tmp_path)


def test_a_manifest_may_be_a_spreadsheets_or_the_least_and_a_line_cut_short_is_named(stills_folder: Path) -> None:
    path = stills_folder / "manifest.csv"
    text = path.read_text()
    path.write_bytes(("\ufeff" + text.replace("\n", "\r\n")).encode())
    assert len(StillsPack(stills_folder)) == 8
    path.write_text("mask,set,image\n" + "".join(f"{n}_mask.png,own,{n}.png\n" for n in range(3)))
    assert len(StillsPack(stills_folder, strict=True)) == 3
    path.write_text(text + "ccp,1.png\n")
    with pytest.raises(DataError, match=r"manifest\.csv: a line with too few columns, .* got ccp,1\.png"):
        StillsPack(stills_folder)


def test_a_region_between_the_sampled_pixels_is_not_taken_for_an_object() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[3, 3] = 2
    mask[4:, 4:] = 5
    assert find_regions(mask).ids.tolist() == [5]


def test_a_region_at_the_pictures_edge_has_its_box_within_the_picture() -> None:
    for height, width in ((9, 14), (10, 15)):
        assert find_regions(np.full((height, width), 255, np.uint8)).boxes.tolist() == [[0, 0, width, height]]


@pytest.mark.realdata
@pytest.mark.slow
def test_all_real_stills_load(shared: Path) -> None:
    pack = StillsPack(shared / "data" / "stills", strict=True)
    assert len(pack) == 2306
