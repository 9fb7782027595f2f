"""Linear layers in bfloat16 on a processor with AMX: rows shared out to threads. Importing this file imports Numba."""

from __future__ import annotations

import math
import threading

import numpy as np
import torch
from torch import Tensor

from jointformer.ops import tile_linear
from jointformer.ops.topk_cpu import tile_configuration, tiles_allowed
from jointformer.ops.workers import share_out

ROWS = tile_linear.ROWS
#: Fewer rows than these for each thread are not worth packing the weights for.
LEAST_ROWS = 192
#: Weights up to these sizes are packed once for all rows, else a chunk of columns at a time.
WHOLE_BYTES, CHUNK_BYTES = 5 << 19, 3 << 18
#: Rows that are brought into tiles together: with small weights their hidden features stay in the cache as well.
PART, SMALL_PART = 1024, 256

#: (weight, bias, eps) of a layer norm.
Norm = tuple[Tensor, Tensor, float]
#: (weight (D, C), bias (D,)) of a linear layer.
Layer = tuple[Tensor, Tensor]


def fits(x: Tensor, *weights: Tensor) -> bool:
    """Whether rows x (..., C) times these weights are worth the kernels: bfloat16 with AMX, whole tiles, many rows."""
    rows = x.numel() // max(1, x.shape[-1])
    return (
        x.dtype == torch.bfloat16
        and rows >= LEAST_ROWS * torch.get_num_threads()
        and all(w.dtype == x.dtype and w.shape[0] % ROWS == 0 and w.shape[1] % ROWS == 0 for w in weights)
        and tiles_allowed()
    )


def linear(
    x: Tensor, layer: Layer, *, norm: Norm | None = None, gelu: bool = False, add: Tensor | None = None
) -> Tensor:
    """Return x (..., C), through a layer norm, times a weight plus bias, then GELU or plus `add`. See `fits`."""
    assert tiles_allowed(), "the system has not been asked for AMX"  # its instructions would end the process
    rows, (weight, bias) = _rows(x), _kept(layer)
    (outer, inner), count = weight.shape, len(rows)
    out = x.new_empty(*x.shape[:-1], outer)
    added = None if add is None else _rows(add.expand(out.shape))
    kind = tile_linear.ADD if added is not None else tile_linear.GELU if gelu else tile_linear.PLAIN
    whole = 2 * inner * outer <= WHOLE_BYTES
    chunk = outer if whole else _chunk(inner, outer)
    before, eps = _norm(norm)
    target = out.view(-1, outer)

    def work(span: tuple[int, int]) -> None:
        part = min(PART, span[1] - span[0])
        lines = math.ceil(part / ROWS) * ROWS
        scratch, tiles = _scratch(2 * lines * inner, 2 * chunk * inner, 4 * (outer + 2 * inner), 8192)
        tile_linear.linear_rows(
            kind, _place(rows, span[0]), before, weight.data_ptr(), bias.data_ptr(), _place(added, span[0]),
            _place(target, span[0]), (span[1] - span[0], part, inner, outer), eps, chunk, scratch, tiles,
        )  # fmt: skip

    share_out(work, _spans(count))
    return out


def mlp(x: Tensor, norm: Norm, first: Layer, second: Layer, *, add: Tensor) -> Tensor:
    """Return add + second(GELU(first(norm(x)))) of rows x (..., C). See `fits`."""
    assert tiles_allowed(), "the system has not been asked for AMX"
    rows, first, second = _rows(x), _kept(first), _kept(second)
    hidden, width = first[0].shape
    out = torch.empty(x.shape, dtype=x.dtype)
    added, target = _rows(add.expand(out.shape)), out.view(-1, width)
    whole = 4 * width * hidden <= WHOLE_BYTES
    chunks = (hidden, width) if whole else (_chunk(width, hidden), _chunk(hidden, width))
    room = 4 * width * hidden if whole else 2 * max(chunks[0] * width, chunks[1] * hidden)
    before, eps = _norm(norm)
    layers = tuple(tuple(tensor.data_ptr() for tensor in layer) for layer in (first, second))

    def work(span: tuple[int, int]) -> None:
        part = min(SMALL_PART if whole else PART, span[1] - span[0])
        lines = math.ceil(part / ROWS) * ROWS
        scratch, tiles = _scratch(2 * lines * width, room, 4 * (hidden + 3 * width), 8192, 2 * lines * hidden)
        tile_linear.mlp_rows(
            _place(rows, span[0]), before, *layers, _place(added, span[0]), _place(target, span[0]),
            (span[1] - span[0], part, width, hidden), eps, chunks, scratch, tiles,
        )  # fmt: skip

    share_out(work, _spans(len(rows)))
    return out


def _chunk(inner: int, outer: int) -> int:
    """Columns packed at a time."""
    return min(outer, max(1, CHUNK_BYTES // (2 * inner * ROWS)) * ROWS)


def _spans(rows: int) -> list[tuple[int, int]]:
    """Rows (first, end) for each thread, 32 at least."""
    step = math.ceil(rows / torch.get_num_threads() / ROWS) * ROWS
    starts = [first for first in range(0, rows, step) if first == 0 or rows - first >= ROWS]
    return list(zip(starts, [*starts[1:], rows], strict=True))


def _rows(x: Tensor) -> Tensor:
    """The rows (R, C) of a tensor (..., C), copied only where they do not lie at one distance."""
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _kept(layer: Layer) -> Layer:
    weight, bias = layer
    return weight.contiguous(), bias.contiguous()


def _norm(norm: Norm | None) -> tuple[tuple[int, int], np.float32]:
    """((addresses of weight and bias, or zeros), eps)."""
    if norm is None:
        return (0, 0), np.float32(0)
    return (norm[0].data_ptr(), norm[1].data_ptr()), np.float32(norm[2])


def _place(rows: Tensor | None, first: int) -> tuple[int, int]:
    """(address of row `first`, bytes from row to row)."""
    if rows is None:
        return 0, 0
    step = rows.stride(0) * rows.element_size()
    return rows.data_ptr() + first * step, step


_local = threading.local()


def _scratch(*sizes: int) -> tuple[tuple[int, ...], tuple[int, int]]:
    """(addresses of this thread's buffers of so many bytes, of its tile configurations); they grow as needed."""
    buffers: list[np.ndarray] = _local.__dict__.setdefault("buffers", [])
    if not buffers:
        buffers += [tile_configuration(), np.zeros(64, np.uint8)]
    for i, size in enumerate(sizes, 2):
        if len(buffers) <= i:
            buffers.append(np.empty(size + 64, np.uint8))
        elif len(buffers[i]) < size + 64:
            buffers[i] = np.empty(size + 64, np.uint8)
    addresses = tuple((buffer.ctypes.data + 63) // 64 * 64 for buffer in buffers[2 : 2 + len(sizes)])
    return addresses, (buffers[0].ctypes.data, buffers[1].ctypes.data)
