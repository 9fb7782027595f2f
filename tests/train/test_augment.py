"""What augmentation does to pixels."""

from __future__ import annotations

import numpy as np
import pytest

from jointformer.data.clips import augment


def test_colours_stay_when_nothing_is_changed_and_grey_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    assert np.array_equal(augment.Colours().apply(picture), picture)
    grey = augment.Colours(grey=True).apply(picture)
    assert (grey[..., 0] == grey[..., 1]).all()
    red = np.array([[[200, 0, 0]]], np.uint8)
    assert augment.Colours(hue=1 / 3).apply(red).tolist() == [[[0, 200, 0]]]
    assert augment.Colours(hue=-1 / 3).apply(red).tolist() == [[[0, 0, 200]]]
    assert np.ptp(augment.Colours(saturation=0.0).apply(red)) == 0
    assert np.ptp(augment.Colours(saturation=0.5).apply(red)) == 100
    assert augment.Colours(brightness=0.5).apply(red).tolist() == [[[100, 0, 0]]]
    flat = np.array([[[50, 50, 50], [150, 150, 150]]], np.uint8)
    assert augment.Colours(contrast=0.5).apply(flat)[0, :, 0].tolist() == [75, 125]


def test_a_window_of_the_whole_picture_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    same = augment.window(0, 0, 32, 32, 32, flip=False)
    assert np.array_equal(augment.warp_picture(picture, same, 32), picture)
    flipped = augment.window(0, 0, 32, 32, 32, flip=True)
    assert np.array_equal(augment.warp_picture(picture, flipped, 32), picture[:, ::-1])
    assert np.array_equal(augment.warp_labels(picture[..., 0].copy(), flipped, 32), picture[:, ::-1, 0])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 1130, (245, 0, 640, 480)), (900, 300, (0, 250, 300, 400)), (400, 500, (0, 0, 500, 400))],
)
def test_a_window_that_cannot_be_drawn_is_the_largest_in_the_middle_of_4_to_3_or_3_to_4(
    height: int, width: int, expected: tuple[float, ...]
) -> None:
    too_large = (1.7, 1.8)
    window = augment.draw_crop(np.random.default_rng(0), height, width, too_large)
    np.testing.assert_allclose(window, expected)


def test_a_thin_plate_warp_moves_pixels_a_little() -> None:
    grid = augment.thin_plate_grid(np.random.default_rng(0), 64)
    y, x = np.mgrid[:64, :64]
    moved = np.hypot(grid[..., 0] - x, grid[..., 1] - y)
    assert 0.1 < moved.mean() < 6
