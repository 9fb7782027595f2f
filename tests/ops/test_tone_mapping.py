"""HDR to SDR: numbers of BT.2100, BT.2390 and BT.2408, and the table that pictures are looked up in."""

from __future__ import annotations

import numpy as np
import pytest

from jointformer.ops.tone_mapping import Curve, to_sdr, tone_mapped

#: (cd/m2, as PQ codes it, as HLG codes it for a screen of 1000 cd/m2): BT.2408, table 1, and the ends.
LIGHTS = [(0, 0.0, 0.0), (26, 0.38, 0.38), (203, 0.58, 0.75), (1000, 0.7518, 1.0)]
CURVES: tuple[Curve, ...] = ("PQ", "HLG")


def greys(levels: list[float]) -> np.ndarray:
    return np.repeat(np.array(levels)[:, None], 3, 1)


def test_light_that_an_ordinary_screen_has_too_stays_as_it_is() -> None:
    for light, pq, hlg in LIGHTS[:2]:
        for curve, code in zip(CURVES, (pq, hlg), strict=True):
            shown = 203 * tone_mapped(greys([code]), curve)[0] ** 2.4
            np.testing.assert_allclose(shown, light, rtol=0.06)  # codes are given with two digits


def test_both_curves_give_the_same_picture_of_the_same_light() -> None:
    pq, hlg = (greys([row[column] for row in LIGHTS]) for column in (1, 2))
    np.testing.assert_allclose(tone_mapped(pq, "PQ"), tone_mapped(hlg, "HLG"), atol=0.01)


@pytest.mark.parametrize("curve", CURVES)
def test_greys_stay_grey_and_in_order_from_black_to_white(curve: Curve) -> None:
    shown = tone_mapped(greys(np.linspace(0, 1, 1024).tolist()), curve)
    assert np.ptp(shown, axis=1).max() < 1e-3
    assert np.diff(shown[:, 0]).min() >= -1e-12
    assert (shown[0].max(), shown[-1].min()) == (0, pytest.approx(1, abs=1e-3))
    paper = tone_mapped(greys([0.58 if curve == "PQ" else 0.75]), curve)
    assert 0.88 < paper.min() < 0.92, "light of 203 leaves room for highlights"


@pytest.mark.parametrize("primary", [0, 1, 2])
def test_the_colours_of_bt709_come_out_as_they_were(primary: int) -> None:
    """BT.2087's matrix takes a dim pure colour of BT.709 to BT.2020, PQ codes it."""
    to_bt2020 = np.array([[0.6274, 0.3293, 0.0433], [0.0691, 0.9195, 0.0114], [0.0164, 0.0880, 0.8956]])
    light = 60 * to_bt2020[:, primary] / 10_000
    power = light ** (2610 / 16384)
    coded = ((3424 / 4096 + 2413 / 128 * power) / (1 + 2392 / 128 * power)) ** (2523 / 32)
    shown = 203 * tone_mapped(coded[None], "PQ")[0] ** 2.4
    np.testing.assert_allclose(shown, 60 * np.eye(3)[primary], atol=0.1)


@pytest.mark.parametrize("curve", CURVES)
def test_colours_that_bt709_lacks_lose_saturation_and_keep_their_hue(curve: Curve) -> None:
    shown = tone_mapped(0.5 * np.eye(3), curve)
    assert shown.min() >= 0
    assert shown.max() <= 1
    assert (shown.argmax(axis=1) == [0, 1, 2]).all()
    everything = tone_mapped(np.random.default_rng(0).random((5000, 3)), curve)
    assert (everything.min(), everything.max()) == (0, 1)


@pytest.mark.parametrize("curve", CURVES)
def test_pictures_are_looked_up_closely(curve: Curve) -> None:
    grey = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    rng = np.random.default_rng(0)
    muted = (rng.integers(60, 180, (100, 256, 1)) + rng.integers(-8, 9, (100, 256, 3))).astype(np.uint8)
    for picture, share in ((grey, 1.0), (muted, 0.99)):
        exact = 255 * tone_mapped(picture / 255, curve)
        found = to_sdr(picture[:, ::-1], curve)[:, ::-1]  # whatever its layout in memory
        assert np.quantile(np.abs(found - exact), share) <= 1
    assert to_sdr(grey, curve).dtype == np.uint8
    assert to_sdr(grey, curve).flags.writeable
