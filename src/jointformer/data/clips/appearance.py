"""Light, colour, blur, noise and compression of a clip's frames along time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from jointformer.data.clips.motion import F64, smooth_walks
from jointformer.types import UInt8Array

#: Motion during the exposure, in pixels, that is too little to be seen; no more than so much of it is drawn.
SHORTEST_SMEAR, LONGEST_SMEAR = 1.5, 9.0


def tone_tables(gain: F64, bias: F64, gamma: F64) -> UInt8Array:
    """(L,T,256,3) uint8 look-up tables: (value/255)^gamma·gain + bias.

    `gain` (L,T,3), `bias` and `gamma` (L,T,1).
    """
    value = np.linspace(0.0, 1.0, 256) ** gamma
    table = (255.0 * value)[..., None] * gain[..., None, :] + (255.0 * bias + 0.5)[..., None]
    return np.clip(table, 0, 255).astype(np.uint8)


def draw_tones(rng: np.random.Generator, layers: int, frames: int, fixed: float, drift: float) -> UInt8Array:
    """(L,T,256,3) tables of random tones (strength `fixed`) that drift along time (`drift` per step)."""
    walk = smooth_walks(rng, layers, frames, 6, memory=0.6, pull=0.1)
    value = fixed * rng.standard_normal((layers, 1, 6)) + drift * walk
    gain = np.exp(np.clip(value[..., :1] + 0.35 * value[..., 1:4], -0.7, 0.5))
    gamma = np.exp(np.clip(value[..., 4:5], -0.5, 0.5))
    bias = np.clip(0.2 * value[..., 5:6], -0.15, 0.15)
    return tone_tables(gain, bias, gamma)


@dataclass(frozen=True, eq=False)
class Appearance:
    """What happens to the composed frames: tones (T,256,3), blur (T,) in pixels, noise, jpeg quality or 0."""

    tones: UInt8Array
    blur: F64
    noise: float
    quality: int


def draw_appearance(rng: np.random.Generator, frames: int, side: float, strength: float) -> Appearance:
    """A random appearance for a clip; `strength` in [0,1]."""
    tones = draw_tones(rng, 1, frames, fixed=0.12, drift=0.05 * strength)[0]
    blur = np.zeros(frames)
    if rng.random() < 0.25:
        start = rng.uniform(0.0, 1.2) * side / 256
        blur = np.maximum(start + 0.3 * strength * smooth_walks(rng, 1, frames, 1, 0.5, 0.2)[0, :, 0], 0.0)
    noise = float(rng.exponential(4.0)) if rng.random() < 0.4 else 0.0
    quality = int(rng.integers(25, 90)) if rng.random() < 0.3 else 0
    return Appearance(tones, blur, min(noise, 16.0), quality)


class NoiseBank:
    """Gaussian noise drawn once; windows of it are added to frames (drawing afresh costs 10 times as much)."""

    def __init__(self, height: int, width: int) -> None:
        noise = np.random.default_rng(0).standard_normal((2 * height, 2 * width, 3))
        self.unit = np.clip(noise * 16.0, -127, 127).astype(np.int16)

    def add(self, frame: UInt8Array, sigma: float, rng: np.random.Generator) -> UInt8Array:
        """`frame` plus noise of standard deviation `sigma` grey levels."""
        height, width = frame.shape[:2]
        top = int(rng.integers(self.unit.shape[0] - height + 1))
        left = int(rng.integers(self.unit.shape[1] - width + 1))
        window = self.unit[top : top + height, left : left + width]
        return np.asarray(cv2.addWeighted(frame, 1.0, window, sigma / 16.0, 0.0, dtype=cv2.CV_8U), np.uint8)


def apply_appearance(
    frame: UInt8Array, look: Appearance, t: int, noise: NoiseBank, rng: np.random.Generator
) -> UInt8Array:
    """(H,W,3) uint8: `frame` as it looks at time `t`."""
    frame = np.asarray(cv2.LUT(frame, look.tones[t][:, None]), np.uint8)
    if look.blur[t] > 0.25:
        frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), float(look.blur[t])), np.uint8)
    if look.noise > 0.5:
        frame = noise.add(frame, look.noise, rng)
    if look.quality:
        done, encoded = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, look.quality])
        assert done
        frame = np.asarray(cv2.imdecode(encoded, cv2.IMREAD_COLOR), np.uint8)
    return frame


def motion_blur(layer: UInt8Array, shift: tuple[float, float]) -> UInt8Array:
    """`layer` smeared along `shift` (pixels during the exposure), centred so that it does not move."""
    full = float(np.hypot(*shift))
    length = min(full, LONGEST_SMEAR)
    if length < SHORTEST_SMEAR:
        return layer
    # OpenCV filters kernels of more than 11 x 11 by a far slower route.
    middle = int(np.ceil(0.5 * length))
    kernel = np.zeros((2 * middle + 1, 2 * middle + 1), np.uint8)
    dx, dy = (0.5 * length / full * value for value in shift)
    ends = [(round(16 * (middle + s * dx)), round(16 * (middle + s * dy))) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / max(float(kernel.sum()), 1.0)
    return np.asarray(cv2.filter2D(layer, -1, weights, borderType=cv2.BORDER_REPLICATE), np.uint8)
