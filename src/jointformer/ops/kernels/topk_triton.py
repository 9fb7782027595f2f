"""Joint attention with top-k memory as two Triton kernels: no score ever reaches global memory.

`thresholds` finds each query row's k-th largest score among the memory's keys, `attend` mixes own and kept memory
values. Scores are products of a few rows and keys, cheap to compute again, so every pass over the keys recomputes them.
A program serves a block of query rows of one object and head.

The search for a threshold keeps a pair (low, top): at least k scores reach `low`, fewer than k exceed `top`. A pass
over the keys counts how many scores reach a probe between the two and leaves, for each of COLS columns, the four
largest scores below the probe (COLS * 4 candidates a row, in registers). Where k or more reach the probe, it is the new
`low`. Otherwise the candidates tell: as many of them as k still lacks reach the new `low`, and nothing that a column
has left out exceeds the largest of its fourth ones, so what exceeds both is counted in full, and the larger is the new
`top`. The first pass has no probe. Its candidates hold nearly all of the k largest scores, so that the second, with a
probe just above the threshold, leaves a dozen scores to place, five of which would have to share a column to be missed:
two passes or three, whatever the inputs' scale. How a probe is chosen decides how soon (low, top) meet, not where.

The rule is plain_attention's: scores are float32, selection and softmax see the same ones, and keys are dropped by
"below the threshold", which keeps ties, zeros of either sign, and NaN. Scores are compared before they are scaled.

Importing this file imports Triton. With TRITON_INTERPRET=1 its functions run anywhere (how they are tested).
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(float("-inf"))
# What takes a score out of reach, without making infinity of it: scores that differ by so much weigh nothing beside
# each other, and it costs a multiply-add where a choice would cost two instructions of a pipe half as fast.
FAR = tl.constexpr(3.4e38)
# Passes after which probes no longer come from candidates: inputs made to mislead them end by halving.
GUESSES = tl.constexpr(8)


@triton.jit
def to_key(x):
    """Integers in the order of float32 x: int64, so that differences fit."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(tl.int64)


@triton.jit
def to_float(key):
    """The float32 values that the keys stand for."""
    key = key.to(tl.int32)
    return tl.where(key < 0, key ^ 0x7FFFFFFF, key).to(tl.float32, bitcast=True)


@triton.jit
def multiply(a, b, sum_, WIDEN: tl.constexpr):
    """a @ b + sum_ in float32; WIDEN where the interpreter cannot multiply the type itself.

    Of float32 in three parts of TF32, off by a few 1e-7: outside the tensor cores its operands overflow the registers.
    """
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sum_, input_precision="tf32x3")


@triton.jit
def load_tokens(places, inside, axis: tl.constexpr, WIDTH: tl.constexpr, DEPTH: tl.constexpr, EDGE: tl.constexpr):
    """What lies at `places`, 0 where a token is not `inside` or beyond a head's width; masks only where they matter."""
    if EDGE:
        deep = tl.expand_dims(tl.arange(0, DEPTH) < WIDTH, axis)
        tokens = tl.load(places, mask=tl.expand_dims(inside, 1 - axis) & deep, other=0.0)
    elif WIDTH < DEPTH:
        deep = tl.expand_dims(tl.arange(0, DEPTH) < WIDTH, axis)
        tokens = tl.load(places, mask=deep, other=0.0)
    else:
        tokens = tl.load(places)
    return tokens


@triton.jit
def products(
    q, k, k_step, k_unit, column, stop, EDGE: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """(ROWS, COLS) float32 scores, not yet scaled, of the keys `column`; with EDGE -inf from `stop` on."""
    places = k + column[None, :] * k_step + tl.arange(0, DEPTH)[:, None] * k_unit
    keys = load_tokens(places, column < stop, 1, WIDTH, DEPTH, EDGE)
    s = multiply(q, keys, tl.zeros((ROWS, COLS), tl.float32), WIDEN)
    if EDGE:
        s = tl.where((column < stop)[None, :], s, LOWEST)
    return s


@triton.jit
def columns_of(tile, COLS: tl.constexpr):
    """Which of a tile's keys each column takes: turned further from tile to tile, by ever other steps.

    Keys above each other in the picture, much alike, would share a column for good where its width divides COLS.
    """
    return (tl.arange(0, COLS) + tile * (tile + 1) // 2 * 37) & (COLS - 1)


@triton.jit
def sift(s, probe, n, a, b, c, d, PROBED: tl.constexpr):
    """(how many scores reach the probe, each column's four largest below it) with a tile's scores s added."""
    if PROBED:
        reached = (s >= probe[:, None]).to(tl.float32)
        n += tl.sum(reached, 1)
        s -= reached * FAR
    rest = tl.minimum(a, s)
    a = tl.maximum(a, s)
    s = tl.minimum(b, rest)
    b = tl.maximum(b, rest)
    rest = tl.minimum(c, s)
    c = tl.maximum(c, s)
    d = tl.maximum(d, rest)
    return n, a, b, c, d


@triton.jit
def survey(
    q, k, k_step, k_unit, first, stop, probe, PROBED: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """One pass over keys first..stop: (ROWS,) counts as float32, and four (ROWS, COLS) of candidates, see sift."""
    n = tl.zeros((ROWS,), tl.float32)
    a = tl.full((ROWS, COLS), LOWEST, tl.float32)
    b = a
    c = a
    d = a
    tiles = (stop - first) // COLS
    for tile in range(tiles):
        column = first + tile * COLS + columns_of(tile, COLS)
        s = products(q, k, k_step, k_unit, column, stop, False, WIDTH, ROWS, COLS, DEPTH, WIDEN)
        n, a, b, c, d = sift(s, probe, n, a, b, c, d, PROBED)
    column = first + tiles * COLS + tl.arange(0, COLS)
    if first + tiles * COLS < stop:
        s = products(q, k, k_step, k_unit, column, stop, True, WIDTH, ROWS, COLS, DEPTH, WIDEN)
        n, a, b, c, d = sift(s, probe, n, a, b, c, d, PROBED)
    return n, a, b, c, d


@triton.jit
def search(a, b, c, d, least, most, low, high):
    """Keys, at least `low`, that `least` to `most` of the candidates reach, or the largest that `least` reach."""
    while tl.max(high - low, 0) > 0:
        middle = low + ((high - low + 1) >> 1)
        x = to_float(middle)[:, None]
        upper = (a >= x).to(tl.float32) + (b >= x).to(tl.float32)
        n = tl.sum(upper + ((c >= x).to(tl.float32) + (d >= x).to(tl.float32)), 1)
        low = tl.where(n >= least, middle, low)
        high = tl.where(n > most, high, tl.maximum(middle - 1, low))
    return low


@triton.jit
def expected(left, COLS: tl.constexpr):
    """How many of a row's largest scores, a little fewer than `left`, COLS columns hold that keep four each."""
    share = tl.maximum(left * 0.93 - 1.0, 0.0) / COLS
    missed = tl.exp2(-share * LOG2_E) * (4.0 + share * (3.0 + share * (1.0 + share / 6.0)))  # Poisson's
    return tl.floor(tl.maximum(COLS * (4.0 - missed), 1.0))


@triton.jit(do_not_specialize=["heads", "rows", "group", "topk"])
def thresholds(
    q, mk, found, q_object, q_head, q_step, q_unit, mk_object, mk_head, mk_step, mk_unit,
    heads, rows, group, topk,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Fills `found` (2, objects * heads, groups, rows): the topk-th largest score or any that the same keys reach, and
    the largest; both not scaled. Grid (blocks of ROWS rows, objects * heads, groups); steps as in attend."""
    n_object = (tl.program_id(1) // heads).to(tl.int64)
    n_head = (tl.program_id(1) % heads).to(tl.int64)
    mk += n_object * mk_object + n_head * mk_head
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    depth = tl.arange(0, DEPTH)[None, :]
    q += n_object * q_object + n_head * q_head
    query = tl.load(q + row[:, None] * q_step + depth * q_unit, mask=(row < rows)[:, None] & (depth < WIDTH), other=0.0)
    first = tl.program_id(2) * group
    stop = first + group

    n, a, b, c, d = survey(
        query, mk, mk_step, mk_unit, first, stop, tl.zeros((ROWS,), tl.float32), False,
        WIDTH, ROWS, COLS, DEPTH, WIDEN,
    )  # fmt: skip
    largest = tl.max(a, 1)
    low = to_key(tl.full((ROWS,), LOWEST, tl.float32))
    top = to_key(largest)
    probe = top + 1
    passes = 1
    while tl.max(top - low, 0) > 0:
        left = topk - n
        short = left > 0
        high = to_key(tl.max(a, 1))
        bottom = tl.where(left > 4 * COLS, low, tl.maximum(low, to_key(tl.min(d, 1))))
        bottom = tl.where(short, tl.minimum(bottom, high), high)
        reached = search(a, b, c, d, left, left, bottom, high)
        low = tl.where(short, tl.maximum(low, reached), probe)
        # Never the probe again, whatever NaN and infinity make of the rest: this ends.
        top = tl.where(short, tl.minimum(tl.maximum(to_key(tl.max(d, 1)), low), probe - 1), top)
        if tl.max(top - low, 0) > 0:
            most = expected(left, COLS)
            probe = search(a, b, c, d, most * 0.94, most, bottom, high)
            guessed = short & (probe > low) & (probe <= top) & (passes < GUESSES)
            # The candidates below `top` are worth most; every other time half of what is left, in case they are not.
            probe = tl.where(guessed, probe, tl.where(passes % 2 == 0, top, low + ((top - low + 1) >> 1)))
            n, a, b, c, d = survey(
                query, mk, mk_step, mk_unit, first, stop, to_float(probe), True, WIDTH, ROWS, COLS, DEPTH, WIDEN
            )
            passes += 1
    place = found + (tl.program_id(1) * tl.num_programs(2) + tl.program_id(2)) * rows + row
    tl.store(place, to_float(low), mask=row < rows)
    tl.store(place + tl.num_programs(1) * tl.num_programs(2) * rows, largest, mask=row < rows)


@triton.jit
def mix(
    s, v, v_step, v_unit, column, stop, unit, least, top, total, mixed, MEMORY: tl.constexpr, EDGE: tl.constexpr,
    WIDTH: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """(largest score, sum of weights, weighted values) of the rows with a tile's keys of scores s added.

    Of the memory's only those not below `least`; `top` is known to be no less than them, and stays.
    """
    if MEMORY:
        s = tl.where(s < least[:, None], LOWEST, s)
        new = top
    else:
        new = tl.maximum(top, tl.max(s, 1) * unit)
    shift = tl.where(new == LOWEST, 0.0, new)  # nothing yet: -inf less -inf would be NaN
    weights = tl.exp2(s * unit - shift[:, None])
    if not MEMORY:
        shrink = tl.exp2(top - shift)
        total *= shrink
        mixed *= shrink[:, None]
    values = load_tokens(
        v + column[:, None] * v_step + tl.arange(0, DEPTH)[None, :] * v_unit, column < stop, 0, WIDTH, DEPTH, EDGE
    )
    total += tl.sum(weights, 1)
    mixed = multiply(weights.to(v.dtype.element_ty), values, mixed, WIDEN)
    return new, total, mixed


@triton.jit
def add_keys(
    q, k, k_step, k_unit, v, v_step, v_unit, first, stop, unit, least, top, total, mixed, MEMORY: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """What mix returns for all keys first..stop."""
    full = first + (stop - first) // COLS * COLS
    for start in range(first, full, COLS):
        column = start + tl.arange(0, COLS)
        s = products(q, k, k_step, k_unit, column, stop, False, WIDTH, ROWS, COLS, DEPTH, WIDEN)
        top, total, mixed = mix(
            s, v, v_step, v_unit, column, stop, unit, least, top, total, mixed, MEMORY, False, WIDTH, DEPTH, WIDEN
        )
    if full < stop:
        column = full + tl.arange(0, COLS)
        s = products(q, k, k_step, k_unit, column, stop, True, WIDTH, ROWS, COLS, DEPTH, WIDEN)
        top, total, mixed = mix(
            s, v, v_step, v_unit, column, stop, unit, least, top, total, mixed, MEMORY, True, WIDTH, DEPTH, WIDEN
        )
    return top, total, mixed


@triton.jit(do_not_specialize=["heads", "rows", "own", "group", "groups"])
def attend(
    q, k, v, mk, mv, found, out,
    q_object, q_head, q_step, q_unit, k_object, k_head, k_step, k_unit, v_object, v_head, v_step, v_unit,
    mk_object, mk_head, mk_step, mk_unit, mv_object, mv_head, mv_step, mv_unit,
    out_object, out_head, out_step, out_unit,
    heads, rows, own, group, groups, scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """Fills `out` by what `thresholds` has found; grid (blocks of ROWS rows, objects * heads).

    Steps in elements, 0 where objects share a tensor.
    """
    n_object = (tl.program_id(1) // heads).to(tl.int64)
    n_head = (tl.program_id(1) % heads).to(tl.int64)
    k += n_object * k_object + n_head * k_head
    v += n_object * v_object + n_head * v_head
    mk += n_object * mk_object + n_head * mk_head
    mv += n_object * mv_object + n_head * mv_head
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    depth = tl.arange(0, DEPTH)[None, :]
    inside = (row < rows)[:, None] & (depth < WIDTH)
    q += n_object * q_object + n_head * q_head
    query = tl.load(q + row[:, None] * q_step + depth * q_unit, mask=inside, other=0.0)

    unit = scale * LOG2_E
    found += tl.program_id(1) * groups * rows + row
    largest = found + tl.num_programs(1) * groups * rows
    top = tl.full((ROWS,), LOWEST, tl.float32)
    for g in range(groups):
        top = tl.maximum(top, tl.load(largest + g * rows, mask=row < rows, other=0.0) * unit)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, DEPTH), tl.float32)
    top, total, mixed = add_keys(
        query, k, k_step, k_unit, v, v_step, v_unit, 0, own, unit, top, top, total, mixed, False,
        WIDTH, ROWS, COLS, DEPTH, WIDEN,
    )  # fmt: skip
    for g in range(groups):
        least = tl.load(found + g * rows, mask=row < rows, other=0.0)
        top, total, mixed = add_keys(
            query, mk, mk_step, mk_unit, mv, mv_step, mv_unit, g * group, (g + 1) * group, unit, least,
            top, total, mixed, True, WIDTH, ROWS, COLS, DEPTH, WIDEN,
        )  # fmt: skip
    result = (mixed / total[:, None]).to(out.dtype.element_ty)
    out += n_object * out_object + n_head * out_head
    tl.store(out + row[:, None] * out_step + depth * out_unit, result, mask=inside)
