"""How sure a tracked mask is, from its probabilities alone."""

from __future__ import annotations

import torch
from torch import Tensor

#: An object that is nowhere may be hidden or lost: its probabilities cannot tell, so it is never called sure.
_ABSENT = 0.5


def soft_jaccard(prob: Tensor) -> tuple[list[float], list[float]]:
    """Return (confidences in [0, 1], areas as shares of the frame) of the objects in (N+1, h, w) probabilities.

    The confidence is the region similarity J that the probabilities themselves expect of the mask: of the pixels in
    the mask, or outside but possibly the object's, how much is surely inside. Blurred borders, doubtful parts and
    doubtful regions elsewhere lower it; an empty mask gets half the certainty that the object is nowhere.
    """
    count = len(prob) - 1
    if not count:
        return [], []
    winner = prob.max(dim=0).indices  # on a CPU argmax over the first axis takes 30 times as long
    one_hot = torch.stack([winner == n for n in range(1, count + 1)])
    objects = prob[1:].float()
    area = one_hot.sum(dim=(1, 2))
    inside = (objects * one_hot).sum(dim=(1, 2))
    outside = objects.sum(dim=(1, 2)) - inside
    sure = inside / (area + outside).clamp_min(1e-6)
    absent = _ABSENT * (1 - objects.amax(dim=(1, 2)))
    confidence = torch.where(area > 0, sure, absent).clamp(0, 1)
    shares = area / float(prob[0].numel())
    return [float(v) for v in confidence.cpu()], [float(v) for v in shares.cpu()]


def steadiness(area: float, before: float | None) -> float:
    """Return a factor in [0, 1] for the change of a mask's area since the frame before; 1 where nothing is known.

    Objects change little between two frames; a mask that halves or doubles at once has usually gone wrong.
    """
    if before is None or area == before:
        return 1.0
    return float((min(area, before) / max(area, before)) ** 0.5)
