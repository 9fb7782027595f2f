"""Joint attention: queries read their own keys densely and the memory's keys densely or by top-k.

The rule (JointFormer, top-k attention at inference): the softmax runs over *all* own keys plus only the `topk`
largest memory scores of each query row and head; every other memory weight is 0. What the paper leaves open is
fixed here, and every path of this package keeps to it:

- the selection is by threshold: a memory key is kept if its score is not below the row's k-th largest score, so
  keys that tie with the k-th largest are all kept (a row of equal scores keeps every key);
- `topk` of the number of keys or more keeps them all;
- a NaN among a row's scores makes that row of the result NaN, as a dense softmax does, and no other row.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

# Below this many query rows a score matrix is smaller than a joined copy of the keys would be.
FEW_ROWS = 16
# Without gradients the plain path takes as many heads at a time as keep the scores within this many bytes.
SCORE_BYTES = 128 << 20


def joint_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    memory_k: Tensor | None = None,
    memory_v: Tensor | None = None,
    *,
    topk: int | None = None,
    frame_tokens: int | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """The attention's result (N, A, P, D) in q's dtype: softmax over own and kept memory keys, times the values.

    N objects, A heads, P query tokens, D head width. `q` (N, A, P, D); `k`, `v` (N, A, L, D) the own keys and
    values; `memory_k`, `memory_v` (N, A, S, D) the memory's, or both None. Any of them may have 1 in place of N
    (shared by all objects), and any strides. Scores are scaled by 1/sqrt(D).

    `topk` keeps that many memory keys per row and head (None: all); with `frame_tokens` it keeps that many in each
    group of `frame_tokens` consecutive memory keys (range every_frame). `out` (N, A, P, D) receives the result and
    is returned; without it the result is laid out as (N, P, A, D), so that joining the heads costs nothing.

    Raises ValueError for shapes that do not fit, a `topk` below 1 or a `frame_tokens` that does not divide S, and
    for `out` while gradients are recorded.
    """
    _check(q, k, v, memory_k, memory_v, topk, frame_tokens)
    recording = torch.is_grad_enabled() and any(
        tensor is not None and tensor.requires_grad for tensor in (q, k, v, memory_k, memory_v)
    )
    if out is not None and recording:
        raise ValueError("joint_attention cannot write into `out` while gradients are recorded")
    if memory_k is not None and memory_v is not None and memory_k.shape[2] > 0:
        group = frame_tokens or memory_k.shape[2]
        result = _with_memory(q, k, v, memory_k, memory_v, topk, group, out, recording)
    else:
        result = _dense(q, k, v)
    if out is None or result is out:
        return result
    return out.copy_(result)


def _with_memory(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor,
    topk: int | None, group: int, out: Tensor | None, recording: bool,
) -> Tensor:  # fmt: skip
    """The result, by the path that fits the sizes and the device."""
    if topk is not None and topk >= group:
        topk = None
    if topk is None and q.shape[2] > FEW_ROWS:
        return _dense(q, _joined(k, memory_k), _joined(v, memory_v))
    if recording:
        return plain_attention(q, k, v, memory_k, memory_v, topk, group)
    if out is None:
        out = empty_result(q, k, memory_k)
    return _plain_in_parts(q, k, v, memory_k, memory_v, topk, group, out)


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int | None, group: int
) -> Tensor:
    """The result by plain tensor operations: differentiable, on any device, without waiting for it.

    The other paths are tested against this one. Shapes as in `joint_attention`; `group` consecutive memory
    keys compete for `topk` places.
    """
    q = q * q.shape[-1] ** -0.5
    own = q @ k.mT
    memory = q @ memory_k.mT
    if topk is not None and topk < group:
        grouped = memory.unflatten(-1, (-1, group))
        threshold = grouped.detach().topk(topk, dim=-1).values[..., -1:]
        # "not below" rather than "at least": a NaN stays in and shows in the result.
        memory = grouped.masked_fill(grouped < threshold, float("-inf")).flatten(-2)
    weights = torch.cat((own, memory), dim=-1).softmax(dim=-1)
    own_weights, memory_weights = weights.split((own.shape[-1], memory.shape[-1]), dim=-1)
    return own_weights @ v + memory_weights @ memory_v


def _plain_in_parts(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor,
    topk: int | None, group: int, out: Tensor,
) -> Tensor:  # fmt: skip
    """`out`, filled by `plain_attention` one object and a few heads at a time, so that scores stay small."""
    row_bytes = (k.shape[2] + memory_k.shape[2]) * q.element_size()
    heads = max(1, SCORE_BYTES // (q.shape[2] * row_bytes))
    for n in range(out.shape[0]):
        parts = [tensor[n if tensor.shape[0] > 1 else 0] for tensor in (q, k, v, memory_k, memory_v)]
        for first in range(0, out.shape[1], heads):
            some_q, some_k, some_v, some_mk, some_mv = (part[first : first + heads] for part in parts)
            out[n, first : first + heads] = plain_attention(
                some_q, some_k, some_v, some_mk, some_mv, topk, group
            )
    return out


def _dense(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """PyTorch's own attention, objects broadcast without copying."""
    objects = max(q.shape[0], k.shape[0])
    q, k, v = (tensor.expand(objects, -1, -1, -1) for tensor in (q, k, v))
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled() and q.requires_grad:
        # Training on a CPU: forward and backward of the fused kernel take twice as long as two products.
        return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def _joined(own: Tensor, memory: Tensor) -> Tensor:
    """Own and memory keys (or values) as one tensor (N, A, L + S, D)."""
    objects = max(own.shape[0], memory.shape[0])
    return torch.cat((own.expand(objects, -1, -1, -1), memory.expand(objects, -1, -1, -1)), dim=2)


def empty_result(q: Tensor, k: Tensor, memory_k: Tensor) -> Tensor:
    """An unset (N, A, P, D) result, laid out as (N, P, A, D)."""
    objects = max(q.shape[0], k.shape[0], memory_k.shape[0])
    return q.new_empty(objects, q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)


def _check(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor | None, memory_v: Tensor | None,
    topk: int | None, frame_tokens: int | None,
) -> None:  # fmt: skip
    """Raises ValueError where the arguments do not fit together."""
    if (memory_k is None) != (memory_v is None):
        raise ValueError("joint_attention needs memory_k and memory_v, or neither")
    present = [tensor for tensor in (q, k, v, memory_k, memory_v) if tensor is not None]
    if any(tensor.dim() != 4 or tensor.shape[1::2] != q.shape[1::2] for tensor in present):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in present)
        raise ValueError(f"joint_attention needs (N, A, tokens, D) tensors of the same A and D, got {shapes}")
    if len({tensor.shape[0] for tensor in present} - {1}) > 1:
        raise ValueError(f"joint_attention got object counts {[tensor.shape[0] for tensor in present]}")
    memory_shapes = {tensor.shape for tensor in (memory_k, memory_v) if tensor is not None}
    if k.shape != v.shape or len(memory_shapes) > 1:
        raise ValueError("joint_attention needs as many values as keys")
    if topk is not None and topk < 1:
        raise ValueError(f"joint_attention needs topk of 1 or more, or None, got {topk}")
    tokens = 0 if memory_k is None else memory_k.shape[2]
    if frame_tokens is not None and (frame_tokens < 1 or tokens % frame_tokens):
        raise ValueError(f"joint_attention got {tokens} memory keys, no multiple of frame_tokens {frame_tokens}")
