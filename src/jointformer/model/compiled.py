"""The network through PyTorch's compiler: for GPUs, where its operations are many and short."""

from __future__ import annotations

import copy
import logging
import os
import threading
import warnings
import weakref
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import platformdirs
import torch
from torch import nn

from jointformer.errors import ConfigError
from jointformer.model.network import JointFormer

logger = logging.getLogger(__name__)

#: What a step calls, each compiled as a whole: without a break, so that nothing is left to the interpreter. Reading's
#: attention lies between them: one operation on a GPU, called once per group of equally full memories, of which every
#: grouping would need a program of its own.
PARTS = ("encode_frame", "_share", "_decode", "_fuse", "_update_token", "_probabilities", "_embed_group", "_write")
READING_PARTS = ("_between_reads", "_after_reads")
BACKEND = "inductor"
#: Programs of one part: for one object and for several, for a first size and for all others, and room for more.
MOST_PROGRAMS = 32

_compiled: weakref.WeakKeyDictionary[JointFormer, JointFormer] = weakref.WeakKeyDictionary()
_compiling = threading.Lock()  # trackers in several threads share a network
M = TypeVar("M", bound=nn.Module)


def compiled(model: JointFormer) -> JointFormer:
    """Return the network with the same weights, whose parts are compiled when first called; the same one every time.

    Sizes are compiled in. Where a second one comes (another number of objects, other frames), the compiler makes one
    program for all that follow; a part that should ever have too many goes on uncompiled, and the log says so. Raises
    ConfigError at the first call where the compiler fails: it needs a C++ compiler for a CPU and Triton for a GPU. On a
    CPU most kernels of ops/ are left out, which are faster.
    """
    with _compiling:
        known = _compiled.get(model)
        if known is None:
            _keep_programs_at_home()
            known = _with_compiled(model, PARTS)
            known.convmae = _with_compiled(model.convmae, READING_PARTS)
            known.hands_out_layers = False  # a program is whole: it returns all layers at its end
            _compiled[model] = known
        return known


def _keep_programs_at_home() -> None:
    """Have programs kept in the user's cache, unless the user says where or it cannot be written.

    By itself PyTorch keeps them in /tmp, in a folder that another user of the computer may have made before: what lies
    there is run.
    """
    folder = Path(platformdirs.user_cache_dir("jointformer", appauthor=False)) / "compiled"
    if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:
        with suppress(OSError):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if os.access(folder, os.W_OK | os.X_OK):
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)


def _with_compiled(module: M, parts: tuple[str, ...]) -> M:
    """Return a shallow copy of a module with these methods compiled; the module itself stays as it is."""
    other = copy.copy(module)
    object.__setattr__(other, "__dict__", {**module.__dict__, "_modules": dict(module._modules)})
    for name in parts:
        object.__setattr__(other, name, _Part(name, getattr(other, name)))
    return other


class _Part:
    """A compiled method: with what the compiler says on failure as one line, and a way on where it has had enough."""

    def __init__(self, name: str, plain: Callable[..., Any]) -> None:
        self._name, self._plain = name, plain
        self._programs = torch.compile(plain, backend=BACKEND, fullgraph=True)
        self._call: Callable[..., Any] = self._first_call

    def _first_call(self, *args: Any, **options: Any) -> Any:
        """Call it without PyTorch's advice, given once in a process, to round products as `exact_products` forbids."""
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores", category=UserWarning)
            result = self._programs(*args, **options)
        self._call = self._programs
        return result

    def __call__(self, *args: Any, **options: Any) -> Any:
        # Programs are counted before one is made, so where there are too many nothing has run yet.
        try:
            try:
                return self._call(*args, **options)
            except torch._dynamo.exc.FailOnRecompileLimitHit:
                # PyTorch's own, low one; to raise it at every call would cost more than a guard.
                with torch._dynamo.config.patch(cache_size_limit=MOST_PROGRAMS):
                    return self._call(*args, **options)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                "compile", expected="a network that PyTorch's compiler takes on this machine", got=reason,
                hint="leave it out",
            ) from error  # fmt: skip
        except torch._dynamo.exc.FailOnRecompileLimitHit:
            logger.warning("%s has %d compiled programs: it goes on uncompiled", self._name, MOST_PROGRAMS)
            self._call = self._plain
            return self._plain(*args, **options)
