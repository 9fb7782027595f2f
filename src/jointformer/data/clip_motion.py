"""Smooth random motion of a layer over a clip, as coarse grids that a dense warp is interpolated from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

CELLS = 16  # grid cells along a side of the picture; the grid has one more on each side
WAVES = 3  # sine waves that make up one elastic deformation


@dataclass(frozen=True)
class MotionScale:
    """How much a layer changes per step (standard deviations).

    ``shift`` in picture sides, ``zoom`` and ``stretch`` in natural-log units, ``turn`` in radians,
    ``bend`` in sizes of the layer (elastic), ``tilt`` perspective per size of the layer.
    """

    shift: float
    zoom: float
    turn: float
    stretch: float
    bend: float
    tilt: float = 0.0

    def times(self, factor: float) -> MotionScale:
        """All amplitudes times ``factor``."""
        values = (self.shift, self.zoom, self.turn, self.stretch, self.bend, self.tilt)
        return MotionScale(*(factor * value for value in values))


def smooth_walk(rng: np.random.Generator, frames: int, width: int, memory: float, pull: float) -> F64:
    """(frames, width): random walks that begin at 0, with velocities of unit variance.

    ``memory`` in [0,1): how much of its velocity a walk keeps; ``pull`` in [0,1): how fast it returns to 0.
    """
    kicks = rng.standard_normal((frames, width))
    fresh = float(np.sqrt(1.0 - memory * memory))
    place = np.zeros((frames, width))
    speed = kicks[0]
    for t in range(1, frames):
        place[t] = (1.0 - pull) * place[t - 1] + speed
        speed = memory * speed + fresh * kicks[t]
    return place


@dataclass(frozen=True, eq=False)
class Motion:
    """A layer's place at each of T frames, in picture sides; zooms are factors on its size at frame 0."""

    centre: F64  # (T,2) x, y
    linear: F64  # (T,2,2) from layer to picture
    waves: F64  # (T,WAVES,2) elastic amplitudes in sizes of the layer
    frequency: F64  # (WAVES,2) cycles per size of the layer
    phase: F64  # (WAVES,)
    tilt: F64  # (T,2)


def draw_motion(
    rng: np.random.Generator, frames: int, scale: MotionScale, start: tuple[float, float], turn: float = 0.0
) -> Motion:
    """A random motion beginning at ``start`` (x, y in picture sides) with an initial rotation ``turn``."""
    walk = smooth_walk(rng, frames, 6, memory=0.75, pull=0.05)
    centre = np.asarray(start) + scale.shift * walk[:, :2]
    zoom = np.exp(np.clip(scale.zoom * walk[:, 2], -1.1, 1.1))
    angle = turn + scale.turn * walk[:, 3]
    stretch = np.exp(np.clip(scale.stretch * walk[:, 4], -0.5, 0.5))
    shear = np.clip(scale.stretch * walk[:, 5], -0.5, 0.5)
    cos, sin = np.cos(angle), np.sin(angle)
    rotation = np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
    shape = np.zeros((frames, 2, 2))
    shape[:, 0, 0], shape[:, 1, 1], shape[:, 0, 1] = zoom * stretch, zoom / stretch, zoom * shear
    bends = smooth_walk(rng, frames, 2 * WAVES + 2, memory=0.6, pull=0.2)
    waves = np.clip(scale.bend * bends[:, 2:].reshape(frames, WAVES, 2), -0.08, 0.08)
    direction = rng.uniform(0.0, 2.0 * np.pi, WAVES)
    cycles = rng.uniform(0.3, 1.2, WAVES)
    frequency = np.stack([np.cos(direction), np.sin(direction)], -1) * cycles[:, None]
    phase = rng.uniform(0.0, 2.0 * np.pi, WAVES)
    tilt = np.clip(scale.tilt * bends[:, :2], -0.3, 0.3)
    return Motion(centre, rotation @ shape, waves, frequency, phase, tilt)


def warp_grid(motion: Motion, size: int, extent: tuple[float, float], origin: tuple[float, float]) -> F32:
    """(T, CELLS+2, CELLS+2, 2) float32: where in the layer's pixels (x, y) each grid point looks.

    ``size``: the picture's side in pixels; the layer is taken to have the picture's resolution at frame 0,
    ``extent`` (w, h) pixels and its centre at pixel ``origin``. Grid point i lies at pixel
    (i - 0.5)·size/CELLS - 0.5: the middle of cell i - 1. Values are finite and bounded, which OpenCV's
    reflecting border needs to end.
    """
    cell = size / CELLS
    ticks = (np.arange(CELLS + 2) - 0.5) * cell - 0.5
    points = np.stack(np.meshgrid(ticks, ticks), -1)
    inverse = np.linalg.inv(motion.linear)
    local = np.einsum("tij,tyxj->tyxi", inverse, points[None] - (motion.centre * size)[:, None, None])
    span = max(extent)
    unit = local / span
    angle = 2.0 * np.pi * (unit @ motion.frequency.T) + motion.phase
    unit = unit + np.einsum("tyxk,tki->tyxi", np.sin(angle), motion.waves)
    if motion.tilt.any():
        unit = unit / np.maximum(1.0 + np.einsum("tyxi,ti->tyx", unit, motion.tilt), 0.4)[..., None]
    grid = unit * span + np.asarray(origin)
    limit = 2.0 * (span + size)
    return np.clip(np.nan_to_num(grid, nan=-limit), -limit, limit).astype(np.float32)
