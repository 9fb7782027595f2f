"""Joint attention with top-k memory as one Triton kernel: no score ever reaches global memory.

A program serves a block of query rows of one object and head. Scores are products of a few rows and keys, cheap to
compute again, so each pass over the memory recomputes them:

1. the maxima of COLS interleaved groups of the memory's keys. The row's k-th largest maximum bounds its threshold from
   below, because k groups reach it (where k is no more than COLS); its largest maximum bounds it from above;
2. a few passes that count how many scores reach three thresholds between the bounds, as integers in the scores' order:
   each pass leaves a quarter of the range, and a threshold that exactly k reach ends the search at once;
3. own and kept memory keys through a streaming softmax, and the values.

The rule is plain_attention's: scores are float32, selection and softmax see the same ones, and keys are dropped by
"below the threshold", which keeps ties, zeros of either sign, and NaN.

Importing this file imports Triton. With TRITON_INTERPRET=1 its functions run anywhere (how they are tested).
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator"

from __future__ import annotations

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)
LOWEST = tl.constexpr(float("-inf"))
# Three counts, each of at most COLS < 1024 columns, are summed as one number.
FIRST = tl.constexpr(1)
SECOND = tl.constexpr(1 << 10)
THIRD = tl.constexpr(1 << 20)
COUNT = tl.constexpr(1023)


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
    """a @ b + sum_ in float32; WIDEN where the interpreter cannot multiply the type itself."""
    if WIDEN:
        a = a.to(tl.float32)
        b = b.to(tl.float32)
    return tl.dot(a, b, sum_, input_precision="ieee")


@triton.jit
def scores(
    q, k, k_step, k_unit, start, stop, scale,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """(ROWS, COLS) float32 scores of the keys from `start` on; -inf from `stop` on."""
    column = start + tl.arange(0, COLS)[None, :]
    depth = tl.arange(0, DEPTH)[:, None]
    keys = tl.load(k + column * k_step + depth * k_unit, mask=(column < stop) & (depth < WIDTH), other=0.0)
    product = multiply(q, keys, tl.zeros((ROWS, COLS), tl.float32), WIDEN)
    return tl.where(column < stop, product * scale, LOWEST)


@triton.jit
def bounds(best, topk):
    """Keys (low, high) of the topk-th largest and of the largest of each row's maxima (ROWS, COLS)."""
    most = to_key(tl.max(best, 1))
    low = to_key(tl.min(best, 1))
    high = most
    while tl.max(high - low, 0) > 0:
        middle = low + (high - low + 1) // 2
        enough = tl.sum((best >= to_float(middle)[:, None]).to(tl.int32), 1) >= topk
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, tl.maximum(middle - 1, low))
    return low, most


@triton.jit
def threshold(
    q, k, k_step, k_unit, first, stop, scale, topk, BOUNDED: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """(ROWS,) float32: the topk-th largest score of keys first..stop, or any value that the same keys reach."""
    best = tl.full((ROWS, COLS), LOWEST, tl.float32)
    for start in range(first, stop, COLS):
        best = tl.maximum(best, scores(q, k, k_step, k_unit, start, stop, scale, WIDTH, ROWS, COLS, DEPTH, WIDEN))
    if BOUNDED:
        low, high = bounds(best, topk)
    else:
        high = to_key(tl.max(best, 1))
        low = to_key(tl.full((ROWS,), LOWEST, tl.float32))
    while tl.max(high - low, 0) > 0:
        span = high - low
        p1, p2, p3 = low + (span + 3) // 4, low + (2 * span + 3) // 4, low + (3 * span + 3) // 4
        x1, x2, x3 = to_float(p1)[:, None], to_float(p2)[:, None], to_float(p3)[:, None]
        n1 = tl.zeros((ROWS,), tl.int32)
        n2 = tl.zeros((ROWS,), tl.int32)
        n3 = tl.zeros((ROWS,), tl.int32)
        for start in range(first, stop, COLS):
            s = scores(q, k, k_step, k_unit, start, stop, scale, WIDTH, ROWS, COLS, DEPTH, WIDEN)
            reached = tl.where(s >= x2, tl.where(s >= x3, FIRST + SECOND + THIRD, FIRST + SECOND), FIRST)
            counts = tl.sum(tl.where(s >= x1, reached, 0), 1)
            n1 += counts & COUNT
            n2 += (counts >> 10) & COUNT
            n3 += counts >> 20
        # Exactly topk reach a threshold: nothing is left to search.
        found = tl.where(n3 == topk, p3, tl.where(n2 == topk, p2, p1))
        done = (n1 == topk) | (n2 == topk) | (n3 == topk)
        low = tl.where(n3 >= topk, p3, tl.where(n2 >= topk, p2, tl.where(n1 >= topk, p1, low)))
        high = tl.where(n1 < topk, p1 - 1, tl.where(n2 < topk, p2 - 1, tl.where(n3 < topk, p3 - 1, high)))
        low = tl.where(done, found, low)
        high = tl.maximum(tl.where(done, found, high), low)  # a row with NaN counts too few, and must end too
    return to_float(low)


@triton.jit
def add_keys(
    q, k, k_step, k_unit, v, v_step, v_unit, first, stop, scale, least, top, total, mixed, SELECT: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """(largest score, sum of weights, weighted values) of the rows with keys first..stop added, below `least` none."""
    for start in range(first, stop, COLS):
        s = scores(q, k, k_step, k_unit, start, stop, scale, WIDTH, ROWS, COLS, DEPTH, WIDEN)
        if SELECT:
            s = tl.where(s < least[:, None], LOWEST, s)
        new = tl.maximum(top, tl.max(s, 1))
        shift = tl.where(new == LOWEST, 0.0, new)  # nothing yet: -inf less -inf would be NaN
        weights = tl.exp2((s - shift[:, None]) * LOG2_E)
        shrink = tl.exp2((top - shift) * LOG2_E)
        row = start + tl.arange(0, COLS)[:, None]
        depth = tl.arange(0, DEPTH)[None, :]
        values = tl.load(v + row * v_step + depth * v_unit, mask=(row < stop) & (depth < WIDTH), other=0.0)
        total = total * shrink + tl.sum(weights, 1)
        mixed = multiply(weights.to(v.dtype.element_ty), values, mixed * shrink[:, None], WIDEN)
        top = new
    return top, total, mixed


@triton.jit
def attend(
    q, k, v, mk, mv, out,
    q_object, q_head, q_step, q_unit, k_object, k_head, k_step, k_unit, v_object, v_head, v_step, v_unit,
    mk_object, mk_head, mk_step, mk_unit, mv_object, mv_head, mv_step, mv_unit,
    out_object, out_head, out_step, out_unit,
    heads, rows, own, group, groups, topk, scale,
    BOUNDED: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, COLS: tl.constexpr, DEPTH: tl.constexpr,
    WIDEN: tl.constexpr,
):  # fmt: skip
    """Fills `out`; grid (blocks of ROWS rows, objects * heads). Steps in elements, 0 where objects share a tensor."""
    n = (tl.program_id(1) // heads).to(tl.int64)
    a = (tl.program_id(1) % heads).to(tl.int64)
    k += n * k_object + a * k_head
    v += n * v_object + a * v_head
    mk += n * mk_object + a * mk_head
    mv += n * mv_object + a * mv_head
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)[:, None]
    depth = tl.arange(0, DEPTH)[None, :]
    inside = (row < rows) & (depth < WIDTH)
    query = tl.load(q + n * q_object + a * q_head + row * q_step + depth * q_unit, mask=inside, other=0.0)

    top = tl.full((ROWS,), LOWEST, tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    mixed = tl.zeros((ROWS, DEPTH), tl.float32)
    top, total, mixed = add_keys(
        query, k, k_step, k_unit, v, v_step, v_unit, 0, own, scale, top, top, total, mixed, False,
        WIDTH, ROWS, COLS, DEPTH, WIDEN,
    )  # fmt: skip
    for g in range(groups):
        first = g * group
        stop = first + group
        least = threshold(
            query, mk, mk_step, mk_unit, first, stop, scale, topk, BOUNDED, WIDTH, ROWS, COLS, DEPTH, WIDEN
        )
        top, total, mixed = add_keys(
            query, mk, mk_step, mk_unit, mv, mv_step, mv_unit, first, stop, scale, least, top, total, mixed, True,
            WIDTH, ROWS, COLS, DEPTH, WIDEN,
        )  # fmt: skip
    result = (mixed / total[:, None]).to(out.dtype.element_ty)
    tl.store(out + n * out_object + a * out_head + row * out_step + depth * out_unit, result, mask=inside)
