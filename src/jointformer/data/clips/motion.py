"""Smooth random motion of the layers of a clip, as coarse grids that dense warps are interpolated from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jointformer.types import FloatArray

F64 = npt.NDArray[np.float64]

CELLS = 16  # grid cells along a side of the picture; the grid has one more on each side
WAVES = 4  # sine waves that make up one elastic deformation
REACH = 0.55  # how far from the picture's middle a layer kept in view may get, in picture sides


@dataclass(frozen=True)
class MotionScale:
    """How much a layer changes per step (standard deviations).

    `shift` in picture sides, `zoom` and `stretch` in natural-log units, `turn` in radians,
    `bend` in sizes of the layer (elastic), `tilt` perspective per size of the layer.
    """

    shift: float
    zoom: float
    turn: float
    stretch: float
    bend: float
    tilt: float = 0.0

    def row(self, pace: float, shift: float = 1.0) -> tuple[float, ...]:
        """All amplitudes times `pace`; the shift times `shift` too."""
        values = (self.shift * shift, self.zoom, self.turn, self.stretch, self.bend, self.tilt)
        return tuple(pace * value for value in values)


OBJECT_MOTION = MotionScale(shift=0.06, zoom=0.055, turn=0.08, stretch=0.05, bend=0.02)
CAMERA_MOTION = MotionScale(shift=0.035, zoom=0.035, turn=0.03, stretch=0.012, bend=0.006, tilt=0.03)


def smooth_walks(rng: np.random.Generator, layers: int, frames: int, width: int, memory: float, pull: float) -> F64:
    """(layers, frames, width): random walks that begin at 0, with velocities of unit variance.

    `memory` in [0,1): how much of its velocity a walk keeps; `pull` in [0,1): how fast it returns to 0.
    """
    kicks = rng.standard_normal((frames, layers, width))
    fresh = float(np.sqrt(1.0 - memory * memory))
    place = np.zeros((frames, layers, width))
    speed = kicks[0]
    for t in range(1, frames):
        place[t] = (1.0 - pull) * place[t - 1] + speed
        speed = memory * speed + fresh * kicks[t]
    return place.transpose(1, 0, 2)


@dataclass(frozen=True, eq=False)
class Motions:
    """Places of L layers at each of T frames, in picture sides from the picture's middle."""

    centre: F64  # (L,T,2) x, y
    linear: F64  # (L,T,2,2) from layer to picture
    waves: F64  # (L,T,WAVES,2) elastic amplitudes in sizes of the layer
    frequency: F64  # (L,2,WAVES) cycles per size of the layer
    phase: F64  # (L,1,1,WAVES)
    tilt: F64  # (L,T,2)


def draw_motions(
    rng: np.random.Generator, frames: int, amplitudes: F64, start: F64, turn: F64, excursion: F64, free: npt.NDArray
) -> Motions:
    """Random motions of L layers.

    `amplitudes` (L,6): rows of `MotionScale.row`; `start` (L,2): x, y at frame 0; `turn` (L,): rotation
    at frame 0; `excursion` (L,2): how far a layer strays in the middle of the clip before it comes back;
    `free` (L,) bool: layers that may drift out of view for good (the others slow down at the border).
    """
    layers = len(start)
    shift, zoom, angle, stretch, bend, tilt = (amplitudes[:, i, None] for i in range(6))
    walk = smooth_walks(rng, layers, frames, 6, memory=0.75, pull=0.05)
    centre = start[:, None] + shift[..., None] * walk[..., :2]
    reach = np.maximum(np.abs(start), REACH)[:, None]
    centre = np.where(free[:, None, None], centre, reach * np.tanh(centre / reach) * _kept(start, reach))
    if frames > 2:
        along = np.sin(np.pi * np.linspace(0.0, 1.0, frames)) ** 0.7
        centre = centre + along[None, :, None] * excursion[:, None]
    zooms = np.exp(np.clip(zoom * walk[..., 2], -1.1, 1.1))
    turned = turn[:, None] + angle * walk[..., 3]
    longer = np.exp(np.clip(stretch * walk[..., 4], -0.5, 0.5))
    shear = np.clip(stretch * walk[..., 5], -0.5, 0.5)
    cos, sin = np.cos(turned), np.sin(turned)
    linear = np.empty((layers, frames, 2, 2))
    # rotation @ [[zoom·longer, zoom·shear], [0, zoom/longer]]
    linear[..., 0, 0], linear[..., 1, 0] = cos * zooms * longer, sin * zooms * longer
    linear[..., 0, 1] = cos * zooms * shear - sin * zooms / longer
    linear[..., 1, 1] = sin * zooms * shear + cos * zooms / longer
    bends = smooth_walks(rng, layers, frames, 2 * WAVES + 2, memory=0.6, pull=0.2)
    cycles = rng.uniform(0.3, 1.2, (layers, WAVES))
    cycles[:, -1] *= 2.0  # one short wave bends limbs, at half the amplitude
    sizes = np.asarray([1.0] * (WAVES - 1) + [0.5])[:, None]
    waves = bend[..., None, None] * bends[..., 2:].reshape(layers, frames, WAVES, 2) * sizes
    waves = np.clip(waves, -0.08 * sizes, 0.08 * sizes)
    direction = rng.uniform(0.0, 2.0 * np.pi, (layers, WAVES))
    frequency = np.stack([np.cos(direction), np.sin(direction)], 1) * cycles[:, None]
    phase = rng.uniform(0.0, 2.0 * np.pi, (layers, 1, 1, WAVES))
    tilts = np.clip(tilt[..., None] * bends[..., :2], -0.3, 0.3)
    return Motions(centre, linear, waves, frequency, phase, tilts)


def _kept(start: F64, reach: F64) -> F64:
    """The factor that makes the soft limit leave frame 0 where it was."""
    first = start[:, None]
    limited = reach * np.tanh(first / reach)
    return np.where(np.abs(limited) > 1e-6, first / np.where(np.abs(limited) > 1e-6, limited, 1.0), 1.0)


def local_grids(motions: Motions, height: int, width: int, span: F64) -> FloatArray:
    """(L,T,G,G,2) float32, G = CELLS+2: offsets x, y from each layer's middle that the grid points look at.

    Offsets are in pixels of the layer as it appears at frame 0; `span` (L,): the layers' larger sides in
    these pixels. Grid point i lies at pixel (i - 0.5)·side/CELLS - 0.5: the middle of cell i - 1. Values are
    finite and bounded, which OpenCV's reflecting border needs to end.
    """
    side = float(np.sqrt(height * width))
    ticks = [(np.arange(CELLS + 2) - 0.5) * s / CELLS - 0.5 for s in (width, height)]
    points = np.stack(np.meshgrid(*ticks), -1).reshape(-1, 2)
    middle = np.asarray([0.5 * width - 0.5, 0.5 * height - 0.5])
    determinant = np.linalg.det(motions.linear)
    usable = np.abs(determinant) > 1e-3
    linear = np.where(usable[..., None, None], motions.linear, np.eye(2))
    inverse = np.linalg.inv(linear).swapaxes(-1, -2) / span[:, None, None, None]
    unit = (points - (middle + side * motions.centre)[:, :, None]) @ inverse
    angle = 2.0 * np.pi * (unit @ motions.frequency[:, None]) + motions.phase
    unit = unit + np.sin(angle) @ motions.waves
    if motions.tilt.any():
        unit /= np.maximum(1.0 + unit @ motions.tilt[..., None], 0.4)
    grid = unit * span[:, None, None, None]
    limit = 4.0 * side
    grid = np.clip(np.nan_to_num(grid, nan=limit), -limit, limit)
    return grid.reshape(*grid.shape[:2], CELLS + 2, CELLS + 2, 2).astype(np.float32)
