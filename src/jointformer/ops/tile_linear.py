"""Linear layers in bfloat16 on AMX tiles: what comes before (layer norm) and after (GELU, an addition) in one pass.

Right factors are packed for every call: a hundredth of the work, and no copy of the weights is kept that could grow
stale. Columns are taken in chunks that stay in the second-level cache together with a block of rows.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import njit

from jointformer.ops.tile_rows import (
    BLOCK,
    copy_lines,
    finish_add,
    finish_gelu,
    finish_plain,
    multiply_add,
    multiply_gelu,
    multiply_plain,
    norm_lines,
    pack_tile,
    widen,
)
from jointformer.ops.topk_compile import SOURCES, compiled
from jointformer.ops.topk_tiles import set_tiles

ROWS = 32
PLAIN, GELU, ADD = 0, 1, 2


@njit(nogil=True)
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


@njit(nogil=True)
def place_of(block, rows):
    """First row of a block: the last one begins 32 rows before the end, so that no row needs padding."""
    return min(block * ROWS, rows - ROWS)


@njit(nogil=True)
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


@njit(nogil=True)
def multiply(kind, left, right, steps, result, pace, sums, bias, add, add_step, out, out_step):
    """A block's product while the one before is finished by its kind."""
    if kind == GELU:
        multiply_gelu(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)
    elif kind == ADD:
        multiply_add(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)
    else:
        multiply_plain(left, right, steps, result, pace, sums, bias, add, add_step, out, out_step)


@njit(nogil=True)
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


@njit(nogil=True)
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


def _with_stamp(stamp):
    """The entry points; `stamp` stands for the sources they are made from (see topk_compile)."""

    def linear_rows(kind, x, norm, weight, bias, add, out, sizes, eps, chunk, scratch, tiles):
        """Writes rows (32 at least) of norm(x) times a weight plus bias, by their kind: as they are, GELU, plus `add`.

        x, add, out: (address, bytes from row to row). norm: (weight, bias) or zeros. sizes: rows, rows at a time,
        inner and outer width (multiples of 32). scratch: addresses of rows in tiles, packed columns, floats, sums.
        """
        if stamp < 0:
            return
        rows, part, inner, outer = sizes
        left, right, floats, sums = scratch
        set_tiles(tiles[0], tiles[1])
        if norm[0] != 0:
            widen(norm[0], inner // 16, floats + 4 * outer)
            widen(norm[1], inner // 16, floats + 4 * outer + 4 * inner)
            wide = (floats + 4 * outer, floats + 4 * outer + 4 * inner, eps)
        else:
            wide = (0, 0, eps)
        whole = chunk >= outer
        if whole:
            pack_columns(weight, 0, outer, inner, right, bias, floats)
        for first in range(0, rows, part):
            first = max(0, min(first, rows - ROWS))
            size = min(part, rows - first)
            rows_in_tiles(x[0] + first * x[1], x[1], size, inner, wide, left)
            layer(
                kind, left, size, inner, weight, bias, outer, chunk, (right, floats), whole,
                (add[0] + first * add[1], add[1]), (out[0] + first * out[1], out[1], 64, 0), sums,
            )  # fmt: skip
        set_tiles(tiles[1], tiles[0])

    def mlp_rows(x, norm, first_layer, second_layer, add, out, sizes, eps, chunks, scratch, tiles):
        """Writes add + (GELU(norm(x) times a first weight plus bias) times a second one plus bias), as linear_rows.

        sizes: rows, rows at a time, outer width, hidden width. scratch: as there, and hidden rows in tiles.
        """
        if stamp < 0:
            return
        rows, part, width, hidden = sizes
        left, right, floats, sums, between = scratch
        set_tiles(tiles[0], tiles[1])
        wide = (floats + 4 * (width + hidden), floats + 4 * (2 * width + hidden), eps)
        widen(norm[0], width // 16, wide[0])
        widen(norm[1], width // 16, wide[1])
        whole = chunks[0] >= hidden and chunks[1] >= width
        first_right, second_right = (right, floats), (right, floats + 4 * hidden)
        if whole:
            second_right = (right + 2 * width * hidden, floats + 4 * hidden)
            pack_columns(first_layer[0], 0, hidden, width, first_right[0], first_layer[1], first_right[1])
            pack_columns(second_layer[0], 0, width, hidden, second_right[0], second_layer[1], second_right[1])
        for first in range(0, rows, part):
            first = max(0, min(first, rows - ROWS))
            size = min(part, rows - first)
            rows_in_tiles(x[0] + first * x[1], x[1], size, width, wide, left)
            layer(
                GELU, left, size, width, first_layer[0], first_layer[1], hidden, chunks[0], first_right, whole,
                (0, 0), (between, 64, BLOCK, hidden // 32 * BLOCK), sums,
            )  # fmt: skip
            layer(
                ADD, between, size, hidden, second_layer[0], second_layer[1], width, chunks[1], second_right, whole,
                (add[0] + first * add[1], add[1]), (out[0] + first * out[1], out[1], 64, 0), sums,
            )  # fmt: skip
        set_tiles(tiles[1], tiles[0])

    return compiled(linear_rows), compiled(mlp_rows)


linear_rows, mlp_rows = _with_stamp(SOURCES)
