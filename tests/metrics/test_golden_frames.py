"""J and F of single pairs of masks against the official functions, and the fast way against the plain one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jointformer.metrics import boundary_accuracy, region_similarity
from jointformer.metrics.boundary import contour, disk, tolerance
from jointformer.metrics.mose_v2 import smoothed_scores
from jointformer.metrics.pairs import labels_in, region_and_boundary, surroundings
from jointformer.ops.png import read_index_png

PAIRS = [f"pair_{index:02d}" for index in range(70)]


@pytest.mark.parametrize("pair", PAIRS)
def test_a_pair_scores_as_the_official_functions_say(
    pair: str, case: Callable[[str], Path], golden: Callable[[str], Any], same: Callable[..., None]
) -> None:
    folder, expected = case("frames") / pair, golden("frames")["pairs"][pair]
    truth, prediction, void = (read_index_png(folder / f"{name}.png") for name in ("gt", "pred", "void"))
    masks = prediction > 0, truth > 0
    assert tolerance(*truth.shape) == expected["bound_pix"]
    assert [int(contour(each).sum()) for each in (truth, prediction)] == expected["boundary_pixels"]
    region, boundary = region_and_boundary(prediction, truth, tolerance(*truth.shape))
    same(region, expected["J"])
    same(boundary, expected["F"])
    same(region_similarity(*masks), expected["J"])
    same(boundary_accuracy(*masks), expected["F"])
    same(region_similarity(*masks, void > 0), expected["J_void"])
    same(boundary_accuracy(*masks, void > 0), expected["F_void"])


@pytest.mark.parametrize(
    ("side", "shift", "plain", "adaptive"),
    [
        (40, 3, True, True),  # 0.1 * 40 = 4 pixels for F_adaptive, 7.84 and so 8 for F
        (40, 6, True, False),
        (40, 9, False, False),
        (31, 4, True, True),  # 3.1 is 4, too
        (31, 5, True, False),
    ],
)
def test_mose_v2s_adaptive_f_asks_more_of_small_objects(side: int, shift: int, plain: bool, adaptive: bool) -> None:
    truth, prediction = np.zeros((2, 480, 854), np.uint8)
    truth[100 : 100 + side, 200 : 200 + side] = 1
    prediction[100 : 100 + side, 200 + shift : 200 + shift + side] = 1
    j, f, f_adaptive = smoothed_scores(prediction, truth, math.hypot(480, 854))
    assert j == ((side - shift) * side + 1) / ((side + shift) * side + 1)
    assert f == boundary_accuracy(prediction > 0, truth > 0)
    assert f_adaptive <= f
    assert [f == 1, f_adaptive == 1] == [plain, adaptive]


@pytest.mark.parametrize("side", [0, 71])
def test_mose_v2s_two_f_are_one_for_large_objects_and_where_there_is_none(side: int) -> None:
    """0.1 * 71 is 8 pixels, no less than 7.84: both take 7.84 unrounded, whose element reaches less to one side."""
    truth, prediction = np.zeros((2, 480, 854), np.uint8)
    truth[100 : 100 + side, 200 : 200 + side] = 1
    prediction[100 : 100 + (side or 9), 208 : 208 + (side or 9)] = 1
    _, f, f_adaptive = smoothed_scores(prediction, truth, math.hypot(480, 854))
    assert f == f_adaptive
    assert f < boundary_accuracy(prediction > 0, truth > 0) if side else f == 0


def _slow_contour(mask: np.ndarray) -> np.ndarray:
    """The rule in words, pixel by pixel."""
    height, width = mask.shape
    edge = np.zeros_like(mask)
    for y in range(height):
        for x in range(width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            values = [mask[j, i] for j, i in others if j < height and i < width]
            edge[y, x] = any(value != mask[y, x] for value in values)
    return edge


masks = st.tuples(st.integers(1, 14), st.integers(1, 14), st.integers(0, 2**32 - 1), st.sampled_from((3, 50, 97)))


def _mask(shape: tuple[int, int], seed: int, percent: int) -> np.ndarray:
    return (np.random.default_rng(seed).integers(0, 100, shape) < percent).astype(np.uint8)


@settings(max_examples=80, deadline=None)
@given(masks)
def test_a_contour_is_where_a_pixel_differs_from_its_right_or_lower_neighbours(
    drawn: tuple[int, int, int, int],
) -> None:
    height, width, seed, percent = drawn
    mask = _mask((height, width), seed, percent)
    assert np.array_equal(contour(mask), _slow_contour(mask))


@settings(max_examples=80, deadline=None)
@given(masks, st.sampled_from(("plain", "compiled")))
def test_scoring_inside_the_box_equals_scoring_the_whole_picture(drawn: tuple[int, int, int, int], rule: Any) -> None:
    height, width, seed, percent = drawn
    shape = 3 * height, 4 * width
    first, second = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
    rng = np.random.default_rng(seed)
    top, left = int(rng.integers(0, 2 * height + 1)), int(rng.integers(0, 3 * width + 1))
    first[top : top + height, left : left + width] = _mask((height, width), seed, percent)
    second[top : top + height, left : left + width] = _mask((height, width), seed + 1, percent)
    region, boundary = region_and_boundary(first, second, tolerance(*shape), rule)
    assert region == pytest.approx(region_similarity(first > 0, second > 0), abs=1e-12)
    assert boundary == pytest.approx(boundary_accuracy(first > 0, second > 0, rule=rule), abs=1e-12)


def test_the_disk_holds_all_whole_offsets_within_its_radius() -> None:
    assert disk(8).sum() == sum(y * y + x * x <= 64 for y in range(-8, 9) for x in range(-8, 9))
    assert disk(1).tolist() == [[0, 1, 0], [1, 1, 1], [0, 1, 0]]


def test_two_full_frames_agree_and_a_full_and_a_half_frame_do_not() -> None:
    full, half = np.ones((20, 30), np.uint8), np.ones((20, 30), np.uint8)
    half[:, 15:] = 0
    assert region_and_boundary(full, full, 1) == (1.0, 1.0)
    assert region_and_boundary(half, full, 1) == (0.5, 0.0)


def test_nothing_against_nothing_is_right() -> None:
    empty = np.zeros((4, 5), np.uint8)
    assert region_and_boundary(empty, empty, 1) == (1.0, 1.0)
    assert surroundings(empty, empty) is None


def test_the_labels_of_a_map_are_listed_without_background() -> None:
    labels = np.zeros((9, 9), np.uint8)
    labels[0, 0], labels[8, 8], labels[4, 4] = 255, 3, 1
    assert labels_in(labels) == [1, 3, 255]
    assert labels_in(labels[3:6, 3:6]) == [1]
