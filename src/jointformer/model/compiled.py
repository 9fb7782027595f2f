"""The network through PyTorch's compiler: for GPUs, where its operations are many and short."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Callable
from typing import Any

import torch

from jointformer.errors import ConfigError
from jointformer.model.network import JointFormer
from jointformer.ops.attention import triton_serves

#: What a step calls, each compiled as a whole: without a break, so that nothing is left to the interpreter.
PARTS = ("encode_frame", "_share", "_segment_rows", "_probabilities", "_write")
BACKEND = "inductor"

_compiled: weakref.WeakKeyDictionary[JointFormer, JointFormer] = weakref.WeakKeyDictionary()


def compiled(model: JointFormer) -> JointFormer:
    """Return the network with the same weights, whose parts are compiled when first called; the same one every time.

    Sizes are compiled in. Where a second one comes (memory that fills up, another number of objects), the compiler
    makes one program for all that follow. Raises ConfigError at the first call where it cannot: it needs a C++ compiler
    for a CPU and Triton for a GPU. On a CPU the kernels of ops/ are left out, which are faster.
    """
    known = _compiled.get(model)
    if known is None:
        torch.compiler.assume_constant_result(triton_serves)  # asked once, while compiling
        known = _shallow_copy(model)
        for name in PARTS:
            part = torch.compile(getattr(known, name), backend=BACKEND, fullgraph=True)
            object.__setattr__(known, name, _one_line(part))
        known.hands_out_layers = False  # a program is whole: it returns all layers at its end
        _compiled[model] = known
    return known


def _shallow_copy(model: JointFormer) -> JointFormer:
    other = copy.copy(model)
    object.__setattr__(other, "__dict__", dict(model.__dict__))
    return other


def _one_line(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, with what the compiler says on failure as the user's error that it is."""

    def call(*args: Any, **options: Any) -> Any:
        try:
            return function(*args, **options)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError(
                "compile", expected="a network that PyTorch's compiler takes on this machine", got=reason,
                hint="leave it out",
            ) from error  # fmt: skip

    return call
