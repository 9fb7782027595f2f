"""Vector instructions for the compiled top-k attention, as Numba intrinsics.

Every intrinsic serves both widths of scores (see llvm.py for their keys) and works on one 512-bit vector of an
array, whatever the processor's own width is.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator,misc"

from __future__ import annotations

import contextlib
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.kernels.llvm import (
    F32,
    FEATURES,
    I32,
    I64,
    constant,
    float_of,
    float_of_key,
    instruction,
    key_of,
    shuffle,
    splat,
)

VECTOR_BYTES = 64
#: Whether the processor packs chosen lanes of a vector together in one instruction.
CAN_COMPRESS = bool(FEATURES.get("avx512vbmi2"))


@intrinsic
def to_key(typingctx: Any, bits: Any) -> Any:
    """A score's bits -> its key."""
    return bits(bits), lambda context, builder, signature, args: key_of(builder, args[0])


@intrinsic
def key_to_float(typingctx: Any, key: Any) -> Any:
    """A key -> the float32 score."""

    return types.float32(key), lambda context, builder, signature, args: float_of_key(builder, args[0])


@intrinsic
def to_float(typingctx: Any, bits: Any) -> Any:
    """A score's bits -> the float32."""
    return types.float32(bits), lambda context, builder, signature, args: float_of(builder, args[0])


@intrinsic
def to_bits(typingctx: Any, value: Any) -> Any:
    """A float32 -> its bits."""
    return types.int32(types.float32), lambda context, builder, signature, args: builder.bitcast(args[0], I32)


@intrinsic
def times_two_to(typingctx: Any, value: Any, whole: Any) -> Any:
    """value * 2**whole, for an integral float32 `whole` that keeps the result a normal number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], I32)
        shift = builder.shl(builder.fptosi(args[1], I32), constant(bits, 23))
        return builder.bitcast(builder.add(bits, shift), F32)

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def power_above(typingctx: Any, value: Any) -> Any:
    """The least power of two above a positive normal float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], I32)
        exponent = builder.and_(builder.add(bits, constant(bits, 1 << 23)), constant(bits, 0xFF << 23))
        return builder.bitcast(exponent, F32)

    return types.float32(types.float32), codegen


@intrinsic
def nearest(typingctx: Any, value: Any) -> Any:
    """A float32 rounded to an integer, as float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.nearbyint", [F32]), args)

    return types.float32(types.float32), codegen


@intrinsic
def note_vector(typingctx: Any, scores: Any, start: Any, keys: Any, to: Any, maxima: Any, group: Any) -> Any:
    """One vector of scores[start:] becomes keys at keys[to:] and raises maxima[group:] where it is larger."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        types_ = signature.args
        found = key_of(builder, _load(builder, _vector_at(context, builder, types_[0], args[0], args[1])))
        _store(builder, found, _vector_at(context, builder, types_[2], args[2], args[3]))
        place = _vector_at(context, builder, types_[4], args[4], args[5])
        best = _load(builder, place)
        _store(builder, builder.select(builder.icmp_signed(">", found, best), found, best), place)
        return context.get_dummy_value()

    return types.none(scores, types.intp, keys, types.intp, maxima, types.intp), codegen


@intrinsic
def count_vector(typingctx: Any, keys: Any, start: Any, threshold: Any) -> Any:
    """How many lanes of one vector of keys[start:] are >= threshold."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(_reached(context, builder, signature, args)[1])

    return types.intp(keys, types.intp, types.intp), codegen


@intrinsic
def mask_vector(typingctx: Any, keys: Any, start: Any, threshold: Any) -> Any:
    """Bit j says whether keys[start + j] >= threshold, over one vector."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _reached(context, builder, signature, args)[1]

    return types.uint64(keys, types.intp, types.intp), codegen


@intrinsic
def extremes(typingctx: Any, keys: Any, n: Any) -> Any:
    """The smallest and the largest of keys[:n], whole vectors, wherever the row lies.

    As a loop over numbers it is fast only where the compiler knows that they lie side by side, and of a part of a wider
    matrix it does not.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keys, n = args
        zero = ir.Constant(n.type, 0)

        def vector(start: Any) -> Any:
            return _load(builder, _vector_at(context, builder, signature.args[0], keys, start))

        found = [(sign, cgutils.alloca_once_value(builder, vector(zero))) for sign in "<>"]
        lanes = vector(zero).type
        with cgutils.for_range_slice(builder, zero, n, ir.Constant(n.type, lanes.count), n.type) as (start, _):
            now = vector(start)
            for sign, extreme in found:
                so_far = builder.load(extreme)
                builder.store(builder.select(builder.icmp_signed(sign, now, so_far), now, so_far), extreme)
        results = []
        for name, (_, extreme) in zip(("smin", "smax"), found, strict=True):
            reduce = instruction(
                f"llvm.vector.reduce.{name}.v{lanes.count}i{lanes.element.width}", lanes.element, lanes
            )
            results.append(builder.sext(reduce(builder, [builder.load(extreme)]), I64))
        return context.make_tuple(builder, signature.return_type, results)

    return types.UniTuple(types.int64, 2)(keys, n), codegen


@intrinsic
def lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Index of the lowest set bit of a mask that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), codegen


@intrinsic
def compress_indices(typingctx: Any, keys: Any, start: Any, threshold: Any, where: Any, n: Any) -> Any:
    """Indices of lanes of keys[start:] that are >= threshold go to where[n:]; returns the new n.

    Needs CAN_COMPRESS. `where` has room for one vector more than the indices to come. Half a vector is written where
    that holds them all: a store that crosses from one line of the cache to the next takes twice as long.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes, mask = _reached(context, builder, signature, args)
        vector = lanes.type
        chosen = builder.bitcast(builder.trunc(mask, ir.IntType(vector.count)), _flags(vector))
        first = builder.trunc(args[1], vector.element)
        indices = builder.add(ir.Constant(vector, list(range(vector.count))), splat(builder, vector, first))
        name = f"llvm.x86.avx512.mask.compress.v{vector.count}i{vector.element.width}"
        compress = instruction(name, vector, vector, vector, _flags(vector))
        packed = compress(builder, [indices, ir.Constant(vector, ir.Undefined), chosen])
        count = builder.ctpop(mask)
        half = vector.count // 2
        for part in range(2):
            place = builder.add(args[4], ir.Constant(I64, part * half))
            lower = shuffle(builder, packed, packed, list(range(part * half, (part + 1) * half)))
            more = builder.icmp_signed(">", count, ir.Constant(I64, part * half))
            with builder.if_then(more, likely=False) if part else contextlib.nullcontext():
                data = context.make_array(signature.args[3])(context, builder, args[3]).data
                _store(builder, lower, builder.bitcast(builder.gep(data, [place]), lower.type.as_pointer()))
        return builder.add(args[4], count)

    return types.intp(keys, types.intp, types.intp, where, types.intp), codegen


def _reached(context: Any, builder: Any, signature: Any, args: Any) -> tuple[Any, Any]:
    """One vector of keys, and the mask (int64) of lanes that reach the threshold; args: keys, start, threshold."""
    lanes = _load(builder, _vector_at(context, builder, signature.args[0], args[0], args[1]))
    threshold = splat(builder, lanes.type, builder.trunc(args[2], lanes.type.element))
    hits = builder.icmp_signed(">=", lanes, threshold)
    return lanes, builder.zext(builder.bitcast(hits, ir.IntType(lanes.type.count)), I64)


def _flags(vector: Any) -> Any:
    return ir.VectorType(ir.IntType(1), vector.count)


def _vector_at(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> Any:
    """Pointer to the vector that begins at array[start]."""
    scalar = context.get_value_type(array_type.dtype)
    vector = ir.VectorType(scalar, VECTOR_BYTES * 8 // scalar.width)
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [start]), vector.as_pointer())


def _load(builder: Any, place: Any) -> Any:
    return builder.load(place, align=place.type.pointee.element.width // 8)


def _store(builder: Any, value: Any, place: Any) -> None:
    builder.store(value, place, align=value.type.element.width // 8)
