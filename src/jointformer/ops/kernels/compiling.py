"""Compiling with a cache on disk that notices every change of the kernels' sources, and a word when it takes time."""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import njit, types
from numba.core import event
from numba.core.caching import FunctionCache
from numba.core.ccallback import CFunc

from jointformer.ops.kernels.processor import AMX

logger = logging.getLogger(__name__)

#: Stands for the text of all kernel files and for how they multiply. Numba's cache looks only at the file of the
#: function it caches, but compiles in what that function calls from the others; a value its closure holds is part of
#: the cache's key.
_FILES = sorted(Path(__file__).parent.glob("*.py"))
SOURCES = zlib.crc32(b"".join([bytes([AMX]), *(path.read_bytes() for path in _FILES)]))


class _Notice(event.Listener):  # type: ignore[misc]
    """Says once per process that a kernel is being compiled, which a first frame waits for; not when one is loaded."""

    told = False

    def on_start(self, event: Any) -> None:
        if not self.told and event.data["dispatcher"] in _entries:
            self.told = True
            logger.warning("compiling kernels for this processor: once, a few seconds each")

    def on_end(self, event: Any) -> None:
        pass


_entries: list[Any] = []
event.register("numba:compile", _Notice())


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache, of which a damaged file or a full disk costs no more than compiling anew."""

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(sig, target_context)
        except Exception:  # a pickle that is cut off, as a loss of power leaves one, raises nearly anything
            with suppress(OSError):
                self.flush()  # else nothing could be kept beside it
            return None

    def save_overload(self, sig: Any, data: Any) -> None:
        try:
            super().save_overload(sig, data)
        except OSError as error:
            logger.warning("compiled kernels cannot be kept in %s: %s", self.cache_path, error.strerror or error)


def compiled(function: Callable[..., None]) -> Any:
    """`function` compiled by Numba on its first call, without the GIL; kept on disk where a folder can be written."""
    entry = _kept_on_disk(njit(nogil=True)(function), function)
    _entries.append(entry)
    return entry


def _kept_on_disk(entry: Any, function: Callable[..., None]) -> Any:
    """`entry` with Numba's cache; without it, compiled once per process, where Numba finds no folder to write to."""
    with suppress(RuntimeError):
        entry._cache = _Cache(function)
    return entry


def kernel_part(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """A decorator for functions that kernels call, and Python never does: what it would enter them by is left out.

    That is a fifth of the time that compiling takes. options: Numba's (fastmath, forceinline).
    """
    return njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **options)


#: A kernel of several threads gets the address of its int64 numbers, and is entered once by every thread.
_KERNEL = types.void(types.CPointer(types.int64))


class TeamKernel:
    """A function of an address, compiled when first asked for, that threads without an interpreter can enter.

    `inner`: a compiled function that it calls, whose compiling is announced.
    """

    def __init__(self, function: Callable[[Any], None], inner: Any) -> None:
        self._function = function
        self._code: Any = None
        self._compiling = threading.Lock()
        _entries.append(inner)

    @property
    def address(self) -> int:
        """Where its machine code begins: void (*)(int64_t *); compiled at the first call, or loaded from disk."""
        if self._code is None:
            self._compile()
        return int(self._code.address)

    def _compile(self) -> None:
        with self._compiling:
            if self._code is None:
                code = CFunc(self._function, (_KERNEL.args, _KERNEL.return_type), {}, {})
                _kept_on_disk(code, self._function).compile()
                self._code = code  # only now: other threads enter what they find here
