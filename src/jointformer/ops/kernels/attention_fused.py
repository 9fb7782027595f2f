"""The fused bfloat16 attention of one head: tiles of scores, top-k, weights and values without leaving the cache."""
# mypy: allow-untyped-defs

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jointformer.ops.kernels.attention_floats import (
    finish_row,
    keys_to_weights,
    largest_key,
    largest_score_key,
    multiply_and_note,
    multiply_and_weigh,
    note_rounded,
    note_whole,
    product_sum,
    scores_to_weights,
    sum_of_lanes,
    take_in,
    tile_to_weights,
    weigh_values,
)
from jointformer.ops.kernels.compiling import kernel_part
from jointformer.ops.kernels.tiles import (
    add_products,
    begin_products,
    copy_row,
    end_products,
    multiply_tiles,
    next_products,
    pack_keys,
    pack_values,
    set_tiles,
)
from jointformer.ops.kernels.topk_rows import TOGETHER, candidates, groups_for, power_of_two
from jointformer.ops.kernels.topk_vectors import key_to_float, power_above

ROWS = 32  # query rows at a time: two tiles
SPAN = 8  # such blocks that read the memory before any reads its own keys
WIDE = 32  # keys at a time
CHUNK = 832  # own keys whose scores are looked at together
TILE = 1024  # bytes
QUERY = 128  # bytes of a row of queries, which lie side by side
QUICK = 16  # blocks of keys whose weights are multiplied with values together
HEADROOM = np.float32(80.0)  # quick weights may reach this power of two ...
LEAST = np.float32(2.0**-88)  # ... and a row's sum must reach this, or its weights were too small to tell apart
SAMPLE = 64  # own keys that stand for all in their mean
ENDLESS = np.float32(1e30)
LOWEST = -(1 << 15)
MOST_STEPS = np.float32(32000.0)  # a whole key is no larger, so that LOWEST is below all
NO_ZERO = LOWEST  # whole keys have one zero
ZERO_16 = -0x7F  # bfloat16 have two: key of +0
SHORTEST = np.float32(1e-20)
INFINITE_16 = 0x7F80 - 0x7F  # key of infinity; NaN is above
INFINITE_32 = 0x7F800000 - 0x7FFFFF


class State(NamedTuple):
    """What is known of a block's rows so far; totals and sums of a span's where it stands for a span."""

    peaks: Any
    factors: Any
    totals: Any
    sums: Any
    scores: Any
    product: Any


class Buffers(NamedTuple):
    """A thread's buffers (see attention_heads.py); shifts, and the state's totals and sums, of a span or a block."""

    block: Any
    keys: Any
    maxima: Any
    picked: Any
    where: Any
    limits: Any
    index: Any
    weight: Any
    tile: Any
    steps: Any
    weights: Any
    shifts: Any
    offsets: Any
    bounded: Any
    state: State


@kernel_part()
def pack_head(k, k_step, v, v_step, own, memory, memory_step, group, groups, packed):
    """Packs own keys and values, then each group of memory keys; every part is padded to 32 rows."""
    packed_keys, packed_values, packed_memory = packed
    place = packed_keys.ctypes.data
    for i in range(0, padded(own), 16):
        row = min(i, own - 1)
        pack_keys(k + row * k_step, k_step, own - 1 - row, place + i * 128)
    place = packed_values.ctypes.data
    for i in range(0, padded(own), 2):
        # Weights come in PACKED_ORDER, two and two as the keys are.
        pair = i // 2 % 16
        row = min(i // 32 * 32 + 4 * (pair // 4) + 2 * (pair % 2) + 16 * (pair % 4 // 2), own - 1)
        pack_values(v + row * v_step, v_step, own - 1 - row, place + i // 32 * 4 * TILE + i % 32 * 32)
    place = packed_memory.ctypes.data
    for g in range(groups):
        for i in range(0, padded(group), 16):
            row = min(i, group - 1)
            start = memory + (g * group + row) * memory_step
            pack_keys(start, memory_step, group - 1 - row, place + (g * padded(group) + i) * 128)


@kernel_part()
def padded(n):
    """n rounded up to whole tiles' rows."""
    return (n + WIDE - 1) // WIDE * WIDE


@kernel_part()
def attend_own(q, packed_keys, packed_values, own, scale, state):
    """Own keys, a chunk at a time so that its scores stay in the cache: weights and weighted values are summed.

    state: `peaks` (32,) the largest scores so far, NaN where a row is spoilt; `totals` (32, 16) partial sums of
    weights and `sums` (32, 64) of weighted values, both relative to the peak: they shrink when it rises.
    """
    peaks, factors, totals, sums, scores, product = state
    chunk = scores.shape[1]
    for start in range(0, padded(own), chunk):
        size = min(chunk, padded(own) - start)
        for i in range(0, size, WIDE):
            first = packed_keys + (start + i) * 128
            target = scores.ctypes.data + i * 4
            multiply_tiles(q, QUERY, first, first + 2 * TILE, TILE, target, scores.strides[0], 2)
        if start + size > own:
            scores[:, own - start : size] = -np.inf
        for r in range(ROWS):
            row = scores.ctypes.data + r * scores.strides[0]
            key = largest_score_key(row, size // 16)
            peak = np.float32(np.nan) if key >= INFINITE_32 else key_to_float(np.int32(key))
            old = peaks[r]
            peak = old if peak <= old or old != old else peak
            peaks[r] = peak
            factor = power_of_two((old - peak) * scale)
            factors[r] = factor
            scores_to_weights(row, size // WIDE, scale, peak * scale, factor, totals.ctypes.data + r * 64)
        for half in range(2):
            first = packed_values + start // WIDE * 4 * TILE + 2 * half * TILE
            multiply_tiles(
                scores.ctypes.data, scores.strides[0], first, first + TILE, 4 * TILE,
                product.ctypes.data + 128 * half, 256, size // WIDE,
            )  # fmt: skip
        for r in range(ROWS):
            take_in(sums.ctypes.data + r * 256, factors[r], product.ctypes.data + r * 256)


@kernel_part()
def longest(k, step, count):
    """The largest length of rows of 64 bfloat16; infinity where one is not finite, or too long for its square."""
    most = np.float32(0.0)
    for i in range(count):
        row = k + i * step
        length = product_sum(row, row)
        if not length < ENDLESS:
            return np.float32(np.inf)
        most = max(most, length)
    return np.sqrt(most)


@kernel_part()
def spread(k, step, count, middle, buffers):
    """The largest distance of own keys from `middle`, where 64 bfloat16 near their mean are written; as `longest`."""
    index, weight = buffers.index, buffers.weight
    sums = buffers.state.sums.ctypes.data
    buffers.state.sums[0] = 0.0
    for i in range(SAMPLE):
        index[i] = i * count // SAMPLE
        weight[i] = np.float32(1.0 / SAMPLE)
    weigh_values(k, step, index.ctypes.data, weight.ctypes.data, SAMPLE, sums)
    finish_row(sums, np.float32(1.0), middle)
    square = product_sum(middle, middle)
    most = np.float32(0.0)
    for i in range(count):
        row = k + i * step
        length = product_sum(row, row) + square
        if not length < ENDLESS:
            return np.float32(np.inf)
        # What rounding may have taken from the difference of two large numbers is added.
        most = max(most, length * np.float32(1.00002) - np.float32(2.0) * product_sum(row, middle))
    return np.sqrt(most)


@kernel_part()
def bounds_for(q, reach, steps, bounds):
    """Whether the scores of all 32 rows have finite bounds; `bounds` (32,) are then those of own keys.

    reach: (address of the own keys' `middle`, their largest distance from there, the memory keys' largest length).

    No score exceeds the product of its query's and its key's lengths, nor that of the query and a `middle` by more than
    the product of the query's length and the key's distance from there: trained keys have much in common. `steps`
    (32,): a power of two each, in units of which memory scores are whole keys. Rounding to bfloat16 would be up to 128
    times as coarse, and decide by ties.
    """
    middle, farthest, longest_memory = reach
    for r in range(ROWS):
        row = q + r * QUERY
        length = np.sqrt(product_sum(row, row)) * np.float32(1.001)
        bound = max(length * longest_memory, SHORTEST)
        bounds[r] = product_sum(row, middle) + length * farthest
        if not (bound < ENDLESS and bounds[r] < ENDLESS):
            return False
        steps[r] = power_above(bound / MOST_STEPS)
    return True


@kernel_part()
def attend_own_quickly(q, packed_keys, packed_values, own, scale, buffers):
    """As attend_own, but relative to `shifts` that are known beforehand, and with quicker weights."""
    totals, sums = buffers.state.totals, buffers.state.sums
    weights, shifts, offsets, tile = buffers.weights, buffers.shifts, buffers.offsets, buffers.tile
    for r in range(ROWS):
        offsets[r] = (np.float32(127.0) - shifts[r]) * np.float32(128.0)
    half = tile.strides[0]
    per_chunk = weights.shape[0]
    blocks = padded(own) // WIDE
    fine = scale * np.float32(128.0)
    for start in range(0, blocks, per_chunk):
        count = min(per_chunk, blocks - start)
        scores, goal = tile.ctypes.data, weights.ctypes.data
        first = packed_keys + start * 4 * TILE
        begin_products(q, first, scores)
        for i in range(1, count):
            first += 4 * TILE
            if i == 1:
                next_products(q, first, scores, scores + half)
            else:
                multiply_and_weigh(
                    q, first, scores + (i - 1) % 2 * half, scores + i % 2 * half, fine, offsets.ctypes.data, goal,
                    totals.ctypes.data,
                )  # fmt: skip
                goal += 2 * TILE
        end_products(scores + (count - 1) % 2 * half)
        if count > 1:
            tile_to_weights(scores + count % 2 * half, fine, offsets.ctypes.data, goal, totals.ctypes.data)
            goal += 2 * TILE
        if (start + count) * WIDE > own:
            tile[(count - 1) % 2, :ROWS, own - (start + count - 1) * WIDE :] = -np.inf
        tile_to_weights(scores + (count - 1) % 2 * half, fine, offsets.ctypes.data, goal, totals.ctypes.data)
        for side in range(2):
            first = packed_values + start * 4 * TILE + 2 * side * TILE
            add_products(weights.ctypes.data, first, first + TILE, 4 * TILE, sums.ctypes.data + 128 * side, 256, count)


@kernel_part()
def whole_keys(q, packed, group, groups, width, steps, factors, keys, maxima, tile):
    """Keys (32, groups * padded(group)) of 32 query rows' memory scores, and maxima (32, groups * width) for select.

    A key is its score in units of its row's step. The product of the next 32 keys is begun before the last one's scores
    are read: the two overlap.
    """
    size = padded(group)
    maxima[:, : groups * width] = LOWEST
    for r in range(ROWS):
        factors[r] = np.float32(1.0) / steps[r]
    half = tile.strides[0]
    scores = tile.ctypes.data
    scaled = factors.ctypes.data
    blocks = size // WIDE
    for g in range(groups):
        at = 0
        first = packed + g * size * 128
        goal = keys.ctypes.data + g * size * 2
        best = maxima.ctypes.data + g * width * 2
        begin_products(q, first, scores)
        for i in range(1, blocks):
            first += 4 * TILE
            if i == 1:
                next_products(q, first, scores, scores + half)
            else:
                multiply_and_note(
                    q, first, scores + (i - 1) % 2 * half, scores + i % 2 * half, scaled, goal, keys.strides[0],
                    best + 2 * at, maxima.strides[0],
                )  # fmt: skip
                goal += 2 * WIDE
                at = at + WIDE if at + WIDE < width else 0
        end_products(scores + (blocks - 1) % 2 * half)
        if blocks > 1:
            note_whole(scores + blocks % 2 * half, scaled, goal, keys.strides[0], best + 2 * at, maxima.strides[0])
            goal += 2 * WIDE
            at = at + WIDE if at + WIDE < width else 0
        if size > group:
            for r in range(ROWS):
                tile[(blocks - 1) % 2, r, group - size + WIDE :] = np.float32(LOWEST) * steps[r]
        last = scores + (blocks - 1) % 2 * half
        note_whole(last, scaled, goal, keys.strides[0], best + 2 * at, maxima.strides[0])


@kernel_part()
def rounded_keys(q, packed, group, groups, width, keys, maxima, tile):
    """As whole_keys, but the keys of scores rounded to bfloat16, which may be infinite or NaN; not made for speed."""
    size = padded(group)
    maxima[:, : groups * width] = LOWEST
    for g in range(groups):
        for i in range(0, size, WIDE):
            begin_products(q, packed + (g * size + i) * 128, tile.ctypes.data)
            end_products(tile.ctypes.data)
            if i + WIDE > group:
                tile[0, :ROWS, group - i :] = -np.inf
            note_rounded(
                tile.ctypes.data, keys.ctypes.data + (g * size + i) * 2, keys.strides[0],
                maxima.ctypes.data + (g * width + i % width) * 2, maxima.strides[0],
            )  # fmt: skip


@kernel_part()
def add_memory(memory, scale, buffers):
    """Adds 32 rows' kept memory keys to their `totals` and `sums`, relative to their `shifts`."""
    memory_v, memory_step, topk, group, groups, width = memory
    keys, maxima, picked, where = buffers.keys, buffers.maxima, buffers.picked, buffers.where
    found, threshold, highest = buffers.limits
    index, weight, steps, shifts = buffers.index, buffers.weight, buffers.steps, buffers.shifts
    totals, sums = buffers.state.totals, buffers.state.sums
    size = padded(group)
    whole = steps[0] > 0  # else keys are bfloat16's
    for start in range(0, ROWS, TOGETHER):
        for g in range(groups):
            candidates(
                keys[start:, g * size :], size, topk, maxima[start:, g * width :], width, NO_ZERO if whole else ZERO_16,
                picked, where, found, threshold, highest,
            )  # fmt: skip
            for j in range(TOGETHER):
                r = start + j
                n = keys_to_weights(
                    picked[j].ctypes.data, where[j].ctypes.data, found[j], threshold[j], np.int64(whole),
                    scale * steps[r] if whole else scale, shifts[r], index.ctypes.data, weight.ctypes.data,
                    totals.ctypes.data + r * 64,
                )  # fmt: skip
                weigh_values(
                    memory_v + g * group * memory_step, memory_step, index.ctypes.data, weight.ctypes.data, n,
                    sums.ctypes.data + r * 256,
                )  # fmt: skip


@kernel_part()
def finish(state, least, out, out_step):
    """Writes 32 rows of the result from their sums; False if one's weights sum to less than `least`."""
    peaks, totals, sums = state.peaks, state.totals, state.sums
    for r in range(ROWS):
        total = sum_of_lanes(totals.ctypes.data + r * 64)
        if total < least:
            return False
        # Of a row with NaN or +inf the peak is NaN; of one with nothing but -inf there is no softmax either.
        factor = np.float32(1.0) / total if peaks[r] > -np.inf or least > 0 else np.float32(np.nan)
        finish_row(sums.ctypes.data + r * 256, factor, out + r * out_step)
    return True


@kernel_part()
def of_block(span, i):
    """A span's buffers with block `i`'s part of what is kept between its memory's and its own keys."""
    first, last = i * ROWS, (i + 1) * ROWS
    kept = span.state
    state = State(kept.peaks, kept.factors, kept.totals[first:last], kept.sums[first:last], kept.scores, kept.product)
    return Buffers(
        span.block, span.keys, span.maxima, span.picked, span.where, span.limits, span.index, span.weight, span.tile,
        span.steps, span.weights, span.shifts[first:last], span.offsets, span.bounded, state,
    )  # fmt: skip


@kernel_part()
def take_rows(q, row, block):
    """The address of copies of 32 query rows: rows of a wide matrix would evict each other from the L1 cache."""
    address, step = q
    for r in range(ROWS):
        copy_row(address + (row + r) * step, block.ctypes.data + r * QUERY)
    return block.ctypes.data


@kernel_part()
def note_memory(q, bounded, memory, packed_memory, buffers):
    """Sets keys and maxima of 32 rows' memory scores, and their `peaks`: in `steps` where those are `bounded`."""
    _, _, _, group, groups, width = memory
    keys, maxima, tile, steps = buffers.keys, buffers.maxima, buffers.tile, buffers.steps
    peaks, factors = buffers.state.peaks, buffers.state.factors
    if bounded:
        whole_keys(q, packed_memory.ctypes.data, group, groups, width, steps, factors, keys, maxima, tile)
    else:
        steps[:] = 0.0
        rounded_keys(q, packed_memory.ctypes.data, group, groups, width, keys, maxima, tile)
    for r in range(ROWS):
        best = largest_key(maxima.ctypes.data + r * maxima.strides[0], groups * width // WIDE)
        if bounded:
            peaks[r] = np.float32(best) * steps[r] if groups > 0 else -np.inf
        else:
            peaks[r] = np.nan if best >= INFINITE_16 else key_to_float(np.int16(best))


@kernel_part()
def attend_memory(q, reach, memory, scale, packed_memory, buffers):
    """Sets 32 rows' `totals` and `sums` by their memory keys, relative to `shifts` that will serve own keys too.

    Returns whether there are such shifts; reach: what they depend on, see bounds_for.
    """
    shifts, state = buffers.shifts, buffers.state
    if not bounds_for(q, reach, buffers.steps, shifts):
        return False
    note_memory(q, True, memory, packed_memory, buffers)
    for r in range(ROWS):  # keeps any weight below 2**HEADROOM
        shifts[r] = max(shifts[r], state.peaks[r]) * scale - HEADROOM
    state.totals[:] = 0.0
    state.sums[:] = 0.0
    add_memory(memory, scale, buffers)
    return True


@kernel_part()
def attend_exactly(q, reach, own, memory, scale, packed, buffers, out, out_step):
    """Writes 32 rows of the result at `out`, relative to their exact maxima."""
    packed_keys, packed_values, packed_memory = packed
    shifts, state = buffers.shifts, buffers.state
    note_memory(q, bounds_for(q, reach, buffers.steps, shifts), memory, packed_memory, buffers)
    state.totals[:] = 0.0
    state.sums[:] = 0.0
    attend_own(q, packed_keys.ctypes.data, packed_values.ctypes.data, own, scale, state)
    for r in range(ROWS):
        shifts[r] = state.peaks[r] * scale
    add_memory(memory, scale, buffers)
    finish(state, np.float32(-np.inf), out, out_step)


@kernel_part()
def attend_span(q, reach, first, last, blocks, own, memory, scale, packed, span, out):
    """Writes the result of some `blocks` of rows, of which the first begins at row `first` and none ends behind `last`.

    All of them read the memory before any reads its own keys: the packed keys and values of both would not stay in a
    second-level cache of a megabyte together. The last block begins 32 rows before the end, so that no row needs
    padding.
    """
    packed_keys, packed_values, packed_memory = packed
    for i in range(blocks):
        rows = take_rows(q, min(first + i * ROWS, last - ROWS), span.block)
        span.bounded[i] = attend_memory(rows, reach, memory, scale, packed_memory, of_block(span, i))
    for i in range(blocks):
        row = min(first + i * ROWS, last - ROWS)
        rows = take_rows(q, row, span.block)
        target = out[0] + row * out[1]
        buffers = of_block(span, i)
        if span.bounded[i]:
            attend_own_quickly(rows, packed_keys.ctypes.data, packed_values.ctypes.data, own, scale, buffers)
            if finish(buffers.state, LEAST, target, out[1]):
                continue
        attend_exactly(rows, reach, own, memory, scale, packed, buffers, target, out[1])


@kernel_part()
def attend_head(q, k, v, memory_k, memory_v, out, sizes, scale, packed, buffers, middle, tiles):
    """Writes rows first..last (32 at least) of one head's result.

    q ... out: (address, bytes from row to row) of one head's tensors, 64 bfloat16 a row. sizes: own keys,
    keys that compete in a memory group, number of such groups, topk, first, last. `scale` of base-2 exponents. middle:
    room for 64 bfloat16. tiles: addresses of tile configurations, the one to take and room for the one found.
    """
    own, group, groups, topk, first, last = sizes
    new, old = tiles
    pack_head(k[0], k[1], v[0], v[1], own, memory_k[0], memory_k[1], group, groups, packed)
    memory = (memory_v[0], memory_v[1], topk, group, groups, groups_for(topk, WIDE))
    reach = (middle, spread(k[0], k[1], own, middle, buffers), longest(memory_k[0], memory_k[1], group * groups))
    set_tiles(new, old)
    for start in range(first, last, SPAN * ROWS):
        blocks = min(SPAN, (last - start + ROWS - 1) // ROWS)
        attend_span(q, reach, start, last, blocks, own, memory, scale, packed, buffers, out)
    set_tiles(old, new)
