"""What the decoder does to whole maps besides products, in bfloat16: enlarging them, and predicting one map of logits.

Maps lie channels last. Each is one pass over memory where PyTorch has several operations.
"""
# mypy: disable-error-code="import-untyped,untyped-decorator", allow-untyped-defs

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.core import cgutils
from numba.extending import intrinsic

from jointformer.ops.kernels.compiling import SOURCES, TeamKernel, kernel_part
from jointformer.ops.kernels.linear_rows import all_lanes, widened
from jointformer.ops.kernels.llvm import (
    BRAINS,
    FLOATS,
    HALVES,
    I16,
    I32,
    add_pairs,
    every,
    float_of,
    fused_multiply_add,
    load,
    no_result,
    plus,
    rounded,
    splat,
    store,
    times,
)
from jointformer.ops.kernels.team import HEADER, NEXT_TASK, TASKS, take

ENLARGE, PREDICT = range(2)
#: The shared numbers after what team.py counts in. A task is a row of the result, HEIGHT of them an object, each of
#: WIDTH points; CHANNELS: of x. OTHER: what is added, OTHER_STEP bytes from object to object, or the weight.
KIND, HEIGHT, WIDTH, CHANNELS, X, OTHER, OTHER_STEP, BIAS, OUT, POSITIVE = range(HEADER, HEADER + 10)
NUMBERS = HEADER + 10


def _positive(builder: Any, x: Any) -> Any:
    """ReLU of 32 bfloat16; NaN stays NaN."""
    # As integers, negative numbers are those up to -inf's; above them are negative NaN.
    negative = builder.icmp_signed("<=", x, every(HALVES, -128))
    return builder.select(negative, every(HALVES, 0), x)


@intrinsic
def enlarge_point(
    typingctx: Any, nearest: Any, beside: Any, below: Any, across: Any, lines: Any, add: Any, out: Any, positive: Any
) -> Any:  # fmt: skip
    """Writes 9/16, 3/16, 3/16 and 1/16 of four points plus what is added, and its ReLU; `lines` times 32 channels."""

    def codegen(builder: Any, args: Any) -> None:
        *points, lines, add, out, positive = args
        with cgutils.for_range(builder, lines) as loop:
            sums = []
            for i in range(2):
                here = [plus(builder, times(builder, place, loop.index, 64), 32 * i) for place in (*points, add)]
                total = widened(builder, here[-1])
                for place, share in zip(here, (9, 3, 3, 1)):
                    total = fused_multiply_add(builder, [widened(builder, place), every(FLOATS, share / 16), total])
                sums.append(total)
            found = rounded(builder, *sums)
            store(builder, found, times(builder, out, loop.index, 64))
            store(builder, _positive(builder, found), times(builder, positive, loop.index, 64))

    return types.none(*[types.intp] * 8), no_result(codegen)


@intrinsic
def predict_point(
    typingctx: Any, x: Any, x_step: Any, weight: Any, weight_step: Any, rows: Any, lines: Any, bias: Any, out: Any
) -> Any:  # fmt: skip
    """Writes one bfloat16: the bias plus the sum of products of the ReLU of x and weights.

    x, weight: `rows` rows of `lines` times 32 bfloat16, so many bytes apart.
    """

    def codegen(builder: Any, args: Any) -> None:
        x, x_step, weight, weight_step, rows, lines, bias, out = args
        total = cgutils.alloca_once_value(builder, every(FLOATS, 0.0))
        with cgutils.for_range(builder, rows) as row:
            left = builder.add(x, builder.mul(row.index, x_step))
            right = builder.add(weight, builder.mul(row.index, weight_step))
            with cgutils.for_range(builder, lines) as loop:
                values = _positive(builder, load(builder, times(builder, left, loop.index, 64), HALVES))
                factors = load(builder, times(builder, right, loop.index, 64), HALVES)
                pairs = [builder.bitcast(numbers, BRAINS) for numbers in (values, factors)]
                builder.store(add_pairs(builder, [builder.load(total), *pairs]), total)
        constant = splat(builder, FLOATS, float_of(builder, load(builder, bias, I16)))
        found = builder.fadd(all_lanes(builder, builder.load(total)), constant)
        store(builder, builder.extract_element(rounded(builder, found, found), ir.Constant(I32, 0)), out)

    return types.none(*[types.intp] * 8), no_result(codegen)


@kernel_part()
def beyond(i, count):
    """Which of `count` points takes part in point i of the enlargement beside the nearest, i // 2."""
    return min(max(i // 2 + 2 * (i % 2) - 1, 0), count - 1)


@kernel_part()
def enlarge_row(numbers, n, y):
    """Writes a row of the bilinear enlargement by two plus what is added, and of its ReLU."""
    height, width, channels = numbers[HEIGHT] // 2, numbers[WIDTH] // 2, numbers[CHANNELS]
    point = 2 * channels
    near = numbers[X] + (n * height + y // 2) * width * point
    far = numbers[X] + (n * height + beyond(y, height)) * width * point
    add = numbers[OTHER] + n * numbers[OTHER_STEP] + y * numbers[WIDTH] * point
    row = (n * numbers[HEIGHT] + y) * numbers[WIDTH] * point
    for x in range(numbers[WIDTH]):
        here = x // 2 * point
        beside = beyond(x, width) * point
        enlarge_point(
            near + here, near + beside, far + here, far + beside, channels // 32, add + x * point,
            numbers[OUT] + row + x * point, numbers[POSITIVE] + row + x * point,
        )  # fmt: skip


@kernel_part()
def predict_row(numbers, n, y):
    """Writes a row of the 3×3 convolution of the ReLU of x to one channel; beyond the edges are zeros."""
    height, width, point = numbers[HEIGHT], numbers[WIDTH], 2 * numbers[CHANNELS]
    top, bottom = max(y - 1, 0), min(y + 1, height - 1)
    for x in range(width):
        left, right = max(x - 1, 0), min(x + 1, width - 1)
        predict_point(
            numbers[X] + ((n * height + top) * width + left) * point, width * point,
            numbers[OTHER] + (3 * (top - y + 1) + left - x + 1) * point, 3 * point,
            bottom - top + 1, (right - left + 1) * (point // 64), numbers[BIAS],
            numbers[OUT] + 2 * ((n * height + y) * width + x),
        )  # fmt: skip


@kernel_part()
def row_of_map(numbers, n, y):
    """Writes row y of object n."""
    if numbers[KIND] == ENLARGE:
        enlarge_row(numbers, n, y)
    else:
        predict_row(numbers, n, y)


def _with_stamp(stamp):
    """The entry point; `stamp` stands for the sources it is made from (see compiling.py)."""

    def map_rows(shared):
        """Writes the rows that this thread takes."""
        if stamp < 0:
            return
        numbers = carray(shared, (NUMBERS,))
        while True:
            task = take(numbers.ctypes.data + 8 * NEXT_TASK)
            if task >= numbers[TASKS]:
                return
            row_of_map(numbers, task // numbers[HEIGHT], task % numbers[HEIGHT])

    return TeamKernel(map_rows, row_of_map)


map_rows = _with_stamp(SOURCES)
