"""Vectors of scores, weights and values for the fused bfloat16 attention, as Numba intrinsics.

They take plain addresses (intp). Rounding to bfloat16 is the processor's: see processor.py.
"""

# mypy: disable-error-code="import-untyped,untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.kernels.llvm import (
    BRAINS,
    F32,
    FLOATS,
    HALVES,
    I8,
    I16,
    I32,
    I64,
    PACKED_ORDER,
    WORDS,
    add_pairs,
    every,
    float_of_key,
    fused_multiply_add,
    instruction,
    key_of,
    load,
    no_result,
    plus,
    rounded,
    shuffle,
    splat,
    store,
    times,
)
from jointformer.ops.kernels.tiles import score_products

_largest_half = instruction("llvm.vector.reduce.smax.v32i16", I16, HALVES)
_largest_word = instruction("llvm.vector.reduce.smax.v16i32", I32, WORDS)


#: Where 32 neighbouring keys are left: the first and the second 16 alternate.
MIXED_ORDER = [n // 2 + 16 * (n % 2) for n in range(32)]
_MAGIC = 12582912.0  # adding it leaves the nearest integer in a float32's lowest bits


def _note(builder: Any, found: Any, keys: Any, maxima: Any) -> None:
    """32 keys go to `keys` and raise 32 maxima."""
    store(builder, found, keys)
    best = load(builder, maxima, HALVES)
    store(builder, builder.select(builder.icmp_signed(">", found, best), found, best), maxima)


def _rounded_keys(builder: Any, scores: Any) -> Any:
    """Keys of 32 float32 scores rounded to bfloat16, in MIXED_ORDER."""
    low, high = (load(builder, plus(builder, scores, 64 * i), FLOATS) for i in range(2))
    found = key_of(builder, rounded(builder, low, high))
    return shuffle(builder, found, found, MIXED_ORDER)


def _whole_keys(builder: Any, scores: Any, factor: Any) -> Any:
    """32 float32 scores times `factor`, which is within 16 bits, to the nearest whole, in MIXED_ORDER."""
    factor, magic = splat(builder, FLOATS, factor), every(FLOATS, _MAGIC)
    low, high = (
        builder.bitcast(
            fused_multiply_add(builder, [load(builder, plus(builder, scores, 64 * i), FLOATS), factor, magic]), WORDS
        )
        for i in range(2)
    )
    pairs = builder.or_(builder.and_(low, every(WORDS, 0xFFFF)), builder.shl(high, every(WORDS, 16)))
    return builder.bitcast(pairs, HALVES)


@intrinsic
def note_rounded(typingctx: Any, scores: Any, keys: Any, keys_step: Any, maxima: Any, maxima_step: Any) -> Any:
    """32 rows of 32 float32 scores become keys of their bfloat16 roundings, and raise 32 maxima a row.

    A row's keys are left in MIXED_ORDER, `keys_step` bytes from the row before's.
    """

    def codegen(builder: Any, args: Any) -> None:
        scores, keys, keys_step, maxima, maxima_step = args
        with cgutils.for_range(builder, ir.Constant(I64, 32)) as loop:
            goal = builder.add(keys, builder.mul(loop.index, keys_step))
            best = builder.add(maxima, builder.mul(loop.index, maxima_step))
            found = _rounded_keys(builder, builder.add(scores, builder.mul(loop.index, ir.Constant(I64, 128))))
            _note(builder, found, goal, best)

    return types.none(*[types.intp] * 5), no_result(codegen)


@intrinsic
def note_whole(
    typingctx: Any, scores: Any, factors: Any, keys: Any, keys_step: Any, maxima: Any, maxima_step: Any
) -> Any:
    """As note_rounded, but a row's keys are its scores times its float32 factor, rounded to whole numbers."""

    def codegen(builder: Any, args: Any) -> None:
        scores, factors, keys, keys_step, maxima, maxima_step = args
        with cgutils.for_range(builder, ir.Constant(I64, 32)) as loop:
            goal = builder.add(keys, builder.mul(loop.index, keys_step))
            best = builder.add(maxima, builder.mul(loop.index, maxima_step))
            factor = load(builder, builder.add(factors, builder.mul(loop.index, ir.Constant(I64, 4))), F32)
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(I64, 128)))
            _note(builder, _whole_keys(builder, place, factor), goal, best)

    return types.none(*[types.intp] * 6), no_result(codegen)


@intrinsic
def multiply_and_note(
    typingctx: Any, q: Any, packed: Any, result: Any, scores: Any, factors: Any, keys: Any, keys_step: Any,
    maxima: Any, maxima_step: Any,
) -> Any:  # fmt: skip
    """next_products, and in between note_whole of the `scores` that are there already."""

    def codegen(builder: Any, args: Any) -> None:
        q, packed, result, scores, factors, keys, keys_step, maxima, maxima_step = args

        def note_row(row: Any) -> None:
            goal = builder.add(keys, builder.mul(keys_step, row))
            best = builder.add(maxima, builder.mul(maxima_step, row))
            factor = load(builder, times(builder, factors, row, 4), F32)
            _note(builder, _whole_keys(builder, times(builder, scores, row, 128), factor), goal, best)

        score_products(builder, q, packed, result, scores, note_row)

    return types.none(*[types.intp] * 9), no_result(codegen)


@intrinsic
def largest_score_key(typingctx: Any, scores: Any, vectors: Any) -> Any:
    """The largest 32-bit key of 16 * `vectors` float32 scores."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        best = cgutils.alloca_once_value(builder, every(WORDS, -(1 << 31)))
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.add(args[0], builder.mul(loop.index, ir.Constant(I64, 64)))
            key = key_of(builder, load(builder, place, WORDS))
            so_far = builder.load(best)
            builder.store(builder.select(builder.icmp_signed(">", key, so_far), key, so_far), best)
        return builder.sext(_largest_word(builder, [builder.load(best)]), I64)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def largest_key(typingctx: Any, keys: Any, vectors: Any) -> Any:
    """The largest of 32 * `vectors` 16-bit keys."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        best = cgutils.alloca_once_value(builder, every(HALVES, -(1 << 15)))
        with cgutils.for_range(builder, args[1]) as loop:
            place = builder.add(args[0], builder.mul(loop.index, ir.Constant(I64, 64)))
            key = load(builder, place, HALVES)
            so_far = builder.load(best)
            builder.store(builder.select(builder.icmp_signed(">", key, so_far), key, so_far), best)
        return builder.sext(_largest_half(builder, [builder.load(best)]), I64)

    return types.intp(types.intp, types.intp), codegen


# 2**f on [-1/2, 1/2], relative error 8e-5: a fiftieth of bfloat16's rounding.
_POWER = (0.05508868380751208, 0.2426040514594793, 0.6932762416819611, 0.9999289403695117)


def _power_of_two(builder: Any, x: Any) -> Any:
    """2**x of 16 float32 x <= 0; 2**-126 below that."""
    least = every(FLOATS, -126.0)
    x = builder.select(builder.fcmp_ordered(">", x, least), x, least)
    magic = every(FLOATS, _MAGIC)
    shifted = builder.fadd(x, magic)
    fraction = builder.fsub(x, builder.fsub(shifted, magic))
    power = every(FLOATS, _POWER[0])
    for coefficient in _POWER[1:]:
        power = fused_multiply_add(builder, [power, fraction, every(FLOATS, coefficient)])
    exponent = builder.shl(builder.bitcast(shifted, WORDS), every(WORDS, 23))
    return builder.bitcast(builder.add(builder.bitcast(power, WORDS), exponent), FLOATS)


@intrinsic
def scores_to_weights(typingctx: Any, scores: Any, pairs: Any, scale: Any, shift: Any, factor: Any, totals: Any) -> Any:
    """32 * `pairs` float32 scores become bfloat16 weights 2**(score * scale - shift), from the same address on.

    Every 32 of them are left in PACKED_ORDER. 16 running sums at `totals` are multiplied by `factor` and take the
    weights in.
    """

    def codegen(builder: Any, args: Any) -> None:
        scores, pairs, scale, shift, factor, totals = args
        scale, shift = splat(builder, FLOATS, scale), builder.fneg(splat(builder, FLOATS, shift))
        sums = [cgutils.alloca_once_value(builder, every(FLOATS, 0.0)) for _ in range(2)]
        with cgutils.for_range(builder, pairs) as loop:
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(I64, 128)))
            found = [load(builder, plus(builder, place, 64 * i), FLOATS) for i in range(2)]
            terms = [_power_of_two(builder, fused_multiply_add(builder, [score, scale, shift])) for score in found]
            for total, term in zip(sums, terms, strict=True):
                builder.store(builder.fadd(builder.load(total), term), total)
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(I64, 64)))
            weights = rounded(builder, *terms)
            store(builder, shuffle(builder, weights, weights, PACKED_ORDER), place)
        new = builder.fadd(builder.load(sums[0]), builder.load(sums[1]))
        old = load(builder, totals, FLOATS)
        store(builder, fused_multiply_add(builder, [old, splat(builder, FLOATS, factor), new]), totals)

    return types.none(types.intp, types.intp, *[types.float32] * 3, types.intp), no_result(codegen)


# The fraction's part of a bfloat16 power of two: of n in 128ths, 128 * (2**(n / 128) - 1) to the nearest whole.
_FRACTIONS = [round(128 * (2 ** (n / 128) - 1)) for n in range(128)]
_QUARTER = ir.VectorType(I8, 64)
_to_words = instruction("llvm.x86.avx512.mask.cvtps2dq.512", WORDS, FLOATS, WORDS, I16, I32)
_pack_words = instruction("llvm.x86.avx512.packusdw.512", HALVES, WORDS, WORDS)
_look_up = instruction("llvm.x86.avx512.vpermi2var.qi.512", _QUARTER, _QUARTER, _QUARTER, _QUARTER)


def _weigh(builder: Any, scores: Any, scale: Any, shift: Any, weights: Any, totals: Any) -> None:
    """A row's part of tile_to_weights."""
    table = [ir.Constant(_QUARTER, _FRACTIONS[i : i + 64]) for i in (0, 64)]
    words = []
    for i in range(2):
        number = fused_multiply_add(builder, [load(builder, plus(builder, scores, 64 * i), FLOATS), scale, shift])
        unset = ir.Constant(WORDS, ir.Undefined)
        words.append(_to_words(builder, [number, unset, ir.Constant(I16, -1), ir.Constant(I32, 4)]))
    bits = _pack_words(builder, words)
    fraction = builder.bitcast(_look_up(builder, [table[0], builder.bitcast(bits, _QUARTER), table[1]]), HALVES)
    bits = builder.or_(builder.and_(bits, every(HALVES, -128)), builder.and_(fraction, every(HALVES, 127)))
    store(builder, bits, weights)
    ones = builder.bitcast(every(HALVES, 0x3F80), BRAINS)
    total = add_pairs(builder, [load(builder, totals, FLOATS), builder.bitcast(bits, BRAINS), ones])
    store(builder, total, totals)


@intrinsic
def tile_to_weights(typingctx: Any, scores: Any, scale: Any, shifts: Any, weights: Any, totals: Any) -> Any:
    """32 x 32 float32 scores become bfloat16 weights, 32 lines of 64 bytes: 2**((score * scale + shift) / 128 - 127).

    Every row has its own shift; its 32 weights are left in PACKED_ORDER, and 16 running sums of the row at `totals`
    take them in. The number that is rounded to a whole is the weight's bits but for the curve of its fraction, which is
    looked up: a weight is at most 0.5 % off, and exactly as it is summed. What is too small becomes 0.
    """

    def codegen(builder: Any, args: Any) -> None:
        scores, scale, shifts, weights, totals = args
        scale = splat(builder, FLOATS, scale)
        with cgutils.for_range(builder, ir.Constant(I64, 32)) as loop:
            line = builder.mul(loop.index, ir.Constant(I64, 64))
            shift = load(builder, builder.add(shifts, builder.mul(loop.index, ir.Constant(I64, 4))), F32)
            place = builder.add(scores, builder.mul(loop.index, ir.Constant(I64, 128)))
            goal, total = builder.add(weights, line), builder.add(totals, line)
            _weigh(builder, place, scale, splat(builder, FLOATS, shift), goal, total)

    return types.none(types.intp, types.float32, *[types.intp] * 3), no_result(codegen)


@intrinsic
def multiply_and_weigh(
    typingctx: Any, q: Any, packed: Any, result: Any, scores: Any, scale: Any, shifts: Any, weights: Any,
    totals: Any,
) -> Any:  # fmt: skip
    """next_products, and in between tile_to_weights of the `scores` that are there already."""

    def codegen(builder: Any, args: Any) -> None:
        q, packed, result, scores, scale, shifts, weights, totals = args
        scale = splat(builder, FLOATS, scale)

        def weigh_row(row: Any) -> None:
            shift = splat(builder, FLOATS, load(builder, times(builder, shifts, row, 4), F32))
            goal, total = times(builder, weights, row, 64), times(builder, totals, row, 64)
            _weigh(builder, times(builder, scores, row, 128), scale, shift, goal, total)

        score_products(builder, q, packed, result, scores, weigh_row)

    return types.none(*[types.intp] * 4, types.float32, *[types.intp] * 3), no_result(codegen)


@intrinsic
def sum_of_lanes(typingctx: Any, lanes: Any) -> Any:
    """The sum of 16 float32."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _sum_of_lanes(builder, load(builder, args[0], FLOATS))

    return types.float32(types.intp), codegen


@intrinsic
def product_sum(typingctx: Any, one: Any, other: Any) -> Any:
    """The sum of products of two rows of 64 bfloat16."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        total = every(FLOATS, 0.0)
        for i in range(2):
            rows = [builder.bitcast(load(builder, plus(builder, row, 64 * i), HALVES), BRAINS) for row in args]
            total = add_pairs(builder, [total, *rows])
        return _sum_of_lanes(builder, total)

    return types.float32(types.intp, types.intp), codegen


@intrinsic
def take_in(typingctx: Any, sums: Any, factor: Any, more: Any) -> Any:
    """64 float32 at `sums` are multiplied by `factor` and take in the 64 at `more`."""

    def codegen(builder: Any, args: Any) -> None:
        sums, factor, more = args
        factor = splat(builder, FLOATS, factor)
        for i in range(4):
            old, new = (load(builder, plus(builder, place, 64 * i), FLOATS) for place in (sums, more))
            store(builder, fused_multiply_add(builder, [old, factor, new]), plus(builder, sums, 64 * i))

    return types.none(types.intp, types.float32, types.intp), no_result(codegen)


@intrinsic
def keys_to_weights(
    typingctx: Any, picked: Any, where: Any, n: Any, threshold: Any, whole: Any, scale: Any, shift: Any,
    index: Any, weight: Any, totals: Any,
) -> Any:  # fmt: skip
    """How many of n 16-bit keys at `picked` reach the threshold, and 2**(score * scale - shift) of these.

    A score is its key where those are `whole` numbers, else what the key stands for. The terms go to `weight`, float32,
    and their places at `where` (16 bits, keys in MIXED_ORDER) as numbers of keys to `index`, int32; 16 running sums at
    `totals` take the terms in. Whole vectors of 16 are written.
    """

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        picked, where, n, threshold, whole, scale, shift, index, weight, totals = args
        sixteen = ir.VectorType(I16, 16)
        scale, shift = splat(builder, FLOATS, scale), builder.fneg(splat(builder, FLOATS, shift))
        threshold = splat(builder, WORDS, builder.trunc(threshold, I32))
        whole = builder.icmp_signed("!=", whole, ir.Constant(I64, 0))
        total = cgutils.alloca_once_value(builder, load(builder, totals, FLOATS))
        kept = cgutils.alloca_once_value(builder, ir.Constant(I64, 0))
        vectors = builder.lshr(plus(builder, n, 15), ir.Constant(I64, 4))
        with cgutils.for_range(builder, vectors) as loop:
            narrow = builder.mul(loop.index, ir.Constant(I64, 32))
            key = load(builder, builder.add(picked, narrow), sixteen)
            number = builder.sext(key, WORDS)
            score = builder.select(whole, builder.sitofp(number, FLOATS), float_of_key(builder, key))
            term = _power_of_two(builder, fused_multiply_add(builder, [score, scale, shift]))
            keep = builder.icmp_signed(">=", number, threshold)
            term = builder.select(keep, term, every(FLOATS, 0.0))
            builder.store(builder.fadd(builder.load(total), term), total)
            place = _unmixed(builder, builder.zext(load(builder, builder.add(where, narrow), sixteen), WORDS))
            so_far = builder.load(kept)
            for found, compress, goal in ((term, _compress_floats, weight), (place, _compress_words, index)):
                packed = compress(builder, [found, ir.Constant(found.type, ir.Undefined), keep])
                store(builder, packed, times(builder, goal, so_far, 4))
            count = builder.zext(builder.ctpop(builder.bitcast(keep, I16)), I64)
            builder.store(builder.add(so_far, count), kept)
        store(builder, builder.load(total), totals)
        return builder.load(kept)

    return types.int64(*[types.intp] * 5, types.float32, types.float32, *[types.intp] * 3), codegen


_FLAGS = ir.VectorType(ir.IntType(1), 16)
_compress_floats = instruction("llvm.x86.avx512.mask.compress.v16f32", FLOATS, FLOATS, FLOATS, _FLAGS)
_compress_words = instruction("llvm.x86.avx512.mask.compress.v16i32", WORDS, WORDS, WORDS, _FLAGS)


def _unmixed(builder: Any, places: Any) -> Any:
    """Numbers of the keys at these places of rows in MIXED_ORDER."""
    block = builder.and_(places, every(WORDS, -32))
    number = builder.and_(builder.lshr(places, every(WORDS, 1)), every(WORDS, 15))
    second = builder.shl(builder.and_(places, every(WORDS, 1)), every(WORDS, 4))
    return builder.or_(builder.or_(block, number), second)


def _sum_of_lanes(builder: Any, lanes: Any) -> Any:
    for s in (8, 4, 2, 1):
        lanes = builder.fadd(lanes, shuffle(builder, lanes, lanes, [n ^ s for n in range(16)]))
    return builder.extract_element(lanes, ir.Constant(I32, 0))


@intrinsic
def weigh_values(typingctx: Any, values: Any, step: Any, index: Any, weight: Any, n: Any, sums: Any) -> Any:
    """64 float32 at `sums` take in weight[i] * row index[i] of `values` (64 bfloat16, `step` bytes apart), i < n."""

    def codegen(builder: Any, args: Any) -> None:
        values, step, index, weight, n, sums = args
        totals = [cgutils.alloca_once(builder, FLOATS) for _ in range(4)]
        for i in range(2):  # even and odd columns of 32: both halves of every 32 bits are a value
            low, high = (load(builder, plus(builder, sums, 128 * i + 64 * j), FLOATS) for j in range(2))
            for j in range(2):
                builder.store(shuffle(builder, low, high, list(range(j, 32, 2))), totals[2 * i + j])
        with cgutils.for_range(builder, n) as loop:
            offset = builder.mul(loop.index, ir.Constant(I64, 4))
            row = builder.sext(load(builder, builder.add(index, offset), I32), I64)
            place = builder.add(values, builder.mul(row, step))
            factor = splat(builder, FLOATS, load(builder, builder.add(weight, offset), F32))
            for i in range(2):
                pairs = load(builder, plus(builder, place, 64 * i), WORDS)
                halves = builder.shl(pairs, every(WORDS, 16)), builder.and_(pairs, every(WORDS, -65536))
                for total, bits in zip(totals[2 * i :], halves):
                    value = builder.bitcast(bits, FLOATS)
                    builder.store(fused_multiply_add(builder, [value, factor, builder.load(total)]), total)
        for i in range(2):
            even, odd = builder.load(totals[2 * i]), builder.load(totals[2 * i + 1])
            for j in range(2):
                lanes = [n // 2 + 8 * j + 16 * (n % 2) for n in range(16)]
                store(builder, shuffle(builder, even, odd, lanes), plus(builder, sums, 128 * i + 64 * j))

    return types.none(*[types.intp] * 6), no_result(codegen)


@intrinsic
def finish_row(typingctx: Any, sums: Any, factor: Any, result: Any) -> Any:
    """64 bfloat16 at `result`: the 64 float32 sums times `factor`."""

    def codegen(builder: Any, args: Any) -> None:
        sums, factor, result = args
        factor = splat(builder, FLOATS, factor)
        parts = [builder.fmul(load(builder, plus(builder, sums, 64 * i), FLOATS), factor) for i in range(4)]
        for i in range(2):
            store(builder, rounded(builder, *parts[2 * i : 2 * i + 2]), plus(builder, result, 64 * i))

    return types.none(types.intp, types.float32, types.intp), no_result(codegen)
