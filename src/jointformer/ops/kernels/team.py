"""What the threads of one kernel call share: tasks that each of them takes one by one, and arrays at plain addresses.

Importing this file imports Numba.
"""
# mypy: disable-error-code="import-untyped,untyped-decorator"

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from jointformer.ops.kernels.compiling import kernel_part
from jointformer.ops.kernels.llvm import I64, at

#: The first numbers of what a kernel's threads share: the next thread, the next task, the number of tasks.
NEXT_THREAD, NEXT_TASK, TASKS = range(3)
HEADER = 3


@intrinsic
def take(typingctx: Any, address: Any) -> Any:
    """The int64 at `address`, which is one more for the next thread that asks."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.atomic_rmw("add", at(builder, args[0], I64), ir.Constant(I64, 1), "seq_cst")

    return types.int64(types.intp), codegen


@intrinsic
def _pointer(typingctx: Any, address: Any, kind: Any) -> Any:
    target = types.CPointer(kind.dtype)

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.inttoptr(args[0], context.get_value_type(target))

    return target(types.intp, kind), codegen


@kernel_part()
def array_at(address, shape, kind):  # type: ignore[no-untyped-def]
    """The array of a shape and a kind of numbers that lies at an address."""
    return carray(_pointer(address, kind), shape)
