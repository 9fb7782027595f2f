"""Soft aggregation of per-object probabilities into one distribution per pixel."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7


def soft_aggregate(object_prob: Tensor) -> tuple[Tensor, Tensor]:
    """Return (logits, prob), each (..., N+1, H, W) with the background first.

    object_prob: (..., N, H, W) independent probabilities. The background is the product of the complements; all are
    clamped to [1e-7, 1 - 1e-7], turned into logits and normalised by a softmax (the published decoder; first used by
    RGMP, CVPR 2018).
    """
    background = torch.prod(1 - object_prob, dim=-3, keepdim=True)
    prob = torch.cat([background, object_prob], dim=-3).clamp(EPSILON, 1 - EPSILON)
    logits = torch.log(prob / (1 - prob))
    return logits, torch.softmax(logits, dim=-3)
