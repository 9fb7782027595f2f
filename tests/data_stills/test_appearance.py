"""Light, blur, noise and compression of clips."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from jointformer.data.clips.appearance import (
    Appearance,
    NoiseBank,
    apply_appearance,
    draw_appearance,
    draw_tones,
    motion_blur,
    tone_tables,
)


def test_motion_blur_does_not_move_what_it_smears() -> None:
    picture = np.zeros((41, 41, 3), np.uint8)
    picture[18:23, 18:23] = 255
    smeared = motion_blur(picture, (6.0, -3.0))[..., 0].astype(float)
    rows, columns = np.mgrid[:41, :41]
    assert (smeared * columns).sum() / smeared.sum() == pytest.approx(20, abs=0.3)
    assert (smeared * rows).sum() / smeared.sum() == pytest.approx(20, abs=0.3)
    assert motion_blur(picture, (0.5, 0.5)) is picture


def test_motion_blur_is_as_long_as_the_motion_and_has_a_bound() -> None:
    point = np.zeros((41, 41), np.uint8)
    point[20, 20] = 255
    for shift, columns, rows in (
        ((8.0, 0.0), 4, 0),
        ((0.0, 6.0), 0, 3),
        ((60.0, 0.0), 4.5, 0),
        ((48.0, -36.0), 3.6, 2.7),
    ):
        down, across = np.nonzero(motion_blur(point, shift))
        assert np.abs(across - 20).max() == pytest.approx(columns, abs=1.4)
        assert np.abs(down - 20).max() == pytest.approx(rows, abs=1.4)
    falling = motion_blur(point, (7.0, 7.0))
    assert min(falling[18, 18], falling[22, 22]) > 0
    assert max(falling[18, 22], falling[22, 18]) == 0


def test_the_camera_blurs_adds_noise_and_compresses_where_the_look_says_so_alone() -> None:
    coarse = np.random.default_rng(5).integers(60, 190, (16, 16, 3), dtype=np.uint8)
    frame = cv2.resize(coarse, (64, 64), interpolation=cv2.INTER_NEAREST)
    tones = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2).repeat(2, 0)
    plain = Appearance(tones, np.asarray([0.0, 0.0]), 0.0, 0)
    bank = NoiseBank(64, 64)

    def changed(t: int, **look: Any) -> np.ndarray:
        rng = np.random.default_rng(0)
        return apply_appearance(frame, replace(plain, **look), t, bank, rng).astype(float) - frame

    assert not changed(0).any()
    blurred = {"blur": np.asarray([0.0, 2.0])}
    assert not changed(0, **blurred).any()
    expected = cv2.GaussianBlur(frame, (0, 0), 2.0).astype(float) - frame
    np.testing.assert_array_equal(changed(1, **blurred), expected)
    assert changed(0, noise=6.0).std() == pytest.approx(6.0, rel=0.05)
    spoilt = [np.abs(changed(0, quality=quality)).mean() for quality in (25, 90)]
    assert 0 < spoilt[1] < spoilt[0] < 20


def test_tones_are_smooth_tables_that_drift() -> None:
    tones = draw_tones(np.random.default_rng(0), 4, 6, fixed=0.1, drift=0.05)
    assert tones.shape == (4, 6, 256, 3)
    assert (np.diff(tones.astype(int), axis=2) >= 0).all()
    assert not np.array_equal(tones[0, 0], tones[0, 5])
    constant = draw_tones(np.random.default_rng(0), 1, 3, fixed=0.1, drift=0.0)
    assert np.array_equal(constant[0, 0], constant[0, 2])


def test_a_plain_tone_changes_nothing_and_gains_are_per_channel() -> None:
    one = np.ones((1, 1, 1))
    table = tone_tables(np.asarray([[[1.0, 0.5, 2.0]]]), 0.0 * one, one)[0, 0].astype(int)
    values = np.arange(256)
    np.testing.assert_array_equal(table[:, 0], values)
    np.testing.assert_allclose(table[:, 1], values / 2, atol=0.5)
    np.testing.assert_array_equal(table[:, 2], np.minimum(2 * values, 255))


def test_the_wildest_tones_darken_and_brighten_and_keep_light_and_dark_apart() -> None:
    tones = draw_tones(np.random.default_rng(0), 300, 1, fixed=9.0, drift=0.0)[:, 0].astype(int)
    middle = tones[:, 128].mean(-1)
    assert middle.min() < 60
    assert middle.max() > 200
    assert tones[:, 0].min() == 0
    assert 20 < tones[:, 0].max() < 60
    assert (tones[:, 255] - tones[:, 0]).min() > 60


def test_most_clips_are_sharp_clean_and_uncompressed_and_none_is_spoilt_beyond_use() -> None:
    looks = [draw_appearance(np.random.default_rng(seed), 4, 256.0, 1.0) for seed in range(400)]
    for told, spoilt in (
        ("blurred", [look.blur.max() > 0 for look in looks]),
        ("noisy", [look.noise > 0 for look in looks]),
        ("compressed", [look.quality > 0 for look in looks]),
    ):
        assert 0.15 < np.mean(spoilt) < 0.5, told
    assert max(look.noise for look in looks) <= 16
    assert min(look.quality for look in looks if look.quality) >= 25
    assert all((look.blur >= 0).all() for look in looks)
