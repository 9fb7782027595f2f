"""Compiled kernels, which this file imports only where there is Numba (attention_gpu.py and topk_triton.py: Triton).

attention_cpu.py  the joint attention; in bfloat16 by attention_fused.py and what it calls, else by topk_rows.py
attention_gpu.py  the same on a GPU, by the kernels of topk_triton.py
linear_cpu.py     linear layers in bfloat16 with what comes before and after them; maps_cpu.py: the decoder's maps
tiles.py          products of blocks by AMX tiles; dots.py: by dot products; processor.py: which of them there are
llvm.py           building blocks of LLVM code; compiling.py: kept on disk; team.py, workers.py: the threads of a call
"""

from __future__ import annotations

import functools
import importlib
import logging
from types import ModuleType

logger = logging.getLogger(__name__)


@functools.cache
def kernel_module(name: str, package: str = "numba") -> ModuleType | None:
    """Return a module of this folder, or None where the package that makes its kernels cannot be imported."""
    return importlib.import_module(f"{__name__}.{name}") if _can_import(package) else None


@functools.cache
def _can_import(package: str) -> bool:
    """Whether a package is there and fits those around it (NumPy's version, the system); if not, the log says so."""
    try:
        importlib.import_module(package)
    except (ImportError, OSError) as error:  # OSError: llvmlite's, of its library
        reason = " ".join(str(error).split())[:300]
        logger.warning("no kernels by %s (%s): PyTorch's operations serve instead, more slowly", package, reason)
        return False
    return True
