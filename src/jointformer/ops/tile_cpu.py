"""Linear layers in bfloat16 on a processor with AMX: rows shared out to threads. Importing this file imports Numba."""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointformer.ops import tile_linear
from jointformer.ops.topk_cpu import aligned, tile_configuration, tiles_allowed
from jointformer.ops.workers import run_team

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


def fits_norm(x: Tensor) -> bool:
    """Whether rows x (..., C) are worth the kernel for a norm with GELU."""
    return x.shape[-1] % ROWS == 0 and fits(x)


def linear(
    x: Tensor, layer: Layer, *, norm: Norm | None = None, gelu: bool = False, add: Tensor | None = None
) -> Tensor:
    """Return x (..., C), through a layer norm, times a weight plus bias, then GELU or plus `add`. See `fits`."""
    weight, _ = layer
    (outer, inner), out = weight.shape, x.new_empty(*x.shape[:-1], weight.shape[0])
    kind = tile_linear.ADD if add is not None else tile_linear.GELU if gelu else tile_linear.PLAIN
    chunk = outer if 2 * inner * outer <= WHOLE_BYTES else _chunk(inner, outer)
    sizes = _Sizes(inner, outer, PART, chunk, 0)
    room = (2 * chunk * inner, 4 * (outer + 2 * inner), 0)
    _run(kind, x, norm, layer, None, add, out, sizes, room)
    return out


def mlp(x: Tensor, norm: Norm, first: Layer, second: Layer, *, add: Tensor) -> Tensor:
    """Return add + second(GELU(first(norm(x)))) of rows x (..., C). See `fits`."""
    (hidden, width), out = first[0].shape, torch.empty(x.shape, dtype=x.dtype)
    whole = 4 * width * hidden <= WHOLE_BYTES
    chunks = (hidden, width) if whole else (_chunk(width, hidden), _chunk(hidden, width))
    sizes = _Sizes(width, hidden, SMALL_PART if whole else PART, *chunks)
    packed = 4 * width * hidden if whole else 2 * max(chunks[0] * width, chunks[1] * hidden)
    _run(tile_linear.ADD, x, norm, first, second, add, out, sizes, (packed, 4 * (hidden + 3 * width), hidden))
    return out


def norm_gelu_(x: Tensor, norm: Norm) -> Tensor:
    """Return GELU(norm(x)) of rows x (..., C) in their place. See `fits`; x must be contiguous."""
    width = x.shape[-1]
    _run(tile_linear.GELU, x, norm, None, None, None, x, _Sizes(width, width, ROWS, 0, 0), (0, 8 * width, 0))
    return x


class _Sizes(NamedTuple):
    """Widths of a layer or an MLP, rows brought into tiles at a time, columns packed at a time."""

    inner: int
    outer: int
    part: int
    chunk: int
    second_chunk: int


def _run(
    kind: int, x: Tensor, norm: Norm | None, first: Layer | None, second: Layer | None, add: Tensor | None, out: Tensor,
    sizes: _Sizes, room: tuple[int, int, int],
) -> None:  # fmt: skip
    """Fill `out`; room: bytes for packed columns and for floats, and the width of hidden rows, of a thread."""
    assert tiles_allowed(), "the system has not been asked for AMX"  # its instructions would end the process
    rows, target = _rows(x), out.view(-1, out.shape[-1])
    added = None if add is None else _rows(add.expand(out.shape))
    layers = [tensor.contiguous() for layer in (first, second) if layer is not None for tensor in layer]
    weights = [tensor.data_ptr() for tensor in layers] + [0] * (4 - len(layers))
    spans = np.array(_spans(len(rows)), np.int64)
    part = min(sizes.part, int((spans[:, 1] - spans[:, 0]).max()))
    lines = math.ceil(part / ROWS) * ROWS
    scratch = _scratch(len(spans), (64, 2 * lines * sizes.inner, room[0], room[1], 8192, 2 * lines * room[2]))
    before, eps = (0, 0), 0.0
    if norm is not None:
        before, eps = (norm[0].data_ptr(), norm[1].data_ptr()), norm[2]
    numbers = np.array(
        [
            0, 0, len(spans), spans.ctypes.data, tile_configuration().ctypes.data, scratch.ctypes.data, kind,
            *_place(rows), *before, 0, *weights, *_place(added), *_place(target), *sizes._replace(part=part),
        ],
        np.int64,
    )  # fmt: skip
    numbers[tile_linear.EPS : tile_linear.EPS + 1].view(np.float64)[0] = eps
    run_team(tile_linear.layer_rows.address, numbers.ctypes.data, len(spans))


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


def _place(rows: Tensor | None) -> tuple[int, int]:
    """(address, bytes from row to row)."""
    return (0, 0) if rows is None else (rows.data_ptr(), rows.stride(0) * rows.element_size())


class _Scratch(threading.local):
    """What the threads of this thread's calls work in; buffers grow as needed."""

    def __init__(self) -> None:
        self.buffers: list[list[np.ndarray]] = []
        self.sizes: tuple[int, ...] = ()
        self.addresses = np.zeros((0, tile_linear.BUFFERS_EACH), np.int64)


_local = _Scratch()


def _scratch(threads: int, sizes: tuple[int, ...]) -> np.ndarray:
    """(threads, buffers) addresses of buffers of at least so many bytes each."""
    if threads > len(_local.addresses) or any(new > old for new, old in zip(sizes, _local.sizes, strict=True)):
        old = _local.sizes or (0,) * len(sizes)
        _local.sizes = tuple(max(pair) for pair in zip(sizes, old, strict=True))
        count = max(threads, len(_local.addresses))
        _local.buffers = []  # given back before new ones are taken
        _local.buffers = [[aligned(size, np.uint8) for size in _local.sizes] for _ in range(count)]
        _local.addresses = np.array([[b.ctypes.data for b in buffers] for buffers in _local.buffers], np.int64)
    return _local.addresses
