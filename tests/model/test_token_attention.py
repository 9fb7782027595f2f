"""The memory token's attention: one query row per head, by one product for all heads or by PyTorch's kernel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.model.attention import attend_token, token_scores


def projected(dtype: torch.dtype, *, size: float = 1.0, device: str = "cpu") -> tuple[Tensor, Tensor, Tensor]:
    """The token's query and all keys and values, views as the projection leaves them."""
    rows = torch.randn(2, 21, 3, 4, 24, generator=torch.Generator().manual_seed(0)) * size
    q, k, v = rows.to(device, dtype).permute(2, 0, 3, 1, 4)
    return q[:, :, :1], k, v


@torch.inference_mode()
def test_one_product_for_all_heads_is_attention() -> None:
    q, k, v = projected(torch.float32)
    torch.testing.assert_close(attend_token(q, k, v), F.scaled_dot_product_attention(q, k, v))


@torch.inference_mode()
def test_products_beyond_float16_leave_scores_that_it_holds() -> None:
    q, k, v = projected(torch.float16, size=120.0)
    exact = q.double() @ k.double().mT
    assert float(exact.abs().max()) > torch.finfo(torch.float16).max
    scores = token_scores(q, k)
    torch.testing.assert_close(scores.double(), exact[:, :, 0].mT * 24**-0.5, atol=40.0, rtol=4e-3)
    assert attend_token(q, k, v).isfinite().all()


@torch.inference_mode()
def test_a_gpu_takes_pytorchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = projected(torch.bfloat16, device="meta")
    calls = []

    def kernel(*tensors: Tensor) -> Tensor:
        calls.append(tensors)
        return torch.empty_like(tensors[0])

    monkeypatch.setattr(F, "scaled_dot_product_attention", kernel)
    assert attend_token(q, k, v).shape == q.shape
    assert calls == [(q, k, v)]
