"""Stills as one packed tensor on a device, and layers sampled from it for whole batches."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.data.clips.motion import CELLS, Motions
from jointformer.data.clips.pack import StillsPack
from jointformer.types import UInt8Array

LEVELS = 3  # full, half and quarter size


class DevicePack:
    """Every (still, mask) of a pack in three sizes as 4-byte pixels (red, green, blue, region id) on a device.

    One gather then reads colour and region together. Takes about 5.3 bytes per pixel and mask.
    """

    def __init__(self, pack: StillsPack, device: torch.device) -> None:
        self.pack, self.device = pack, device
        self.entries: list[int] = []  # still -> number of its first mask's row
        rows: list[list[tuple[int, int, int]]] = []  # per (still, mask) and level: offset, height, width
        chunks, offset = [], 0
        for still in pack.stills:
            self.entries.append(len(rows))
            for mask in still.masks:
                levels = []
                for pixels in _levels(still.picture, mask):
                    height, width = pixels.shape[:2]
                    levels.append((offset, height, width))
                    offset += height * width
                    chunks.append(pixels.reshape(-1, 4))
                rows.append(levels)
        flat = np.concatenate(chunks)
        self.pixels = torch.from_numpy(flat.view(np.int32).reshape(-1)).to(device)
        self.table = torch.tensor(rows, dtype=torch.int64, device=device)  # (rows, LEVELS, 3)

    def row(self, still: int, mask: int) -> int:
        """The number of the row of a still's mask."""
        return self.entries[still] + mask

    def sample(
        self, rows: Tensor, levels: Tensor, places: Tensor, values: Tensor, reflect: bool
    ) -> tuple[Tensor, Tensor]:
        """(colours (n,3,T,H,W) float32 0..255, values (n,T,H,W) float32) read bilinearly.

        `rows`, `levels` (n,); `places` (n,T,H,W,2): x, y in pixels of that level; `values` (n,256)
        float32: what each region id stands for. Outside the still: mirrored, or the nearest pixel's colour
        with value 0.
        """
        offset, height, width = (v.view(-1, 1, 1, 1) for v in self.table[rows, levels].unbind(-1))
        x, y = places.unbind(-1)
        if reflect:
            x, y = _mirror(x, width), _mirror(y, height)
            inside = None
        else:
            inside = (x > -0.5) & (x < width - 0.5) & (y > -0.5) & (y < height - 0.5)
        x, y = torch.minimum(x.clamp(min=0), width - 1.0), torch.minimum(y.clamp(min=0), height - 1.0)
        x0, y0 = x.floor(), y.floor()
        fx, fy = x - x0, y - y0
        left, top = x0.long(), y0.long()
        right, bottom = torch.minimum(left + 1, width - 1), torch.minimum(top + 1, height - 1)
        line = torch.arange(len(rows), device=places.device).view(-1, 1, 1, 1) * 256
        colours, value = None, None
        for column, row, weight in (
            (left, top, (1 - fx) * (1 - fy)),
            (right, top, fx * (1 - fy)),
            (left, bottom, (1 - fx) * fy),
            (right, bottom, fx * fy),
        ):
            tap = self.pixels[offset + row * width + column].view(torch.uint8).view(*weight.shape, 4)
            colour = tap[..., :3].float() * weight[..., None]
            worth = values.view(-1)[line + tap[..., 3].long()] * weight
            colours = colour if colours is None else colours + colour
            value = worth if value is None else value + worth
        assert colours is not None
        assert value is not None
        if inside is not None:
            value = value * inside
        return colours.movedim(-1, 1), value

    def nearest(self, rows: Tensor, levels: Tensor, places: Tensor, values: Tensor) -> Tensor:
        """(n,T,H,W): `values` (n,256) of the region id nearest to each place, mirrored outside the still."""
        offset, height, width = (v.view(-1, 1, 1, 1) for v in self.table[rows, levels].unbind(-1))
        x, y = places.unbind(-1)
        column = _mirror(x, width).round().long().clamp(min=0).minimum(width - 1)
        row = _mirror(y, height).round().long().clamp(min=0).minimum(height - 1)
        tap = (self.pixels[offset + row * width + column] >> 24) & 255
        line = torch.arange(len(rows), device=places.device).view(-1, 1, 1, 1) * 256
        return values.view(-1)[line + tap.long()]


def _levels(picture: UInt8Array, mask: UInt8Array) -> list[UInt8Array]:
    """The picture with the region ids as fourth channel, at LEVELS sizes, each (h,w,4)."""
    levels = []
    for level in range(LEVELS):
        step = 1 << level
        middle = (step - 1) // 2  # of the pixels that one of this level stands for, as near as can be
        ids = np.pad(mask, ((0, middle), (0, middle)), "edge")[middle::step, middle::step]
        size = (ids.shape[1], ids.shape[0])
        colours = picture if level == 0 else cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        levels.append(np.ascontiguousarray(np.dstack([colours, ids])))
    return levels


def _mirror(place: Tensor, size: Tensor) -> Tensor:
    """Places mirrored at the first and last pixel's middle into 0..size-1."""
    period = (2.0 * (size - 1)).clamp(min=1.0)
    folded = place.remainder(period)
    return torch.minimum(folded, period - folded)


def level_of(ratio: float) -> int:
    """The size of a still to sample from when its pixels are shown `ratio` times as large."""
    return int(np.clip(np.floor(np.log2(1.0 / ratio) + 0.15), 0, LEVELS - 1))


def device_grids(motions: Sequence[Motions], spans: Tensor, height: int, width: int, device: torch.device) -> Tensor:
    """(L,T,G,G,2): what `local_grids` gives for the layers of all `motions` in turn, computed on the device."""

    def gathered(name: str) -> Tensor:
        joined = np.concatenate([getattr(motion, name) for motion in motions]).astype(np.float32)
        return torch.from_numpy(joined).to(device, non_blocking=True)

    side = float(np.sqrt(height * width))
    ticks = [((torch.arange(CELLS + 2, device=device) - 0.5) * s / CELLS - 0.5) for s in (width, height)]
    x, y = torch.meshgrid(ticks[0], ticks[1], indexing="xy")
    points = torch.stack([x, y], -1).view(-1, 2)
    middle = torch.tensor([0.5 * width - 0.5, 0.5 * height - 0.5], device=device)
    linear = gathered("linear")
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    determinant = a * d - b * c
    good = determinant.abs() > 1e-3
    determinant = torch.where(good, determinant, 1.0)
    one, zero = torch.ones_like(a), torch.zeros_like(a)
    inverse = [
        torch.where(good, value / determinant, plain) for value, plain in ((d, one), (-c, zero), (-b, zero), (a, one))
    ]  # transposed, for rows of points
    transform = torch.stack(inverse, -1).view(*a.shape, 2, 2) / spans.view(-1, 1, 1, 1)
    unit = (points - (middle + side * gathered("centre"))[:, :, None]) @ transform
    angle = 2.0 * torch.pi * (unit @ gathered("frequency")[:, None]) + gathered("phase")
    unit = unit + angle.sin() @ gathered("waves")
    unit = unit / (1.0 + unit @ gathered("tilt")[..., None]).clamp(min=0.4)
    grid = unit * spans.view(-1, 1, 1, 1)
    grid = grid.nan_to_num(nan=4.0 * side).clamp(-4.0 * side, 4.0 * side)
    return grid.view(*grid.shape[:2], CELLS + 2, CELLS + 2, 2)


def dense_grids(grids: Tensor, height: int, width: int) -> Tensor:
    """(n,T,H,W,2): coarse grids (n,T,G,G,2) interpolated to every pixel, as `dense_map` does."""
    count, frames = grids.shape[:2]
    cell = (height // CELLS, width // CELLS)
    flat = grids.reshape(count * frames, CELLS + 2, CELLS + 2, 2).movedim(-1, 1)
    fine = F.interpolate(flat, scale_factor=cell, mode="bilinear", align_corners=False)
    fine = fine[..., cell[0] : -cell[0], cell[1] : -cell[1]]
    return fine.movedim(1, -1).view(count, frames, height, width, 2)
