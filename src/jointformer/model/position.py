"""The fixed 2-D sin-cos position table and its resizing to other grids."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

#: The table's grid: 384 px at stride 16.
GRID = 24


def sincos_table(width: int) -> Tensor:
    """Return the (1, 1 + GRID², width) float32 table: a zero row for the memory token, then the grid's rows.

    The first half of the channels encodes x, the second y; each half is [sin, cos] of pos · 10000^(-i / (width/4)).
    """
    # On the CPU even while a network is built on `meta`: PyTorch computes a range there by tracing it, for which it
    # imports its compiler, 200 MB of it.
    steps = torch.arange(max(GRID, width // 4), dtype=torch.float64, device="cpu")
    frequencies = 1.0 / 10000 ** (steps[: width // 4] / (width / 4))
    angles = steps[:GRID, None] * frequencies
    axis = torch.cat([angles.sin(), angles.cos()], dim=1)
    x = axis[None, :, :].expand(GRID, GRID, -1)
    y = axis[:, None, :].expand(GRID, GRID, -1)
    rows = torch.cat([x, y], dim=2).reshape(GRID * GRID, width)
    table = torch.cat([torch.zeros(1, width, dtype=torch.float64, device="cpu"), rows]).float()[None]
    return table.to(torch.get_default_device())


def resize_table(table: Tensor, height: int, width: int) -> Tensor:
    """Return the grid rows of a (1, 1 + g², C) table for a height×width grid: (1, height·width, C).

    Bicubic with align_corners=False, as published; the stored rows as they are where the grid is the table's own.
    """
    rows = table[:, 1:]
    side = round(rows.shape[1] ** 0.5)
    if (height, width) == (side, side):
        return rows
    grid = rows.reshape(1, side, side, -1).permute(0, 3, 1, 2).float()
    grid = F.interpolate(grid, size=(height, width), mode="bicubic", align_corners=False)
    return grid.flatten(2).transpose(1, 2).contiguous()
