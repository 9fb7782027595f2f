"""Motion, warps and compositing of layers."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from jointformer.data.clips.cutouts import fill_hole, soft_alpha
from jointformer.data.clips.motion import CELLS, Motions, draw_motions, local_grids, smooth_walks
from jointformer.data.clips.render import Backdrop, Layer, Renderer, dense_map, touched_cells


def _still_motion(centre: tuple[float, float], zoom: float = 1.0) -> Motions:
    waves = 4
    return Motions(
        np.asarray([[centre]], float), zoom * np.eye(2)[None, None], np.zeros((1, 1, waves, 2)),
        np.zeros((1, 2, waves)), np.zeros((1, 1, 1, waves)), np.zeros((1, 1, 2)),
    )  # fmt: skip


def test_walks_begin_at_zero_and_are_smooth() -> None:
    walk = smooth_walks(np.random.default_rng(0), 200, 12, 3, memory=0.75, pull=0.0)
    speed = np.diff(walk, axis=1)
    assert not walk[:, 0].any()
    assert speed.std() == pytest.approx(1.0, abs=0.1)
    assert (np.diff(speed, axis=1) ** 2).mean() < 0.7 * (speed**2).mean()


def test_a_walk_that_is_pulled_does_not_wander_off() -> None:
    free, pulled = (smooth_walks(np.random.default_rng(0), 200, 80, 1, memory=0.0, pull=pull) for pull in (0.0, 0.5))
    assert free[:, -1].std() > 7
    assert pulled[:, 40:].std() == pytest.approx((1 - 0.5**2) ** -0.5, rel=0.05)


def test_a_layer_strays_in_the_middle_of_the_clip_and_comes_back() -> None:
    start, stray = np.asarray([[0.1, -0.2]]), np.asarray([[0.9, 0.3]])
    rng, still, free = np.random.default_rng(0), np.zeros((1, 6)), np.zeros(1, bool)
    centre = draw_motions(rng, 5, still, start, np.zeros(1), stray, free).centre[0]
    np.testing.assert_allclose(centre[[0, 2, 4]], [start[0], start[0] + stray[0], start[0]], atol=1e-6)


def test_layers_begin_turned_as_asked_and_keep_their_area_when_turned_and_stretched() -> None:
    turn = np.asarray([0.0, 0.5 * np.pi, 2.0])
    row = np.tile([0.0, 0.0, 0.3, 0.2, 0.0, 0.0], (3, 1))
    nowhere, free = np.zeros((3, 2)), np.ones(3, bool)
    linear = draw_motions(np.random.default_rng(0), 8, row, nowhere, turn, nowhere, free).linear
    for found, angle in zip(linear[:, 0], turn, strict=True):
        along, down = (np.cos(angle), np.sin(angle)), (-np.sin(angle), np.cos(angle))
        np.testing.assert_allclose(found, np.stack([along, down], 1), atol=1e-9)
    assert np.abs(linear[:, 7] - linear[:, 0]).max() > 0.1
    np.testing.assert_allclose(np.linalg.det(linear), 1.0, atol=1e-9)
    row = np.tile([0.0, 0.3, 0.3, 0.0, 0.0, 0.0], (3, 1))
    zoomed = draw_motions(np.random.default_rng(0), 8, row, nowhere, turn, nowhere, free).linear
    area = np.linalg.det(zoomed)[..., None, None]
    assert np.ptp(area) > 0.5
    np.testing.assert_allclose(zoomed @ zoomed.swapaxes(-1, -2), area * np.eye(2), atol=1e-9)  # no shape is changed


def test_the_wildest_motion_leaves_a_layer_recognisable() -> None:
    row = np.tile([9.0, 9.0, 9.0, 9.0, 9.0, 9.0], (50, 1))
    start, free = np.zeros((50, 2)), np.zeros(50, bool)
    motions = draw_motions(np.random.default_rng(0), 20, row, start, np.zeros(50), start, free)
    area = np.linalg.det(motions.linear)
    assert area.min() > 0.1
    assert area.max() < 10
    long, short = np.moveaxis(np.linalg.svd(motions.linear, compute_uv=False), -1, 0)
    assert (long / short).max() < 4
    assert np.abs(motions.waves).max() < 0.1
    assert np.abs(motions.tilt).max() < 0.4


def test_a_dense_map_without_motion_shows_the_layer_as_it_is() -> None:
    grid = local_grids(_still_motion((0.0, 0.0)), 64, 96, np.asarray([30.0]))[0, 0]
    dense = dense_map(grid, (0, CELLS, 0, CELLS), (4, 6))
    y, x = np.mgrid[:64, :96]
    np.testing.assert_allclose(dense[..., 0], x - 47.5, atol=1e-3)
    np.testing.assert_allclose(dense[..., 1], y - 31.5, atol=1e-3)


def test_a_part_of_a_dense_map_is_that_part() -> None:
    rng = np.random.default_rng(1)
    grid = rng.standard_normal((CELLS + 2, CELLS + 2, 2)).astype(np.float32)
    whole = dense_map(grid, (0, CELLS, 0, CELLS), (4, 4))
    np.testing.assert_allclose(dense_map(grid, (3, 9, 5, 16), (4, 4)), whole[12:36, 20:64], atol=1e-6)


def test_a_layer_is_drawn_where_its_motion_says() -> None:
    size = 64
    sprite = np.full((23, 23, 4), 200, np.uint8)
    sprite[..., 3] = 255
    sprite[:3, :, 3] = sprite[-3:, :, 3] = sprite[:, :3, 3] = sprite[:, -3:, 3] = 0
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    ground = local_grids(_still_motion((0.0, 0.0)), size, size, np.asarray([64.0]))[0] + np.float32(31.5)
    backdrop = Backdrop(np.full((64, 64, 3), 50, np.uint8), None, ground, np.zeros((1, 2)))
    grids = local_grids(_still_motion((0.25, -0.125)), size, size, np.asarray([23.0]))[0] + np.float32(11.0)
    frame, labels, points = Renderer(backdrop, [Layer(sprite, 2, grids, tones, np.zeros((1, 2)))], size, size).draw(0)
    rows, columns = np.nonzero(labels == 2)
    assert columns.mean() == pytest.approx(31.5 + 16, abs=0.6)
    assert rows.mean() == pytest.approx(31.5 - 8, abs=0.6)
    assert len(rows) == pytest.approx(17 * 17, rel=0.15)
    assert set(np.unique(frame[labels == 0][:, 0])) <= set(range(50, 126))
    assert frame[24, 48].tolist() == [200, 200, 200]
    middles = np.stack(np.meshgrid([8, 24, 40, 56], [8, 24, 40, 56]), -1)
    on_top = labels[middles[..., 1], middles[..., 0]] == 2
    assert on_top.sum() == 2
    assert np.array_equal(points[..., 0], on_top)
    np.testing.assert_allclose(points[~on_top, 1:], middles[~on_top], atol=0.01)
    np.testing.assert_allclose(points[on_top, 1:], middles[on_top] - [31.5 + 16 - 11, 31.5 - 8 - 11], atol=0.01)


def test_a_layer_out_of_the_picture_touches_nothing() -> None:
    grids = local_grids(_still_motion((3.0, 0.0)), 64, 64, np.asarray([20.0]))[0]
    assert touched_cells(grids, 20, 20) == [None]


#: OpenCV before 5 takes places to a thirty-second of a pixel: of two maps that are rounded otherwise it may take two.
LEVELS = 2 if int(cv2.__version__.split(".")[0]) >= 5 else 256 // 32


def test_layers_are_drawn_whole_wherever_they_are_in_the_picture() -> None:
    height, width, count = 64, 96, 150
    rng = np.random.default_rng(4)
    row = np.tile([0.0, 0.3, 0.0, 0.3, 0.05, 0.1], (count, 1))
    start = rng.uniform(-0.75, 0.75, (count, 2))  # many over the picture's edges, some beyond
    still = np.zeros((count, 2))
    motions = draw_motions(rng, 3, row, start, np.linspace(0.0, 6.0, count), still, np.ones(count, bool))
    sprites = rng.integers(100, 255, (count, 9, 31, 4), dtype=np.uint8)
    sprites[..., 3] = 255
    grids = local_grids(motions, height, width, np.full(count, 31.0)) + np.asarray([15.0, 4.0], np.float32)
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(3, 0)
    ground = local_grids(_still_motion((0.0, 0.0)), height, width, np.asarray([96.0]))[0].repeat(3, 0)
    for sprite, grid in zip(sprites, grids, strict=True):
        backdrop = Backdrop(np.zeros((height, width, 3), np.uint8), None, ground, np.zeros((3, 2)))
        renderer = Renderer(backdrop, [Layer(sprite, 1, grid, tones, np.zeros((3, 2)))], height, width)
        found = renderer.draw(2)
        renderer.touched[0][2] = (0, CELLS, 0, CELLS)
        everywhere = renderer.draw(2)
        assert (found.labels != everywhere.labels).sum() <= 1  # maps of parts are rounded otherwise
        np.testing.assert_allclose(found.frame, everywhere.frame, atol=LEVELS)


def test_what_moves_while_exposed_is_smeared_along_its_motion() -> None:
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    ground = local_grids(_still_motion((0.0, 0.0)), 64, 64, np.asarray([64.0]))[0] + np.float32(31.5)
    still, across = np.zeros((1, 2)), np.asarray([[8.0, 0.0]])
    dot = np.zeros((64, 64, 4), np.uint8)
    dot[30:33, 30:33] = 255
    picture = np.ascontiguousarray(dot[..., :3])
    black = np.zeros_like(picture)
    for backdrop, layers in (
        (Backdrop(picture, None, ground, across), []),
        (Backdrop(black, None, ground, still), [Layer(dot, 1, ground, tones, across)]),
    ):
        rows, columns = np.nonzero(Renderer(backdrop, layers, 64, 64).draw(0).frame[..., 0])
        assert np.ptp(rows) <= 4
        assert 8 <= np.ptp(columns) <= 12


def test_a_backdrop_that_moved_away_is_mirrored_with_its_labels() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    labels = (picture[..., 0] > 99).astype(np.uint8)
    grids = local_grids(_still_motion((0.25, 0.0)), 64, 64, np.asarray([64.0]))[0] + np.float32(31.5)
    drawing = Renderer(Backdrop(picture, labels, grids, np.zeros((1, 2))), [], 64, 64).draw(0)
    np.testing.assert_array_equal(drawing.frame[:, 16:], picture[:, :48])
    np.testing.assert_array_equal(drawing.frame[:, :16], picture[:, 16:0:-1])
    np.testing.assert_array_equal(drawing.labels, drawing.frame[..., 0] > 99)


def test_degenerate_motion_gives_finite_maps() -> None:
    motion = _still_motion((0.0, 0.0), zoom=0.0)
    assert np.isfinite(local_grids(motion, 64, 64, np.asarray([20.0]))).all()
    broken = _still_motion((float("nan"), 0.0))
    assert np.isfinite(local_grids(broken, 64, 64, np.asarray([20.0]))).all()


def test_layers_kept_in_view_stay_there_and_begin_where_they_should() -> None:
    rng = np.random.default_rng(2)
    start = rng.uniform(-0.4, 0.4, (50, 2))
    row = np.tile([0.3, 0.0, 0.0, 0.0, 0.0, 0.0], (50, 1))
    motions = draw_motions(rng, 30, row, start, np.zeros(50), np.zeros((50, 2)), np.zeros(50, bool))
    np.testing.assert_allclose(motions.centre[:, 0], start, atol=1e-9)
    assert np.abs(motions.centre).max() < 0.75


def test_a_hole_is_filled_from_around_it() -> None:
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[:, :40], picture[:, 40:] = 40, 200
    hole = np.zeros((60, 80), np.uint8)
    cv2.circle(hole, (20, 30), 10, 255, -1)
    picture[hole > 0] = 255
    filled = fill_hole(picture, hole)
    assert abs(int(filled[30, 20, 0]) - 40) < 25
    assert np.array_equal(filled[:, 60:], picture[:, 60:])
    whole = np.full((60, 80), 255, np.uint8)
    assert np.array_equal(fill_hole(picture, whole), picture)


def test_soft_edges_lie_inside_the_hard_ones() -> None:
    alpha = np.zeros((40, 40), np.uint8)
    alpha[10:30, 10:30] = 255
    soft = soft_alpha(alpha, 1.0)
    assert soft[20, 20] == 255
    assert 0.75 < (soft > 127).sum() / 400 < 1.0
    assert len(np.unique(soft)) > 4
