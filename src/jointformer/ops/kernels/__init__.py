"""Compiled kernels, which this file imports only where there is Numba (topk_gpu.py and topk_triton.py: Triton).

topk_cpu.py     attention with top-k memory; topk_fused.py and what it calls in bfloat16, topk_rows.py row by row
topk_gpu.py     the same on a GPU, by the kernels of topk_triton.py
linear_cpu.py   linear layers in bfloat16 with what comes before and after them; maps_cpu.py: the decoder's maps
tiles.py        products of blocks by AMX tiles; dots.py: by dot products; processor.py: which of them there are
llvm.py         building blocks of LLVM code; compiling.py: kept on disk; team.py, workers.py: the threads of a call
"""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def kernel_module(name: str) -> ModuleType | None:
    """Return a module of this folder, or None where Numba is not installed."""
    try:
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name in ("numba", "llvmlite"):
            return None
        raise
