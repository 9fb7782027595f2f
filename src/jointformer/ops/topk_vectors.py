"""Vector instructions for the compiled top-k attention, as Numba intrinsics.

A score is handled by its bits, int16 for bfloat16 and int32 for float32, turned into a "key": a signed integer that
orders as the score does. -inf has the lowest key there is, NaN of either sign a key above +inf's. Every intrinsic
serves both widths and works on one 512-bit vector of an array, whatever the processor's own width is.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator,misc"

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import config, types
from numba.extending import intrinsic

VECTOR_BYTES = 64
#: What Numba compiles for: this processor's features, or none known where its settings name another processor.
FEATURES: dict[str, bool] = {} if config.CPU_NAME else dict(llvmlite.binding.get_host_cpu_features())
#: Whether the processor packs chosen lanes of a vector together in one instruction.
CAN_COMPRESS = bool(FEATURES.get("avx512vbmi2"))

_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_F32 = ir.FloatType()


@intrinsic
def to_key(typingctx: Any, bits: Any) -> Any:
    """A score's bits -> its key."""
    return bits(bits), lambda context, builder, signature, args: _to_key(builder, args[0])


@intrinsic
def key_to_float(typingctx: Any, key: Any) -> Any:
    """A key -> the float32 score."""

    return types.float32(key), lambda context, builder, signature, args: _key_to_float(builder, args[0])


@intrinsic
def to_float(typingctx: Any, bits: Any) -> Any:
    """A score's bits -> the float32."""
    return types.float32(bits), lambda context, builder, signature, args: _to_float(builder, args[0])


@intrinsic
def to_bits(typingctx: Any, value: Any, like: Any) -> Any:
    """A finite float32 -> its bits in `like`'s width, rounded to nearest even."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        if signature.return_type.bitwidth == 32:
            return bits
        last = builder.and_(builder.lshr(bits, _constant(bits, 16)), _constant(bits, 1))
        bits = builder.add(bits, builder.add(last, _constant(bits, 0x7FFF)))
        return builder.trunc(builder.lshr(bits, _constant(bits, 16)), ir.IntType(16))

    return like(types.float32, like), codegen


@intrinsic
def times_two_to(typingctx: Any, value: Any, whole: Any) -> Any:
    """value * 2**whole, for an integral float32 `whole` that keeps the result a normal number."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], _I32)
        shift = builder.shl(builder.fptosi(args[1], _I32), _constant(bits, 23))
        return builder.bitcast(builder.add(bits, shift), _F32)

    return types.float32(types.float32, types.float32), codegen


@intrinsic
def nearest(typingctx: Any, value: Any) -> Any:
    """A float32 rounded to an integer, as float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.call(builder.module.declare_intrinsic("llvm.nearbyint", [_F32]), args)

    return types.float32(types.float32), codegen


@intrinsic
def note_vector(typingctx: Any, scores: Any, start: Any, keys: Any, to: Any, maxima: Any, group: Any) -> Any:
    """One vector of scores[start:] becomes keys at keys[to:] and raises maxima[group:] where it is larger."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        types_ = signature.args
        found = _to_key(builder, _load(builder, _vector_at(context, builder, types_[0], args[0], args[1])))
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
def lowest_bit(typingctx: Any, mask: Any) -> Any:
    """Index of the lowest set bit of a mask that is not 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 1))

    return types.intp(types.uint64), codegen


@intrinsic
def compress_vector(
    typingctx: Any, keys: Any, start: Any, threshold: Any, picked: Any, where: Any, n: Any
) -> Any:
    """Lanes of keys[start:] that are >= threshold go to picked[n:], their indices to where[n:]; returns the new n.

    Needs CAN_COMPRESS. Writes whole vectors: `picked` and `where` hold one vector more than the lanes to come.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        lanes, mask = _reached(context, builder, signature, args)
        vector = lanes.type
        chosen = builder.bitcast(builder.trunc(mask, ir.IntType(vector.count)), _flags(vector))
        first = builder.trunc(args[1], vector.element)
        indices = builder.add(ir.Constant(vector, list(range(vector.count))), _splat(builder, vector, first))
        name = f"llvm.x86.avx512.mask.compress.v{vector.count}i{vector.element.width}"
        declared = builder.module.globals.get(name)
        function = declared or ir.Function(
            builder.module, ir.FunctionType(vector, [vector, vector, _flags(vector)]), name
        )
        for values, argument in ((lanes, 3), (indices, 4)):
            packed = builder.call(function, [values, ir.Constant(vector, ir.Undefined), chosen])
            place = _vector_at(context, builder, signature.args[argument], args[argument], args[5])
            _store(builder, packed, place)
        return builder.add(args[5], builder.ctpop(mask))

    return types.intp(keys, types.intp, types.intp, picked, where, types.intp), codegen


def _reached(context: Any, builder: Any, signature: Any, args: Any) -> tuple[Any, Any]:
    """One vector of keys, and the mask (int64) of lanes that reach the threshold; args: keys, start, threshold."""
    lanes = _load(builder, _vector_at(context, builder, signature.args[0], args[0], args[1]))
    threshold = _splat(builder, lanes.type, builder.trunc(args[2], lanes.type.element))
    hits = builder.icmp_signed(">=", lanes, threshold)
    return lanes, builder.zext(builder.bitcast(hits, ir.IntType(lanes.type.count)), _I64)


def _to_key(builder: Any, bits: Any) -> Any:
    # Lowering by the number of NaN patterns wraps negative NaNs around to the top and leaves -inf at the bottom.
    return builder.sub(_flip_negative(builder, bits), _constant(bits, _nans(bits)))


def _key_to_float(builder: Any, key: Any) -> Any:
    return _to_float(builder, _flip_negative(builder, builder.add(key, _constant(key, _nans(key)))))


def _flip_negative(builder: Any, bits: Any) -> Any:
    """Negative numbers with their magnitude's bits inverted, so that integers order as floats; its own inverse."""
    width = _width(bits)
    sign = builder.ashr(bits, _constant(bits, width - 1))
    return builder.xor(bits, builder.and_(sign, _constant(bits, (1 << (width - 1)) - 1)))


def _to_float(builder: Any, bits: Any) -> Any:
    if _width(bits) == 16:
        wide = ir.VectorType(_I32, bits.type.count) if isinstance(bits.type, ir.VectorType) else _I32
        bits = builder.zext(bits, wide)
        bits = builder.shl(bits, _constant(bits, 16))
    return builder.bitcast(bits, ir.VectorType(_F32, bits.type.count) if isinstance(bits.type, ir.VectorType) else _F32)


def _nans(bits: Any) -> int:
    """How many bit patterns of one sign are NaN."""
    return 0x7F if _width(bits) == 16 else 0x7FFFFF


def _width(value: Any) -> int:
    return value.type.element.width if isinstance(value.type, ir.VectorType) else value.type.width


def _constant(like: Any, number: int) -> Any:
    """`number` in `like`'s type, in every lane."""
    return ir.Constant(like.type, [number] * like.type.count if isinstance(like.type, ir.VectorType) else number)


def _splat(builder: Any, vector: Any, scalar: Any) -> Any:
    unset = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, unset, ir.Constant(ir.VectorType(_I32, vector.count), [0] * vector.count))


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
