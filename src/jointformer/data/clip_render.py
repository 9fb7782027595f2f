"""Frames and label maps from layers that move over a background."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clip_appearance import motion_blur
from jointformer.data.clip_motion import CELLS, F32

U8 = npt.NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Layer:
    """A cut-out that moves: sprite (h,w,4) RGBA, its label (0 = distractor), warp grids, tones, exposure.

    ``grids`` (T,g,g,2) as of ``warp_grid``; ``tones`` (T,256,3); ``smear`` (T,2) pixels moved while exposed.
    """

    sprite: U8
    label: int
    grids: F32
    tones: U8
    smear: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The moving background: picture (h,w,3), labels (h,w) or None when nothing of it is a target, grids."""

    picture: U8
    labels: U8 | None
    grids: F32
    smear: npt.NDArray[np.float64]


def dense_map(grid: F32, rows: tuple[int, int], columns: tuple[int, int], cell: int) -> F32:
    """(h,w,2): ``grid`` interpolated over the cells rows[0]..rows[1]-1 and columns[0]..columns[1]-1."""
    block = grid[rows[0] : rows[1] + 2, columns[0] : columns[1] + 2]
    size = (block.shape[1] * cell, block.shape[0] * cell)
    fine = cv2.resize(block, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine[cell:-cell, cell:-cell], np.float32)


def touched_cells(grid: F32, width: int, height: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """The (rows, columns) of cells a sprite of this size may touch, or None when it is out of the picture."""
    step = np.abs(np.diff(grid, axis=0)).max(), np.abs(np.diff(grid, axis=1)).max()
    reach = float(max(step))
    x, y = grid[..., 0], grid[..., 1]
    near = (x > -reach) & (x < width + reach) & (y > -reach) & (y < height + reach)
    rows, columns = np.flatnonzero(near.any(1)), np.flatnonzero(near.any(0))
    if len(rows) == 0:
        return None
    first_row, last_row = max(int(rows[0]) - 1, 0), min(int(rows[-1]), CELLS)
    first_column, last_column = max(int(columns[0]) - 1, 0), min(int(columns[-1]), CELLS)
    if first_row >= last_row or first_column >= last_column:
        return None
    return (first_row, last_row), (first_column, last_column)


def render_frame(backdrop: Backdrop, layers: list[Layer], t: int, size: int) -> tuple[U8, U8]:
    """(frame (size,size,3), label map (size,size)) at time ``t``; later layers lie above earlier ones."""
    cell = size // CELLS
    where = dense_map(backdrop.grids[t], (0, CELLS), (0, CELLS), cell)
    frame = cv2.remap(backdrop.picture, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
    frame = motion_blur(
        np.asarray(frame, np.uint8), (float(backdrop.smear[t, 0]), float(backdrop.smear[t, 1]))
    )
    if backdrop.labels is None:
        labels = np.zeros((size, size), np.uint8)
    else:
        moved = cv2.remap(backdrop.labels, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101)
        labels = np.asarray(moved, np.uint8)
    for layer in layers:
        _paste(frame, labels, layer, t, cell)
    return frame, labels


def _paste(frame: U8, labels: U8, layer: Layer, t: int, cell: int) -> None:
    height, width = layer.sprite.shape[:2]
    cells = touched_cells(layer.grids[t], width, height)
    if cells is None:
        return
    (top, bottom), (left, right) = cells
    where = dense_map(layer.grids[t], *cells, cell)
    moved = np.asarray(cv2.remap(layer.sprite, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))
    moved = motion_blur(moved, (float(layer.smear[t, 0]), float(layer.smear[t, 1])))
    window = (slice(top * cell, bottom * cell), slice(left * cell, right * cell))
    alpha = np.ascontiguousarray(moved[..., 3])
    colours = cv2.LUT(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), layer.tones[t][:, None])
    weight = alpha.astype(np.float32) * np.float32(1.0 / 255.0)
    frame[window] = cv2.blendLinear(colours, np.ascontiguousarray(frame[window]), weight, 1.0 - weight)
    labels[window][alpha >= 128] = layer.label
