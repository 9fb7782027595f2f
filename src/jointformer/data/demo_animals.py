"""The fish and the turtle of the demo clip, painted point by point in their own coordinates.

Both look along +u; v points down (fish, seen from the side) or to the right (turtle, seen from above); one unit is
half a body. An animal is two functions of points: which of them it covers, and which colour it has at those.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jointformer.data.demo_scene import Floats, mix, smoothstep
from jointformer.types import Mask

_ORANGE = np.array([236, 112, 22], np.float32)
_AMBER = np.array([255, 178, 74], np.float32)
_WHITE = np.array([244, 242, 234], np.float32)
_BLACK = np.array([24, 20, 22], np.float32)
_SKIN = np.array([176, 170, 104], np.float32)
_PATCH = np.array([62, 74, 48], np.float32)
_SCUTE = np.array([104, 70, 36], np.float32)
_SEAM = np.array([208, 176, 108], np.float32)


def fish_shape(u: Floats, v: Floats, phase: float) -> Mask:
    """Which of the points `u`, `v` (any shape) a striped fish covers; `phase` beats its tail."""
    parts = _fish_parts(u, _bent(u, v, phase))
    return parts.body | parts.tail | parts.fins


def fish_colour(u: Floats, v: Floats, phase: float, noise: Floats) -> Floats:
    """The fish's colours (..., 3), 0 to 255, at points it covers; `noise` is a texture for its skin."""
    v = _bent(u, v, phase)
    parts = _fish_parts(u, v)
    fin, rays = _fin_colour(u, v, parts)
    image = np.where(parts.body[..., None], _striped(u, v), fin)
    # The side fin, the mouth and the eye lie on the body.
    wing = ((u - 0.13) / 0.2) ** 2 + ((v - 0.13 - 0.1 * (0.2 - u)) / 0.12) ** 2
    image = mix(image, _AMBER * (0.75 + 0.25 * rays[..., None]), smoothstep(-wing, -1.05, -0.95) * parts.body)
    image = mix(image, _BLACK, smoothstep(-np.abs(wing - 1.0), -0.16, -0.05) * parts.body * 0.6)
    eye = np.hypot(u - 0.74, v + 0.09)
    image = mix(image, _AMBER, smoothstep(-eye, -0.1, -0.085))
    image = mix(image, _BLACK, smoothstep(-eye, -0.075, -0.06))
    image = mix(image, _WHITE, smoothstep(-np.hypot(u - 0.765, v + 0.115), -0.028, -0.015))
    roundness = np.sqrt(np.clip(1 - (v / np.maximum(parts.half, 0.05)) ** 2, 0, 1))
    light = np.where(parts.body, 0.58 + 0.42 * roundness - 0.28 * v, 0.86 - 0.2 * v)
    return image * (light + 0.14 * (_grain(noise, u, v) - 0.5))[..., None]


def _bent(u: Floats, v: Floats, phase: float) -> Floats:
    """`v` in a body that swims: the bend runs along it and grows towards the tail."""
    return v + 0.1 * np.sin(phase + 1.9 * u) * np.clip(0.75 - u, 0, None) ** 1.4


class _FishParts(NamedTuple):
    half: Floats  # half the body's height at u
    back: Floats  # the height the back fin reaches to
    reach: Floats  # 0 at the tail's root, 1 at its tips
    body: Mask
    tail: Mask
    fins: Mask


def _fish_parts(u: Floats, v: Floats) -> _FishParts:
    height = np.abs(v)
    half = 0.47 * np.sqrt(np.clip(1 - u * u, 0, None)) ** 1.15 * (1 + 0.16 * u)
    reach = np.clip((-0.8 - u) / 0.68, 0, 1)
    tail = (u < -0.8) & (height < 0.11 + 0.46 * reach**0.8) & (u > -1.48 + 0.26 * np.clip(1 - 3 * v * v, 0, 1))
    hump = np.sqrt(np.clip(1 - ((u + 0.1) / 0.62) ** 2, 0, None))
    back = half + 0.24 * hump * (0.8 + 0.2 * np.cos(9 * u))
    belly = half + 0.30 * np.sqrt(np.clip(1 - ((u + 0.02 + 0.5 * (v - half)) / 0.26) ** 2, 0, None))
    fins = ((v < 0) & (height < back)) | ((v > 0) & (height < belly) & (np.abs(u) < 0.6))
    return _FishParts(half, back, reach, height < half, tail, fins)


def _striped(u: Floats, v: Floats) -> Floats:
    scales = 0.5 + 0.5 * np.sin(34 * u + 3 * np.sin(30 * v)) * np.sin(30 * v)
    colour = mix(_ORANGE, _AMBER, np.clip(0.35 + 0.9 * v, 0, 1) + 0.12 * (scales - 0.5))
    for place, width in ((0.52, 0.085), (-0.04, 0.11), (-0.68, 0.07)):
        off = np.abs(u - place + 0.22 * v * v)
        colour = mix(colour, _BLACK, smoothstep(-off, -width - 0.06, -width - 0.03))
        colour = mix(colour, _WHITE, smoothstep(-off, -width - 0.01, -width + 0.01))
    return colour


def _fin_colour(u: Floats, v: Floats, parts: _FishParts) -> tuple[Floats, Floats]:
    """Colours of tail and fins, and the pattern of their rays from 0 to 1."""
    rays = 0.5 + 0.5 * np.sin(np.where(parts.tail, 46 * v / (0.4 + parts.reach), 52 * u + 12 * v))
    colour = mix(_ORANGE * 0.72, _AMBER, 0.55 * rays)
    colour = mix(colour, _BLACK, smoothstep(parts.reach + 0.12 * np.cos(8 * v), 0.8, 0.95))
    rim = smoothstep(np.abs(v) - parts.back, -0.07, -0.03)
    return mix(colour, _BLACK, np.where(~parts.tail & (v < 0), rim, 0.0)), rays


def turtle_shape(u: Floats, v: Floats, phase: float) -> Mask:
    """Which of the points `u`, `v` (any shape) a turtle covers; `phase` moves its flippers and its head."""
    beat = 0.38 * np.sin(phase)
    side = np.abs(v)
    covered = _flipper(u, side, root=(0.42, 0.42), angle=2.0 + beat, length=0.92, width=0.19)
    covered |= _flipper(u, side, root=(-0.5, 0.34), angle=2.55 - 0.6 * beat, length=0.5, width=0.15)
    covered |= (u < -0.6) & (u > -1.0) & (side < 0.09 * np.clip((u + 1.15) / 0.5, 0, 1))
    turn = _turned(u, v, phase)
    covered |= ((u - 0.98) / 0.27) ** 2 + (turn / (0.185 - 0.05 * (u - 0.98))) ** 2 < 1
    covered |= (u > 0.55) & (u < 1.0) & (np.abs(turn) < 0.14)
    return covered | (_shell(u, v) < 1)


def turtle_colour(u: Floats, v: Floats, phase: float, noise: Floats) -> Floats:
    """The turtle's colours (..., 3), 0 to 255, at points it covers; `noise` is a texture for skin and shell."""
    grain, rim = _grain(noise, u, v), _shell(u, v)
    nearest, second = _cells(u * 7.5, v * 7.5)
    skin = mix(_SKIN, _PATCH * (0.8 + 0.5 * grain[..., None]), smoothstep(second - nearest, 0.12, 0.28))
    eyes = np.hypot(u - 1.08, np.abs(_turned(u, v, phase)) - 0.115)
    skin = mix(skin, _BLACK, smoothstep(-eyes, -0.05, -0.035))
    # What is just outside the shell lies in its shadow.
    shadow = 0.6 + 0.4 * smoothstep(rim, 1.0, 1.35)
    skin = skin * ((0.86 + 0.25 * (grain - 0.5)) * (0.92 - 0.14 * v) * shadow)[..., None]
    dome = 0.62 + 0.45 * np.sqrt(np.clip(1 - rim, 0, 1)) - 0.22 * v + 0.08 * u
    image: Floats = np.where((rim < 1)[..., None], _plates(u, v, rim, grain) * dome[..., None], skin)
    return image


def _shell(u: Floats, v: Floats) -> Floats:
    """0 in the middle of the shell, 1 on its edge."""
    return (u / 0.82) ** 2 + (v / (0.62 + 0.09 * u)) ** 2


def _turned(u: Floats, v: Floats, phase: float) -> Floats:
    """`v` measured from the middle of a head that looks about."""
    return v - 0.05 * np.sin(0.5 * phase) * np.clip(u - 0.6, 0, 1)


def _plates(u: Floats, v: Floats, rim: Floats, grain: Floats) -> Floats:
    nearest, second = _scutes(u, v)
    plate = _SCUTE * (0.72 + 0.55 * grain[..., None]) * (1.25 - 0.9 * nearest[..., None])
    streaks = 0.5 + 0.5 * np.sin(60 * nearest + 9 * grain)
    plate = mix(plate, _SEAM * 0.8, 0.3 * streaks * smoothstep(nearest, 0.02, 0.2))
    plate = mix(plate, _SEAM, smoothstep(-(second - nearest), -0.05, -0.015))
    edge = smoothstep(rim, 0.80, 0.84) * (0.55 + 0.45 * smoothstep(np.sin(22 * np.arctan2(v, u)), -0.6, 0.0))
    return mix(plate, _SEAM * 0.72, edge)


def _flipper(u: Floats, v: Floats, *, root: tuple[float, float], angle: float, length: float, width: float) -> Mask:
    """Membership of a limb that grows from `root` at `angle` (radians from straight ahead), curved and pointed."""
    along = ((u - root[0]) * np.cos(angle) + (v - root[1]) * np.sin(angle)) / length
    across = -(u - root[0]) * np.sin(angle) + (v - root[1]) * np.cos(angle) - 0.22 * length * along**2
    inside: Mask = (along > -0.15) & (along < 1)
    inside &= np.abs(across) < width * np.sqrt(np.clip(1 - along, 0, 1)) * (0.75 + 0.6 * np.clip(along, 0, 1))
    return inside


def _cells(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """Distances to the nearest and second nearest of scattered points, one in every unit square."""
    distances = []
    for row in (-1, 0, 1):
        for column in (-1, 0, 1):
            i, j = np.floor(x) + column, np.floor(y) + row
            shift = np.sin(i * 127.1 + j * 311.7) * 43.7
            distances.append(np.hypot(x - i - 0.5 - 0.4 * np.sin(shift), y - j - 0.5 - 0.4 * np.cos(1.7 * shift)))
    return _two_smallest(distances)


def _scutes(u: Floats, v: Floats) -> tuple[Floats, Floats]:
    """Distances to the nearest and second nearest middle of the shell's thirteen plates."""
    middles = [(place, 0.0) for place in (-0.62, -0.31, 0.0, 0.31, 0.62)]
    middles += [(place, side) for place in (-0.46, -0.15, 0.16, 0.47) for side in (-0.36, 0.36)]
    return _two_smallest([np.hypot(u - place, v - side) for place, side in middles])


def _two_smallest(distances: list[Floats]) -> tuple[Floats, Floats]:
    two = np.partition(np.stack(distances), 1, axis=0)
    return two[0], two[1]


def _grain(noise: Floats, u: Floats, v: Floats) -> Floats:
    """Values of a repeating texture at the points, about one texel per pixel."""
    values: Floats = noise[(85 * v).astype(int) % noise.shape[0], (85 * u).astype(int) % noise.shape[1]]
    return values
