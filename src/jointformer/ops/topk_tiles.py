"""AMX tiles for the fused bfloat16 attention, as Numba intrinsics.

They take plain addresses (intp) and byte strides, so that views are read where they lie. Tiles are 16 rows of 64
bytes: 16 x 32 bfloat16 for factors, 16 x 16 float32 for sums. A right factor's tile holds pairs of rows side by side
("packed"). A head is 64 wide: two tiles of a left factor, four of a result.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.topk_ir import (
    FEATURES,
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

#: Whether the processor has the instructions of this file and of topk_floats.
CAN_TILE = all(FEATURES.get(name) for name in ("amx-tile", "amx-bf16", "avx512bf16", "avx512vbmi2"))

_NOTHING = ir.VoidType()
_BYTES = I8.as_pointer()
_config_load = instruction("llvm.x86.ldtilecfg", _NOTHING, _BYTES)
_config_store = instruction("llvm.x86.sttilecfg", _NOTHING, _BYTES)
_tile_load = instruction("llvm.x86.tileloadd64", _NOTHING, I8, _BYTES, I64)
_tile_store = instruction("llvm.x86.tilestored64", _NOTHING, I8, _BYTES, I64)
_tile_zero = instruction("llvm.x86.tilezero", _NOTHING, I8)
_tile_multiply = instruction("llvm.x86.tdpbf16ps", _NOTHING, I8, I8, I8)


@intrinsic
def set_tiles(typingctx: Any, new: Any, old: Any) -> Any:
    """Stores the thread's tile configuration (64 bytes) at `old`, then takes the one at `new`."""

    def codegen(builder: Any, args: Any) -> None:
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
        tile = [ir.Constant(I8, i) for i in range(8)]
        for i in range(4):
            _tile_zero(builder, [tile[i]])
        with cgutils.for_range(builder, steps) as loop:
            upper = builder.add(left, builder.mul(loop.index, ir.Constant(I64, 64)))
            lower = builder.add(upper, builder.mul(left_step, ir.Constant(I64, 16)))
            inner = builder.mul(loop.index, inner_step)
            line = ir.Constant(I64, 64)
            _tile_load(builder, [tile[4], at(builder, upper, I8), left_step])
            _tile_load(builder, [tile[5], at(builder, lower, I8), left_step])
            _tile_load(builder, [tile[6], at(builder, builder.add(first, inner), I8), line])
            _tile_load(builder, [tile[7], at(builder, builder.add(second, inner), I8), line])
            for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                _tile_multiply(builder, [tile[i], tile[a], tile[b]])
        below = builder.add(result, builder.mul(result_step, ir.Constant(I64, 16)))
        for i, place in enumerate((result, plus(builder, result, 64), below, plus(builder, below, 64))):
            _tile_store(builder, [tile[i], at(builder, place, I8), result_step])

    return types.none(*[types.intp] * 8), no_result(codegen)


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
            for s in (1, 2, 4, 8):
                for i in range(16):
                    if not i & s:
                        a, b = rows[i], rows[i + s]
                        rows[i] = shuffle(builder, a, b, [16 + n - s if n & s else n for n in range(16)])
                        rows[i + s] = shuffle(builder, a, b, [16 + n if n & s else n + s for n in range(16)])
            for i, row in enumerate(rows):
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
