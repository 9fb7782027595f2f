"""One closed outline of a mask, drawn again."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from jointformer.ops.outline import outline
from jointformer.types import Mask


def _drawn(points: np.ndarray, mask: Mask) -> Mask:
    return cv2.fillPoly(np.zeros(mask.shape, np.uint8), [points], 1).astype(bool)


def _blobs(seed: int, limit: float) -> Mask:
    noise = np.random.default_rng(seed).standard_normal((40, 56)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 2.0) > limit


def _in_one_part(mask: Mask) -> Mask:
    _, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return parts == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))


@pytest.mark.parametrize("limit", [-0.15, -0.05, 0.0, 0.05])
def test_one_part_with_its_holes_is_drawn_as_it_was(limit: float) -> None:
    holes = 0
    for seed in range(25):
        mask = _in_one_part(_blobs(seed, limit))
        assert np.array_equal(_drawn(outline(mask), mask), mask)
        holes += cv2.connectedComponents((~np.pad(mask, 1)).astype(np.uint8), connectivity=4)[0] - 2
    assert holes > 5


def test_parts_are_joined_by_lines_a_pixel_wide() -> None:
    for seed in range(25):
        mask = _blobs(seed, 0.05)
        drawn = _drawn(outline(mask), mask)
        assert not (mask & ~drawn).any()
        parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] - 1
        assert (drawn & ~mask).sum() <= 12 * (parts - 1)  # they lie that near


@pytest.mark.parametrize("pixels", [[(3, 4)], [(3, 4), (3, 5)], [(0, 0), (1, 1), (2, 2)], [(5, 0), (5, 1), (5, 2)]])
def test_a_pixel_or_a_line_has_three_points(pixels: list[tuple[int, int]]) -> None:
    mask = np.zeros((6, 7), bool)
    mask[tuple(zip(*pixels, strict=True))] = True
    points = outline(mask)
    assert len(points) >= 3
    assert np.array_equal(_drawn(points, mask), mask)


def test_everything_and_nothing() -> None:
    assert outline(np.zeros((4, 5), bool)).shape == (0, 2)
    full = np.ones((4, 5), bool)
    assert np.array_equal(_drawn(outline(full), full), full)
