"""Which memory keys count (settings), and the one multi-head attention of the network."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.errors import ConfigError
from jointformer.model.fused import linear
from jointformer.ops.attention import attend_one_row, joint_attention

RANGES = ("all_frames", "every_frame")
BLOCKS = ("all_blocks", "half", "last_block", "None")


@dataclass(frozen=True)
class AttentionConfig:
    """Top-k attention, at inference only: how many memory keys each query row and head keeps, and where.

    topk: keys kept (None: all). range: over all memory frames together, or in each. blocks: the joint blocks it holds
    in; "None" (the published word) switches it off. token_topk: the memory token's own attention keeps only its topk
    best keys too. Raises ConfigError naming the field.
    """

    topk: int | None = None
    range: str = "all_frames"
    blocks: str = "all_blocks"
    token_topk: bool = False

    def __post_init__(self) -> None:
        if self.topk is not None and (isinstance(self.topk, bool) or not isinstance(self.topk, int) or self.topk < 1):
            raise ConfigError("topk", expected="1 or more, or None (--topk 0) for all keys", got=repr(self.topk))
        for field, allowed in (("range", RANGES), ("blocks", BLOCKS)):
            if getattr(self, field) not in allowed:
                got = repr(getattr(self, field))
                raise ConfigError(f"topk {field}", expected=f"one of {', '.join(allowed)}", got=got)
        if not isinstance(self.token_topk, bool):
            raise ConfigError("token_topk", expected="True or False", got=repr(self.token_topk))

    def layer_topk(self, layer: int, layers: int) -> int | None:
        """Return the number of memory keys that joint block `layer` of `layers` keeps; None keeps all."""
        first = {"all_blocks": 0, "half": layers // 2, "last_block": layers - 1, "None": layers}[self.blocks]
        return self.topk if layer >= first else None

    def token_layer_topk(self, layer: int, layers: int) -> int | None:
        """Return the same for the memory token's attention while a frame is memorised."""
        return self.layer_topk(layer, layers) if self.token_topk else None

    @property
    def token_update_topk(self) -> int | None:
        """The number of fusion-feature keys that the token keeps when it is updated; None keeps all."""
        return self.topk if self.token_topk and self.blocks != "None" else None


DENSE = AttentionConfig()


class Attention(nn.Module):
    """Multi-head projections; what attends to what is decided by the block that owns it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def split_heads(self, x: Tensor) -> Tensor:
        """Return (N, A, P, D), a view of (N, P, A·D)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)

    def project(self, x: Tensor, norm: nn.LayerNorm) -> tuple[Tensor, Tensor, Tensor]:
        """Return query, key and value of norm(x), each (N, A, P, D), views of one product; x is (N, P, C)."""
        q, k, v = linear(x, self.qkv.weight, self.qkv.bias, norm=norm).chunk(3, dim=2)
        return self.split_heads(q), self.split_heads(k), self.split_heads(v)

    def project_query(self, x: Tensor, norm: nn.LayerNorm | None = None) -> Tensor:
        """Return the query alone, (N, A, P, D), of x or of norm(x)."""
        width = x.shape[2]
        return self.split_heads(linear(x, self.qkv.weight[:width], self.qkv.bias[:width], norm=norm))

    def project_key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return key and value alone, each (N, A, P, D)."""
        width = x.shape[2]
        k, v = linear(x, self.qkv.weight[width:], self.qkv.bias[width:]).chunk(2, dim=2)
        return self.split_heads(k), self.split_heads(v)

    @property
    def merging(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the output projection."""
        return self.proj.weight, self.proj.bias


def attend_token(q: Tensor, k: Tensor, v: Tensor, *, topk: int | None = None) -> Tensor:
    """Return what one token per object (N, A, 1, D) attends to: (N, A, 1, D).

    k, v: (N, A, L, D), the token's own key and value first. topk keeps that many of the others.
    """
    if topk is not None or torch.is_grad_enabled():
        return joint_attention(q, k[:, :, :1], v[:, :, :1], k[:, :, 1:], v[:, :, 1:], topk=topk)
    if q.device.type != "cpu":
        return F.scaled_dot_product_attention(q, k, v)  # one kernel, whose scores are float32
    attended = attend_one_row(q, k, v)
    if attended is not None:
        return attended
    weights = token_scores(q, k).softmax(dim=1)
    mixed = (weights.mT @ join_heads(v)).unflatten(2, (q.shape[1], -1))
    return mixed.diagonal(dim1=1, dim2=2).transpose(1, 2)[:, :, None]


def token_scores(token: Tensor, others: Tensor) -> Tensor:
    """Return the scores (N, L, A), scaled by 1/sqrt(D), of one token per object (N, A, 1, D) with others (N, A, L, D).

    One product for all heads, on the tokens as the projection left them, which saves a copy of them by heads: the
    token's heads go to different columns, each zero outside its own channels. They are scaled there: the product itself
    can be more than float16 holds.
    """
    heads, width = token.shape[1], token.shape[3]
    own = torch.eye(heads, dtype=token.dtype, device=token.device) * width**-0.5
    spread = (token[:, :, 0, :, None] * own[:, None]).flatten(1, 2)
    return join_heads(others) @ spread


def join_heads(x: Tensor) -> Tensor:
    """Return (N, L, A·D); a view of (N, A, L, D) as split_heads makes it."""
    return x.transpose(1, 2).flatten(2)
