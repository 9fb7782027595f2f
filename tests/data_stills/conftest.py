"""A small folder of drawn stills, so that no real picture is needed."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from jointformer.data.clips.pack import Still, StillsPack, find_regions

SETS = ("bsds500", "ccp", "coco_small", "carparts")


def write_stills(folder: Path, count: int = 8) -> Path:
    """A folder with a manifest, textured pictures and masks of three regions."""
    rng = np.random.default_rng(7)
    lines = ["set,image,mask,width,height,objects"]
    for number in range(count):
        height, width = (96, 144) if number % 2 else (144, 96)
        coarse = rng.integers(0, 255, (6, 6, 3), dtype=np.uint8)
        picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        mask = np.zeros((height, width), np.uint8)
        for label, (y, x) in enumerate(((0.35, 0.4), (0.6, 0.5), (0.5, 0.75)), 1):
            centre = (round(x * width), round(y * height))
            cv2.ellipse(mask, centre, (width // 6, height // 7), 0, 0, 360, label, -1)
            picture[mask == label] = rng.integers(0, 255, 3)
        cv2.imwrite(str(folder / f"{number}.png"), picture)
        image = Image.fromarray(mask)
        image.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0, 0, 0, 255])
        image.save(folder / f"{number}_mask.png")
        lines.append(f"{SETS[number % 4]},{number}.png,{number}_mask.png,{width},{height},3")
    (folder / "manifest.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def centroid(weights: np.ndarray) -> tuple[float, float]:
    """x, y of the middle of a picture's weight."""
    y, x = np.mgrid[: weights.shape[0], : weights.shape[1]]
    return float(np.average(x, weights=weights)), float(np.average(y, weights=weights))


def ellipse_still(height: int, width: int) -> Still:
    """A white ellipse on black, which is region 1."""
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2 + 7, height // 2 - 9), (width // 5, height // 4), 20, 0, 360, 1, -1)
    picture = np.repeat(255 * mask[..., None], 3, 2)
    half = np.asarray(cv2.resize(picture, (width // 2, height // 2), interpolation=cv2.INTER_AREA), np.uint8)
    return Still("own", "ellipse", picture, half, (mask,), (find_regions(mask),))


@pytest.fixture
def stills_folder(tmp_path: Path) -> Path:
    return write_stills(tmp_path)


@pytest.fixture(scope="session")
def pack(tmp_path_factory: pytest.TempPathFactory) -> StillsPack:
    return StillsPack(write_stills(tmp_path_factory.mktemp("stills")))
