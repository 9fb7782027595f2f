"""Attention of one query row a head, in bfloat16: too few rows for tiles, too many keys for a copy of them by heads."""
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import carray

from jointformer.ops.kernels.attention_floats import finish_row, product_sum, weigh_values
from jointformer.ops.kernels.attention_heads import SCALE, place
from jointformer.ops.kernels.compiling import SOURCES, TeamKernel, kernel_part
from jointformer.ops.kernels.team import HEADER, NEXT_TASK, NEXT_THREAD, TASKS, array_at, take

#: The shared numbers after what team.py counts in; BUFFERS: where the threads' room begins, ROOM bytes for each: a
#: weight (float32) and a number (int32) for every key, then 64 sums. Last come four PLACES as in attention_heads.
HEADS, KEYS, BUFFERS, ROOM = range(HEADER, HEADER + 4)
PLACES = HEADER + 4
NUMBERS = PLACES + 4 * 4


def room(keys: int) -> int:
    """Bytes that each thread works in."""
    return -(-8 * keys // 64) * 64 + 256


@kernel_part()
def attend_row(q, k, k_step, v, v_step, count, scale, weights, order, sums, out):
    """Writes the softmax-weighted sum of `count` values for one query; all rows are 64 bfloat16."""
    most = np.float32(-np.inf)
    for i in range(count):
        score = product_sum(q, k + i * k_step) * scale
        weights[i] = score
        order[i] = i
        most = max(most, score)
    total = np.float32(0.0)
    for i in range(count):
        weight = np.exp2(weights[i] - most)
        weights[i] = weight
        total += weight  # a NaN among the scores shows here, whatever the largest was
    sums[:] = 0.0
    weigh_values(v, v_step, order.ctypes.data, weights.ctypes.data, count, sums.ctypes.data)
    finish_row(sums.ctypes.data, np.float32(1.0) / total, out)


def _with_stamp(stamp):
    """The entry point; `stamp` stands for the sources it is made from (see compiling.py)."""

    def attend_rows(shared):
        """Writes the results of the tasks (object and head, counted through) that this thread takes."""
        if stamp < 0:
            return
        numbers = carray(shared, (NUMBERS,))
        count = numbers[KEYS]
        thread = take(numbers.ctypes.data + 8 * NEXT_THREAD)
        room = numbers[BUFFERS] + numbers[ROOM] * thread
        sums = array_at(room, (64,), np.float32)
        weights = array_at(room + 256, (count,), np.float32)
        order = array_at(room + 256 + 4 * count, (count,), np.int32)
        places = numbers[PLACES:]
        while True:
            task = take(numbers.ctypes.data + 8 * NEXT_TASK)
            if task >= numbers[TASKS]:
                return
            n, a = task // numbers[HEADS], task % numbers[HEADS]
            k, v = place(places, 1, n, a), place(places, 2, n, a)
            attend_row(
                place(places, 0, n, a)[0], k[0], k[1], v[0], v[1], count, SCALE, weights, order, sums,
                place(places, 3, n, a)[0],
            )  # fmt: skip

    return TeamKernel(attend_rows, attend_row)


attend_rows = _with_stamp(SOURCES)
