"""Augmentation of clips: geometry and colours drawn once per clip, and small changes drawn once per frame.

All geometry of a frame is one affine map, so pictures are resampled once and masks follow them exactly.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
from scipy.interpolate import RBFInterpolator

from jointformer.types import UInt8Array

Matrix = npt.NDArray[np.float64]
Rng = np.random.Generator

#: ImageNet's mean as 8-bit RGB: what lies outside a picture.
MEAN_COLOUR = (124, 116, 104)


@dataclass(frozen=True)
class Jitter:
    """Largest changes of colour: factors in 1 ± brightness, contrast, saturation; hue in ± turns (0..0.5)."""

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0

    def draw(self, rng: Rng) -> Colours:
        """One set of changes."""
        b, c, s = (1 + rng.uniform(-x, x) for x in (self.brightness, self.contrast, self.saturation))
        return Colours(b, c, s, rng.uniform(-self.hue, self.hue))


@dataclass(frozen=True)
class Colours:
    """A change of colour, applied in the order brightness, contrast, saturation, hue; `grey` drops colour."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    hue: float = 0.0
    grey: bool = False

    def apply(self, picture: UInt8Array) -> UInt8Array:
        """The changed (H, W, 3) uint8 RGB picture."""
        x = picture.astype(np.float32)
        x *= self.brightness
        if self.contrast != 1:
            mean = float(_grey(x).mean())
            x = mean + (x - mean) * self.contrast
        if self.grey:
            x = np.repeat(_grey(x)[..., None], 3, axis=2)
        elif self.saturation != 1:
            grey = _grey(x)[..., None]
            x = grey + (x - grey) * self.saturation
        out = np.clip(np.rint(x), 0, 255).astype(np.uint8)
        return _turn_hue(out, self.hue) if self.hue and not self.grey else out


def _grey(picture: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    return np.asarray(picture @ np.array([0.299, 0.587, 0.114], np.float32))


def _turn_hue(picture: UInt8Array, turn: float) -> UInt8Array:
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)  # hue in 0..179
    hsv[..., 0] = (hsv[..., 0].astype(np.int16) + round(turn * 180)) % 180
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def affine(degrees: float, scale: float, shear: tuple[float, float], centre: tuple[float, float]) -> Matrix:
    """The 3x3 map that turns, scales and shears (degrees along x and y) about a centre."""
    a = math.radians(degrees)
    turn = np.array([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]])
    lean = np.array([[1, math.tan(math.radians(shear[0]))], [math.tan(math.radians(shear[1])), 1]])
    linear = scale * turn @ lean
    out = np.eye(3)
    out[:2, :2] = linear
    out[:2, 2] = np.asarray(centre) - linear @ np.asarray(centre)
    return out


def draw_affine(
    rng: Rng, degrees: float, shear: float, scale: tuple[float, float], centre: tuple[float, float]
) -> Matrix:
    """A random affine map: ± degrees, ± shear along x, scale in a range."""
    return affine(rng.uniform(-degrees, degrees), rng.uniform(*scale), (rng.uniform(-shear, shear), 0.0), centre)


def window(left: float, top: float, width: float, height: float, size: int, *, flip: bool) -> Matrix:
    """The 3x3 map that brings a window of a picture to size x size, mirrored where `flip`."""
    sx, sy = size / width, size / height
    # Pixel centres lie at half integers: the window's edge, not its first pixel's centre, becomes the edge.
    out = np.array([[sx, 0, (0.5 - left) * sx - 0.5], [0, sy, (0.5 - top) * sy - 0.5], [0, 0, 1]])
    mirror = np.array([[-1, 0, size - 1], [0, 1, 0], [0, 0, 1]])
    return mirror @ out if flip else out


def draw_crop(rng: Rng, height: int, width: int, scale: tuple[float, float]) -> tuple[float, float, float, float]:
    """(left, top, width, height) of a window: its share of the area from a range, its aspect ratio from 3:4 to 4:3.

    Where ten draws do not fit (large shares of wide pictures never do), the largest one of these ratios in the middle.
    """
    ratio = (3 / 4, 4 / 3)
    for _ in range(10):
        area = height * width * rng.uniform(*scale)
        aspect = math.exp(rng.uniform(math.log(ratio[0]), math.log(ratio[1])))
        w, h = math.sqrt(area * aspect), math.sqrt(area / aspect)
        if w <= width and h <= height:
            return rng.uniform(0, width - w), rng.uniform(0, height - h), w, h
    w, h = min(width, height * ratio[1]), min(height, width / ratio[0])
    return (width - w) / 2, (height - h) / 2, w, h


def warp_picture(picture: UInt8Array, matrix: Matrix, size: int) -> UInt8Array:
    """The (size, size, 3) picture under a 3x3 map (from picture to result); outside lies the mean colour."""
    shrink = math.sqrt(abs(float(np.linalg.det(matrix[:2, :2]))))
    if shrink < 0.7:  # bilinear sampling alone would alias
        height, width = picture.shape[:2]
        small = (max(1, round(width * shrink)), max(1, round(height * shrink)))
        picture = np.asarray(cv2.resize(picture, small, interpolation=cv2.INTER_AREA), np.uint8)
        sx, sy = width / small[0], height / small[1]
        matrix = matrix @ np.array([[sx, 0, 0.5 * sx - 0.5], [0, sy, 0.5 * sy - 0.5], [0, 0, 1]])
    return np.asarray(
        cv2.warpAffine(
            picture, matrix[:2], (size, size), flags=cv2.INTER_LINEAR,
            borderMode=cv2.BORDER_CONSTANT, borderValue=MEAN_COLOUR,
        ),
        np.uint8,
    )  # fmt: skip


def warp_labels(labels: UInt8Array, matrix: Matrix, size: int) -> UInt8Array:
    """The (size, size) label map under a 3x3 map, nearest neighbour; outside lies background."""
    return np.asarray(
        cv2.warpAffine(
            labels, matrix[:2], (size, size), flags=cv2.INTER_NEAREST,
            borderMode=cv2.BORDER_CONSTANT, borderValue=0,
        ),
        np.uint8,
    )  # fmt: skip


def thin_plate_grid(rng: Rng, size: int) -> npt.NDArray[np.float32]:
    """The (size, size, 2) sampling positions of a thin-plate-spline warp with randomly moved control points."""
    control = rng.uniform(0, 1, (12, 2))
    moved = control + rng.normal(0, 0.02, control.shape)
    coarse = 17
    axis = np.linspace(0, 1, coarse)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    spline = RBFInterpolator(control, moved - control, kernel="thin_plate_spline", smoothing=1e-3)
    offsets = spline(grid).reshape(coarse, coarse, 2).astype(np.float32)
    # Splines run away outside their control points; a warp should not.
    offsets = np.clip(cv2.resize(offsets, (size, size), interpolation=cv2.INTER_CUBIC), -0.15, 0.15)
    x, y = np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32))
    return np.stack([x, y], axis=-1) + offsets * np.float32(size)


def remap(picture: UInt8Array, labels: UInt8Array, grid: npt.NDArray[np.float32]) -> tuple[UInt8Array, UInt8Array]:
    """Picture and label map sampled at a grid's positions."""
    x, y = np.ascontiguousarray(grid[..., 0]), np.ascontiguousarray(grid[..., 1])
    return (
        np.asarray(
            cv2.remap(picture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT, borderValue=MEAN_COLOUR),
            np.uint8,
        ),
        np.asarray(cv2.remap(labels, x, y, cv2.INTER_NEAREST, borderMode=cv2.BORDER_CONSTANT), np.uint8),
    )
