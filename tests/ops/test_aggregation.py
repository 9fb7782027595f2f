"""Soft aggregation by odds against the published softmax of logits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from jointformer.ops.aggregation import aggregated_logits, soft_aggregate


def probabilities(objects: int) -> Tensor:
    """Sure and unsure ones, and some that are exactly 0 or 1."""
    drawn = torch.randn(2, objects, 6, 8, generator=torch.Generator().manual_seed(objects))
    prob = torch.sigmoid(8 * drawn)
    prob[0, 0, 0] = 1.0
    prob[0, -1, 1] = 0.0
    return prob


@pytest.mark.parametrize("objects", [1, 2, 5])
def test_shares_of_odds_are_the_softmax_of_logits(objects: int) -> None:
    prob = probabilities(objects)
    got = soft_aggregate(prob)
    torch.testing.assert_close(got, aggregated_logits(prob).softmax(dim=1), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.sum(dim=1), torch.ones(2, 6, 8))


def test_both_have_the_same_gradient() -> None:
    drawn = torch.randn(1, 3, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    weight = torch.randn(1, 4, 6, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    gradients: list[torch.Tensor] = []
    for by_odds in (True, False):
        x = (12 * drawn).requires_grad_()
        prob = torch.sigmoid(x)
        result = soft_aggregate(prob) if by_odds else aggregated_logits(prob).softmax(dim=1)
        gradients += torch.autograd.grad((weight * result).sum(), x)
    torch.testing.assert_close(*gradients)
