"""Frames and label maps from layers that move over a background."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.data.clips.appearance import motion_blur
from jointformer.data.clips.motion import CELLS
from jointformer.types import FloatArray, UInt8Array

Cells = tuple[int, int, int, int]

TOKEN = 16  # the stride of the network's tokens


@dataclass(frozen=True, eq=False)
class Layer:
    """A cut-out that moves: sprite (h,w,4) RGBA, its label (0 = distractor), warp grids, tones, exposure.

    `grids` (T,G,G,2): the sprite's pixels that the points of `local_grids` look at; `tones` (T,256,3);
    `smear` (T,2) pixels moved while exposed.
    """

    sprite: UInt8Array
    label: int
    grids: FloatArray
    tones: UInt8Array
    smear: npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Backdrop:
    """The moving background: picture (h,w,3), labels (h,w) or None when nothing of it is a target, grids."""

    picture: UInt8Array
    labels: UInt8Array | None
    grids: FloatArray
    smear: npt.NDArray[np.float64]


class Drawing(NamedTuple):
    """A frame (H,W,3), its label map (H,W), and points (H/16,W/16,3) float32.

    Points: which layer is on top in the middle of each token (0: the backdrop), and x, y of the point of it there.
    """

    frame: UInt8Array
    labels: UInt8Array
    points: FloatArray


def dense_map(grid: FloatArray, cells: Cells, cell: tuple[int, int]) -> FloatArray:
    """(h,w,2): `grid` interpolated over the cells (top, bottom, left, right), each of `cell` (h, w) pixels."""
    top, bottom, left, right = cells
    block = grid[top : bottom + 2, left : right + 2]
    size = (block.shape[1] * cell[1], block.shape[0] * cell[0])
    fine = cv2.resize(block, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(fine[cell[0] : -cell[0], cell[1] : -cell[1]], np.float32)


def touched_cells(grids: FloatArray, height: int, width: int) -> list[Cells | None]:
    """Per frame the cells (top, bottom, left, right) a sprite may touch, or None when it is out of the picture."""
    reach = np.maximum(np.abs(np.diff(grids, axis=1)).max((1, 2, 3)), np.abs(np.diff(grids, axis=2)).max((1, 2, 3)))[
        :, None, None
    ]
    x, y = grids[..., 0], grids[..., 1]
    near = (x > -reach) & (x < width + reach) & (y > -reach) & (y < height + reach)
    found: list[Cells | None] = []
    for rows, columns in zip(near.any(2), near.any(1), strict=True):
        down, across = rows.nonzero()[0], columns.nonzero()[0]
        if len(down) == 0:
            found.append(None)
            continue
        top, bottom = max(int(down[0]) - 1, 0), min(int(down[-1]), CELLS)
        left, right = max(int(across[0]) - 1, 0), min(int(across[-1]), CELLS)
        found.append((top, bottom, left, right) if top < bottom and left < right else None)
    return found


class Renderer:
    """Draws one clip's frames; later layers lie above earlier ones."""

    def __init__(self, backdrop: Backdrop, layers: list[Layer], height: int, width: int) -> None:
        self.backdrop, self.layers, self.shape = backdrop, layers, (height, width)
        self.cell = (height // CELLS, width // CELLS)
        self.touched = [touched_cells(layer.grids, *layer.sprite.shape[:2]) for layer in layers]

    def draw(self, t: int) -> Drawing:
        """The clip at time `t`."""
        backdrop = self.backdrop
        where = dense_map(backdrop.grids[t], (0, CELLS, 0, CELLS), self.cell)
        border = cv2.BORDER_REFLECT_101
        frame = np.asarray(cv2.remap(backdrop.picture, where, None, cv2.INTER_LINEAR, borderMode=border), np.uint8)
        frame = motion_blur(frame, (float(backdrop.smear[t, 0]), float(backdrop.smear[t, 1])))
        if backdrop.labels is None:
            labels = np.zeros(self.shape, np.uint8)
        else:
            moved = cv2.remap(backdrop.labels, where, None, cv2.INTER_NEAREST, borderMode=border)
            labels = np.asarray(moved, np.uint8)
        middles = where[TOKEN // 2 :: TOKEN, TOKEN // 2 :: TOKEN]
        drawing = Drawing(frame, labels, np.concatenate([np.zeros_like(middles[..., :1]), middles], -1))
        for number, (layer, touched) in enumerate(zip(self.layers, self.touched, strict=True), 1):
            cells = touched[t]
            if cells is not None:
                _paste(drawing, number, layer, t, cells, self.cell)
        return drawing


def _paste(drawing: Drawing, number: int, layer: Layer, t: int, cells: Cells, cell: tuple[int, int]) -> None:
    frame, labels, points = drawing
    where = dense_map(layer.grids[t], cells, cell)
    moved = np.asarray(cv2.remap(layer.sprite, where, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT))
    moved = motion_blur(moved, (float(layer.smear[t, 0]), float(layer.smear[t, 1])))
    top, bottom, left, right = cells
    window = (slice(top * cell[0], bottom * cell[0]), slice(left * cell[1], right * cell[1]))
    alpha = np.ascontiguousarray(moved[..., 3])
    colours = cv2.LUT(cv2.cvtColor(moved, cv2.COLOR_RGBA2RGB), layer.tones[t][:, None])
    weight = alpha.astype(np.float32) * np.float32(1.0 / 255.0)
    frame[window] = cv2.blendLinear(colours, np.ascontiguousarray(frame[window]), weight, 1.0 - weight)
    labels[window][alpha >= 128] = layer.label
    down, across = _tokens_within(window[0]), _tokens_within(window[1])
    within = np.ix_(_middles(down) - window[0].start, _middles(across) - window[1].start)
    on_top = alpha[within] >= 128
    points[down, across][on_top, 0] = number
    points[down, across][on_top, 1:] = where[within][on_top]


def _tokens_within(pixels: slice) -> slice:
    """The tokens whose middles are among these pixels of a side."""
    return slice(*(-(-(edge - TOKEN // 2) // TOKEN) for edge in (pixels.start, pixels.stop)))


def _middles(tokens: slice) -> npt.NDArray[np.int64]:
    return np.arange(tokens.start, tokens.stop) * TOKEN + TOKEN // 2
