"""Rows of linear layers by tiles, as Numba intrinsics: normalised, multiplied, finished.

They take plain addresses (intp) and byte steps. A left factor's block is 32 rows "in tiles": for every 32 values of the
inner dimension 32 lines of 64 bytes, one after the other, so that a product reads memory in order. A right factor's
block, 32 columns, is the same of packed tiles (see tiles.py).
"""

# mypy: disable-error-code="import-untyped,untyped-decorator"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.kernels.dots import dot_products
from jointformer.ops.kernels.llvm import (
    F32,
    FLOATS,
    HALVES,
    I8,
    I16,
    I64,
    WORDS,
    at,
    every,
    fused_multiply_add,
    instruction,
    load,
    no_result,
    plus,
    rounded,
    shuffle,
    splat,
    store,
)
from jointformer.ops.kernels.processor import AMX
from jointformer.ops.kernels.tiles import tile_load, tile_multiply, tile_store, tile_zero, transposed

BLOCK = 2048  # bytes of 32 lines
_SIXTEEN = ir.VectorType(I16, 16)
_root = instruction("llvm.sqrt.f32", F32, F32)

# GELU(x) = x * (1/2 + y * P(y * y)) with y = x kept within +-4.2: at most 7.5e-5 off, less than bfloat16 rounds away
# wherever the result is above 0.04. P makes the factor exactly 0 and 1 at the ends.
_GELU_END = 4.2
_GELU = (
    -9.017667168542687e-10, 7.941438440184356e-08, -3.0379608233488398e-06, 6.6891145252157e-05,
    -0.0009506612550467253, 0.009298245422542095, -0.06552823632955551, 0.3984659016132355,
)  # fmt: skip


def widened(builder: Any, address: Any) -> Any:
    """16 bfloat16 at an address as float32."""
    bits = builder.zext(load(builder, address, _SIXTEEN), WORDS)
    return builder.bitcast(builder.shl(bits, every(WORDS, 16)), FLOATS)


def gelu(builder: Any, x: Any) -> Any:
    """The GELU of 16 float32; NaN stays NaN."""
    y = x
    for sign, predicate in ((-1.0, "<"), (1.0, ">")):
        end = every(FLOATS, sign * _GELU_END)
        y = builder.select(builder.fcmp_ordered(predicate, y, end), end, y)
    square = builder.fmul(y, y)
    factor = every(FLOATS, _GELU[0])
    for coefficient in _GELU[1:]:
        factor = fused_multiply_add(builder, [factor, square, every(FLOATS, coefficient)])
    return builder.fmul(x, fused_multiply_add(builder, [factor, y, every(FLOATS, 0.5)]))


#: What becomes of 32 sums of a row, two vectors: from (builder, sums, address of what is added).
Finish = Callable[[Any, list[Any], Any], list[Any]]


def _as_it_is(builder: Any, sums: list[Any], add: Any) -> list[Any]:
    return sums


def _with_gelu(builder: Any, sums: list[Any], add: Any) -> list[Any]:
    return [gelu(builder, x) for x in sums]


def _with_addition(builder: Any, sums: list[Any], add: Any) -> list[Any]:
    return [builder.fadd(x, widened(builder, plus(builder, add, 32 * i))) for i, x in enumerate(sums)]


def _finish_rows(builder: Any, args: Any, first: Any, last: Any, finish: Finish) -> None:
    """Rows first..last of a finished block; args: sums, bias, add, add_step, out, out_step."""
    sums, bias, add, add_step, out, out_step = args
    with cgutils.for_range(builder, builder.sub(last, first)) as loop:
        row = builder.add(first, loop.index)
        place = builder.add(sums, builder.mul(row, ir.Constant(I64, 128)))
        found = [
            builder.fadd(*(load(builder, plus(builder, address, 64 * i), FLOATS) for address in (place, bias)))
            for i in range(2)
        ]
        found = finish(builder, found, builder.add(add, builder.mul(row, add_step)))
        store(builder, rounded(builder, *found), builder.add(out, builder.mul(row, out_step)))


def _multiplier(finish: Finish) -> Any:
    @intrinsic
    def multiply(
        typingctx: Any, left: Any, right: Any, steps: Any, result: Any, pace: Any,
        sums: Any, bias: Any, add: Any, add_step: Any, out: Any, out_step: Any,
    ) -> Any:  # fmt: skip
        """Writes a block's 32 x 32 float32 sums at `result` and meanwhile finishes those of the block before.

        left, right: blocks in tiles, `steps` of them along the inner dimension. The block before, of which `pace` /
        65536 rows are taken at each step: its sums, float32 bias, what is added to it (rows `add_step` apart), and
        where its bfloat16 rows go. Vectors and AMX tiles are separate units of the processor: the two
        overlap; without AMX the finishing comes first.
        """

        def codegen(builder: Any, args: Any) -> None:
            left, right, steps, result, pace, *before = args
            if not AMX:
                _finish_rows(builder, before, ir.Constant(I64, 0), ir.Constant(I64, 32), finish)
                inner = ir.Constant(I64, BLOCK)
                dot_products(
                    builder, (left, ir.Constant(I64, 64), inner), (right, plus(builder, right, BLOCK // 2), inner),
                    (result, ir.Constant(I64, 128)), steps, fresh=True,
                )  # fmt: skip
                return
            tile = [ir.Constant(I8, i) for i in range(8)]
            line = ir.Constant(I64, 64)
            for i in range(4):
                tile_zero(builder, [tile[i]])
            done = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
            with cgutils.for_range(builder, steps) as loop:
                offset = builder.mul(loop.index, ir.Constant(I64, BLOCK))
                for i, side in ((4, left), (6, right)):
                    place = builder.add(side, offset)
                    tile_load(builder, [tile[i], at(builder, place, I8), line])
                    tile_load(builder, [tile[i + 1], at(builder, plus(builder, place, BLOCK // 2), I8), line])
                for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                    tile_multiply(builder, [tile[i], tile[a], tile[b]])
                first = builder.load(done)
                last = builder.lshr(builder.mul(plus(builder, loop.index, 1), pace), ir.Constant(I64, 16))
                last = builder.select(builder.icmp_signed("<", last, ir.Constant(I64, 32)), last, ir.Constant(I64, 32))
                _finish_rows(builder, before, first, last, finish)
                builder.store(last, done)
            step = ir.Constant(I64, 128)
            for i, offset in enumerate((0, 64, 2048, 2048 + 64)):
                tile_store(builder, [tile[i], at(builder, plus(builder, result, offset), I8), step])

        return types.none(*[types.intp] * 11), no_result(codegen)

    return multiply


def _finisher(finish: Finish) -> Any:
    @intrinsic
    def finish_block(typingctx: Any, sums: Any, bias: Any, add: Any, add_step: Any, out: Any, out_step: Any) -> Any:
        """Finishes all rows of a block (see the multipliers)."""

        def codegen(builder: Any, args: Any) -> None:
            _finish_rows(builder, args, ir.Constant(I64, 0), ir.Constant(I64, 32), finish)

        return types.none(*[types.intp] * 6), no_result(codegen)

    return finish_block


multiply_plain, finish_plain = _multiplier(_as_it_is), _finisher(_as_it_is)
multiply_gelu, finish_gelu = _multiplier(_with_gelu), _finisher(_with_gelu)
multiply_add, finish_add = _multiplier(_with_addition), _finisher(_with_addition)


@intrinsic
def pack_tile(typingctx: Any, rows: Any, step: Any, packed: Any) -> Any:
    """Writes the packed tile of 16 rows of 32 bfloat16, `step` bytes apart: their transpose in units of two values."""

    def codegen(builder: Any, args: Any) -> None:
        rows, step, packed = args
        places = [builder.add(rows, builder.mul(ir.Constant(I64, i), step)) for i in range(16)]
        for i, row in enumerate(transposed(builder, [load(builder, place, WORDS) for place in places])):
            store(builder, row, plus(builder, packed, 64 * i))

    return types.none(*[types.intp] * 3), no_result(codegen)


@intrinsic
def widen(typingctx: Any, halves: Any, vectors: Any, floats: Any) -> Any:
    """Copies 16 * `vectors` bfloat16 as float32."""

    def codegen(builder: Any, args: Any) -> None:
        halves, vectors, floats = args
        with cgutils.for_range(builder, vectors) as loop:
            place = builder.add(halves, builder.mul(loop.index, ir.Constant(I64, 32)))
            target = builder.add(floats, builder.mul(loop.index, ir.Constant(I64, 64)))
            store(builder, widened(builder, place), target)

    return types.none(*[types.intp] * 3), no_result(codegen)


@intrinsic
def copy_lines(typingctx: Any, source: Any, lines: Any, target: Any) -> Any:
    """Copies `lines` times 32 bfloat16 in a row to every BLOCK bytes."""

    def codegen(builder: Any, args: Any) -> None:
        source, lines, target = args
        with cgutils.for_range(builder, lines) as loop:
            place = builder.add(source, builder.mul(loop.index, ir.Constant(I64, 64)))
            goal = builder.add(target, builder.mul(loop.index, ir.Constant(I64, BLOCK)))
            store(builder, load(builder, place, HALVES), goal)

    return types.none(*[types.intp] * 3), no_result(codegen)


def _norm_lines(builder: Any, args: Any, after: Callable[[Any, Any], Any]) -> None:
    """Code of norm_lines; every 16 normalised values go through `after`."""
    source, lines, weight, bias, share, eps, target, step = args
    share = splat(builder, FLOATS, share)

    def over(body: Callable[[Any, Any], None]) -> None:
        with cgutils.for_range(builder, lines) as loop:
            place = builder.add(source, builder.mul(loop.index, ir.Constant(I64, 64)))
            body(loop.index, [widened(builder, plus(builder, place, 32 * i)) for i in range(2)])

    sums = [cgutils.alloca_once_value(builder, every(FLOATS, 0.0)) for _ in range(4)]

    def sum_up(index: Any, values: Any) -> None:
        for total, x in zip(sums[:2], values, strict=True):
            builder.store(builder.fadd(builder.load(total), x), total)

    over(sum_up)
    mean = builder.fmul(all_lanes(builder, builder.fadd(*map(builder.load, sums[:2]))), share)

    def sum_squares(index: Any, values: Any) -> None:
        for total, x in zip(sums[2:], values, strict=True):
            away = builder.fsub(x, mean)
            builder.store(fused_multiply_add(builder, [away, away, builder.load(total)]), total)

    over(sum_squares)
    variance = builder.fmul(all_lanes(builder, builder.fadd(*map(builder.load, sums[2:]))), share)
    scale = builder.extract_element(variance, ir.Constant(ir.IntType(32), 0))
    scale = builder.fdiv(ir.Constant(F32, 1.0), _root(builder, [builder.fadd(scale, eps)]))
    scale = splat(builder, FLOATS, scale)

    def write(index: Any, values: Any) -> None:
        offset = builder.mul(index, ir.Constant(I64, 128))
        found = []
        for i, x in enumerate(values):
            w, b = (
                load(builder, plus(builder, builder.add(address, offset), 64 * i), FLOATS) for address in (weight, bias)
            )
            factor = builder.fmul(builder.fsub(x, mean), scale)
            found.append(after(builder, fused_multiply_add(builder, [factor, w, b])))
        store(builder, rounded(builder, *found), builder.add(target, builder.mul(index, step)))

    over(write)


def _normaliser(after: Callable[[Any, Any], Any]) -> Any:
    @intrinsic
    def norm_lines(
        typingctx: Any, source: Any, lines: Any, weight: Any, bias: Any, share: Any, eps: Any, target: Any, step: Any
    ) -> Any:  # fmt: skip
        """Writes the layer norm of `lines` times 32 bfloat16 in a row to every `step` bytes.

        weight, bias: as many float32. share: one over the number of values. The target may be the source.
        """

        def codegen(builder: Any, args: Any) -> None:
            _norm_lines(builder, args, after)

        return types.none(*[types.intp] * 4, types.float32, types.float32, types.intp, types.intp), no_result(codegen)

    return norm_lines


norm_lines, norm_gelu_lines = _normaliser(lambda builder, x: x), _normaliser(gelu)


def all_lanes(builder: Any, lanes: Any) -> Any:
    """The sum of 16 lanes, in every lane."""
    for s in (8, 4, 2, 1):
        lanes = builder.fadd(lanes, shuffle(builder, lanes, lanes, [n ^ s for n in range(16)]))
    return lanes
