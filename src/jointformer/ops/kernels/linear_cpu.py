"""Linear layers in bfloat16 on CPUs that multiply it: rows shared out to threads. Importing this file imports Numba."""

from __future__ import annotations

import ctypes
import functools
import struct
import threading
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from jointformer.ops.kernels import linear_layers
from jointformer.ops.kernels.attention_cpu import aligned
from jointformer.ops.kernels.processor import CAN_MULTIPLY, TILE_CONFIGURATION
from jointformer.ops.kernels.workers import run_team

ROWS = linear_layers.ROWS
#: Fewer rows of an object than these for each thread are not worth packing the weights for.
LEAST_ROWS = 192
#: Weights up to these sizes are packed once for all rows, else a chunk of columns at a time.
WHOLE_BYTES, CHUNK_BYTES = 5 << 19, 3 << 18
#: Rows that are brought into tiles together: with small weights their hidden features stay in the cache as well.
PART, SMALL_PART = 1024, 256
_TILE_ADDRESS = int(TILE_CONFIGURATION.ctypes.data)

#: (weight, bias, eps) of a layer norm.
Norm = tuple[Tensor, Tensor, float]
#: (weight (D, C), bias (D,)) of a linear layer.
Layer = tuple[Tensor, Tensor]


def fits(x: Tensor, *weights: Tensor) -> bool:
    """Whether rows x (R, C) or (N, ..., C) times these weights are worth the kernels: bfloat16, whole tiles, many rows.

    Of N objects one's rows count: which others are computed with it decides nothing about its result.
    """
    rows = x.numel() // max(1, x.shape[-1] * (x.shape[0] if x.ndim > 2 else 1))
    return (
        x.dtype == torch.bfloat16
        and rows >= LEAST_ROWS * torch.get_num_threads()
        and all(w.dtype == x.dtype and w.shape[0] % ROWS == 0 and w.shape[1] % ROWS == 0 for w in weights)
        and CAN_MULTIPLY
    )


def fits_norm(x: Tensor) -> bool:
    """Whether rows x (..., C) are worth the kernel for a norm with GELU."""
    return x.shape[-1] % ROWS == 0 and fits(x)


def linear(
    x: Tensor, layer: Layer, *, norm: Norm | None = None, gelu: bool = False, add: Tensor | None = None
) -> Tensor:
    """Return x (..., C), through a layer norm, times a weight plus bias, then GELU or plus `add`. See `fits`."""
    weight, _ = layer
    outer, inner = weight.shape
    out = x.new_empty(*x.shape[:-1], outer)
    rows = out.numel() // outer
    kind = linear_layers.ADD if add is not None else linear_layers.GELU if gelu else linear_layers.PLAIN
    plan = _plan_linear(inner, outer, rows, torch.get_num_threads())
    _run(plan, _Stage(plan, kind, x, norm, layer, None, add, out))
    return out


def mlp(x: Tensor, norm: Norm, first: Layer, second: Layer, *, add: Tensor) -> Tensor:
    """Return add + second(GELU(first(norm(x)))) of rows x (..., C). See `fits`."""
    (hidden, width), out = first[0].shape, x.new_empty(x.shape)
    plan = _plan_mlp(width, hidden, x.numel() // width, torch.get_num_threads())
    _run(plan, _Stage(plan, linear_layers.ADD, x, norm, first, second, add, out))
    return out


def linear_mlp(x: Tensor, layer: Layer, add: Tensor, norm: Norm, first: Layer, second: Layer) -> Tensor:
    """Return y + second(GELU(first(norm(y)))) of y = add + layer(x) in one call, rows (..., C). See `fits`."""
    outer, inner = layer[0].shape
    between, out = (x.new_empty(*x.shape[:-1], outer) for _ in range(2))
    rows, threads = out.numel() // outer, torch.get_num_threads()
    plans = _plan_linear(inner, outer, rows, threads), _plan_mlp(outer, first[0].shape[0], rows, threads)
    _run(
        plans[1],
        _Stage(plans[0], linear_layers.ADD, x, None, layer, None, add, between),
        _Stage(plans[1], linear_layers.ADD, between, norm, first, second, between, out),
    )
    return out


def norm_gelu_(x: Tensor, norm: Norm) -> Tensor:
    """Return GELU(norm(x)) of rows x (..., C) in their place. See `fits`; x must be contiguous."""
    width = x.shape[-1]
    plan = _plan_norm(width, x.numel() // width, torch.get_num_threads())
    _run(plan, _Stage(plan, linear_layers.GELU, x, norm, None, None, None, x))
    return x


class _Plan(NamedTuple):
    """What a stage's sizes decide: rows in all, of a task, tasks; the stage's last numbers; bytes of buffers."""

    rows: int
    each: int
    tasks: int
    numbers: tuple[int, int, int, int, int]
    buffers: tuple[int, int, int, int, int, int]


@functools.lru_cache(maxsize=256)
def _plan_linear(inner: int, outer: int, rows: int, threads: int) -> _Plan:
    chunk = outer if 2 * inner * outer <= WHOLE_BYTES else _chunk(inner, outer)
    return _plan(inner, outer, PART, (chunk, 0), (2 * chunk * inner, 4 * (outer + 2 * inner), 0), rows, threads)


@functools.lru_cache(maxsize=256)
def _plan_mlp(width: int, hidden: int, rows: int, threads: int) -> _Plan:
    whole = 4 * width * hidden <= WHOLE_BYTES
    chunks = (hidden, width) if whole else (_chunk(width, hidden), _chunk(hidden, width))
    packed = 4 * width * hidden if whole else 2 * max(chunks[0] * width, chunks[1] * hidden)
    room = (packed, 4 * (hidden + 3 * width), hidden)
    return _plan(width, hidden, SMALL_PART if whole else PART, chunks, room, rows, threads)


@functools.lru_cache(maxsize=256)
def _plan_norm(width: int, rows: int, threads: int) -> _Plan:
    return _plan(width, width, ROWS, (0, 0), (0, 8 * width, 0), rows, threads)


def _plan(
    inner: int, outer: int, most: int, chunks: tuple[int, int], room: tuple[int, int, int], rows: int, threads: int
) -> _Plan:
    """room: bytes for packed columns and for floats, and the width of hidden rows, of a thread."""
    each = -(-rows // (threads * ROWS)) * ROWS
    tasks = (rows - ROWS) // each + 1  # fewer rows than a tile's at the end belong to the last task
    part = min(most, max(each, rows - (tasks - 1) * each))
    lines = -(-part // ROWS) * ROWS
    buffers = (64, 2 * lines * inner, room[0], room[1], 8192, 2 * lines * room[2])
    return _Plan(rows, each, tasks, (inner, outer, part, *chunks), buffers)


def _chunk(inner: int, outer: int) -> int:
    """Columns packed at a time."""
    return min(outer, max(1, CHUNK_BYTES // (2 * inner * ROWS)) * ROWS)


class _Stage:
    """The numbers of a stage (see linear_layers.py), and the tensors whose addresses they are, kept meanwhile."""

    def __init__(
        self, plan: _Plan, kind: int, x: Tensor, norm: Norm | None, first: Layer | None, second: Layer | None,
        add: Tensor | None, out: Tensor,
    ) -> None:  # fmt: skip
        self.buffers = plan.buffers
        self.kept = kept = [_rows(x), out]
        self.numbers = numbers = [kind, kept[0].data_ptr(), _row_step(kept[0])]
        numbers += (0, 0, 0) if norm is None else (norm[0].data_ptr(), norm[1].data_ptr(), _bits(norm[2]))
        for layer in (first, second):
            for tensor in layer or ():
                kept.append(tensor if tensor.is_contiguous() else tensor.contiguous())
                numbers.append(kept[-1].data_ptr())
            if layer is None:
                numbers += (0, 0)
        if add is None:
            numbers += (0, 0)
        else:
            kept.append(_rows(add if add.shape == out.shape else add.expand(out.shape)))
            numbers += (kept[-1].data_ptr(), _row_step(kept[-1]))
        numbers += (out.data_ptr(), 2 * out.shape[-1], *plan.numbers)


def _run(plan: _Plan, *stages: _Stage) -> None:
    """Fill what the stages write, in brief: between kernels the interpreter runs out of caches that they have swept."""
    assert CAN_MULTIPLY, "this processor lacks the instructions"
    numbers = [0, 0, plan.tasks, plan.rows, plan.each, _TILE_ADDRESS, 0, len(stages)]
    for stage in stages:
        _local.make_room(plan.tasks, stage.buffers)
        numbers += stage.numbers
    numbers[linear_layers.BUFFERS] = _local.address
    _local.numbers[: len(numbers)] = numbers
    run_team(linear_layers.layer_rows.address, ctypes.addressof(_local.numbers), plan.tasks)


@functools.cache
def _bits(eps: float) -> int:
    """A float64's bits."""
    return int(struct.unpack("q", struct.pack("d", eps))[0])


def _rows(x: Tensor) -> Tensor:
    """x where its rows of C lie at one distance, else its rows (R, C), copied only where they must be."""
    if x.is_contiguous():
        return x
    rows = x.reshape(-1, x.shape[-1])
    return rows if rows.stride(1) == 1 else rows.contiguous()


def _row_step(rows: Tensor) -> int:
    """Bytes from row to row of what `_rows` returns."""
    return 2 * (rows.shape[-1] if rows.is_contiguous() else rows.stride(0))


class _Scratch(threading.local):
    """What the threads of this thread's calls work in; buffers grow as needed."""

    def __init__(self) -> None:
        self.numbers: Any = (ctypes.c_int64 * linear_layers.NUMBERS)()
        self.known: set[tuple[int, tuple[int, ...]]] = set()
        self.buffers: list[list[np.ndarray]] = []
        self.sizes: tuple[int, ...] = (0,) * linear_layers.BUFFERS_EACH
        self.addresses = np.zeros((0, linear_layers.BUFFERS_EACH), np.int64)
        self.address = 0

    def make_room(self, threads: int, sizes: tuple[int, ...]) -> None:
        """Have buffers of at least so many bytes for so many threads; `address` is that of their addresses."""
        if (threads, sizes) in self.known:
            return
        if threads > len(self.addresses) or any(new > old for new, old in zip(sizes, self.sizes, strict=True)):
            needed = tuple(max(pair) for pair in zip(sizes, self.sizes, strict=True))
            count = max(threads, len(self.addresses))
            # Given back before new ones are taken; where that is broken off, nothing may be left to write to.
            self.known.clear()
            self.sizes, self.addresses, self.buffers = (0,) * len(needed), self.addresses[:0], []
            buffers = [[aligned(size, np.uint8) for size in needed] for _ in range(count)]
            addresses = np.array([[b.ctypes.data for b in each] for each in buffers], np.int64)
            self.buffers, self.addresses, self.address = buffers, addresses, int(addresses.ctypes.data)
            self.sizes = needed
        self.known.add((threads, sizes))


_local = _Scratch()
