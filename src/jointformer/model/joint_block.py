"""The transformer block at stride 16 and its three uses: reading memory, writing it, enhancing by the memory token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor, nn

from jointformer.model.attention import Attention, attend_token, join_heads, token_scores
from jointformer.model.fused import linear_mlp, mlp
from jointformer.ops.attention import joint_attention

#: Queries, keys and values, each (B, A, P, D).
Projected: TypeAlias = tuple[Tensor, Tensor, Tensor]

#: Takes the keys and values (N, A, P, D) of a memory frame in one joint block. They are views of a larger product, kept
#: with them: who needs them for long copies them.
KeepKeys: TypeAlias = Callable[[Tensor, Tensor], None]


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

    @property
    def first(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the first layer."""
        return self.fc1.weight, self.fc1.bias

    @property
    def second(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the second layer."""
        return self.fc2.weight, self.fc2.bias

    def forward(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        """Return x + MLP(norm(x))."""
        return mlp(x, norm, self.first, self.second)


class JointBlock(nn.Module):
    """Pre-norm transformer block. N is the number of object rows (clips × objects), P the number of tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.mlp = Mlp(width)

    def _finish(self, x: Tensor, heads_out: Tensor) -> Tensor:
        """Return the block's output (N, P, C) from its input and the heads' results (N, A, P, D)."""
        mlp = self.mlp
        return linear_mlp(join_heads(heads_out), self.attn.merging, x, self.norm2, mlp.first, mlp.second)

    def project(self, x: Tensor) -> Projected:
        """Return the queries, keys and values of tokens x (B, P, C)."""
        return self.attn.project(x, self.norm1)

    def read(
        self,
        projected: Projected,
        memory: Sequence[LayerMemory],
        rows: int,
        *,
        topk: int | None = None,
        frame_tokens: int | None = None,
    ) -> Tensor:
        """Return the heads' results (rows, A, P, D) of tokens that attend to themselves and to each row's memory.

        projected: what `project` returns for tokens (rows, P, C), or (B, P, C) with rows a multiple of B where the
        query does not depend on the object yet.
        """
        q, k, v = (_repeat_rows(t, rows) for t in projected)
        parts = [
            joint_attention(
                _rows_of(q, m),
                _rows_of(k, m),
                _rows_of(v, m),
                m.keys,
                m.values,
                topk=topk,
                frame_tokens=frame_tokens,
            )
            for m in memory
        ]
        # As each part is laid out: joining the heads then costs no copy.
        return parts[0] if len(parts) == 1 else torch.cat([part.transpose(1, 2) for part in parts]).transpose(1, 2)

    def finish_read(self, x: Tensor, heads_out: Tensor) -> Tensor:
        """Return the tokens (rows, P, C) after the block from those that `read` compared and what it returned."""
        return self._finish(_repeat_rows(x, heads_out.shape[0]), heads_out)

    def write(
        self, x: Tensor, *, has_token: bool, token_topk: int | None = None, keep: KeepKeys | None = None
    ) -> Tensor:
        """Return [token,] memory tokens after the block; `keep` gets their keys and values, without the token's.

        x: (N, P, C), or (N, 1 + P, C) with the token first. Memory tokens attend to memory tokens only, the token to
        itself and to them.
        """
        return self._finish(x, self._attend_written(x, has_token, token_topk, keep))

    def _attend_written(self, x: Tensor, has_token: bool, token_topk: int | None, keep: KeepKeys | None) -> Tensor:
        """Return the heads' results of `write`; the projections are gone by then, before the MLP needs its memory."""
        q, k, v = self.project(x)
        keys, values = (k[:, :, 1:], v[:, :, 1:]) if has_token else (k, v)
        if keep is not None:
            keep(keys, values)
        if not has_token:
            return joint_attention(q, keys, values)
        token = attend_token(q[:, :, :1], k, v, topk=token_topk)
        if torch.is_grad_enabled():
            return torch.cat([token, joint_attention(q[:, :, 1:], keys, values)], dim=2)
        heads_out = q.new_empty(k.shape[0], k.shape[2], k.shape[1], k.shape[3]).transpose(1, 2)
        heads_out[:, :, :1] = token
        joint_attention(q[:, :, 1:], keys, values, out=heads_out[:, :, 1:])
        return heads_out

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
        token = attend_token(self.attn.project_query(normed[:, :1]), k, v, topk=token_topk)
        return self._finish(x[:, :1], token), k[:, :, 1:], v[:, :, 1:]

    def enhance(self, x: Tensor, token: Tensor, *, last: bool) -> tuple[Tensor, Tensor]:
        """Return (feature tokens (N, P, C), token (N, 1, C)) after gated addition of the token's value.

        Each feature token gets sigmoid(q · k_token · scale) · v_token per head. The token's own attention output is
        its normed self (as published); after the last block nobody reads it, so it is returned as it came.
        """
        normed_token = self.norm1(token)
        k, v = self.attn.project_key_value(normed_token)
        q = self.attn.project_query(x, self.norm1)
        gate = torch.sigmoid(token_scores(k, q))
        x = self._finish(x, (gate[..., None] * v.transpose(1, 2)).transpose(1, 2))
        return x, token if last else self.mlp(token + normed_token, self.norm2)


def _rows_of(x: Tensor, memory: LayerMemory) -> Tensor:
    """Return the rows of x (rows, ...) that have this memory; x itself, without a view, where all of them do."""
    return x if x.shape[0] == memory.stop - memory.start else x[memory.start : memory.stop]


def _repeat_rows(x: Tensor, rows: int) -> Tensor:
    """Return x with every row repeated rows / len(x) times; x itself or a view where it has so many or one row only."""
    if x.shape[0] == rows:
        return x
    if x.shape[0] == 1:
        return x.expand(rows, *x.shape[1:])
    return x.repeat_interleave(rows // x.shape[0], dim=0)
