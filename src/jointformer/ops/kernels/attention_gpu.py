"""Joint attention on a GPU without gradients: when its Triton kernels serve, and their launch.

The kernels (topk_triton) are one operation of PyTorch's, `jointformer::attend_topk`, so that fake tensors pass through
it (and PyTorch's compiler would). Importing this file imports Triton.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from jointformer.ops.attention import plain_attention
from jointformer.ops.kernels import topk_triton

logger = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MOST_WIDTH = 128  # of a head; beyond it the tiles no longer fit the memory of a multiprocessor
LEAST_DEPTH = 16  # of a matrix product's tiles
#: NVIDIA's compute capability from which on Triton knows the tensor cores. Older GPUs get the kernel too, multiplied
#: number by number, with nearly all it holds outside the registers: far slower than PyTorch's operations.
OLDEST = (8, 0)
#: How far a first result may be from the rule's, of numbers below 2: more than rounding makes of it, and less than the
#: last of the kept keys or the next one does.
NEAR = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}
#: The interpreter cannot multiply bfloat16; products of its values are exact in float32 all the same.
INTERPRETED = hasattr(topk_triton.attend, "fn") and not isinstance(topk_triton.attend, triton.JITFunction)


@dataclass(frozen=True)
class Tiles:
    """How many query rows a program serves and how many keys it sees at a time (powers of two from 16 on)."""

    rows: int
    columns: int
    warps: int
    stages: int


def tiles_for(dtype: torch.dtype, depth: int) -> Tiles:
    """Tile sizes by what Triton's compiler reports for an H100 (heads of 64 spill no registers); not yet timed.

    Keys and values of `stages` tiles lie in shared memory: 80 KiB at most, which every GPU since 2020 has.
    A pass leaves four candidates a column: of 64 columns 256, twice as many as keys are kept at most as published.
    """
    if dtype == torch.float32:  # more of it would not fit into the registers
        return Tiles(rows=16, columns=64, warps=4, stages=1)
    return Tiles(rows=64, columns=64, warps=4, stages=3 if depth <= 64 else 2)


def depth_of(width: int) -> int:
    """Head width as the tiles have it: a power of two."""
    return max(LEAST_DEPTH, 1 << (width - 1).bit_length())


def serves(device: torch.device, dtype: torch.dtype, width: int) -> bool:
    """Whether the kernel is for this type and head width, and can be made here.

    The first question of a kind makes and tries it; where that fails the log says so once and the answer stays False.
    """
    return dtype in DTYPES and width <= MOST_WIDTH and works(device, dtype, depth_of(width))


@functools.cache
def works(device: torch.device, dtype: torch.dtype, depth: int) -> bool:
    """Whether Triton makes the kernel here and it follows the rule, found out by a small call; a failure is logged.

    Triton needs more than its own files: a C compiler for the launcher, and a GPU that it knows.
    """
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < OLDEST:
        logger.warning("this GPU is too old for the top-k attention's kernel: PyTorch's operations serve, more slowly")
        return False
    # Multiples of 1/64, so that scores are exact and what is selected depends on nobody's rounding.
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(-100, 101, (1, 1, 188, depth), generator=generator, device="cpu").double() / 64
    q, k, v, memory_k, memory_v = drawn.split((16, 16, 16, 70, 70), dim=2)
    rule, near = plain_attention(q, k, v, memory_k, memory_v, 9, 70), NEAR[dtype]
    q, k, v, memory_k, memory_v = (tensor.to(device, dtype) for tensor in (q, k, v, memory_k, memory_v))
    out = torch.full_like(q, float("nan"))
    try:
        launch(q, k, v, memory_k, memory_v, 9, 70, out)
        torch.testing.assert_close(out.cpu().double(), rule, atol=near, rtol=near)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of many kinds: compilers, drivers, missing tools, wrong results
        reason = " ".join(str(error).split())[:300]
        logger.warning(
            "the GPU's kernel for top-k attention does not work here (%s: %s); PyTorch's operations serve instead, "
            "more slowly", type(error).__name__, reason,
        )  # fmt: skip
        return False
    return True


@torch.library.custom_op("jointformer::attend_topk", mutates_args=("out",))
def _attend_topk(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int, group: int, out: Tensor
) -> None:
    """Fills `out`; shapes as in plain_attention, objects broadcast, any strides. See serves."""
    launch(q, k, v, memory_k, memory_v, topk, group, out)


@_attend_topk.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int, group: int, out: Tensor) -> None:
    return None


def _on_its_gpu(launch: Callable[..., None]) -> Callable[..., None]:
    """The launch with its tensors' GPU as the current one: Triton takes that one, with its stream, for any tensor."""

    @functools.wraps(launch)
    def call(q: Tensor, *others: Any, **options: Any) -> None:
        with torch.cuda.device_of(q):  # nothing for a tensor on a CPU
            launch(q, *others, **options)

    return call


@_on_its_gpu
def launch(
    q: Tensor, k: Tensor, v: Tensor, memory_k: Tensor, memory_v: Tensor, topk: int, group: int, out: Tensor,
    tiles: Tiles | None = None,
) -> None:  # fmt: skip
    """Fills `out` by the kernels, with other tiles than tiles_for's where they are given."""
    objects, heads, rows, width = out.shape
    depth = depth_of(width)
    tiles = tiles or tiles_for(q.dtype, depth)
    places: list[list[int]] = []
    for tensor in (q, k, v, memory_k, memory_v, out):
        shared = tensor.shape[0] == 1
        places.append([0 if shared else tensor.stride(0), tensor.stride(1), tensor.stride(2), tensor.stride(3)])
    groups = memory_k.shape[2] // group
    blocks = triton.cdiv(rows, tiles.rows)
    found = torch.empty((2, objects * heads, groups, rows), dtype=torch.float32, device=q.device)
    options: dict[str, int | bool] = {
        "WIDTH": width, "ROWS": tiles.rows, "COLS": tiles.columns, "DEPTH": depth,
        "WIDEN": INTERPRETED and q.dtype == torch.bfloat16,
        "num_warps": tiles.warps, "num_stages": tiles.stages, "enable_fp_fusion": True,
    }  # fmt: skip
    topk_triton.thresholds[(blocks, objects * heads, groups)](
        q, memory_k, found, *places[0], *places[3], heads, rows, group, topk, **options
    )
    topk_triton.attend[(blocks, objects * heads)](
        q, k, v, memory_k, memory_v, found, out, *(step for steps in places for step in steps),
        heads, rows, k.shape[2], group, groups, width**-0.5, **options,
    )  # fmt: skip
