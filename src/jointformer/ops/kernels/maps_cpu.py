"""Whole maps in bfloat16 on CPUs that multiply it (see maps.py): rows shared out to threads. Imports Numba."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from jointformer.ops.kernels import maps
from jointformer.ops.kernels.processor import CAN_MULTIPLY
from jointformer.ops.kernels.workers import run_team


def fits_map(x: Tensor, *others: Tensor) -> bool:
    """Whether the kernels serve maps x (N, C, h, w) with these: bfloat16, channels last, whole vectors of channels."""
    return (
        CAN_MULTIPLY
        and x.dtype == torch.bfloat16
        and x.shape[1] % 32 == 0
        and all(other.dtype == x.dtype for other in others)
        and x.is_contiguous(memory_format=torch.channels_last)
    )


def enlarge_add(x: Tensor, add: Tensor) -> tuple[Tensor, Tensor]:
    """Return (y, ReLU(y)), both (N, C, 2h, 2w): x (N, C, h, w) bilinearly enlarged plus `add` (1 or N, C, 2h, 2w)."""
    objects, channels, height, width = x.shape
    add = add.permute(0, 2, 3, 1).contiguous()
    total, positive = (x.new_empty(objects, 2 * height, 2 * width, channels) for _ in range(2))
    _run(maps.ENLARGE, total, x, add, None, positive)
    return total.permute(0, 3, 1, 2), positive.permute(0, 3, 1, 2)


def predict(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return (N, 1, h, w): the 3×3 convolution of ReLU(x), x (N, C, h, w), with zeros beyond the edges."""
    objects, _, height, width = x.shape
    factors = weight[0].permute(1, 2, 0).contiguous()
    found = x.new_empty(objects, height, width, 1)
    _run(maps.PREDICT, found, x, factors, bias, None)
    return found.view(objects, 1, height, width)


def _run(kind: int, out: Tensor, x: Tensor, other: Tensor, bias: Tensor | None, positive: Tensor | None) -> None:
    """Fill `out` (N, H, W, D), and `positive` of the same shape, row by row; x has (N, C, h, w)."""
    assert CAN_MULTIPLY, "this processor lacks the instructions"
    objects, height, width, _ = out.shape
    bias_place, positive_place = (0 if tensor is None else tensor.data_ptr() for tensor in (bias, positive))
    step = 2 * other.stride(0) if len(other) > 1 else 0  # an only one serves all objects
    numbers = np.array(
        [
            0, 0, objects * height, kind, height, width, x.shape[1], x.data_ptr(), other.data_ptr(), step, bias_place,
            out.data_ptr(), positive_place,
        ],
        np.int64,
    )  # fmt: skip
    run_team(maps.map_rows.address, numbers.ctypes.data, min(torch.get_num_threads(), objects * height))
