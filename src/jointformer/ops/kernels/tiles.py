"""Products of tiles for the fused bfloat16 attention, as Numba intrinsics: by AMX, else by dot products (dots.py).

They take plain addresses (intp) and byte strides, so that views are read where they lie. Tiles are 16 rows of 64
bytes: 16 x 32 bfloat16 for factors, 16 x 16 float32 for sums. A right factor's tile holds pairs of rows side by side
("packed"). A head is 64 wide: two tiles of a left factor, four of a result.
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
    HALVES,
    I8,
    I64,
    WORDS,
    at,
    instruction,
    load,
    no_result,
    plus,
    shuffle,
    store,
)
from jointformer.ops.kernels.processor import AMX

_NOTHING = ir.VoidType()
_BYTES = I8.as_pointer()
_config_load = instruction("llvm.x86.ldtilecfg", _NOTHING, _BYTES)
_config_store = instruction("llvm.x86.sttilecfg", _NOTHING, _BYTES)
tile_load = instruction("llvm.x86.tileloadd64", _NOTHING, I8, _BYTES, I64)
tile_store = instruction("llvm.x86.tilestored64", _NOTHING, I8, _BYTES, I64)
tile_zero = instruction("llvm.x86.tilezero", _NOTHING, I8)
tile_multiply = instruction("llvm.x86.tdpbf16ps", _NOTHING, I8, I8, I8)


@intrinsic
def set_tiles(typingctx: Any, new: Any, old: Any) -> Any:
    """Stores the thread's tile configuration (64 bytes) at `old`, then takes the one at `new`; nothing without AMX."""

    def codegen(builder: Any, args: Any) -> None:
        if not AMX:
            return
        _config_store(builder, [at(builder, args[1], I8)])
        _config_load(builder, [at(builder, args[0], I8)])

    return types.none(types.intp, types.intp), no_result(codegen)


@intrinsic
def multiply_tiles(
    typingctx: Any, left: Any, left_step: Any, first: Any, second: Any, inner_step: Any,
    result: Any, result_step: Any, steps: Any,
) -> Any:  # fmt: skip
    """Writes a 32 x 32 float32 product at `result`: 32 rows at `left` times two columns of packed tiles.

    The columns' tiles begin at `first` and `second`; each of `steps` goes 32 values along the inner dimension: 64
    bytes further in every left row, `inner_step` bytes further in either column.
    """

    def codegen(builder: Any, args: Any) -> None:
        left, left_step, first, second, inner_step, result, result_step, steps = args
        if not AMX:
            rows = left, left_step, ir.Constant(I64, 64)
            dot_products(builder, rows, (first, second, inner_step), (result, result_step), steps, fresh=True)
            return
        tile = [ir.Constant(I8, i) for i in range(8)]
        for i in range(4):
            tile_zero(builder, [tile[i]])
        with cgutils.for_range(builder, steps) as loop:
            upper = builder.add(left, builder.mul(loop.index, ir.Constant(I64, 64)))
            lower = builder.add(upper, builder.mul(left_step, ir.Constant(I64, 16)))
            inner = builder.mul(loop.index, inner_step)
            line = ir.Constant(I64, 64)
            tile_load(builder, [tile[4], at(builder, upper, I8), left_step])
            tile_load(builder, [tile[5], at(builder, lower, I8), left_step])
            tile_load(builder, [tile[6], at(builder, builder.add(first, inner), I8), line])
            tile_load(builder, [tile[7], at(builder, builder.add(second, inner), I8), line])
            for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                tile_multiply(builder, [tile[i], tile[a], tile[b]])
        below = builder.add(result, builder.mul(result_step, ir.Constant(I64, 16)))
        for i, place in enumerate((result, plus(builder, result, 64), below, plus(builder, below, 64))):
            tile_store(builder, [tile[i], at(builder, place, I8), result_step])

    return types.none(*[types.intp] * 8), no_result(codegen)


def transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """16 vectors of 16 lanes each, rows for columns."""
    rows = list(rows)
    for s in (1, 2, 4, 8):
        for i in range(16):
            if not i & s:
                a, b = rows[i], rows[i + s]
                rows[i] = shuffle(builder, a, b, [16 + n - s if n & s else n for n in range(16)])
                rows[i + s] = shuffle(builder, a, b, [16 + n if n & s else n + s for n in range(16)])
    return rows


def score_products(
    builder: Any, q: Any, packed: Any, result: Any | None, place: Any, meanwhile: Callable[[Any], None] | None
) -> None:
    """Begins the 32 x 32 float32 products of 32 rows of 64 bfloat16 at `q` with 32 packed keys.

    They stay in tiles 0-3, and the products begun before go to `result`, where there are any: every tile is stored just
    before it is needed again, so that no instruction waits for the one before it. After each of the eight products
    `meanwhile` does an eighth of some other work, on four rows by their numbers: vectors and tiles are separate units
    of the processor. Without AMX the products go to `place` at once, a few rows at a time, each after `meanwhile` has
    had its row; what it reads may lie there.
    """
    if not AMX:
        rows = q, ir.Constant(I64, 128), ir.Constant(I64, 64)
        keys = packed, plus(builder, packed, 2048), ir.Constant(I64, 1024)
        goal = place, ir.Constant(I64, 128)
        dot_products(builder, rows, keys, goal, ir.Constant(I64, 2), fresh=True, before=meanwhile)
        return
    tile = [ir.Constant(I8, i) for i in range(8)]
    line, row = ir.Constant(I64, 64), ir.Constant(I64, 128)

    def load_q(half: int, lower: int) -> None:
        tile_load(builder, [tile[4 + lower], at(builder, plus(builder, q, 64 * half + 2048 * lower), I8), row])

    def load_keys(half: int, second: int) -> None:
        place = plus(builder, packed, 1024 * half + 2048 * second)
        tile_load(builder, [tile[6 + second], at(builder, place, I8), line])

    for half in range(2):
        for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
            if i == 0:
                load_q(half, 0)
                load_keys(half, 0)
            elif i == 1:
                load_keys(half, 1)
            elif i == 2:
                load_q(half, 1)
            if half == 0:
                if result is not None:
                    _store_products(builder, result, i)
                tile_zero(builder, [tile[i]])
            tile_multiply(builder, [tile[i], tile[a], tile[b]])
            if meanwhile is not None:
                for n in range(4):
                    meanwhile(ir.Constant(I64, 4 * (4 * half + i) + n))


def _store_products(builder: Any, result: Any, i: int) -> None:
    place = plus(builder, result, (0, 64, 2048, 2048 + 64)[i])
    tile_store(builder, [ir.Constant(I8, i), at(builder, place, I8), ir.Constant(I64, 128)])


@intrinsic
def begin_products(typingctx: Any, q: Any, packed: Any, place: Any) -> Any:
    """score_products of the first block of keys, which will be at `place`."""

    def codegen(builder: Any, args: Any) -> None:
        score_products(builder, args[0], args[1], None, args[2], None)

    return types.none(*[types.intp] * 3), no_result(codegen)


@intrinsic
def next_products(typingctx: Any, q: Any, packed: Any, result: Any, place: Any) -> Any:
    """score_products of another block of keys, which will be at `place`; those of the block before go to `result`."""

    def codegen(builder: Any, args: Any) -> None:
        score_products(builder, args[0], args[1], args[2], args[3], None)

    return types.none(*[types.intp] * 4), no_result(codegen)


@intrinsic
def end_products(typingctx: Any, result: Any) -> Any:
    """The products of the last block of keys go to `result`, the place named for them."""

    def codegen(builder: Any, args: Any) -> None:
        for i in range(4) if AMX else ():
            _store_products(builder, args[0], i)

    return types.none(types.intp), no_result(codegen)


@intrinsic
def add_products(
    typingctx: Any, left: Any, first: Any, second: Any, inner_step: Any, result: Any, result_step: Any, steps: Any
) -> Any:  # fmt: skip
    """Adds a 32 x 32 float32 product at `result`: 32 rows at `left` times two columns of packed tiles.

    As multiply_tiles, but the left rows lie in tiles: each of `steps` is 32 lines of 64 bytes, one after the other.
    """

    def codegen(builder: Any, args: Any) -> None:
        left, first, second, inner_step, result, result_step, steps = args
        if not AMX:
            rows = left, ir.Constant(I64, 64), ir.Constant(I64, 2048)
            dot_products(builder, rows, (first, second, inner_step), (result, result_step), steps, fresh=False)
            return
        tile = [ir.Constant(I8, i) for i in range(8)]
        below = builder.add(result, builder.mul(result_step, ir.Constant(I64, 16)))
        places = (result, plus(builder, result, 64), below, plus(builder, below, 64))
        for i, place in enumerate(places):
            tile_load(builder, [tile[i], at(builder, place, I8), result_step])
        with cgutils.for_range(builder, steps) as loop:
            upper = builder.add(left, builder.mul(loop.index, ir.Constant(I64, 2048)))
            inner = builder.mul(loop.index, inner_step)
            line = ir.Constant(I64, 64)
            tile_load(builder, [tile[4], at(builder, upper, I8), line])
            tile_load(builder, [tile[5], at(builder, plus(builder, upper, 1024), I8), line])
            tile_load(builder, [tile[6], at(builder, builder.add(first, inner), I8), line])
            tile_load(builder, [tile[7], at(builder, builder.add(second, inner), I8), line])
            for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                tile_multiply(builder, [tile[i], tile[a], tile[b]])
        for i, place in enumerate(places):
            tile_store(builder, [tile[i], at(builder, place, I8), result_step])

    return types.none(*[types.intp] * 7), no_result(codegen)


@intrinsic
def pack_keys(typingctx: Any, keys: Any, step: Any, last: Any, packed: Any) -> Any:
    """Writes the two packed tiles of 16 keys (rows of 64 bfloat16, `step` bytes apart) at `packed`.

    Rows behind number `last` repeat it. A tile is the transpose of the keys' halves in units of two values.
    """

    def codegen(builder: Any, args: Any) -> None:
        keys, step, last, packed = args
        places = []
        for i in range(16):
            row = ir.Constant(I64, i)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            places.append(builder.add(keys, builder.mul(row, step)))
        for half in range(2):
            rows = [load(builder, plus(builder, place, 64 * half), WORDS) for place in places]
            for i, row in enumerate(transposed(builder, rows)):
                store(builder, row, plus(builder, packed, 1024 * half + 64 * i))

    return types.none(*[types.intp] * 4), no_result(codegen)


@intrinsic
def pack_values(typingctx: Any, values: Any, step: Any, last: Any, packed: Any) -> Any:
    """Writes row pair `i`'s share (of 32 rows of 64 bfloat16) of the four packed tiles: rows 0 and 1 at `values`.

    The second row is the first again where `last` is 0.
    """

    def codegen(builder: Any, args: Any) -> None:
        values, step, last, packed = args
        zero = ir.Constant(I64, 0)
        second = builder.add(values, builder.select(builder.icmp_signed(">", last, zero), step, zero))
        pairs = [n // 2 + (32 if n % 2 else 0) for n in range(32)]
        for half in range(2):
            a = load(builder, plus(builder, values, 64 * half), HALVES)
            b = load(builder, plus(builder, second, 64 * half), HALVES)
            for i in range(2):
                mixed = shuffle(builder, a, b, [n + 16 * i for n in pairs])
                store(builder, mixed, plus(builder, packed, 1024 * (2 * half + i)))

    return types.none(*[types.intp] * 4), no_result(codegen)


@intrinsic
def copy_row(typingctx: Any, source: Any, target: Any) -> Any:
    """Copies 64 bfloat16."""

    def codegen(builder: Any, args: Any) -> None:
        for i in range(2):
            store(builder, load(builder, plus(builder, args[0], 64 * i), HALVES), plus(builder, args[1], 64 * i))

    return types.none(types.intp, types.intp), no_result(codegen)
