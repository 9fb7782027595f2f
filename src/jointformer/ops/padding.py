"""Zero padding to multiples of the network's stride, shared evenly between both sides."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

#: (left, right, top, bottom)
Padding = tuple[int, int, int, int]

#: Heights and widths that the network takes are multiples of it.
STRIDE = 16


def padded(height: int, width: int) -> tuple[int, int]:
    """Return (height, width) with the padding."""
    return height + -height % STRIDE, width + -width % STRIDE


def padding_to_multiple(height: int, width: int) -> Padding:
    """Return how much to add on each side; the odd pixel goes right and below."""
    extra_h, extra_w = -height % STRIDE, -width % STRIDE
    return extra_w // 2, extra_w - extra_w // 2, extra_h // 2, extra_h - extra_h // 2


def pad(x: Tensor, padding: Padding) -> Tensor:
    """Return x (..., H, W) with zeros around it; x itself where nothing is to be added."""
    return F.pad(x, padding) if any(padding) else x


def unpad(x: Tensor, padding: Padding) -> Tensor:
    """Return the view of x (..., H, W) without its padding."""
    left, right, top, bottom = padding
    return x[..., top : x.shape[-2] - bottom, left : x.shape[-1] - right]
