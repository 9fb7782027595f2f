"""Sizes and resizing of frames, label maps and probabilities, as the published code does them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.errors import DataError
from jointformer.types import LabelMap, pixels_text

#: Pixels of a scaled frame's longer side at most: four times the largest size there is, and 68 times the usual 480.
LONGEST_SIDE = 32_768


def network_size(height: int, width: int, size: int) -> tuple[int, int]:
    """Return (h, w) with the shorter side `size`, the longer int(size · long / short); the same size for size < 0.

    Raises DataError where the longer side would exceed `LONGEST_SIDE`: a frame of one row and 5000 columns would be
    scaled to gigabytes. Real videos stay far below it, panoramas too: it takes more than 68 times as long as short.
    """
    if size < 0:
        return height, width
    short, long = sorted((height, width))
    scaled = int(size * long / short)
    if scaled > LONGEST_SIDE:
        fits = LONGEST_SIDE * short // long
        hint = f"choose a size up to {fits}, or -1 for its own" if fits >= 16 else "choose size -1, its own, or crop it"
        raise DataError(
            f"the frame is too narrow for size {size}",
            expected=f"at most {LONGEST_SIDE} pixels for the longer side that the network sees",
            got=f"{pixels_text((height, width))} scaled to a side of {scaled}",
            hint=hint,
        )
    return (size, scaled) if height <= width else (scaled, size)


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
