"""Compiling with a cache on disk that notices every change of the kernels' sources."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from numba import njit

#: Stands for the text of all kernel files. Numba's cache looks only at the file of the function it caches, but
#: compiles in what that function calls from the others; a value its closure holds is part of the cache's key.
_FILES = sorted(path for pattern in ("topk_*.py", "tile_*.py") for path in Path(__file__).parent.glob(pattern))
SOURCES = zlib.crc32(b"".join(path.read_bytes() for path in _FILES))


def compiled(function: Callable[..., None]) -> Any:
    """`function` compiled by Numba on its first call, without the GIL; kept on disk where a folder can be written."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder to write to: compile once per process
        return njit(nogil=True)(function)
