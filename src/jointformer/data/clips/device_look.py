"""Light, blur, noise, compression and filled holes for batches of frames on a device."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

# The JPEG standard's example tables (ITU-T T.81, annex K) for quality 50: luminance and chrominance.
LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56,
    14, 17, 22, 29, 51, 87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92,
    49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
CHROMINANCE = (
    17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99,
    47, 66, 99, 99, 99, 99, 99, 99, *[99] * 32,
)  # fmt: skip
#: Samples along a motion that are averaged.
_TAPS = 7
FROM_RGB = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def apply_tones(colours: Tensor, tones: Tensor) -> Tensor:
    """(n,3,H,W) float: `colours` (0..255) through `tones` (n,256,3) uint8."""
    count, channels, height, width = colours.shape
    index = (colours + 0.5).clamp(0, 255).long().view(count, channels, -1)
    return tones.movedim(-1, 1).float().gather(2, index).view(count, channels, height, width)


def smear(images: Tensor, shift: Tensor) -> Tensor:
    """(n,C,H,W): `images` averaged along `shift` (n,2) pixels (x, y), centred."""
    height, width = images.shape[-2:]
    ys, xs = torch.meshgrid(
        torch.linspace(-1, 1, height, device=images.device),
        torch.linspace(-1, 1, width, device=images.device),
        indexing="ij",
    )
    base = torch.stack([xs, ys], -1)
    unit = shift * torch.tensor([2.0 / (width - 1), 2.0 / (height - 1)], device=images.device)
    total = torch.zeros_like(images)
    for along in np.linspace(-0.5, 0.5, _TAPS):
        place = base + float(along) * unit[:, None, None]
        total += F.grid_sample(images, place, mode="bilinear", padding_mode="border", align_corners=True)
    return total / _TAPS


def gaussian_blur(images: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """(n,C,H,W): every image blurred with its own `sigma` (n,) pixels."""
    count, channels, height, width = images.shape
    ticks = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    kernel = torch.exp(-0.5 * (ticks / sigma[:, None].clamp(min=0.05)) ** 2)
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    flat = images.reshape(1, count * channels, height, width)
    flat = F.conv2d(F.pad(flat, (radius, radius, 0, 0), mode="replicate"), kernel[:, :, None], groups=len(kernel))
    flat = F.conv2d(F.pad(flat, (0, 0, radius, radius), mode="replicate"), kernel[..., None], groups=len(kernel))
    return flat.view(images.shape)


def compress(images: Tensor, quality: Tensor) -> Tensor:
    """(n,3,H,W) of 0..255: what JPEG of `quality` (n,) leaves of `images` (no chroma subsampling)."""
    count, _, height, width = images.shape
    rotate, cosine, tables = _jpeg_constants(str(images.device))
    scale = torch.where(quality < 50, 50.0 / quality.clamp(min=1), 2.0 - quality / 50.0)
    steps = (tables * scale.view(-1, 1, 1, 1)).round().clamp(min=1)[:, :, None, None]
    planes = torch.einsum("ij,njhw->nihw", rotate, images - 128.0)
    blocks = planes.view(count, 3, height // 8, 8, width // 8, 8).transpose(3, 4)
    levels = ((cosine @ blocks @ cosine.T) / steps).round() * steps
    planes = (cosine.T @ levels @ cosine).transpose(3, 4).reshape(count, 3, height, width)
    return torch.einsum("ij,njhw->nihw", torch.linalg.inv(rotate), planes) + 128.0


@lru_cache(8)
def _jpeg_constants(device: str) -> tuple[Tensor, Tensor, Tensor]:
    """Colour rotation (3,3), cosine transform (8,8) and quantisation tables (3,8,8)."""
    k, n = np.mgrid[:8, :8]
    cosine = np.sqrt(0.25) * np.cos((2 * n + 1) * k * np.pi / 16)
    cosine[0] /= np.sqrt(2.0)
    tables = np.asarray([LUMINANCE, CHROMINANCE, CHROMINANCE], np.float32).reshape(3, 8, 8)
    arrays = (np.asarray(FROM_RGB), cosine, tables)
    rotate, transform, steps = (torch.tensor(a, dtype=torch.float32, device=device) for a in arrays)
    return rotate, transform, steps


def fill_holes(images: Tensor, hole: Tensor) -> Tensor:
    """(n,3,H,W): `images` with the pixels where `hole` (n,H,W) is above 0 filled from around, coarse to fine.

    An image that is all hole stays as it is.
    """
    grown = F.max_pool2d(hole[:, None], 5, stride=1, padding=2)
    around = grown <= 0
    known = (around | ~around.flatten(1).any(1)[:, None, None, None]).to(images.dtype)
    levels = [(images * known, known)]
    while min(levels[-1][0].shape[-2:]) > 2:
        colours, weight = (F.avg_pool2d(t, 2, ceil_mode=True, count_include_pad=False) for t in levels[-1])
        levels.append((colours, weight))
    filled = levels[-1][0] / levels[-1][1].clamp(min=1e-3)
    for colours, weight in reversed(levels[:-1]):
        filled = F.interpolate(filled, colours.shape[-2:], mode="bilinear", align_corners=False)
        trust = (2.0 * weight).clamp(max=1.0)
        filled = filled + (colours / weight.clamp(min=1e-3) - filled) * trust
    return torch.where(known > 0, images, filled)
