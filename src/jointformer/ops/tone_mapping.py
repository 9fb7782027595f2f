"""High dynamic range (BT.2100: PQ, HLG) as the picture that an ordinary screen shows."""

from __future__ import annotations

from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from jointformer.types import UInt8Array

Floats = npt.NDArray[np.float64]
Curve = Literal["PQ", "HLG"]

_PEAK = 1000.0  # cd/m², of the screen that HLG is meant for and that nearly all PQ is made on
_WHITE = 203.0  # cd/m² of paper in the sun, by BT.2408, which is what an ordinary screen's white is for
_LUMINANCE = np.array([0.2627, 0.6780, 0.0593])
_TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]])  # BT.2087
_M1, _M2, _C1, _C2, _C3 = 1305 / 8192, 2523 / 32, 107 / 128, 2413 / 128, 2392 / 128  # PQ, BT.2100 table 4
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073  # HLG, BT.2100 table 5
_SYSTEM_GAMMA = 1.2  # of HLG at that peak
_SIDE = 65  # of the table of colours


def to_sdr(picture: UInt8Array, curve: Curve) -> UInt8Array:
    """Return an (H, W, 3) uint8 R'G'B' picture of BT.2020 primaries and a BT.2100 curve as one of BT.709.

    Colours are looked up in a table of `tone_mapped` ones, linearly between its entries: greys are
    within 1 of 255, colours at the border of BT.709 within a few dozen.
    """
    return np.asarray(Image.fromarray(np.ascontiguousarray(picture)).filter(_table(curve)), np.uint8).copy()


def tone_mapped(colours: Floats, curve: Curve) -> Floats:
    """Return (..., 3) R'G'B' colours in [0, 1] of BT.2020 primaries and a BT.2100 curve as BT.709 ones in [0, 1].

    Each channel's light of up to 1000 cd/m² is compressed by BT.2390's curve (section 5.4.1) to a white of 203 cd/m²
    (BT.2408): what is darker than 88 stays. Colours that BT.709 does not have lose saturation until it has them.
    """
    light = _pq_to_light(colours) if curve == "PQ" else _hlg_to_light(colours)
    light = _compress(light) / _WHITE
    grey = (light @ _LUMINANCE)[..., None]
    rgb = light @ _TO_BT709.T
    return np.clip(_into_gamut(rgb, grey), 0, 1) ** (1 / 2.4)  # BT.1886, as screens show BT.709


def _pq_to_light(colours: Floats) -> Floats:
    power = colours ** (1 / _M2)
    return 10_000 * (np.maximum(power - _C1, 0) / (_C2 - _C3 * power)) ** (1 / _M1)


def _light_to_pq(light: Floats) -> Floats:
    power = (light / 10_000) ** _M1
    return ((_C1 + _C2 * power) / (1 + _C3 * power)) ** _M2


def _hlg_to_light(colours: Floats) -> Floats:
    scene = np.where(colours <= 0.5, colours**2 / 3, (np.exp((colours - _C) / _A) + _B) / 12)
    return _PEAK * np.maximum(scene @ _LUMINANCE, 1e-9)[..., None] ** (_SYSTEM_GAMMA - 1) * scene


def _compress(light: Floats) -> Floats:
    """BT.2390's EETF from 0 to 1000 cd/m² into 0 to 203: straight up to its knee, then a Hermite spline."""
    peak = _light_to_pq(np.array(_PEAK))
    top = _light_to_pq(np.array(_WHITE)) / peak
    knee = 1.5 * top - 0.5
    signal = np.minimum(_light_to_pq(light) / peak, 1)
    t = np.maximum(signal - knee, 0) / (1 - knee)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (3 * t**2 - 2 * t**3) * top
    return _pq_to_light(np.where(signal < knee, signal, spline) * peak)


def _into_gamut(rgb: Floats, grey: Floats) -> Floats:
    """Linear colours, mixed with as much grey of their luminance as brings all channels into [0, 1]."""
    away = rgb - grey
    room = np.where(away > 0, 1 - grey, grey)
    share = np.divide(room, np.abs(away), out=np.ones_like(rgb), where=np.abs(away) > 1e-9)
    return grey + away * np.clip(share.min(axis=-1, keepdims=True), 0, 1)


@cache
def _table(curve: Curve) -> Any:
    axis = np.linspace(0, 1, _SIDE)
    blue, green, red = np.meshgrid(axis, axis, axis, indexing="ij")  # red changes first, as Pillow wants it
    colours = tone_mapped(np.stack([red, green, blue], axis=-1), curve)
    rounded = (colours + 0.5 / 255).astype(np.float32).ravel()  # Pillow rounds down, and reads arrays at once
    return ImageFilter.Color3DLUT(_SIDE, rounded)
