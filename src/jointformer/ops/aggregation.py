"""Soft aggregation of per-object probabilities into one distribution per pixel."""

from __future__ import annotations

import torch
from torch import Tensor

EPSILON = 1e-7


def soft_aggregate(object_prob: Tensor) -> Tensor:
    """Return the probabilities (..., N+1, H, W) of background and objects, background first.

    object_prob: (..., N, H, W) independent probabilities. The background is the product of the complements; all are
    clamped to [1e-7, 1 - 1e-7], turned into logits and normalised by a softmax (the published decoder; first used by
    RGMP, CVPR 2018). A softmax of logits is the share of each one's odds, which takes neither logarithm nor power.
    """
    prob = _with_background(object_prob)
    if torch.is_grad_enabled():
        odds = prob / (1 - prob)
        return odds / odds.sum(dim=-3, keepdim=True)
    odds = prob.div_(1 - prob)
    return odds.div_(odds.sum(dim=-3, keepdim=True))


def aggregated_logits(object_prob: Tensor) -> Tensor:
    """Return the logits (..., N+1, H, W) whose softmax is `soft_aggregate`; cross entropy is computed from them."""
    prob = _with_background(object_prob)
    return torch.log(prob / (1 - prob))


def _with_background(object_prob: Tensor) -> Tensor:
    background = torch.prod(1 - object_prob, dim=-3, keepdim=True)
    return torch.cat([background, object_prob], dim=-3).clamp_(EPSILON, 1 - EPSILON)
