"""Building blocks of LLVM code for the attention kernels' intrinsics: types, constants, lanes, scores and keys.

A score is handled by its bits, int16 for bfloat16 and int32 for float32, turned into a "key": a signed integer that
orders as the score does. -inf has the lowest key there is, NaN of either sign a key above +inf's.
"""

# mypy: disable-error-code="import-untyped,misc"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import config


def _features() -> dict[str, bool]:
    """What Numba compiles for: this processor's features, or those that Numba's settings name for another one."""
    if not config.CPU_NAME:
        return dict(llvmlite.binding.get_host_cpu_features())
    return {name[1:]: name[0] == "+" for name in (config.CPU_FEATURES or "").split(",") if name}


FEATURES = _features()

I8, I16, I32, I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
F32 = ir.FloatType()
FLOATS = ir.VectorType(F32, 16)
WORDS = ir.VectorType(I32, 16)
HALVES = ir.VectorType(I16, 32)


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"


def instruction(name: str, result: Any, *arguments: Any) -> Callable[[Any, Any], Any]:
    """builder, args -> a call of the LLVM intrinsic `name`."""

    def call(builder: Any, args: Any) -> Any:
        known = builder.module.globals.get(name)
        return builder.call(known or ir.Function(builder.module, ir.FunctionType(result, arguments), name), args)

    return call


BRAINS = ir.VectorType(_BFloat(), 32)
_round_pair = instruction("llvm.x86.avx512bf16.cvtne2ps2bf16.512", BRAINS, FLOATS, FLOATS)
#: Three times 16 float32: the products of the first two plus the third, rounded once.
fused_multiply_add = instruction("llvm.fma.v16f32", FLOATS, FLOATS, FLOATS, FLOATS)
#: 16 float32 and two times 32 bfloat16 -> the float32, each plus the products of its two pairs.
add_pairs = instruction("llvm.x86.avx512bf16.dpbf16ps.512", FLOATS, FLOATS, BRAINS, BRAINS)


#: Where pack_words leaves each of 32 numbers: four of the first vector, four of the second, and so on.
PACKED_ORDER = [8 * (n // 8) // 2 + n % 4 + 16 * (n % 8 // 4) for n in range(32)]


def at(builder: Any, address: Any, type_: Any) -> Any:
    return builder.inttoptr(address, type_.as_pointer())


def load(builder: Any, address: Any, type_: Any) -> Any:
    return builder.load(at(builder, address, type_), align=2)


def store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, at(builder, address, value.type), align=2)


def plus(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, ir.Constant(I64, offset))


def times(builder: Any, address: Any, index: Any, step: int) -> Any:
    """The address `index` steps further."""
    return builder.add(address, builder.mul(index, ir.Constant(I64, step)))


def every(type_: Any, number: float) -> Any:
    return ir.Constant(type_, [number] * type_.count)


def shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, len(lanes)), lanes))


def rounded(builder: Any, low: Any, high: Any) -> Any:
    """Two vectors of 16 float32 -> 32 bfloat16's bits."""
    return builder.bitcast(_round_pair(builder, [high, low]), HALVES)


def no_result(codegen: Callable[[Any, Any], None]) -> Callable[..., Any]:
    """A Numba code generator from (builder, args) -> nothing."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codegen(builder, args)
        return context.get_dummy_value()

    return generate


def key_of(builder: Any, bits: Any) -> Any:
    # Lowering by the number of NaN patterns wraps negative NaNs around to the top and leaves -inf at the bottom.
    return builder.sub(_flip_negative(builder, bits), constant(bits, _nans(bits)))


def float_of_key(builder: Any, key: Any) -> Any:
    return float_of(builder, _flip_negative(builder, builder.add(key, constant(key, _nans(key)))))


def _flip_negative(builder: Any, bits: Any) -> Any:
    """Negative numbers with their magnitude's bits inverted, so that integers order as floats; its own inverse."""
    width = _width(bits)
    sign = builder.ashr(bits, constant(bits, width - 1))
    return builder.xor(bits, builder.and_(sign, constant(bits, (1 << (width - 1)) - 1)))


def float_of(builder: Any, bits: Any) -> Any:
    if _width(bits) == 16:
        wide = ir.VectorType(I32, bits.type.count) if isinstance(bits.type, ir.VectorType) else I32
        bits = builder.zext(bits, wide)
        bits = builder.shl(bits, constant(bits, 16))
    return builder.bitcast(bits, ir.VectorType(F32, bits.type.count) if isinstance(bits.type, ir.VectorType) else F32)


def _nans(bits: Any) -> int:
    """How many bit patterns of one sign are NaN."""
    return 0x7F if _width(bits) == 16 else 0x7FFFFF


def _width(value: Any) -> int:
    return value.type.element.width if isinstance(value.type, ir.VectorType) else value.type.width


def constant(like: Any, number: int) -> Any:
    """`number` in `like`'s type, in every lane."""
    return ir.Constant(like.type, [number] * like.type.count if isinstance(like.type, ir.VectorType) else number)


def splat(builder: Any, vector: Any, scalar: Any) -> Any:
    unset = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(I32, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(I32, vector.count), [0] * vector.count))
