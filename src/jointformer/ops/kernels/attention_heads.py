"""The fused attention's way in: heads as tasks that threads share, and what every thread works in, as plain numbers."""
# mypy: allow-untyped-defs

from __future__ import annotations

import numpy as np
from numba import carray

from jointformer.ops.kernels.attention_fused import CHUNK, QUICK, ROWS, SPAN, WIDE, Buffers, State, attend_head
from jointformer.ops.kernels.compiling import SOURCES, TeamKernel, kernel_part
from jointformer.ops.kernels.team import HEADER, NEXT_TASK, NEXT_THREAD, TASKS, array_at, take
from jointformer.ops.kernels.topk_rows import TOGETHER

PAD = 64  # whole vectors are written behind the last value
#: The shared numbers: what team.py counts in, then these; six tensors' PLACES (address, bytes from object to object,
#: from head to head, from row to row) come last.
TASK_LIST, OWN, GROUP, GROUPS, TOPK, TILES, BUFFERS = range(HEADER, HEADER + 7)
PLACES = HEADER + 7
NUMBERS = PLACES + 6 * 4
#: The buffers of a thread, in the order of their (address, rows, columns).
(
    OLD_TILES, PACKED_KEYS, PACKED_VALUES, PACKED_MEMORY, BLOCK, KEYS, MAXIMA, PICKED, WHERE, LIMITS, INDEX, WEIGHT,
    PRODUCTS, WEIGHTS, SHIFTS, OFFSETS, STEPS, PEAKS, FACTORS, TOTALS, SUMS, SCORES, PRODUCT, MIDDLE, BOUNDED,
) = range(25)  # fmt: skip
BUFFERS_EACH = 25
SCALE = np.float32(64**-0.5 * 1.4426950408889634)  # of a head of 64 channels, to base-2 exponents


def shapes(own, group, groups, topk):
    """{buffer: (kind of number, rows, columns)} of a thread: what `arrays` finds at its addresses."""
    own, group = (-(-n // WIDE) * WIDE for n in (own, group))
    memory, width = groups * group, groups * (2 * topk + WIDE)
    short, real = np.int16, np.float32
    return {
        OLD_TILES: (np.uint8, 1, 64),
        PACKED_KEYS: (short, own, 64),
        PACKED_VALUES: (short, own, 64),
        PACKED_MEMORY: (short, memory, 64),
        BLOCK: (short, ROWS, 64),
        KEYS: (short, ROWS, memory + PAD),
        MAXIMA: (short, ROWS, width + PAD),
        PICKED: (short, TOGETHER, group + PAD),
        WHERE: (np.uint16, TOGETHER, group + PAD),
        LIMITS: (np.int64, 3, TOGETHER),
        INDEX: (np.int32, 1, group + PAD),
        WEIGHT: (real, 1, group + PAD),
        PRODUCTS: (real, 2 * (ROWS + 16), WIDE),  # 16: 4 KiB apart, one's loads would wait for the other's stores
        WEIGHTS: (short, QUICK * ROWS, WIDE),
        SHIFTS: (real, 1, SPAN * ROWS),
        OFFSETS: (real, 1, ROWS),
        STEPS: (real, 1, ROWS),
        PEAKS: (real, 1, ROWS),
        FACTORS: (real, 1, ROWS),
        TOTALS: (real, SPAN * ROWS, 16),
        SUMS: (real, SPAN * ROWS, 64),
        SCORES: (real, ROWS, CHUNK),
        PRODUCT: (real, ROWS, 64),
        MIDDLE: (short, 1, 64),
        BOUNDED: (np.int64, 1, SPAN),
    }


@kernel_part()
def line_at(at, buffer, kind):
    """A thread's buffer of one row."""
    return array_at(at[buffer, 0], (at[buffer, 1] * at[buffer, 2],), kind)


@kernel_part()
def rows_at(at, buffer, kind):
    """A thread's buffer of several rows."""
    return array_at(at[buffer, 0], (at[buffer, 1], at[buffer, 2]), kind)


@kernel_part()
def arrays(at):
    """(packed, buffers) of a thread: what attend_head takes."""
    packed = (
        line_at(at, PACKED_KEYS, np.int16), line_at(at, PACKED_VALUES, np.int16), line_at(at, PACKED_MEMORY, np.int16)
    )  # fmt: skip
    state = State(
        line_at(at, PEAKS, np.float32),
        line_at(at, FACTORS, np.float32),
        rows_at(at, TOTALS, np.float32),
        rows_at(at, SUMS, np.float32),
        rows_at(at, SCORES, np.float32),
        rows_at(at, PRODUCT, np.float32),
    )
    limits = rows_at(at, LIMITS, np.int64)
    buffers = Buffers(
        rows_at(at, BLOCK, np.int16),
        rows_at(at, KEYS, np.int16),
        rows_at(at, MAXIMA, np.int16),
        rows_at(at, PICKED, np.int16),
        rows_at(at, WHERE, np.uint16),
        (limits[0], limits[1], limits[2]),
        line_at(at, INDEX, np.int32),
        line_at(at, WEIGHT, np.float32),
        array_at(at[PRODUCTS, 0], (2, ROWS + 16, WIDE), np.float32),
        line_at(at, STEPS, np.float32),
        array_at(at[WEIGHTS, 0], (QUICK, ROWS, WIDE), np.int16),
        line_at(at, SHIFTS, np.float32),
        line_at(at, OFFSETS, np.float32),
        line_at(at, BOUNDED, np.int64),
        state,
    )
    return packed, buffers


@kernel_part()
def place(places, tensor, n, a):
    """(address, bytes from row to row) of head `a` of object `n` of a tensor, by the shared numbers' places."""
    at = 4 * tensor
    return places[at] + n * places[at + 1] + a * places[at + 2], places[at + 3]


def _with_stamp(stamp):
    """The entry point; `stamp` stands for the sources it is made from (see compiling.py)."""

    def attend_heads(shared):
        """Writes the results of the tasks (object, head, first row, last row) that this thread takes."""
        if stamp < 0:
            return
        numbers = carray(shared, (NUMBERS,))
        own, group, groups, topk = numbers[OWN], numbers[GROUP], numbers[GROUPS], numbers[TOPK]
        thread = take(numbers.ctypes.data + 8 * NEXT_THREAD)
        at = array_at(numbers[BUFFERS] + 24 * BUFFERS_EACH * thread, (BUFFERS_EACH, 3), np.int64)
        packed, buffers = arrays(at)
        places = numbers[PLACES:]
        tasks = array_at(numbers[TASK_LIST], (numbers[TASKS], 4), np.int64)
        while True:
            task = take(numbers.ctypes.data + 8 * NEXT_TASK)
            if task >= numbers[TASKS]:
                return
            n, a, first, last = tasks[task, 0], tasks[task, 1], tasks[task, 2], tasks[task, 3]
            attend_head(
                place(places, 0, n, a), place(places, 1, n, a), place(places, 2, n, a), place(places, 3, n, a),
                place(places, 4, n, a), place(places, 5, n, a), (own, group, groups, topk, first, last), SCALE,
                packed, buffers, at[MIDDLE, 0], (numbers[TILES], at[OLD_TILES, 0]),
            )  # fmt: skip

    return TeamKernel(attend_heads, attend_head)


attend_heads = _with_stamp(SOURCES)
