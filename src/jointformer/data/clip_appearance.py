"""Light, colour, blur, noise and compression of a clip's frames along time."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clip_motion import smooth_walk

U8 = npt.NDArray[np.uint8]
F64 = npt.NDArray[np.float64]


def tone_tables(gain: F64, bias: F64, gamma: F64) -> U8:
    """(T,256,3) uint8 look-up tables: (value/255)^gamma·gain + bias; each argument (T,3)."""
    value = np.linspace(0.0, 1.0, 256)[None, :, None] ** gamma[:, None]
    return np.clip(255.0 * (value * gain[:, None] + bias[:, None]) + 0.5, 0, 255).astype(np.uint8)


def draw_tones(rng: np.random.Generator, frames: int, fixed: float, drift: float) -> U8:
    """(T,256,3) tables of a random tone (strength ``fixed``) that drifts along time (``drift`` per step)."""
    walk = smooth_walk(rng, frames, 6, memory=0.6, pull=0.1)
    start = rng.standard_normal(6)
    shared = fixed * start[0] + drift * walk[:, :1]
    colour = 0.35 * (fixed * start[1:4] + drift * walk[:, 1:4])
    contrast = fixed * start[4] + drift * walk[:, 4:5]
    gain = np.exp(np.clip(shared + colour, -0.7, 0.5))
    gamma = np.exp(np.clip(contrast, -0.5, 0.5)) * np.ones((1, 3))
    bias = np.clip(0.2 * (fixed * start[5] + drift * walk[:, 5:6]), -0.15, 0.15) * np.ones((1, 3))
    return tone_tables(gain, bias, gamma)


@dataclass(frozen=True, eq=False)
class Appearance:
    """What happens to the composed frames: tones (T,256,3), blur (T,) in pixels, noise, jpeg quality or 0."""

    tones: U8
    blur: F64
    noise: float
    quality: int


def draw_appearance(rng: np.random.Generator, frames: int, size: int, strength: float) -> Appearance:
    """A random appearance for a clip; ``strength`` in [0,1]."""
    tones = draw_tones(rng, frames, fixed=0.12, drift=0.05 * strength)
    blur = np.zeros(frames)
    if rng.random() < 0.25:
        start = rng.uniform(0.0, 1.2) * size / 256
        blur = np.maximum(start + 0.3 * strength * smooth_walk(rng, frames, 1, 0.5, 0.2)[:, 0], 0.0)
    noise = float(rng.exponential(4.0)) if rng.random() < 0.4 else 0.0
    quality = int(rng.integers(25, 90)) if rng.random() < 0.3 else 0
    return Appearance(tones, blur, min(noise, 16.0), quality)


class NoiseBank:
    """Gaussian noise drawn once; windows of it are added to frames (drawing afresh costs 10 times as much)."""

    def __init__(self, side: int) -> None:
        noise = np.random.default_rng(0).standard_normal((2 * side, 2 * side, 3))
        self.unit = np.clip(noise * 16.0, -127, 127).astype(np.int16)
        self.side = side

    def add(self, frame: U8, sigma: float, rng: np.random.Generator) -> U8:
        """``frame`` plus noise of standard deviation ``sigma`` grey levels."""
        height, width = frame.shape[:2]
        top, left = (int(v) for v in rng.integers(0, self.side + 1, 2))
        window = self.unit[top : top + height, left : left + width]
        return np.asarray(cv2.addWeighted(frame, 1.0, window, sigma / 16.0, 0.0, dtype=cv2.CV_8U), np.uint8)


def apply_appearance(frame: U8, look: Appearance, t: int, noise: NoiseBank, rng: np.random.Generator) -> U8:
    """(H,W,3) uint8: ``frame`` as it looks at time ``t``."""
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


def motion_blur(layer: U8, shift: tuple[float, float], reach: int = 15) -> U8:
    """``layer`` smeared along ``shift`` (pixels during the exposure), centred so that it does not move."""
    length = min(float(np.hypot(*shift)), float(reach - 2))
    if length < 1.5:
        return layer
    kernel = np.zeros((reach, reach), np.uint8)
    half = 0.5 * length / max(float(np.hypot(*shift)), 1e-6)
    dx, dy = shift[0] * half, shift[1] * half
    middle = reach // 2
    ends = [(round(16 * (middle + s * dx)), round(16 * (middle + s * dy))) for s in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 255, 1, cv2.LINE_AA, 4)
    weights = kernel.astype(np.float32) / max(float(kernel.sum()), 1.0)
    return np.asarray(cv2.filter2D(layer, -1, weights, borderType=cv2.BORDER_REPLICATE), np.uint8)
