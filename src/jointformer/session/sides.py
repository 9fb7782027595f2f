"""Probabilities seen from one side, as they are kept, and joined with those from the other."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import torch
from torch import Tensor

from jointformer.session.packing import SoftMaps
from jointformer.track.segmentation import Segmentation


def mixed(ours: tuple[Tensor, float], theirs: tuple[Tensor, float], near: float) -> Tensor:
    """The mean of two sides' probabilities, weighted by nearness and confidence."""
    a, b = near * (ours[1] + 1e-3), (1 - near) * (theirs[1] + 1e-3)
    return (a * ours[0] + b * theirs[0]) / (a + b)


def with_background(objects: Tensor) -> Tensor:
    """(N+1, h, w) probabilities: what the objects leave is the background's."""
    return torch.cat([(1 - objects.sum(dim=0, keepdim=True)).clamp_min(0), objects])


def floats(maps: SoftMaps) -> Tensor:
    """(N, h, w) probabilities of kept maps."""
    return torch.from_numpy(maps.maps.copy()).float() / 255


def quantised(seen: Segmentation, ids: Collection[int] | None = None) -> SoftMaps:
    """The maps of these objects, of all by default."""
    rows = [n for n, i in enumerate(seen.ids) if ids is None or i in ids]
    maps = (seen.prob[1:][rows].float() * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return SoftMaps(tuple(seen.ids[n] for n in rows), maps)


def with_others(maps: SoftMaps, kept: SoftMaps | None, known: Collection[int]) -> SoftMaps:
    """The maps of objects that a run tracks in a frame, with those kept of the other known ones, whose masks stay."""
    if kept is None or kept.maps.shape[1:] != maps.maps.shape[1:]:
        return maps
    stay = [n for n, i in enumerate(kept.ids) if i in known and i not in maps.ids]
    return SoftMaps((*maps.ids, *(kept.ids[n] for n in stay)), np.concatenate([maps.maps, kept.maps[stay]]))
