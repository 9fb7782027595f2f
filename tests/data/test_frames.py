"""Picture files of every kind people have: right, or one clear sentence."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import EpsImagePlugin, Image

from jointformer.data.frames import list_pictures, list_subfolders, natural_key, picture_size, read_frame
from jointformer.data.masks import read_mask_file
from jointformer.errors import DataError

RAMP = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def test_an_rgb_picture_is_read_exactly(tmp_path: Path) -> None:
    Image.fromarray(RAMP).save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png")
    assert frame.dtype == np.uint8
    np.testing.assert_array_equal(frame, RAMP)


@pytest.mark.parametrize("suffix", ["png", "tiff"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_to_pixels_and_size(tmp_path: Path, orientation: int, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(RAMP).save(tmp_path / f"a.{suffix}", exif=exif)
    upright = {
        1: RAMP,
        2: RAMP[:, ::-1],
        3: RAMP[::-1, ::-1],
        4: RAMP[::-1],
        5: RAMP.swapaxes(0, 1),
        6: np.rot90(RAMP, -1),
        7: RAMP[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(RAMP),
    }[orientation]
    np.testing.assert_array_equal(read_frame(tmp_path / f"a.{suffix}"), upright)
    assert picture_size(tmp_path / f"a.{suffix}") == upright.shape[:2]


@pytest.mark.parametrize("mode", ["L", "P", "1"])
def test_turned_tiffs_of_bare_pixels_are_read(tmp_path: Path, mode: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture = Image.fromarray(RAMP).convert(mode)
    picture.save(tmp_path / "a.tiff", exif=exif)
    np.testing.assert_array_equal(read_frame(tmp_path / "a.tiff"), np.rot90(np.asarray(picture.convert("RGB")), -1))


def test_grey_16_bit_keeps_its_upper_bits(tmp_path: Path) -> None:
    values = np.array([[0, 255, 256], [32768, 65535, 4660]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_frame(tmp_path / "a.png")[..., 1], values >> 8)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr"])
def test_other_colour_models_become_rgb(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(np.full((16, 16, 3), 255, np.uint8)).convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    picture.save(tmp_path / f"a.{suffix}")
    frame = read_frame(tmp_path / f"a.{suffix}")
    assert frame.shape == (16, 16, 3)
    assert frame.min() >= 250


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_laid_over_black(tmp_path: Path, mode: str) -> None:
    picture = Image.new(mode, (4, 4), (255,) * (len(mode) - 1) + (0,))
    picture.putpixel((1, 1), (255,) * len(mode))
    picture.save(tmp_path / "a.png")
    frame = read_frame(tmp_path / "a.png")
    assert frame[1, 1].tolist() == [255, 255, 255]
    assert frame.sum() == 3 * 255


@pytest.mark.parametrize(("height", "width"), [(1, 1), (15, 17), (8, 4000)])
def test_odd_sizes_are_read(tmp_path: Path, height: int, width: int) -> None:
    Image.new("RGB", (width, height)).save(tmp_path / "a.jpg")
    assert read_frame(tmp_path / "a.jpg").shape == (height, width, 3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a.jpg: not a picture, got an empty file"),
        (b"hello there, no picture", "not a picture, got a file starting with b'hello there, no '"),
        (b"\x89PNG\r\n\x1a\n", "damaged|not a picture"),
    ],
)
def test_a_file_that_is_no_picture_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_frame(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif", "bmp"])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_truncated_picture_is_one_line(tmp_path: Path, suffix: str, share: float) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(DataError, match=rf"a\.{suffix}: (the picture is damaged|not a picture)"):
        read_frame(path)


def test_a_picture_of_monstrous_size_is_one_line(tmp_path: Path) -> None:
    header = Image.new("1", (1, 1))
    path = tmp_path / "a.png"
    header.save(path)
    data = bytearray(path.read_bytes())
    data[16:24] = (60_000).to_bytes(4, "big") * 2

    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    path.write_bytes(data)
    with pytest.raises(DataError, match="the picture is too large"):
        read_frame(path)


def test_what_is_called_a_picture_and_is_a_program_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was called"))
    (tmp_path / "a.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n")
    for read in (read_frame, picture_size, read_mask_file):
        with pytest.raises(DataError, match=r"a\.png: not a picture, got a file starting with b'%!PS"):
            read(tmp_path / "a.png")


def test_missing_files_and_folders_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_frame(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="is a folder, expected a picture file"):
        read_frame(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        list_pictures(tmp_path / "b")
    (tmp_path / "f").write_bytes(b"")
    with pytest.raises(DataError, match="is a file, expected a folder"):
        list_pictures(tmp_path / "f")


def test_names_count_and_mixed_suffixes_go_together(tmp_path: Path) -> None:
    names = ["1.jpg", "2.PNG", "10.jpeg", "a 3.png", "a 20.png", "ěšč.webp"]
    for name in [*names, "._1.jpg", "Thumbs.db", "notes.txt"]:
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.jpg").mkdir()
    assert [path.name for path in list_pictures(tmp_path)] == names


def test_links_to_nothing_are_listed_and_then_missed(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").write_bytes(b"")
    for name in ("2.jpg", "video", "._2.jpg"):
        (tmp_path / name).symlink_to(tmp_path / "unmounted" / name)
    (tmp_path / "3.jpg").symlink_to("3.jpg")  # in a circle
    assert [path.name for path in list_pictures(tmp_path)] == ["1.jpg", "2.jpg", "3.jpg"]
    assert [path.name for path in list_subfolders(tmp_path)] == ["2.jpg", "3.jpg", "video"]
    with pytest.raises(DataError, match=r"2\.jpg: no such file"):
        read_frame(tmp_path / "2.jpg")


def test_a_listing_asks_for_no_file_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """YouTube-VOS has 76,000 frames: each question takes a network mount a millisecond."""
    (tmp_path / "video").mkdir()
    for number in range(5):
        (tmp_path / f"{number}.jpg").write_bytes(b"")
    with monkeypatch.context() as patch:
        for name in ("stat", "lstat"):
            patch.setattr(os, name, lambda *args, **options: pytest.fail(f"asked for {args}"))
        pictures, folders = list_pictures(tmp_path), list_subfolders(tmp_path)
    assert len(pictures) == 5
    assert [path.name for path in folders] == ["video"]


@given(st.lists(st.integers(0, 99_999), min_size=2, unique=True))
def test_padded_numbers_sort_as_plain_text(numbers: list[int]) -> None:
    names = [f"frame{number:05d}.jpg" for number in numbers]
    assert sorted(names, key=natural_key) == sorted(names)
    loose = [f"{number}" for number in numbers]
    assert sorted(loose, key=natural_key) == [str(number) for number in sorted(numbers)]


@given(st.lists(st.text(max_size=12), min_size=2))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    assert sorted(sorted(names, key=natural_key, reverse=True), key=natural_key) == sorted(names, key=natural_key)
