"""Linear layers in bfloat16 by tiles: what comes before (layer norm) and after (GELU, an addition) in one pass.

Right factors are packed for every call: no copy of the weights is kept that could grow stale. Columns are taken in
chunks that stay in the second-level cache together with a block of rows.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import carray

from jointformer.ops.kernels.compiling import SOURCES, TeamKernel, kernel_part
from jointformer.ops.kernels.linear_rows import (
    BLOCK,
    copy_lines,
    finish_add,
    finish_gelu,
    finish_plain,
    multiply_add,
    multiply_gelu,
    multiply_plain,
    norm_gelu_lines,
    norm_lines,
    pack_tile,
    widen,
)
from jointformer.ops.kernels.team import HEADER, NEXT_TASK, NEXT_THREAD, TASKS, array_at, take
from jointformer.ops.kernels.tiles import set_tiles

ROWS = 32
PLAIN, GELU, ADD = 0, 1, 2

#: The shared numbers after what team.py counts in: rows of all tasks and of each (the last one's are the rest), the
#: tiles' configuration, where the threads' buffers are, and the number of stages, whose numbers follow.
ROWS_IN_ALL, ROWS_EACH, TILES, BUFFERS, STAGES = range(HEADER, HEADER + 5)
START = HEADER + 5
#: The numbers of a stage. *_STEP: bytes from row to row. EPS: a float64's bits. PART: rows brought into tiles at a
#: time; CHUNK: columns packed at a time. Without a second weight it is no MLP, without a first one only norm and GELU.
(
    KIND, X, X_STEP, NORM, NORM_BIAS, EPS, WEIGHT, BIAS, SECOND, SECOND_BIAS, ADDED, ADDED_STEP, OUT, OUT_STEP, INNER,
    OUTER, PART, CHUNK, SECOND_CHUNK,
) = range(19)  # fmt: skip
STAGE = 19
MOST_STAGES = 2
NUMBERS = START + MOST_STAGES * STAGE
#: A thread's buffers, in the order of their addresses.
OLD_TILES, LEFT, RIGHT, FLOATS, SUMS, BETWEEN = range(6)
BUFFERS_EACH = 6


@kernel_part()
def pack_columns(weight, first, count, inner, packed, bias, floats):
    """Packs rows first..first + count of a weight (rows of `inner` bfloat16) and their bias."""
    step = 2 * inner
    for n in range(0, count, 32):
        for k in range(0, inner, 32):
            place = weight + (first + n) * step + 2 * k
            target = packed + (n // 32 * (inner // 32) + k // 32) * BLOCK
            pack_tile(place, step, target)
            pack_tile(place + 16 * step, step, target + BLOCK // 2)
    widen(bias + 2 * first, count // 16, floats)


@kernel_part()
def place_of(block, rows):
    """First row of a block: the last one begins 32 rows before the end, so that no row needs padding."""
    return min(block * ROWS, rows - ROWS)


@kernel_part()
def rows_in_tiles(source, step, rows, inner, norm, tiles):
    """Brings rows of `inner` bfloat16 into tiles, through a layer norm where `norm` has one (weight, bias, eps)."""
    weight, bias, eps = norm
    share = np.float32(1.0) / np.float32(inner)
    for block in range((rows + ROWS - 1) // ROWS):
        first = source + place_of(block, rows) * step
        target = tiles + block * (inner // 32) * BLOCK
        for r in range(ROWS):
            if weight != 0:
                norm_lines(first + r * step, inner // 32, weight, bias, share, eps, target + 64 * r, BLOCK)
            else:
                copy_lines(first + r * step, inner // 32, target + 64 * r)


@kernel_part()
def multiply(kind, left, right, steps, result, pace, sums, bias, add, add_step, out, out_step):
    """A block's product while the one before is finished by its kind."""
    if kind == GELU:
        multiply_gelu(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)
    elif kind == ADD:
        multiply_add(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)
    else:
        multiply_plain(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)


@kernel_part()
def product(kind, left, rows, inner, right, count, bias, add, out, sums):
    """All blocks of rows times `count` packed columns.

    left: rows in tiles. add: (address, step) of what is added. out: (address, bytes from row to row, from 32 columns
    to the next, whether rows stay in tiles). sums: room for the float32 sums of two blocks.
    """
    steps = inner // 32
    pace = (32 * 65536 + steps - 1) // steps
    blocks = (rows + ROWS - 1) // ROWS
    target, row_step, column_step, in_tiles = out
    which = 0
    before_bias, before_add, before_out = bias, add[0], target
    now = 0
    for block in range(blocks):
        first = place_of(block, rows)
        line = target + (block * in_tiles if in_tiles != 0 else first * row_step)
        for n in range(count // 32):
            multiply(
                kind, left + block * steps * BLOCK, right + n * steps * BLOCK, steps, sums + 4096 * which, now,
                sums + 4096 * (1 - which), before_bias, before_add, add[1], before_out, row_step,
            )  # fmt: skip
            before_bias = bias + 128 * n
            before_add = add[0] + first * add[1] + 64 * n
            before_out = line + n * column_step
            which = 1 - which
            now = pace
    last = sums + 4096 * (1 - which)
    if kind == GELU:
        finish_gelu(last, before_bias, before_add, add[1], before_out, row_step)
    elif kind == ADD:
        finish_add(last, before_bias, before_add, add[1], before_out, row_step)
    else:
        finish_plain(last, before_bias, before_add, add[1], before_out, row_step)


@kernel_part()
def layer(kind, left, rows, inner, weight, bias, outer, chunk, packed, ready, add, out, sums):
    """One linear layer of rows in tiles; columns `chunk` at a time, or all at once as they are packed (`ready`)."""
    right, floats = packed
    target, row_step, column_step, in_tiles = out
    for first in range(0, outer, chunk):
        count = min(chunk, outer - first)
        if not ready:
            pack_columns(weight, first, count, inner, right, bias, floats)
        product(
            kind, left, rows, inner, right, count, floats, (add[0] + 2 * first, add[1]),
            (target + first // 32 * column_step, row_step, column_step, in_tiles), sums,
        )  # fmt: skip


@kernel_part()
def linear_rows(numbers, first, last, at):
    """Writes rows first..last (32 at least) of norm(x) times a weight plus bias, by their kind.

    Right factors are packed once for all rows where their columns fit, else anew for every part of the rows.
    """
    inner, outer, part, chunk = numbers[INNER], numbers[OUTER], numbers[PART], numbers[CHUNK]
    left, right, floats, sums = at[LEFT], at[RIGHT], at[FLOATS], at[SUMS]
    norm = wide_norm(numbers, inner, floats + 4 * outer)
    whole = chunk >= outer
    if whole:
        pack_columns(numbers[WEIGHT], 0, outer, inner, right, numbers[BIAS], floats)
    for start in range(first, last, part):
        start = max(first, min(start, last - ROWS))
        size = min(part, last - start)
        rows_in_tiles(numbers[X] + start * numbers[X_STEP], numbers[X_STEP], size, inner, norm, left)
        layer(
            numbers[KIND], left, size, inner, numbers[WEIGHT], numbers[BIAS], outer, chunk, (right, floats), whole,
            (numbers[ADDED] + start * numbers[ADDED_STEP], numbers[ADDED_STEP]),
            (numbers[OUT] + start * numbers[OUT_STEP], numbers[OUT_STEP], 64, 0), sums,
        )  # fmt: skip


@kernel_part()
def mlp_rows(numbers, first, last, at):
    """Writes rows first..last of added + (GELU(norm(x) times a weight plus bias) times a second one plus bias)."""
    width, hidden, part, chunk, second_chunk = (
        numbers[INNER], numbers[OUTER], numbers[PART], numbers[CHUNK], numbers[SECOND_CHUNK]
    )  # fmt: skip
    left, right, floats, sums, between = at[LEFT], at[RIGHT], at[FLOATS], at[SUMS], at[BETWEEN]
    norm = wide_norm(numbers, width, floats + 4 * (width + hidden))
    whole = chunk >= hidden and second_chunk >= width
    first_right, second_right = (right, floats), (right, floats + 4 * hidden)
    if whole:
        second_right = (right + 2 * width * hidden, floats + 4 * hidden)
        pack_columns(numbers[WEIGHT], 0, hidden, width, first_right[0], numbers[BIAS], first_right[1])
        pack_columns(numbers[SECOND], 0, width, hidden, second_right[0], numbers[SECOND_BIAS], second_right[1])
    for start in range(first, last, part):
        start = max(first, min(start, last - ROWS))
        size = min(part, last - start)
        rows_in_tiles(numbers[X] + start * numbers[X_STEP], numbers[X_STEP], size, width, norm, left)
        layer(
            GELU, left, size, width, numbers[WEIGHT], numbers[BIAS], hidden, chunk, first_right, whole,
            (0, 0), (between, 64, BLOCK, hidden // 32 * BLOCK), sums,
        )  # fmt: skip
        layer(
            ADD, between, size, hidden, numbers[SECOND], numbers[SECOND_BIAS], width, second_chunk, second_right, whole,
            (numbers[ADDED] + start * numbers[ADDED_STEP], numbers[ADDED_STEP]),
            (numbers[OUT] + start * numbers[OUT_STEP], numbers[OUT_STEP], 64, 0), sums,
        )  # fmt: skip


@kernel_part()
def norm_rows(numbers, first, last, at):
    """Writes the GELU of norm(x), rows first..last, which may take the place of x."""
    inner = numbers[INNER]
    weight, bias, eps = wide_norm(numbers, inner, at[FLOATS])
    share = np.float32(1.0) / np.float32(inner)
    for row in range(first, last):
        source, target = numbers[X] + row * numbers[X_STEP], numbers[OUT] + row * numbers[OUT_STEP]
        norm_gelu_lines(source, inner // 32, weight, bias, share, eps, target, 64)


@kernel_part()
def wide_norm(numbers, inner, floats):
    """(weight, bias, eps) of the layer norm with its numbers as float32 at `floats`; zeros where there is none."""
    eps = np.float32(numbers[EPS : EPS + 1].view(np.float64)[0])
    if numbers[NORM] == 0:
        return 0, 0, eps
    widen(numbers[NORM], inner // 16, floats)
    widen(numbers[NORM_BIAS], inner // 16, floats + 4 * inner)
    return floats, floats + 4 * inner, eps


@kernel_part()
def stage_rows(numbers, first, last, at):
    """Writes rows first..last of a stage's result."""
    if numbers[WEIGHT] == 0:
        norm_rows(numbers, first, last, at)
    elif numbers[SECOND] != 0:
        mlp_rows(numbers, first, last, at)
    else:
        linear_rows(numbers, first, last, at)


def _with_stamp(stamp):
    """The entry point; `stamp` stands for the sources it is made from (see compiling.py)."""

    def layer_rows(shared):
        """Writes the rows of the tasks that this thread takes, stage after stage: a row needs no other row."""
        if stamp < 0:
            return
        numbers = carray(shared, (NUMBERS,))
        thread = take(numbers.ctypes.data + 8 * NEXT_THREAD)
        at = array_at(numbers[BUFFERS] + 8 * BUFFERS_EACH * thread, (BUFFERS_EACH,), np.int64)
        set_tiles(numbers[TILES], at[OLD_TILES])
        while True:
            task = take(numbers.ctypes.data + 8 * NEXT_TASK)
            if task >= numbers[TASKS]:
                break
            first = task * numbers[ROWS_EACH]
            last = numbers[ROWS_IN_ALL] if task == numbers[TASKS] - 1 else first + numbers[ROWS_EACH]
            for stage in range(numbers[STAGES]):
                stage_rows(numbers[START + stage * STAGE :], first, last, at)
        set_tiles(at[OLD_TILES], numbers[TILES])

    return TeamKernel(layer_rows, stage_rows)


layer_rows = _with_stamp(SOURCES)
