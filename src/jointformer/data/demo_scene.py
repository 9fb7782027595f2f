"""The sea of the demo clip: noise, water, rocks and a sandy floor, seen by a camera that pans."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

#: Numbers in arrays of any shape: coordinates, shares, colours (..., 3).
Floats = npt.NDArray[np.floating[Any]]

_SIZE = 512
_WATER = np.array([34, 108, 142], np.float32)


def fractal_noise(seed: int, roughness: float) -> Floats:
    """(512, 512) float32 from 0 to 1: noise that repeats at its edges, its spectrum falling as f^-roughness."""
    rng = np.random.default_rng(seed)
    spectrum = np.fft.rfft2(rng.standard_normal((_SIZE, _SIZE)))
    frequency = np.hypot(np.fft.fftfreq(_SIZE)[:, None], np.fft.rfftfreq(_SIZE)[None, :])
    frequency[0, 0] = 1.0
    spectrum *= frequency**-roughness
    spectrum[0, 0] = 0.0
    noise = np.fft.irfft2(spectrum, s=(_SIZE, _SIZE))
    low, high = np.percentile(noise, [0.5, 99.5])
    return np.clip((noise - low) / (high - low), 0.0, 1.0).astype(np.float32)


def sample(texture: Floats, x: Floats, y: Floats) -> Floats:
    """Values (H, W) float32 of a repeating texture at columns `x` and rows `y` (H, W), bilinear."""
    columns = np.mod(x, texture.shape[1]).astype(np.float32)
    rows = np.mod(y, texture.shape[0]).astype(np.float32)
    padded = np.pad(texture, ((0, 1), (0, 1)), mode="wrap")
    return np.asarray(cv2.remap(padded, columns, rows, cv2.INTER_LINEAR), dtype=np.float32)


def mix(first: Floats, second: Floats, share: Floats) -> Floats:
    """(H, W, 3): `first` and `second` (colours or pictures) mixed, `share` (H, W) of them the second."""
    weight = share[..., None]
    mixed: Floats = first * (1.0 - weight) + second * weight
    return mixed


def smoothstep(value: Floats, low: float, high: float) -> Floats:
    """0 below `low`, 1 above `high`, a smooth rise between."""
    position = np.clip((value - low) / (high - low), 0.0, 1.0)
    smooth: Floats = position * position * (3.0 - 2.0 * position)
    return smooth


@dataclass(frozen=True)
class Scene:
    """The textures a frame's background is made from; `render` is a pure function of the camera's place."""

    coarse: Floats
    fine: Floats
    ripples: Floats

    @classmethod
    def build(cls, seed: int) -> Scene:
        """A scene; the same seed gives the same."""
        return cls(*(fractal_noise(seed + i, roughness) for i, roughness in enumerate((1.7, 1.05, 1.45))))

    def render(self, height: int, width: int, camera: tuple[float, float], time: float) -> Floats:
        """(height, width, 3) float32, 0 to 255: what the camera at `camera` (x, y in pixels) sees at `time`."""
        y, x = np.mgrid[:height, :width].astype(np.float32)
        unit = height / 240
        x, y = x / unit, y / unit
        image = self._water(x, y, camera, time)
        for depth, level, rise in ((0.35, 128.0, 46.0), (0.6, 150.0, 58.0)):
            image = self._rocks(image, x, y, camera, depth=depth, level=level, rise=rise)
        return self._floor(image, x, y, camera, time)

    def _water(self, x: Floats, y: Floats, camera: tuple[float, float], time: float) -> Floats:
        down = np.clip(y / 200, 0.0, 1.0)
        image = mix(np.array([112, 190, 200], np.float32), _WATER, down**0.7)
        # Sunlight falls in slanted shafts that fade with depth and drift slowly.
        shafts = sample(self.coarse, (x + 0.35 * y + 0.25 * camera[0]) * 1.3 + 3 * time, np.full_like(x, 77.0))
        light = smoothstep(shafts, 0.5, 0.95) * (1.0 - down) * 0.55
        return mix(image, np.array([205, 235, 225], np.float32), light)

    def _rocks(
        self,
        image: Floats,
        x: Floats,
        y: Floats,
        camera: tuple[float, float],
        *,
        depth: float,
        level: float,
        rise: float,
    ) -> Floats:
        """`image` with a ridge of rocks; `depth` 0 to 1 is how near it is: how fast it pans, how clear it is."""
        across = x + camera[0] * depth + 311 * depth
        row = np.full_like(x, 200.0 * depth)
        outline = level - rise * (sample(self.coarse, across * 0.9, row) - 0.35)
        outline -= 10 * (sample(self.fine, across * 0.8, row) - 0.5)
        grain = sample(self.fine, across * 2.2, (y + camera[1] * depth) * 2.2)
        patches = sample(self.coarse, across * 2.0 + 90, y * 2.0)
        stone = mix(np.array([58, 62, 58], np.float32), np.array([142, 122, 96], np.float32), grain)
        growth = smoothstep(patches, 0.52, 0.68)
        stone = mix(stone, np.array([120, 66, 84], np.float32) * (0.55 + 0.9 * grain[..., None]), growth * 0.75)
        lit = 0.62 + 0.5 * np.exp(-np.maximum(y - outline, 0) / 16)
        stone = mix(stone * lit[..., None], _WATER, np.full_like(x, 0.75 * (1.0 - depth)))
        return mix(image, stone, smoothstep(y - outline, -0.7, 0.7))

    def _floor(self, image: Floats, x: Floats, y: Floats, camera: tuple[float, float], time: float) -> Floats:
        """`image` with sand from the horizon down, in perspective: what is nearer is larger and pans faster."""
        horizon = 128.0
        near = np.maximum(y - horizon, 4.0) / 112
        across = (x - 216 + camera[0] * near) / near * 1.1
        away = 120 / near + camera[1]
        dunes = sample(self.ripples, across * 0.35, away * 1.2)
        grain = sample(self.fine, across * 1.6, away * 3.0)
        ripple = np.sin(away * 0.22 + 7 * dunes + 0.01 * across)
        sand = mix(np.array([120, 104, 78], np.float32), np.array([214, 196, 150], np.float32), 0.3 + 0.5 * grain)
        sand = sand * (0.9 + 0.16 * (dunes - 0.5) + 0.05 * ripple)[..., None]
        pebbles = smoothstep(sample(self.ripples, across * 1.4 + 40, away * 2.6), 0.66, 0.74)
        sand = mix(sand, np.array([84, 78, 70], np.float32) * (0.6 + 0.7 * grain[..., None]), pebbles)
        # Caustics: the bright net where two moving surfaces agree.
        first = sample(self.ripples, across * 0.9 + 9 * time, away * 2.0 + 4 * time)
        second = sample(self.ripples, across * 0.9 - 7 * time + 200, away * 2.0 + 100)
        net = np.clip(1.0 - 9.0 * np.abs(first - second), 0.0, 1.0) ** 2
        sand = sand * (1.0 + 0.28 * net)[..., None]
        hazy = mix(sand, _WATER, 0.8 * np.exp(-2.6 * near))
        edge = horizon + 26 + 8 * (sample(self.coarse, x + camera[0] * 0.7, np.full_like(x, 40.0)) - 0.5)
        return mix(image, hazy, smoothstep(y - edge, -2.5, 2.5))
