"""How sure a tracked mask is, from its probabilities alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

#: An object that is nowhere may be hidden or lost: its probabilities cannot tell, so it is never called sure.
ABSENT = 0.5
#: The running mean forgets a frame after about ten.
_RATE = 0.1


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
    absent = ABSENT * (1 - objects.amax(dim=(1, 2)))
    # Half precision may overflow: what is no number is no certainty either, and the session's file cannot keep it.
    confidence = torch.where(area > 0, sure, absent).clamp(0, 1).nan_to_num(nan=0.0)
    shares = area / float(prob[0].numel())
    return [float(v) for v in confidence.cpu()], [float(v) for v in shares.cpu()]


@dataclass
class Trust:
    """How far one object can be trusted along a run of tracking, from a mask of the user's.

    Errors accumulate: a mask is no surer than those it was tracked from. area: the share of the frame that the user's
    mask covers. level: the running mean of the confidences since then. Chosen on DAVIS 2016 val
    (benchmarks/confidence_ranks.py): against the probabilities alone, which hardly rank a weak model's frames (rank
    correlation with J 0.29), the change of area since the user's mask brings 0.68, the running mean 0.72.
    """

    area: float
    level: float = 1.0

    def update(self, expected: float, area: float) -> float:
        """Return this frame's own confidence: the expected J, less what the area has changed."""
        now = expected * steadiness(area, self.area)
        self.level += _RATE * (now - self.level)
        return now


def steadiness(area: float, before: float) -> float:
    """Return a factor in [0, 1] for a mask's area against an earlier one's: the root of their ratio."""
    return 1.0 if area == before else float((min(area, before) / max(area, before)) ** 0.5)


def combined(now: float, level: float) -> float:
    """Return the confidence of a mask from its frame's own and from those it was tracked from."""
    return float((now * level) ** 0.5)
