"""Mask files of every kind -> ids, and back."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from zipfile import ZIP_LZMA, ZipFile

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from jointformer.data.mask_colours import ColourTable
from jointformer.data.masks import (
    encode_mask,
    read_mask_file,
    read_scores,
    resolve_void,
    without,
    write_mask,
    write_scores,
)
from jointformer.errors import DataError, OutputError
from jointformer.ops.label_maps import object_ids
from jointformer.ops.palette import davis_palette
from trees import write_grey

IDS = np.zeros((20, 30), np.uint8)
IDS[2:10, 3:12] = 1
IDS[8:18, 15:28] = 5
IDS[12:16, 2:8] = 200


def paint(ids: np.ndarray, colours: dict[int, tuple[int, int, int]]) -> np.ndarray:
    rgb = np.zeros((*ids.shape, 3), np.uint8)
    for number, colour in colours.items():
        rgb[ids == number] = colour
    return rgb


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.int32])
def test_a_written_mask_reads_back_with_its_palette(tmp_path: Path, dtype: type[np.integer]) -> None:
    palette = davis_palette()[::-1]
    ids = IDS.astype(dtype)
    write_mask(tmp_path / "a.png", ids, palette)
    mask = read_mask_file(tmp_path / "a.png")
    np.testing.assert_array_equal(mask.ids, IDS)
    np.testing.assert_array_equal(mask.palette, palette)
    with Image.open(tmp_path / "a.png") as image:
        assert image.mode == "P"


def test_a_mask_without_a_palette_gets_the_davis_colours(tmp_path: Path) -> None:
    write_mask(tmp_path / "a.png", IDS)
    with Image.open(tmp_path / "a.png") as image:
        assert (image.getpalette() or [])[:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]


def test_equal_masks_are_equal_bytes() -> None:
    assert encode_mask(IDS) == encode_mask(np.asfortranarray(IDS.astype(np.int64)))


@pytest.mark.parametrize("bad", [256, -1])
def test_ids_that_8_bits_cannot_hold_are_refused(bad: int) -> None:
    ids = IDS.astype(np.int64)
    ids[0, 0] = bad
    with pytest.raises(OutputError, match=r"0\.\.255, got ids"):
        encode_mask(ids)


@pytest.mark.parametrize("factor", [1, 257])
def test_grey_masks_of_8_and_16_bits_are_ids(tmp_path: Path, factor: int) -> None:
    values = IDS if factor == 1 else IDS.astype(np.uint16) * factor
    Image.fromarray(values).save(tmp_path / "a.png")
    mask = read_mask_file(tmp_path / "a.png")
    np.testing.assert_array_equal(mask.ids, IDS)
    assert mask.palette is None


def test_16_bit_masks_of_small_ids_are_ids(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.uint16)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "a.png").ids, IDS)


def test_16_bit_ids_above_255_are_one_line(tmp_path: Path) -> None:
    Image.fromarray(IDS.astype(np.uint16) * 2).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: object ids do not fit into 8 bits, .* got values 0\.\.400"):
        read_mask_file(tmp_path / "a.png")


def test_1_bit_masks_are_one_object(tmp_path: Path) -> None:
    Image.fromarray(IDS > 0).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "a.png").ids, IDS > 0)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bit_palettes_and_greys_are_ids(tmp_path: Path, bits: int) -> None:
    ids = (IDS > 0) + (IDS == 5) * (bits > 1) * np.uint8(1) + 0
    image = Image.fromarray(ids.astype(np.uint8))
    image.putpalette(davis_palette().tobytes())
    image.save(tmp_path / "p.png", bits=bits)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "p.png").ids, ids)
    write_grey(tmp_path / "g.png", ids.astype(np.uint8), bits)
    np.testing.assert_array_equal(read_mask_file(tmp_path / "g.png").ids, ids)


def test_exact_rgb_colours_become_ids_in_order(tmp_path: Path) -> None:
    rgb = paint(IDS, {1: (255, 255, 255), 5: (10, 200, 30), 200: (250, 3, 3)})
    Image.fromarray(rgb).save(tmp_path / "a.png")
    mask = read_mask_file(tmp_path / "a.png")
    assert object_ids(mask.ids) == (1, 2, 3)
    assert mask.palette is not None
    np.testing.assert_array_equal(mask.palette[mask.ids], rgb)


def test_rgb_masks_in_davis_colours_keep_their_davis_ids(tmp_path: Path) -> None:
    Image.fromarray(davis_palette()[IDS]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "a.png").ids, IDS)


def test_a_folder_of_rgb_masks_has_one_mapping(tmp_path: Path) -> None:
    colours = {1: (255, 255, 255), 5: (10, 200, 30), 200: (250, 3, 3)}
    first, second = IDS * (IDS == 5), IDS
    for name, ids in (("0", first), ("1", second)):
        Image.fromarray(paint(ids, colours)).save(tmp_path / f"{name}.png")
    table = ColourTable.from_files([tmp_path / "0.png", tmp_path / "1.png"])
    assert table.ids[10, 200, 30] == 1
    ids = read_mask_file(tmp_path / "1.png", table).ids
    np.testing.assert_array_equal(ids == 1, IDS == 5)
    other = ColourTable.from_files([tmp_path / "0.png"])
    with pytest.raises(DataError, match=r"1\.png: the colour .* is in none of the video's other masks"):
        read_mask_file(tmp_path / "1.png", other)


def test_transparent_pixels_are_background(tmp_path: Path) -> None:
    rgba = np.dstack([np.full((*IDS.shape, 3), 90, np.uint8), (IDS == 5) * np.uint8(255)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask_file(tmp_path / "a.png").ids, IDS == 5)


def test_a_palette_with_an_alpha_channel_holds_indices(tmp_path: Path) -> None:
    image = Image.new("PA", (4, 3))
    image.putpalette([0, 0, 0, 9, 9, 9, 8, 8, 8, 7, 7, 7])
    image.putdata([(2, 255)] * 6 + [(3, 0)] * 6)
    image.save(tmp_path / "m.tif")
    read = read_mask_file(tmp_path / "m.tif")
    assert np.array_equal(read.ids.ravel(), [2] * 6 + [0] * 6)
    assert read.palette is not None


def test_half_transparent_pixels_are_one_line(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([paint(IDS, {1: (9, 9, 9)}), IDS])).save(tmp_path / "a.png")
    with pytest.raises(DataError, match="half-transparent"):
        read_mask_file(tmp_path / "a.png")


@pytest.mark.parametrize("grey", [False, True])
@pytest.mark.parametrize("how", ["blur", "resize"])
def test_an_anti_aliased_mask_is_one_line(tmp_path: Path, how: str, grey: bool) -> None:
    disk = cv2.circle(np.zeros((80, 90, 3), np.uint8), (40, 40), 25, (255, 255, 255), -1)
    soft = cv2.GaussianBlur(disk, (3, 3), 0) if how == "blur" else cv2.resize(disk, (61, 53))
    Image.fromarray(soft[..., 0] if grey else soft).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: .*(grey values|colours).* along edges"):
        read_mask_file(tmp_path / "a.png")


def test_an_rgb_picture_as_a_mask_says_how_many_colours(tmp_path: Path) -> None:
    rgb = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: an RGB mask of 1600 colours, expected at most 255"):
        read_mask_file(tmp_path / "a.png")


def test_255_rgb_colours_are_fine_and_256_are_not(tmp_path: Path) -> None:
    rgb = np.zeros((16 * 4, 16 * 4, 3), np.uint8)
    rgb[..., 0] = np.arange(256, dtype=np.uint8).reshape(16, 16).repeat(4, 0).repeat(4, 1)
    rgb[..., 1] = (rgb[..., 0] > 0) * 7
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert len(object_ids(read_mask_file(tmp_path / "a.png").ids)) == 255
    rgb[0, 0] = (1, 2, 3)
    rgb[3, 3] = (3, 200, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"an RGB mask of 258 colours"):
        read_mask_file(tmp_path / "a.png")


def test_small_exact_objects_are_not_taken_for_smoothing(tmp_path: Path) -> None:
    rgb = paint(IDS, {1: (200, 0, 0), 5: (0, 0, 200)})
    rgb[0, 0:2] = (100, 0, 0)  # two pixels, halfway between background and the first object
    Image.fromarray(rgb).save(tmp_path / "a.png")
    assert len(object_ids(read_mask_file(tmp_path / "a.png").ids)) == 3


def soft_masks() -> dict[str, np.ndarray]:
    """Masks of two objects, or of one that is nearly white, with edges that smoothing or JPEG made."""
    drawn = np.zeros((120, 160), np.uint8)
    cv2.circle(drawn, (50, 60), 30, 100, -1)
    cv2.circle(drawn, (115, 60), 30, 200, -1)
    found = {
        "resized": cv2.resize(drawn, (320, 240), interpolation=cv2.INTER_LINEAR),
        "blurred": cv2.GaussianBlur((drawn > 0) * np.uint8(254), (9, 9), 0),
        "very soft": cv2.GaussianBlur((drawn > 0) * np.uint8(255), (61, 61), 0),
    }
    for quality in (50, 75, 95):
        coded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        found[f"JPEG {quality}"] = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    return found


@pytest.mark.parametrize("kind", soft_masks())
def test_grey_masks_with_soft_edges_are_one_line_whatever_their_greys(tmp_path: Path, kind: str) -> None:
    Image.fromarray(soft_masks()[kind]).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: an anti-aliased mask: \d+ grey values that only appear along edges"):
        read_mask_file(tmp_path / "a.png")


def test_many_small_objects_are_not_taken_for_smoothing(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    crowd = np.zeros((120, 160), np.uint8)
    for number in range(1, 100):  # some touch, some are half hidden
        y, x = rng.integers(0, 117), rng.integers(0, 157)
        crowd[y : y + 2 + number % 3, x : x + 2] = number
    packed = rng.integers(0, 200, (40, 53), np.uint8).repeat(3, 0).repeat(3, 1)
    for ids in (crowd, packed):
        Image.fromarray(ids).save(tmp_path / "a.png")
        np.testing.assert_array_equal(read_mask_file(tmp_path / "a.png").ids, ids)


@pytest.mark.parametrize("kind", ["grey", "palette", "colours", "tiff"])
def test_exif_orientation_is_applied_as_to_the_frame(tmp_path: Path, kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # as masks get it that a program makes out of a photo
    path = tmp_path / ("a.tiff" if kind == "tiff" else "a.png")
    image = Image.fromarray(paint(IDS, {1: (1, 0, 0)}) if kind == "colours" else IDS)
    if kind == "palette":
        image.putpalette(davis_palette().tobytes())
    image.save(path, exif=exif)
    wanted = (IDS == 1) * np.uint8(1) if kind == "colours" else IDS
    np.testing.assert_array_equal(read_mask_file(path).ids, np.rot90(wanted, -1))


def test_jpeg_masks_are_one_line(tmp_path: Path) -> None:
    Image.fromarray(IDS).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="a JPEG cannot hold exact object ids"):
        read_mask_file(tmp_path / "a.jpg")


def test_255_is_void_beside_others_and_an_object_alone() -> None:
    both = np.array([[0, 1, 255]], np.uint8)
    alone = np.array([[0, 0, 255]], np.uint8)
    assert resolve_void(both).tolist() == [[0, 1, 0]]
    assert both.tolist() == [[0, 1, 255]]
    assert resolve_void(alone).tolist() == [[0, 0, 255]]
    assert resolve_void(alone, lone_is_object=False).tolist() == [[0, 0, 0]]


@given(st.lists(st.integers(0, 255), min_size=4, max_size=4), st.sets(st.integers(1, 255)))
def test_known_objects_are_taken_out_and_nothing_else(values: list[int], known: set[int]) -> None:
    ids = np.array(values, np.uint8).reshape(2, 2)
    before = ids.copy()
    left = without(ids, known)
    np.testing.assert_array_equal(left, [[0 if v in known else v for v in row] for row in before])
    np.testing.assert_array_equal(ids, before)
    assert object_ids(left) == tuple(sorted({*values} - known - {0}))


def test_scores_read_back_in_half_precision(tmp_path: Path) -> None:
    prob = np.random.default_rng(0).random((2, 5, 6), np.float32)
    write_scores(tmp_path / "a.npz", prob, (3, 200))
    ids, read = read_scores(tmp_path / "a.npz")
    assert ids == (3, 200)
    np.testing.assert_allclose(read, prob, atol=5e-4)
    with ZipFile(tmp_path / "a.npz", "w", ZIP_LZMA) as archive:
        archive.writestr("ids.npy", bytes(500))
        archive.writestr("prob.npy", bytes(500))
    packed = bytearray((tmp_path / "a.npz").read_bytes())
    packed[30 + len("ids.npy") + 9 : 30 + len("ids.npy") + 20] = b"\xff" * 11
    for content in (b"PK\x03\x04 no", bytes(packed)):
        (tmp_path / "a.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"a\.npz: not a score file"):
            read_scores(tmp_path / "a.npz")


@given(st.binary(max_size=300), st.integers(0, 250))
def test_a_damaged_mask_is_one_line_or_a_mask(tmp_path_factory: pytest.TempPathFactory, noise: bytes, at: int) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "a.png"
    data = bytearray(encode_mask(IDS))
    data[at : at + len(noise)] = noise
    path.write_bytes(data)
    with suppress(DataError):
        assert read_mask_file(path).ids.ndim == 2
