"""AMX tiles and float vectors for the fused bfloat16 attention, as Numba intrinsics.

Everything here takes plain addresses (intp) and byte strides, so that views are read where they lie. Tiles are 16 rows
of 64 bytes: 16 x 32 bfloat16 for factors, 16 x 16 float32 for sums. A right factor's tile holds pairs of rows side
by side ("packed"). A head is 64 wide: two tiles of a left factor, four of a result.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator,misc"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.topk_vectors import FEATURES, _key_to_float, _to_key

#: Whether the processor has the instructions this file uses.
CAN_TILE = all(FEATURES.get(name) for name in ("amx-tile", "amx-bf16", "avx512bf16", "avx512vbmi2"))

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()
_FLOATS = ir.VectorType(_F32, 16)
_WORDS = ir.VectorType(_I32, 16)
_HALVES = ir.VectorType(_I16, 32)


class _BFloat(ir.types.Type):
    """LLVM's bfloat, which llvmlite does not name."""

    def _to_string(self) -> str:
        return "bfloat"


def _instruction(name: str, result: Any, *arguments: Any) -> Callable[[Any, Any], Any]:
    """builder, args -> a call of the LLVM intrinsic `name`."""

    def call(builder: Any, args: Any) -> Any:
        known = builder.module.globals.get(name)
        return builder.call(
            known or ir.Function(builder.module, ir.FunctionType(result, arguments), name), args
        )

    return call


_NOTHING = ir.VoidType()
_BYTES = _I8.as_pointer()
_config_load = _instruction("llvm.x86.ldtilecfg", _NOTHING, _BYTES)
_config_store = _instruction("llvm.x86.sttilecfg", _NOTHING, _BYTES)
_tile_load = _instruction("llvm.x86.tileloadd64", _NOTHING, _I8, _BYTES, _I64)
_tile_store = _instruction("llvm.x86.tilestored64", _NOTHING, _I8, _BYTES, _I64)
_tile_zero = _instruction("llvm.x86.tilezero", _NOTHING, _I8)
_tile_multiply = _instruction("llvm.x86.tdpbf16ps", _NOTHING, _I8, _I8, _I8)
_multiply_add = _instruction("llvm.fma.v16f32", _FLOATS, _FLOATS, _FLOATS, _FLOATS)
_round_pair = _instruction(
    "llvm.x86.avx512bf16.cvtne2ps2bf16.512", ir.VectorType(_BFloat(), 32), _FLOATS, _FLOATS
)
_largest_half = _instruction("llvm.vector.reduce.smax.v32i16", _I16, _HALVES)
_largest_word = _instruction("llvm.vector.reduce.smax.v16i32", _I32, _WORDS)


def _at(builder: Any, address: Any, type_: Any) -> Any:
    return builder.inttoptr(address, type_.as_pointer())


def _load(builder: Any, address: Any, type_: Any) -> Any:
    return builder.load(_at(builder, address, type_), align=2)


def _store(builder: Any, value: Any, address: Any) -> None:
    builder.store(value, _at(builder, address, value.type), align=2)


def _plus(builder: Any, address: Any, offset: int) -> Any:
    return builder.add(address, ir.Constant(_I64, offset))


def _all(type_: Any, number: float) -> Any:
    return ir.Constant(type_, [number] * type_.count)


def _splat(builder: Any, scalar: Any) -> Any:
    unset = ir.Constant(_FLOATS, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, unset, _all(_WORDS, 0))


def _shuffle(builder: Any, a: Any, b: Any, lanes: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, len(lanes)), lanes))


def _rounded(builder: Any, low: Any, high: Any) -> Any:
    """Two vectors of 16 float32 -> 32 bfloat16's bits."""
    return builder.bitcast(_round_pair(builder, [high, low]), _HALVES)


def _no_result(codegen: Callable[[Any, Any], None]) -> Callable[..., Any]:
    """A Numba code generator from (builder, args) -> nothing."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        codegen(builder, args)
        return context.get_dummy_value()

    return generate


@intrinsic
def set_tiles(typingctx: Any, new: Any, old: Any) -> Any:
    """Stores the thread's tile configuration (64 bytes) at `old`, then takes the one at `new`."""

    def codegen(builder: Any, args: Any) -> None:
        _config_store(builder, [_at(builder, args[1], _I8)])
        _config_load(builder, [_at(builder, args[0], _I8)])

    return types.none(types.intp, types.intp), _no_result(codegen)


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
        tile = [ir.Constant(_I8, i) for i in range(8)]
        for i in range(4):
            _tile_zero(builder, [tile[i]])
        with cgutils.for_range(builder, steps) as loop:
            upper = builder.add(left, builder.mul(loop.index, ir.Constant(_I64, 64)))
            lower = builder.add(upper, builder.mul(left_step, ir.Constant(_I64, 16)))
            inner = builder.mul(loop.index, inner_step)
            line = ir.Constant(_I64, 64)
            _tile_load(builder, [tile[4], _at(builder, upper, _I8), left_step])
            _tile_load(builder, [tile[5], _at(builder, lower, _I8), left_step])
            _tile_load(builder, [tile[6], _at(builder, builder.add(first, inner), _I8), line])
            _tile_load(builder, [tile[7], _at(builder, builder.add(second, inner), _I8), line])
            for i, (a, b) in enumerate(((4, 6), (4, 7), (5, 6), (5, 7))):
                _tile_multiply(builder, [tile[i], tile[a], tile[b]])
        below = builder.add(result, builder.mul(result_step, ir.Constant(_I64, 16)))
        for i, place in enumerate((result, _plus(builder, result, 64), below, _plus(builder, below, 64))):
            _tile_store(builder, [tile[i], _at(builder, place, _I8), result_step])

    return types.none(*[types.intp] * 8), _no_result(codegen)


@intrinsic
def pack_keys(typingctx: Any, keys: Any, step: Any, last: Any, packed: Any) -> Any:
    """Writes the two packed tiles of 16 keys (rows of 64 bfloat16, `step` bytes apart) at `packed`.

    Rows behind number `last` repeat it. A tile is the transpose of the keys' halves in units of two values.
    """

    def codegen(builder: Any, args: Any) -> None:
        keys, step, last, packed = args
        places = []
        for i in range(16):
            row = ir.Constant(_I64, i)
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            places.append(builder.add(keys, builder.mul(row, step)))
        for half in range(2):
            rows = [_load(builder, _plus(builder, place, 64 * half), _WORDS) for place in places]
            for s in (1, 2, 4, 8):
                for i in range(16):
                    if not i & s:
                        a, b = rows[i], rows[i + s]
                        rows[i] = _shuffle(builder, a, b, [16 + n - s if n & s else n for n in range(16)])
                        rows[i + s] = _shuffle(builder, a, b, [16 + n if n & s else n + s for n in range(16)])
            for i, row in enumerate(rows):
                _store(builder, row, _plus(builder, packed, 1024 * half + 64 * i))

    return types.none(*[types.intp] * 4), _no_result(codegen)


@intrinsic
def pack_values(typingctx: Any, values: Any, step: Any, last: Any, packed: Any) -> Any:
    """Writes row pair `i`'s share (of 32 rows of 64 bfloat16) of the four packed tiles: rows 0 and 1 at `values`.

    The second row is the first again where `last` is 0.
    """

    def codegen(builder: Any, args: Any) -> None:
        values, step, last, packed = args
        zero = ir.Constant(_I64, 0)
        second = builder.add(values, builder.select(builder.icmp_signed(">", last, zero), step, zero))
        pairs = [n // 2 + (32 if n % 2 else 0) for n in range(32)]
        for half in range(2):
            a = _load(builder, _plus(builder, values, 64 * half), _HALVES)
            b = _load(builder, _plus(builder, second, 64 * half), _HALVES)
            for i in range(2):
                mixed = _shuffle(builder, a, b, [n + 16 * i for n in pairs])
                _store(builder, mixed, _plus(builder, packed, 1024 * (2 * half + i)))

    return types.none(*[types.intp] * 4), _no_result(codegen)


@intrinsic
def copy_row(typingctx: Any, source: Any, target: Any) -> Any:
    """Copies 64 bfloat16."""

    def codegen(builder: Any, args: Any) -> None:
        for i in range(2):
            _store(builder, _load(builder, _plus(builder, args[0], 64 * i), _HALVES), _plus(builder, args[1], 64 * i))

    return types.none(types.intp, types.intp), _no_result(codegen)


@intrinsic
def note_scores(typingctx: Any, scores: Any, keys: Any, maxima: Any) -> Any:
    """32 float32 scores become 16-bit keys of their bfloat16 roundings at `keys`, and raise 32 maxima."""

    def codegen(builder: Any, args: Any) -> None:
        scores, keys, maxima = args
        low, high = (_load(builder, _plus(builder, scores, 64 * i), _FLOATS) for i in range(2))
        found = _to_key(builder, _rounded(builder, low, high))
        _store(builder, found, keys)
        best = _load(builder, maxima, _HALVES)
        _store(builder, builder.select(builder.icmp_signed(">", found, best), found, best), maxima)

    return types.none(types.intp, types.intp, types.intp), _no_result(codegen)


@intrinsic
def largest_score_key(typingctx: Any, scores: Any, vectors: Any) -> Any:
    """The largest 32-bit key of 16 * `vectors` float32 scores."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        best = cgutils.alloca_once_value(builder, _all(_WORDS, -(1 << 31)))
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.add(args[0], builder.mul(loop.index, ir.Constant(_I64, 64)))
            key = _to_key(builder, _load(builder, place, _WORDS))
            so_far = builder.load(best)
            builder.store(builder.select(builder.icmp_signed(">", key, so_far), key, so_far), best)
        return builder.sext(_largest_word(builder, [builder.load(best)]), _I64)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def largest_key(typingctx: Any, keys: Any, vectors: Any) -> Any:
    """The largest of 32 * `vectors` 16-bit keys."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        best = cgutils.alloca_once_value(builder, _all(_HALVES, -(1 << 15)))
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.add(args[0], builder.mul(loop.index, ir.Constant(_I64, 64)))
            key = _load(builder, place, _HALVES)
            so_far = builder.load(best)
            builder.store(builder.select(builder.icmp_signed(">", key, so_far), key, so_far), best)
        return builder.sext(_largest_half(builder, [builder.load(best)]), _I64)

    return types.intp(types.intp, types.intp), codegen


# 2**f on [-1/2, 1/2], relative error 8e-5: a fiftieth of bfloat16's rounding.
_POWER = (0.05508868380751208, 0.2426040514594793, 0.6932762416819611, 0.9999289403695117)


def _power_of_two(builder: Any, x: Any) -> Any:
    """2**x of 16 float32 x <= 0; 2**-126 below that."""
    least = _all(_FLOATS, -126.0)
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    magic = _all(_FLOATS, 12582912.0)  # adding it leaves the nearest integer in the lowest bits
    shifted = builder.fadd(x, magic)
    fraction = builder.fsub(x, builder.fsub(shifted, magic))
    power = _all(_FLOATS, _POWER[0])
    for coefficient in _POWER[1:]:
        power = _multiply_add(builder, [power, fraction, _all(_FLOATS, coefficient)])
    exponent = builder.shl(builder.bitcast(shifted, _WORDS), _all(_WORDS, 23))
    return builder.bitcast(builder.add(builder.bitcast(power, _WORDS), exponent), _FLOATS)


@intrinsic
def scores_to_weights(
    typingctx: Any, scores: Any, pairs: Any, scale: Any, shift: Any, factor: Any, totals: Any
) -> Any:
    """32 * `pairs` float32 scores become bfloat16 weights 2**(score * scale - shift), from the same address on.

    16 running sums at `totals` are multiplied by `factor` and take the weights in.
    """

    def codegen(builder: Any, args: Any) -> None:
        scores, pairs, scale, shift, factor, totals = args
        scale, shift = _splat(builder, scale), builder.fneg(_splat(builder, shift))
        sums = [cgutils.alloca_once_value(builder, _all(_FLOATS, 0.0)) for _ in range(2)]
        with cgutils.for_range(builder, pairs) as loop:
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(_I64, 128)))
            found = [_load(builder, _plus(builder, place, 64 * i), _FLOATS) for i in range(2)]
            terms = [_power_of_two(builder, _multiply_add(builder, [score, scale, shift])) for score in found]
            for total, term in zip(sums, terms, strict=True):
                builder.store(builder.fadd(builder.load(total), term), total)
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(_I64, 64)))
            _store(builder, _rounded(builder, *terms), place)
        new = builder.fadd(builder.load(sums[0]), builder.load(sums[1]))
        old = _load(builder, totals, _FLOATS)
        _store(builder, _multiply_add(builder, [old, _splat(builder, factor), new]), totals)

    return types.none(types.intp, types.intp, *[types.float32] * 3, types.intp), _no_result(codegen)


@intrinsic
def take_in(typingctx: Any, sums: Any, factor: Any, more: Any) -> Any:
    """64 float32 at `sums` are multiplied by `factor` and take in the 64 at `more`."""

    def codegen(builder: Any, args: Any) -> None:
        sums, factor, more = args
        factor = _splat(builder, factor)
        for i in range(4):
            old, new = (_load(builder, _plus(builder, place, 64 * i), _FLOATS) for place in (sums, more))
            _store(builder, _multiply_add(builder, [old, factor, new]), _plus(builder, sums, 64 * i))

    return types.none(types.intp, types.float32, types.intp), _no_result(codegen)


@intrinsic
def keys_to_weights(
    typingctx: Any, picked: Any, where: Any, n: Any, threshold: Any, scale: Any, shift: Any,
    first: Any, index: Any, weight: Any,
) -> Any:  # fmt: skip
    """Sum of 2**(score * scale - shift) over those of n 16-bit keys at `picked` that reach the threshold.

    The terms go to `weight` (0 for the others) as float32, `first` + the 16-bit numbers at `where` to `index` as
    int32. Whole vectors of 16 are written.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        picked, where, n, threshold, scale, shift, first, index, weight = args
        sixteen = ir.VectorType(_I16, 16)
        scale, shift = _splat(builder, scale), builder.fneg(_splat(builder, shift))
        first = _splat_words(builder, builder.trunc(first, _I32))
        threshold = _splat_words(builder, builder.trunc(threshold, _I32))
        total = cgutils.alloca_once_value(builder, _all(_FLOATS, 0.0))
        vectors = builder.lshr(_plus(builder, n, 15), ir.Constant(_I64, 4))
        with cgutils.for_range(builder, vectors) as loop:
            narrow = builder.mul(loop.index, ir.Constant(_I64, 32))
            wide = builder.mul(loop.index, ir.Constant(_I64, 64))
            key = _load(builder, builder.add(picked, narrow), sixteen)
            score = _key_to_float(builder, key)
            term = _power_of_two(builder, _multiply_add(builder, [score, scale, shift]))
            kept = builder.icmp_signed(">=", builder.sext(key, _WORDS), threshold)
            term = builder.select(kept, term, _all(_FLOATS, 0.0))
            builder.store(builder.fadd(builder.load(total), term), total)
            _store(builder, term, builder.add(weight, wide))
            number = builder.zext(_load(builder, builder.add(where, narrow), sixteen), _WORDS)
            _store(builder, builder.add(number, first), builder.add(index, wide))
        return _sum_of_lanes(builder, builder.load(total))

    return types.float32(*[types.intp] * 4, types.float32, types.float32, *[types.intp] * 3), codegen


def _splat_words(builder: Any, scalar: Any) -> Any:
    unset = ir.Constant(_WORDS, ir.Undefined)
    first = builder.insert_element(unset, scalar, ir.Constant(_I32, 0))
    return builder.shuffle_vector(first, unset, _all(_WORDS, 0))


def _sum_of_lanes(builder: Any, lanes: Any) -> Any:
    for s in (8, 4, 2, 1):
        lanes = builder.fadd(lanes, _shuffle(builder, lanes, lanes, [n ^ s for n in range(16)]))
    return builder.extract_element(lanes, ir.Constant(_I32, 0))


@intrinsic
def weigh_values(typingctx: Any, values: Any, step: Any, index: Any, weight: Any, n: Any, result: Any) -> Any:
    """64 float32 at `result`: the sum of weight[i] * row index[i] of `values` (64 bfloat16, `step` bytes apart)."""

    def codegen(builder: Any, args: Any) -> None:
        values, step, index, weight, n, result = args
        sums = [cgutils.alloca_once_value(builder, _all(_FLOATS, 0.0)) for _ in range(4)]
        with cgutils.for_range(builder, n) as loop:
            offset = builder.mul(loop.index, ir.Constant(_I64, 4))
            row = builder.sext(_load(builder, builder.add(index, offset), _I32), _I64)
            place = builder.add(values, builder.mul(row, step))
            factor = _splat(builder, _load(builder, builder.add(weight, offset), _F32))
            for i, total in enumerate(sums):
                part = _load(builder, _plus(builder, place, 32 * i), ir.VectorType(_I16, 16))
                part = builder.shl(builder.zext(part, _WORDS), _all(_WORDS, 16))
                value = builder.bitcast(part, _FLOATS)
                builder.store(_multiply_add(builder, [value, factor, builder.load(total)]), total)
        for i, total in enumerate(sums):
            _store(builder, builder.load(total), _plus(builder, result, 64 * i))

    return types.none(*[types.intp] * 6), _no_result(codegen)


@intrinsic
def finish_row(typingctx: Any, own: Any, memory: Any, factor: Any, result: Any) -> Any:
    """64 bfloat16 at `result`: (own + memory) * factor, of 64 float32 each."""

    def codegen(builder: Any, args: Any) -> None:
        own, memory, factor, result = args
        factor = _splat(builder, factor)
        parts = []
        for i in range(4):
            a, b = (_load(builder, _plus(builder, place, 64 * i), _FLOATS) for place in (own, memory))
            parts.append(builder.fmul(builder.fadd(a, b), factor))
        for i in range(2):
            _store(builder, _rounded(builder, *parts[2 * i : 2 * i + 2]), _plus(builder, result, 64 * i))

    return types.none(types.intp, types.intp, types.float32, types.intp), _no_result(codegen)
