"""The transformer block at stride 16 and its three uses: reading memory, writing it, enhancing by the memory token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.model.attention import Attention
from jointformer.ops.attention import joint_attention


@dataclass(frozen=True)
class LayerMemory:
    """Keys and values of equally full memories in one joint block: slots [start, stop), each (n, A, S, D)."""

    start: int
    stop: int
    keys: Tensor
    values: Tensor


class Mlp(nn.Module):
    """Two linear layers with expansion 4 and GELU."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class JointBlock(nn.Module):
    """Pre-norm transformer block. N is the number of object rows (clips × objects), P the number of tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        """Return the block's output from its input and the attention's result: both residuals and the MLP."""
        x = x + attended
        return x + self.mlp(self.norm2(x))

    def read(
        self,
        x: Tensor,
        memory: Sequence[LayerMemory],
        rows: int,
        *,
        topk: int | None = None,
        frame_tokens: int | None = None,
    ) -> Tensor:
        """Return query tokens (rows, P, C) after attending to themselves and to each row's memory.

        x: (rows, P, C), or (B, P, C) with rows a multiple of B where the query does not depend on the object yet:
        then its projections are computed once per frame and repeated.
        """
        q, k, v = self.attn.project(self.norm1(x))
        if x.shape[0] != rows:
            q, k, v, x = (_repeat_rows(t, rows) for t in (q, k, v, x))
        parts = [
            joint_attention(
                q[m.start : m.stop],
                k[m.start : m.stop],
                v[m.start : m.stop],
                m.keys,
                m.values,
                topk=topk,
                frame_tokens=frame_tokens,
            )
            for m in memory
        ]
        return self._finish(x, self.attn.merge(parts[0] if len(parts) == 1 else torch.cat(parts)))

    def write(self, x: Tensor, *, has_token: bool, token_topk: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return ([token,] memory tokens after the block, keys, values); keys and values exclude the token.

        x: (N, P, C), or (N, 1 + P, C) with the token first. Memory tokens attend to memory tokens only, the token to
        itself and to them.
        """
        q, k, v = self.attn.project(self.norm1(x))
        if not has_token:
            return self._finish(x, self.attn.merge(joint_attention(q, k, v))), k, v
        keys, values = k[:, :, 1:], v[:, :, 1:]
        token = joint_attention(q[:, :, :1], k[:, :, :1], v[:, :, :1], keys, values, topk=token_topk)
        tokens = joint_attention(q[:, :, 1:], keys, values)
        return self._finish(x, self.attn.merge(torch.cat([token, tokens], dim=2))), keys, values

    def write_last(
        self, x: Tensor, *, has_token: bool, token_topk: int | None = None
    ) -> tuple[Tensor | None, Tensor, Tensor]:
        """Return (token (N, 1, C) after the block or None, keys, values): `write` less what nobody reads.

        Nothing follows the last block but the token and the keys and values, so memory tokens get no queries, no
        attention and no MLP.
        """
        normed = self.norm1(x)
        k, v = self.attn.project_key_value(normed)
        if not has_token:
            return None, k, v
        keys, values = k[:, :, 1:], v[:, :, 1:]
        q = self.attn.project_query(normed[:, :1])
        token = joint_attention(q, k[:, :, :1], v[:, :, :1], keys, values, topk=token_topk)
        return self._finish(x[:, :1], self.attn.merge(token)), keys, values

    def enhance(self, x: Tensor, token: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Return (feature tokens (N, P, C), token (N, 1, C)) after gated addition of the token's value.

        Each feature token gets sigmoid(q · k_token · scale) · v_token per head. The token's own attention output is
        its normed self (as published); after the last block nobody reads it, so it is returned as it came.
        """
        normed_token = self.norm1(token)
        k, v = self.attn.project_key_value(normed_token)
        q = self.attn.project_query(self.norm1(x))
        gate = torch.sigmoid((q @ k.transpose(2, 3)) * q.shape[3] ** -0.5)
        x = self._finish(x, self.attn.merge(gate * v))
        return x, token if last else self._finish(token, normed_token)


def _repeat_rows(x: Tensor, rows: int) -> Tensor:
    """Return x with every row repeated rows / len(x) times; a view where there is one row only."""
    if x.shape[0] == 1:
        return x.expand(rows, *x.shape[1:])
    return x.repeat_interleave(rows // x.shape[0], dim=0)
