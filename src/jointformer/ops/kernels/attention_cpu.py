"""Joint attention on the CPU without gradients: heads shared out to threads, rows in blocks that stay in the cache.

Two ways, both tested against plain_attention: "tiles" (bfloat16 on processors that multiply it, see processor.py;
everything in one kernel) and "rows" (PyTorch multiplies in float32, the kernel selects: float32, or bfloat16
elsewhere). Importing this file imports Numba.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from jointformer.ops import products
from jointformer.ops.kernels import attention_fused, attention_heads, attention_token, topk_rows
from jointformer.ops.kernels.processor import CAN_MULTIPLY, TILE_CONFIGURATION
from jointformer.ops.kernels.workers import run_team, share_out

HEAD_WIDTH = 64  # of the tiles' kernel
MOST_KEYS = 1 << 16  # a group's keys are numbered with 16 bits
ROW_BLOCK = 128  # rows PyTorch multiplies at a time: their scores stay in the second-level cache
OWN_ROWS = 512  # with fewer rows PyTorch's dense attention to own keys is as fast
MOST_FRAMES = 8  # of memory that are multiplied at once where every number of them leaves something behind
MOST_SCRATCH = 3  # sizes whose buffers are kept: a step reads, writes and updates the token
PAD = attention_heads.PAD
_LOG2_E = math.log2(math.e)


@dataclass(frozen=True)
class Sizes:
    """What scratch memory depends on."""

    own: int
    memory: int
    width: int
    group: int
    topk: int

    @property
    def groups(self) -> int:
        """Parts of the memory that select their keys on their own."""
        return self.memory // self.group


def fits_tiles(q: Tensor, group: int) -> bool:
    """Whether the tiles' kernel serves these queries."""
    wide_enough = q.shape[2] >= attention_fused.ROWS and q.shape[3] == HEAD_WIDTH
    return q.dtype == torch.bfloat16 and wide_enough and group <= MOST_KEYS and CAN_MULTIPLY


def fits_one_row(q: Tensor) -> bool:
    """Whether the kernel for one row a head serves these queries."""
    return q.dtype == torch.bfloat16 and q.shape[2] == 1 and q.shape[3] == HEAD_WIDTH and CAN_MULTIPLY


def fits_rows(q: Tensor) -> bool:
    """Whether the rows' kernel serves these queries."""
    return q.dtype in (torch.float32, torch.bfloat16)


def fits_own_rows(q: Tensor) -> bool:
    """Whether the rows' kernel serves these queries, and their own keys faster than PyTorch's dense attention."""
    return q.dtype == torch.float32 and q.shape[2] >= OWN_ROWS and products.onednn_is_faster()


def attend_tiles(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int, group: int, out: Tensor
) -> None:
    """Fills `out`; shapes as in plain_attention, any strides. See fits_tiles."""
    assert CAN_MULTIPLY, "this processor lacks the instructions"
    tensors = [_rows_whole(tensor) for tensor in (q, k, v, memory_k, memory_v)]
    result = out if out.stride(3) == 1 else torch.empty_like(out, memory_format=torch.contiguous_format)
    sizes = Sizes(k.shape[2], memory_k.shape[2], q.shape[3], group, topk)
    threads = torch.get_num_threads()
    scratch = _scratch(_TileScratch, sizes, threads)
    tasks = np.array(_tasks(out, attention_fused.ROWS), np.int64)
    numbers = np.array(
        [
            0, 0, len(tasks), tasks.ctypes.data, sizes.own, group, sizes.groups, topk, TILE_CONFIGURATION.ctypes.data,
            scratch.places.ctypes.data, *(number for tensor in (*tensors, result) for number in _place(tensor)),
        ],
        np.int64,
    )  # fmt: skip
    run_team(attention_heads.attend_heads.address, numbers.ctypes.data, min(threads, len(tasks)))
    if result is not out:
        out.copy_(result)


def attend_own_tiles(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: None, group: int, out: Tensor
) -> None:
    """Fills `out` by the own keys, there being no memory. See fits_tiles."""
    attend_tiles(q, k, v, memory_k, memory_v, 1, 1, out)


def attend_one_row(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return what one bfloat16 query a head, (N, A, 1, 64), attends to among k, v (N, A, L, 64): (N, A, 1, 64)."""
    assert CAN_MULTIPLY, "rounding is the processor's"
    q, k, v = (_rows_whole(tensor) for tensor in (q, k, v))
    (objects, heads, _, width), keys = q.shape, k.shape[2]
    out = q.new_empty(objects, 1, heads, width).transpose(1, 2)
    threads, each = torch.get_num_threads(), attention_token.room(keys)
    buffers = aligned(threads * each, np.uint8)
    places = [number for tensor in (q, k, v, out) for number in _place(tensor)]
    numbers = np.array([0, 0, objects * heads, heads, keys, buffers.ctypes.data, each, *places], np.int64)
    run_team(attention_token.attend_rows.address, numbers.ctypes.data, min(threads, objects * heads))
    return out


def attend_own_rows(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: None, group: int, out: Tensor
) -> None:
    """Fills `out` by the own keys, there being no memory. See fits_own_rows."""
    attend_rows(q, k, v, memory_k, memory_v, 1, 1, out)


def attend_rows(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int, group: int, out: Tensor
) -> None:
    """Fills `out`; shapes as in plain_attention. See fits_rows."""
    sizes = Sizes(k.shape[2], memory_k.shape[2], q.shape[3], group, topk)
    scale = np.float32(q.shape[3] ** -0.5 * _LOG2_E)
    scratch = _scratch(_RowScratch, sizes, torch.get_num_threads())

    def work(worker: int, task: tuple[int, int, int, int]) -> None:
        n, a, first, last = task
        with torch.inference_mode():
            head = [tensor[n if tensor.shape[0] > 1 else 0, a].float() for tensor in (q, k, v, memory_k, memory_v)]
            _attend_rows_of_head(head, sizes, scale, scratch.of_threads[worker], out[n, a], first, last)

    share_out(work, _tasks(out, ROW_BLOCK))


def _attend_rows_of_head(
    head: list[Tensor], sizes: Sizes, scale: np.float32, buffers: _RowBuffers, out: Tensor, first: int, last: int
) -> None:
    """Fills rows first..last of one head's result (P, D) from its float32 tensors."""
    q, k, v, memory_k, memory_v = head
    k, columns = k.contiguous(), v.contiguous().mT
    values = memory_v.contiguous().view(torch.int32).numpy()
    for start in range(first, last, ROW_BLOCK):
        n = min(ROW_BLOCK, last - start)
        mixed, total = buffers.mixed[:n], buffers.total[:n]
        own = products.times_transposed(q[start : start + n], k, buffers.own[:n])
        memory = products.times_transposed(
            q[start : start + n], memory_k, buffers.memory[:n], at_once=MOST_FRAMES * sizes.own
        )
        topk_rows.attend_rows(
            own.view(torch.int32).numpy(), memory.view(torch.int32).numpy(), values,
            sizes.topk, sizes.group, scale, mixed.numpy(), total.numpy(), buffers.work,
        )  # fmt: skip
        out[start : start + n] = (
            products.times_transposed(own, columns, buffers.product[:n]).add_(mixed).div_(total[:, None])
        )


def _rows_whole(tensor: Tensor) -> Tensor:
    """The tensor, copied only if a row's values are not side by side."""
    return tensor if tensor.stride(3) == 1 else tensor.contiguous()


def _place(tensor: Tensor) -> tuple[int, int, int, int]:
    """(address, bytes from object to object, head to head, row to row); an only object stands for all."""
    objects, heads, rows, _ = (stride * tensor.element_size() for stride in tensor.stride())
    return tensor.data_ptr(), objects if tensor.shape[0] > 1 else 0, heads, rows


def _tasks(out: Tensor, block: int) -> list[tuple[int, int, int, int]]:
    """(object, head, first row, last row): `out` cut up for as many threads as PyTorch uses."""
    objects, heads, rows, _ = out.shape
    threads = torch.get_num_threads()
    # Heads are cut only as far as the threads need for equal shares: every part packs its keys anew.
    whole = objects * heads // threads * threads
    parts = min(threads // math.gcd(objects * heads, threads), max(1, rows // (2 * block)))
    step = math.ceil(rows / parts / block) * block
    starts = [first for first in range(0, rows, step) if first == 0 or rows - first >= block]
    spans = list(zip(starts, [*starts[1:], rows], strict=True))
    return [
        (*divmod(head, heads), *span)
        for head in range(objects * heads)
        for span in ([(0, rows)] if head < whole else spans)
    ]


def aligned(shape: int | tuple[int, ...], kind: type[np.generic]) -> np.ndarray:
    """An uninitialised array that begins with a line of the cache: tiles across two lines take twice as long."""
    size = math.prod((shape,) if isinstance(shape, int) else shape) * np.dtype(kind).itemsize
    room = np.empty(size + 64, np.uint8)
    first = -room.ctypes.data % 64
    return room[first : first + size].view(kind).reshape(shape)


class _RowBuffers:
    """One thread's buffers for the rows' kernel."""

    def __init__(self, sizes: Sizes) -> None:
        float32: Any = {"dtype": torch.float32, "device": "cpu"}  # whatever the process has as its defaults
        self.own = torch.empty(ROW_BLOCK, sizes.own, **float32)
        self.memory = torch.empty(ROW_BLOCK, sizes.memory, **float32)
        self.mixed, self.product = torch.empty(2, ROW_BLOCK, sizes.width, **float32)
        self.total = torch.empty(ROW_BLOCK, **float32)
        self.work = (
            *(
                np.empty((topk_rows.TOGETHER, columns), kind)
                for columns, kind in (
                    (sizes.group + PAD, np.int32),
                    (2 * sizes.topk + PAD, np.int32),
                    (sizes.group + PAD, np.int32),
                    (sizes.group + PAD, np.uint32),
                    (sizes.memory + 1, np.int32),
                    (sizes.memory + 1, np.float32),
                )
            ),
            *(np.empty(topk_rows.TOGETHER, np.int64) for _ in range(5)),
        )


class _RowScratch:
    """The buffers of some threads for the rows' kernel."""

    def __init__(self, sizes: Sizes, threads: int) -> None:
        self.threads = threads
        self.of_threads = [_RowBuffers(sizes) for _ in range(threads)]


class _TileScratch:
    """The buffers of some threads for the tiles' kernel; `places`: their addresses and shapes, as it reads them."""

    def __init__(self, sizes: Sizes, threads: int) -> None:
        self.threads = threads
        shapes = attention_heads.shapes(sizes.own, sizes.group, sizes.groups, sizes.topk)
        self.places = np.zeros((threads, attention_heads.BUFFERS_EACH, 3), np.int64)
        self._kept = []
        for thread in self.places:
            for buffer, (kind, rows, columns) in shapes.items():
                self._kept.append(aligned((rows, columns), kind))
                thread[buffer] = self._kept[-1].ctypes.data, rows, columns


Scratch = TypeVar("Scratch", _RowScratch, _TileScratch)
_local = threading.local()


def _scratch(kind: type[Scratch], sizes: Sizes, threads: int) -> Scratch:
    """This thread's buffers for so many threads, kept for the few sizes that a step takes turns with."""
    every: dict[Sizes, Scratch] = _local.__dict__.setdefault(kind.__name__, {})
    kept = every.pop(sizes, None)
    if kept is None or kept.threads < threads:
        while len(every) >= MOST_SCRATCH:
            del every[next(iter(every))]
        kept = kind(sizes, threads)
    every[sizes] = kept  # behind the others: what was used last goes last
    return kept
