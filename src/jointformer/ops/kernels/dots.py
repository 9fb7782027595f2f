"""Products of 32 x 32 blocks by dot products of bfloat16 pairs, for processors that have these but no AMX tiles.

The operands lie as AMX tiles want them (see tiles.py), so that all around a product is the same for both.
"""

# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from jointformer.ops.kernels.llvm import (
    BRAINS,
    FLOATS,
    HALVES,
    I32,
    I64,
    WORDS,
    add_pairs,
    at,
    every,
    load,
    plus,
    splat,
    store,
)

#: Rows at a time: with two vectors of sums each they leave registers for the columns and a row's pair.
GROUP = 8


def dot_products(
    builder: Any, left: tuple[Any, Any, Any], right: tuple[Any, Any, Any], result: tuple[Any, Any], steps: Any,
    *, fresh: bool, before: Callable[[Any], None] | None = None,
) -> None:  # fmt: skip
    """Writes a 32 x 32 float32 product at `result` or adds it to what is there.

    left: (address, bytes from row to row, bytes that each of `steps` goes on). right: two columns of packed tiles
    (first, second, bytes that a step goes on). result: (address, bytes from row to row). before: other work on every
    row, by its number, done shortly before the row's product is written.
    """
    with cgutils.for_range(builder, ir.Constant(I64, 32 // GROUP)) as loop:
        first = builder.mul(loop.index, ir.Constant(I64, GROUP))
        if before is not None:
            for i in range(GROUP):
                before(plus(builder, first, i))
        _dot_rows(builder, first, left, right, result, steps, fresh=fresh)


def _dot_rows(
    builder: Any, row: Any, left: tuple[Any, Any, Any], right: tuple[Any, Any, Any], result: tuple[Any, Any],
    steps: Any, *, fresh: bool,
) -> None:  # fmt: skip
    """The part of dot_products that begins at row number `row`: GROUP rows."""

    def places(address: Any, row_step: Any) -> list[Any]:
        first = builder.add(address, builder.mul(row, row_step))
        return [builder.add(first, builder.mul(row_step, ir.Constant(I64, i))) for i in range(GROUP)]

    rows, goals = places(left[0], left[1]), places(*result)
    targets = [plus(builder, goal, 64 * i) for goal in goals for i in range(2)]
    sums = [cgutils.alloca_once(builder, FLOATS) for _ in targets]
    for total, target in zip(sums, targets, strict=True):
        builder.store(every(FLOATS, 0.0) if fresh else load(builder, target, FLOATS), total)
    with cgutils.for_range(builder, steps) as loop:
        offset, inner = (builder.mul(loop.index, step) for step in (left[2], right[2]))
        now = [builder.add(place, offset) for place in rows]
        columns = [builder.add(place, inner) for place in right[:2]]
        for pair in range(16):
            values = [
                builder.bitcast(load(builder, plus(builder, place, 64 * pair), HALVES), BRAINS) for place in columns
            ]
            for i, place in enumerate(now):
                number = builder.load(at(builder, plus(builder, place, 4 * pair), I32), align=2)
                number = builder.bitcast(splat(builder, WORDS, number), BRAINS)
                for total, value in zip(sums[2 * i :], values):
                    builder.store(add_pairs(builder, [builder.load(total), number, value]), total)
    for total, target in zip(sums, targets, strict=True):
        store(builder, builder.load(total), target)
