"""Reading the labels of mask PNGs: as Pillow's raw array, with one line for what is no label map."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointformer.errors import DataError
from jointformer.ops.png import STRETCHED, parse_png_header, read_index_png, stretched
from trees import write_grey

Save = Callable[..., None]
LABELS = np.random.default_rng(0).integers(0, 256, (37, 53)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["P", "L"])
def test_labels_come_back_as_stored(mode: str, tmp_path: Path, save_labels: Save) -> None:
    path = tmp_path / "mask.png"
    save_labels(path, LABELS, mode)
    for source in (path, str(path), path.read_bytes()):
        assert np.array_equal(read_index_png(source), LABELS)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_palettes_of_fewer_bits_are_unpacked(bits: int, tmp_path: Path) -> None:
    labels = LABELS % 2**bits
    picture = Image.frombytes("P", (53, 37), labels.tobytes())
    picture.putpalette([0] * 768)
    picture.save(tmp_path / "mask.png", bits=bits)
    assert parse_png_header((tmp_path / "mask.png").read_bytes()).bit_depth == bits
    assert np.array_equal(read_index_png(tmp_path / "mask.png"), labels)


@pytest.mark.parametrize(("bits", "step"), [(1, 1), (2, 85), (4, 17), (8, 1)])
def test_grey_of_2_and_4_bits_is_stretched_and_says_so(bits: int, step: int, tmp_path: Path) -> None:
    labels = LABELS & np.uint8(2**bits - 1)
    path = tmp_path / "mask.png"
    write_grey(path, labels, bits)
    assert np.array_equal(read_index_png(path), labels * np.uint8(step))
    assert stretched(path) == (STRETCHED if step > 1 else None)


def test_filtered_rows_are_read_like_plain_ones(tmp_path: Path) -> None:
    import cv2

    smooth = np.add.outer(np.arange(40), np.arange(60)).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "mask.png"), smooth)
    assert np.array_equal(read_index_png(tmp_path / "mask.png"), smooth)


@pytest.mark.parametrize(("mode", "kind"), [("RGB", "RGB"), ("RGBA", "RGBA"), ("LA", "grey with alpha")])
def test_colours_are_refused(mode: str, kind: str, tmp_path: Path, save_labels: Save) -> None:
    save_labels(tmp_path / "mask.png", LABELS, mode)
    with pytest.raises(DataError, match=f"mask.png: a mask must hold labels, .*got {kind}, 8 bit"):
        read_index_png(tmp_path / "mask.png")


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(LABELS.astype(np.uint16)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match="16 bit"):
        read_index_png(tmp_path / "mask.png")


@pytest.mark.parametrize("mode", ["P", "L"])
@pytest.mark.parametrize("keep", [0, 20, 40, -30])
def test_truncated_files_are_refused(mode: str, keep: int, tmp_path: Path, save_labels: Save) -> None:
    path = tmp_path / "mask.png"
    save_labels(path, LABELS, mode)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"mask.png: (damaged or truncated|not a PNG)"):
        read_index_png(path)


def test_a_file_that_inflates_to_more_than_its_size_is_left_to_the_library(tmp_path: Path, save_labels: Save) -> None:
    path = tmp_path / "mask.png"
    save_labels(path, np.zeros((400, 400)))
    content = bytearray(path.read_bytes())
    content[16:24] = (5).to_bytes(4, "big") * 2
    with pytest.raises(DataError, match="damaged"):  # the header's checksum no longer fits
        read_index_png(bytes(content))


@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_size_that_would_fill_the_memory_is_refused_before_anything_is_unpacked(
    mode: str, tmp_path: Path, save_labels: Save
) -> None:
    path = tmp_path / "mask.png"
    save_labels(path, LABELS, mode)
    content = bytearray(path.read_bytes())
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(DataError, match=r"the mask is too large, expected at most 178,956,970 pixels, got 30000x30000"):
        read_index_png(bytes(content))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none.png: cannot read the mask"):
        read_index_png(tmp_path / "none.png")
