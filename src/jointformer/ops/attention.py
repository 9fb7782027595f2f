"""Joint attention: queries read their own keys densely and the memory's keys densely or by top-k.

The rule (JointFormer, top-k attention at inference): the softmax runs over *all* own keys plus only the `topk`
largest memory scores of each query row and head; every other memory weight is 0. What the paper leaves open
is fixed here, and every path keeps to it:

- the selection is by threshold: a memory key is kept if its score is not below the row's k-th largest score,
  so keys that tie with the k-th largest are all kept (a row of equal scores keeps every key);
- `topk` of the number of keys or more keeps them all;
- scores are float32 whatever the inputs' type: in bfloat16 the large ones of a network that matches well would be off
  by a tenth of their weight and more, and what is kept would be decided by ties of rounding. A path may take scores for
  equal that differ by less than 2**-13 of the product of the lengths of query and longest key;
- a NaN among a row's scores makes that row of the result NaN, as a dense softmax does, and no other row.

`plain_attention` states the rule in tensor operations, on any device without waiting for it, and serves gradients and
small sizes. Large sizes on the CPU take compiled kernels (attention_cpu), CUDA devices a Triton kernel where Triton is
installed (attention_gpu); both are tested against it. Exported graphs (model/onnx_graphs.py) hold it head by head.
"""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.ops.kernels import kernel_module

# From this many scores of an object on, compiled kernels are worth their start.
FAST_FROM = 1 << 18
# Below this many query rows a score matrix is smaller than a joined copy of the keys would be.
FEW_ROWS = 16
# Devices that Triton's kernel is for; tests run it on others, in Triton's interpreter.
GPUS = ("cuda",)
# Below any kept score by more than float32's exponential can tell from 0.
FAR = 1e30
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
    """The attention's result (N, A, P, D) in q's dtype: values weighted by a softmax over own and kept keys.

    N objects, A heads, P query tokens, D head width. `q` (N, A, P, D); `k`, `v` (N, A, L, D) the own keys and
    values; `memory_k`, `memory_v` (N, A, S, D) the memory's, or both None. Any of them may have 1 in place of
    N (shared by all objects), and any strides. Scores are scaled by 1/sqrt(D).

    `topk` keeps that many memory keys per row and head (None: all); with `frame_tokens` it keeps that many in
    each group of `frame_tokens` consecutive memory keys (range every_frame). `out` (N, A, P, D) receives the
    result and is returned; without it the result is laid out as (N, P, A, D), so that joining the heads costs
    nothing.

    Raises ValueError for shapes or dtypes that do not fit, a `topk` below 1 or a `frame_tokens` that does not
    divide S, and for `out` while gradients are recorded.
    """
    if memory_k is None or memory_v is None:
        if memory_k is not memory_v:
            raise ValueError("joint_attention needs memory_k and memory_v, or neither")
        memory_k, memory_v = k[:, :, :0], v[:, :, :0]
    _check(q, k, v, memory_k, memory_v, topk, frame_tokens)
    group = frame_tokens or memory_k.shape[2]
    if topk is not None and topk >= group:
        topk = None
    if torch.compiler.is_exporting():
        return _plain_by_heads(q, k, v, memory_k, memory_v, topk, group)
    if torch.is_grad_enabled() and any(t.requires_grad for t in (q, k, v, memory_k, memory_v)):
        if out is not None:
            raise ValueError("joint_attention cannot write into `out` while gradients are recorded")
        if topk is not None:
            return plain_attention(q, k, v, memory_k, memory_v, topk, group)
        return _dense(q, k, v, memory_k, memory_v)
    way = _way(q, k, memory_k, topk, group)
    if way is None:
        result = _dense(q, k, v, memory_k, memory_v)
        return result if out is None else out.copy_(result)
    objects = max(q.shape[0], k.shape[0], memory_k.shape[0])
    shape = (objects, *q.shape[1:])
    if out is None:
        out = q.new_empty(objects, q.shape[2], q.shape[1], q.shape[3]).transpose(1, 2)
    elif (out.shape, out.dtype, out.device) != (shape, q.dtype, q.device):
        raise ValueError(f"joint_attention needs `out` of shape {shape} and q's dtype and device")
    way(q, k, v, memory_k, memory_v, topk, group, out)
    return out


def attend_one_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor | None:
    """The result (N, A, 1, D) for one query row per head, or None where no kernel serves it.

    q (N, A, 1, D); k, v (N, A, L, D), any strides: no copy of them by heads is made.
    """
    if torch.is_grad_enabled() or q.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    kernels = _kernels()
    if kernels is None or not kernels.fits_one_row(q):
        return None
    result: Tensor = kernels.attend_one_row(q, k, v)
    return result


#: Fills its last argument from (q, k, v, memory_k, memory_v, topk, group).
Way = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor, "int | None", int, Tensor], None]


def _way(q: Tensor, k: Tensor, memory_k: Tensor, topk: int | None, group: int) -> Way | None:
    """How to compute a result without gradients; None for PyTorch's own dense attention."""
    rows, memory = q.shape[2], memory_k.shape[2]
    if topk is None and memory > 0:
        return _plain_in_parts if rows <= FEW_ROWS else None
    if topk is not None and rows > FEW_ROWS and q.device.type in GPUS and _fits_triton(q, k, memory_k):
        return torch.ops.jointformer.attend_topk
    large = q.shape[1] * rows * (k.shape[2] + memory) >= FAST_FROM  # of one object: others decide nothing about it
    kernels = _kernels() if large and q.device.type == "cpu" and not torch.compiler.is_compiling() else None
    if topk is None:  # own keys alone
        if kernels is not None and kernels.fits_tiles(q, group):
            return kernels.attend_own_tiles
        return kernels.attend_own_rows if kernels is not None and kernels.fits_own_rows(q) else None
    if kernels is not None and kernels.fits_tiles(q, group):
        tiles: Way = kernels.attend_tiles
        return tiles
    if kernels is not None and kernels.fits_rows(q):
        row_by_row: Way = kernels.attend_rows
        return row_by_row
    return _plain_in_parts


def _kernels() -> ModuleType | None:
    """The compiled kernels' module, or None where Numba cannot be imported."""
    return kernel_module("attention_cpu")


def _fits_triton(q: Tensor, k: Tensor, memory_k: Tensor) -> bool:
    """Whether the GPU's kernel serves these: type, head width, and tokens that 32-bit numbers reach from the first."""
    reached = all(tensor.stride(2) * tensor.shape[2] < 1 << 31 for tensor in (q, k, memory_k))
    return reached and triton_serves(q.device, q.dtype, q.shape[3])


def triton_serves(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether the GPU's kernel is for this type and head width, and can be made here."""
    kernel = kernel_module("attention_gpu", "triton")
    return kernel is not None and bool(kernel.serves(device, dtype, width))


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int | None, group: int
) -> Tensor:
    """The result by plain tensor operations: differentiable, on any device, without waiting for it.

    The other paths are tested against this one. Shapes as in `joint_attention`; `group` consecutive memory
    keys compete for `topk` places.
    """
    if q.dtype in (torch.bfloat16, torch.float16):
        q, k, memory_k = q.float(), k.float(), memory_k.float()
    q = q * q.shape[-1] ** -0.5
    own = q @ k.mT
    memory = q @ memory_k.mT
    if topk is not None and topk < group:
        grouped = memory.unflatten(-1, (-1, group))
        threshold = grouped.detach().topk(topk, dim=-1).values[..., -1:]
        # "not below" rather than "at least": a NaN stays in and shows in the result.
        memory = _without(grouped, grouped < threshold).flatten(-2)
    weights = torch.cat((own, memory), dim=-1).softmax(dim=-1)
    weights = weights if weights.dtype == v.dtype else weights.to(v.dtype)
    own_weights, memory_weights = weights.split((own.shape[-1], memory.shape[-1]), dim=-1)
    return own_weights @ v + memory_weights @ memory_v


def _without(scores: Tensor, dropped: Tensor) -> Tensor:
    """The float scores with those that are dropped so low that their weight is 0."""
    if torch.compiler.is_exporting():  # ONNX Runtime takes five times as long to choose between tensors
        return scores - dropped.to(scores.dtype) * FAR
    return scores.masked_fill(dropped, float("-inf"))


def _plain_in_parts(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor,
    topk: int | None, group: int, out: Tensor,
) -> None:  # fmt: skip
    """Fills `out` by `plain_attention`, one object and a few heads at a time, so that scores stay small."""
    row_bytes = (k.shape[2] + memory_k.shape[2]) * 4
    heads = max(1, SCORE_BYTES // (q.shape[2] * row_bytes))
    for n in range(out.shape[0]):
        parts = [tensor[n if tensor.shape[0] > 1 else 0] for tensor in (q, k, v, memory_k, memory_v)]
        for first in range(0, out.shape[1], heads):
            some_q, some_k, some_v, some_mk, some_mv = (part[first : first + heads] for part in parts)
            out[n, first : first + heads] = plain_attention(some_q, some_k, some_v, some_mk, some_mv, topk, group)


def _plain_by_heads(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int | None, group: int
) -> Tensor:
    """The result of `plain_attention`, whose scores are there for one head at a time; nothing depends on sizes."""
    heads = zip(*(tensor.split(1, dim=1) for tensor in (q, k, v, memory_k, memory_v)))
    parts = [plain_attention(q1, k1, v1, mk1, mv1, topk, group) for q1, k1, v1, mk1, mv1 in heads]
    return torch.cat([part.transpose(1, 2) for part in parts], dim=2).transpose(1, 2)


def _dense(q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor) -> Tensor:
    """PyTorch's own attention over own and memory keys, objects broadcast."""
    objects = max(q.shape[0], k.shape[0], memory_k.shape[0])
    q, k, v, memory_k, memory_v = (t.expand(objects, -1, -1, -1) for t in (q, k, v, memory_k, memory_v))
    if memory_k.shape[2] > 0:
        k, v = torch.cat((k, memory_k), dim=2), torch.cat((v, memory_v), dim=2)
    if q.device.type == "cpu" and q.dtype == torch.bfloat16 and torch.is_grad_enabled() and q.requires_grad:
        # Training on a CPU: the fused kernel's backward takes several times as long as plain products.
        return ((q * q.shape[-1] ** -0.5) @ k.mT).softmax(dim=-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


def _check(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor,
    topk: int | None, frame_tokens: int | None,
) -> None:  # fmt: skip
    """Raises ValueError where the arguments do not fit together."""
    tensors = (q, k, v, memory_k, memory_v)
    if any(tensor.dim() != 4 or tensor.shape[1::2] != q.shape[1::2] for tensor in tensors):
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in tensors)
        raise ValueError(f"joint_attention needs (N, A, tokens, D) tensors of the same A and D, got {shapes}")
    if len({(tensor.dtype, tensor.device) for tensor in tensors}) > 1:
        kinds = ", ".join(f"{tensor.dtype} on {tensor.device}" for tensor in tensors)
        raise ValueError(f"joint_attention needs one dtype and one device, got {kinds}")
    objects = max(tensor.shape[0] for tensor in tensors)
    if any(tensor.shape[0] not in (1, objects) for tensor in tensors):  # no set: the compiler would fix their number
        raise ValueError(f"joint_attention got object counts {[tensor.shape[0] for tensor in tensors]}")
    if k.shape != v.shape or memory_k.shape != memory_v.shape:
        raise ValueError("joint_attention needs as many values as keys")
    if topk is not None and topk < 1:
        raise ValueError(f"joint_attention needs topk of 1 or more, or None, got {topk}")
    tokens = memory_k.shape[2]
    if frame_tokens is not None and (frame_tokens < 1 or tokens % frame_tokens):
        raise ValueError(f"joint_attention got {tokens} memory keys, no multiple of frame_tokens {frame_tokens}")
