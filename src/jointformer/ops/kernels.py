"""Modules of compiled kernels, which import Numba."""

from __future__ import annotations

import functools
import importlib
from types import ModuleType


@functools.cache
def kernel_module(name: str) -> ModuleType | None:
    """Return a module of compiled kernels in `ops`, or None where Numba is not installed."""
    try:
        return importlib.import_module(f"jointformer.ops.{name}")
    except ModuleNotFoundError as error:
        if error.name in ("numba", "llvmlite"):
            return None
        raise
