"""Rows of scores to softmax weights with top-k memory, compiled by Numba for the processor at hand.

A row's k-th largest score is found in four steps, all but the first over few values in the L1 cache: the maxima of
interleaved groups of the row; the k-th largest maximum, which bounds the threshold from below because k groups reach
it; the row's keys that reach the bound (little more than k); the k-th largest of these. Both searches bisect over
the integers and count with whole vectors.
"""
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np

from jointformer.ops.kernels.compiling import SOURCES, compiled, kernel_part
from jointformer.ops.kernels.topk_vectors import (
    CAN_COMPRESS,
    VECTOR_BYTES,
    compress_indices,
    count_vector,
    extremes,
    key_to_float,
    lowest_bit,
    mask_vector,
    nearest,
    note_vector,
    times_two_to,
    to_bits,
    to_float,
    to_key,
)

TOGETHER = 4  # rows that are searched side by side
BOUND_STEPS = 7  # a bound 1/128 of the maxima's range too low lets few more keys through than an exact one

# Sums may be taken in any order; NaN and infinity keep their meaning.
SUMS = {"reassoc", "contract", "nsz"}

# What rounds is put into the entry point (`forceinline`). Otherwise the process that compiles would call the function
# as compiled on its own, later ones its copy beside the entry point on disk, and the two sum in different orders.


@kernel_part(fastmath={"contract"}, forceinline=True)
def power_of_two(x):
    """2**x for x <= 0, to a relative 2e-7; below 2**-126 it stays there."""
    x = max(x, np.float32(-126.0))
    whole = nearest(x)
    f = x - whole
    p = np.float32(1.535336188319500e-4)
    p = p * f + np.float32(1.339887440266574e-3)
    p = p * f + np.float32(9.618437357674640e-3)
    p = p * f + np.float32(5.550332471162809e-2)
    p = p * f + np.float32(2.402264791363012e-1)
    p = p * f + np.float32(6.931472028550421e-1)
    p = p * f + np.float32(1.0)
    return times_two_to(p, whole)


@kernel_part()
def note(scores, first, n, keys, maxima, width):
    """Sets keys[:n] and the maxima of `width` interleaved groups from scores[first:first + n]; pads keys."""
    lanes = VECTOR_BYTES // keys.itemsize
    lowest = np.iinfo(keys.dtype).min
    maxima[:width] = lowest
    group = 0
    i = 0
    while i + lanes <= n:
        note_vector(scores, first + i, keys, i, maxima, group)
        i += lanes
        group = group + lanes if group + lanes < width else 0
    while i < n:
        keys[i] = to_key(scores[first + i])
        maxima[group] = max(maxima[group], keys[i])
        i += 1
        group = group + 1 if group + 1 < width else 0
    keys[n : n + lanes] = lowest


@kernel_part()
def kth_largest(keys, n, k, low, high, steps):
    """Raises `low` of four rows to the largest threshold up to `high` that k of keys[r, :n] reach, if any is larger.

    After so many `steps` it stops, with less than that. Rows go side by side, without a branch to mispredict: alone,
    one would wait for every step's count.
    """
    lanes = VECTOR_BYTES // keys.itemsize
    keys0, keys1, keys2, keys3 = keys[0], keys[1], keys[2], keys[3]
    low0, low1, low2, low3 = low[0], low[1], low[2], low[3]
    high0, high1, high2, high3 = high[0], high[1], high[2], high[3]
    widest = max(max(high0 - low0, high1 - low1), max(high2 - low2, high3 - low3))
    step = np.int64(1)
    while step * 2 <= widest:
        step *= 2
    while step > 0 and steps > 0:
        trial0, trial1 = min(low0 + step, high0), min(low1 + step, high1)
        trial2, trial3 = min(low2 + step, high2), min(low3 + step, high3)
        reached0 = reached1 = reached2 = reached3 = 0
        for i in range(0, n, lanes):
            reached0 += count_vector(keys0, i, trial0)
            reached1 += count_vector(keys1, i, trial1)
            reached2 += count_vector(keys2, i, trial2)
            reached3 += count_vector(keys3, i, trial3)
        low0 += (trial0 - low0) * (reached0 >= k)
        low1 += (trial1 - low1) * (reached1 >= k)
        low2 += (trial2 - low2) * (reached2 >= k)
        low3 += (trial3 - low3) * (reached3 >= k)
        step >>= 1
        steps -= 1
    low[0], low[1], low[2], low[3] = low0, low1, low2, low3


@kernel_part()
def collect(keys, n, bound, picked, where):
    """How many of keys[:n] reach `bound`; they are at picked[:...], their indices at where[:...]."""
    lanes = VECTOR_BYTES // keys.itemsize
    found = 0
    for i in range(0, n, lanes):
        if CAN_COMPRESS:
            found = compress_indices(keys, i, bound, where, found)
        else:
            mask = mask_vector(keys, i, bound)
            while mask != 0:
                where[found] = i + lowest_bit(mask)
                found += 1
                mask &= mask - np.uint64(1)
    for j in range(found):
        picked[j] = keys[where[j]]
    return found


@kernel_part()
def groups_for(k, lanes):
    """How many interleaved groups make a good bound for the k-th largest: two for each, in whole vectors."""
    return (2 * k + lanes - 1) // lanes * lanes


@kernel_part()
def candidates(keys, n, k, maxima, width, zero, picked, where, found, threshold, highest):
    """Which of four rows' noted keys[r, :n] may be kept, and the thresholds that decide.

    picked[r, :found[r]] are these keys, where[r] their indices. zero: the key of +0, where the one below is -0's: equal
    scores are kept together. highest (4,) is overwritten.
    """
    lowest = np.int64(np.iinfo(keys.dtype).min)
    for r in range(TOGETHER):
        smallest, largest = extremes(maxima[r], width)
        # A key of -inf (the lowest) has no weight: it need not be kept, and so padding never is.
        threshold[r] = max(smallest, lowest + 1)
        highest[r] = max(threshold[r], largest)
    kth_largest(maxima, width, k, threshold, highest, BOUND_STEPS)
    most = 0
    for r in range(TOGETHER):
        threshold[r] = both_zeros(threshold[r], zero)
        found[r] = collect(keys[r], n, threshold[r], picked[r], where[r])
        most = max(most, found[r])
    for r in range(TOGETHER):
        picked[r, found[r] : most + VECTOR_BYTES // keys.itemsize] = lowest
    kth_largest(picked, most, k, threshold, highest, 32)
    for r in range(TOGETHER):
        threshold[r] = both_zeros(threshold[r], zero)


@kernel_part()
def both_zeros(threshold, zero):
    """The threshold, lowered from +0's key to -0's."""
    return threshold - 1 if threshold == zero else threshold


@kernel_part(fastmath=SUMS, forceinline=True)
def largest_key(row):
    """The largest key of a row of scores."""
    best = to_key(row[0])
    for j in range(row.shape[0]):
        key = to_key(row[j])
        best = key if key > best else best
    return np.int64(best)


@kernel_part(fastmath=SUMS, forceinline=True)
def exponentials(row, shift, scale):
    """Sum of 2**(score * scale - shift) over the row, which is overwritten by the terms."""
    total = np.float32(0.0)
    for j in range(row.shape[0]):
        weight = power_of_two(to_float(row[j]) * scale - shift)
        total += weight
        row[j] = to_bits(weight)
    return total


@kernel_part(fastmath=SUMS, forceinline=True)
def add_values(values, index, weight, n, result):
    """Sets result[:] to the sum of weight[i] * values[index[i]] over i < n."""
    result[:] = 0.0
    whole = n // 4 * 4
    for i in range(0, whole, 4):
        v0, v1, v2, v3 = values[index[i]], values[index[i + 1]], values[index[i + 2]], values[index[i + 3]]
        w0, w1, w2, w3 = weight[i], weight[i + 1], weight[i + 2], weight[i + 3]
        for d in range(result.shape[0]):
            result[d] += (to_float(v0[d]) * w0 + to_float(v1[d]) * w1) + (to_float(v2[d]) * w2 + to_float(v3[d]) * w3)
    for i in range(whole, n):
        v0, w0 = values[index[i]], weight[i]
        for d in range(result.shape[0]):
            result[d] += to_float(v0[d]) * w0


def _with_stamp(stamp):
    """The entry point; `stamp` stands for the sources it is made from (see compiling.py)."""

    def attend_rows(own, memory, values, topk, group, scale, mixed, total, work):
        """Own scores become weights in place, `mixed` the kept memory's weighted values, `total` all weights' sum.

        `own` (R, L) and `memory` (R, S) scores, `values` (S, D): bits of float32. `scale` of base-2 exponents, `mixed`
        (R, D) and `total` (R,) float32. Weights are not normalised. Of a row with NaN or infinity `mixed` is NaN.
        """
        if stamp < 0:
            return
        keys, maxima, picked, where, index, weight, found, threshold, highest, best, kept = work
        width = groups_for(topk, VECTOR_BYTES // keys.itemsize)
        zero = np.int64(to_key(keys.dtype.type(0)))
        infinity = np.int64(np.iinfo(keys.dtype).max) - 2 * 0x7FFFFF
        rows = own.shape[0]
        for start in range(0, rows, TOGETHER):
            for j in range(TOGETHER):
                best[j] = largest_key(own[min(start + j, rows - 1)])
                kept[j] = 0
            for first in range(0, memory.shape[1], group):
                for j in range(TOGETHER):  # behind the last row it stands in for the missing ones
                    note(memory[min(start + j, rows - 1)], first, group, keys[j], maxima[j], width)
                    best[j] = max(best[j], extremes(maxima[j], width)[1])
                candidates(keys, group, topk, maxima, width, zero, picked, where, found, threshold, highest)
                for j in range(TOGETHER):
                    n = kept[j]
                    for i in range(found[j]):
                        index[j, n] = first + where[j, i]
                        weight[j, n] = key_to_float(picked[j, i])
                        n += picked[j, i] >= threshold[j]
                    kept[j] = n
            for j in range(min(TOGETHER, rows - start)):
                r = start + j
                if best[j] >= infinity or best[j] == np.iinfo(keys.dtype).min:
                    own[r] = 0
                    mixed[r] = np.nan
                    total[r] = 1.0
                    continue
                shift = key_to_float(keys.dtype.type(best[j])) * scale
                sum_ = exponentials(own[r], shift, scale)
                for i in range(kept[j]):
                    weight[j, i] = power_of_two(weight[j, i] * scale - shift)
                    sum_ += weight[j, i]
                add_values(values, index[j], weight[j], kept[j], mixed[r])
                total[r] = sum_

    return compiled(attend_rows)


attend_rows = _with_stamp(SOURCES)
