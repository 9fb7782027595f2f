"""Sizes and resizing of frames, label maps and probabilities, as the published code does them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.types import LabelMap


def network_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (h, w) with the shorter side `size`, the longer int(size · long / short); the same size for size < 0."""
    if size < 0:
        return height, width
    short = min(height, width)
    return (size, int(size * width / short)) if height <= width else (int(size * height / short), size)


def resize_bilinear(x: Tensor, height: int, width: int) -> Tensor:
    """Return (B, C, height, width): bilinear, align_corners=False, no antialiasing; x itself where the size fits."""
    if x.shape[-2:] == (height, width):
        return x
    return F.interpolate(x, size=(height, width), mode="bilinear", align_corners=False)


def resize_label_map(label_map: LabelMap, height: int, width: int) -> LabelMap:
    """Return the label map (height, width) by nearest neighbour, as PyTorch takes it for masks of float32."""
    if label_map.shape == (height, width):
        return label_map
    rows = _nearest_indices(label_map.shape[0], height)
    columns = _nearest_indices(label_map.shape[1], width)
    return label_map[rows[:, None], columns[None, :]]


def _nearest_indices(old: int, new: int) -> LabelMap:
    # In float32, as masks are published: the floor of an index near a whole number hangs on its rounding.
    line = torch.arange(old, dtype=torch.float32, device="cpu")[None, None]
    return F.interpolate(line, size=new, mode="nearest")[0, 0].long().numpy()
