"""What all tokens of a joint block have in common, taken out before it is rounded: for networks in 16-bit types.

Trained tokens share most of what a block's norm returns: the first block's keys of the embedded weights are 139 long,
their mean is 138. To attention that part does not matter: it adds one number to all scores of a query row, and softmax
and top-k do not see it. But rounding takes its step from the whole, so the part that matters was rounded ten times as
coarsely as it need be; most of what bfloat16's masks differed from float32's by came from there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from jointformer.model.joint_block import JointBlock
from jointformer.model.network import JointFormer

#: The side of the grey picture, with a box for an object, on which blocks show what their tokens share.
SIDE = 96


@torch.no_grad()
def centre_tokens(model: JointFormer, dtype: torch.dtype) -> None:
    """Change biases so that the tokens of joint and token-update blocks are near zero, for rounding to `dtype`.

    In exact arithmetic every result stays the same: what a norm's bias gives up, the biases of queries and values make
    up for, and keys need not. The enhance blocks keep theirs, whose gate is no softmax. model: float32, changed in
    place; `model.as_loaded` keeps the biases that came from the file. It is all computed in float64: float32's last
    digit differs between processors, and now and then it decides how a bias is rounded.
    """
    shared = _shared_parts(model)
    for name, block in _blocks(model):
        norm, qkv = block.norm1, block.attn.qkv
        width = qkv.in_features
        model.as_loaded[f"convmae.{name}.norm1.bias"] = norm.bias.clone()
        model.as_loaded[f"convmae.{name}.attn.qkv.bias"] = qkv.bias.clone()
        left = (norm.bias - shared[name]).to(dtype).double()
        bias = qkv.bias + qkv.weight.double() @ (norm.bias - left)
        bias[width : 2 * width] = 0
        norm.bias.copy_(left)
        qkv.bias.copy_(bias)


def _blocks(model: JointFormer) -> list[tuple[str, JointBlock]]:
    groups = {"blocks3": model.convmae.blocks3, "blocks4": model.convmae.blocks4}
    return [(f"{group}.{i}", cast(JointBlock, block)) for group in groups for i, block in enumerate(groups[group])]


def _shared_parts(model: JointFormer) -> dict[str, Tensor]:
    """Return each block's mean (C,) of what its first norm returns, while a picture is memorised and read again.

    In float64.
    """
    seen: dict[str, list[Tensor]] = {}

    def note(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, normed: Tensor) -> None:
            seen.setdefault(name, []).append(normed.flatten(0, -2).mean(dim=0))

        return hook

    hooks = [block.norm1.register_forward_hook(note(name)) for name, block in _blocks(model)]
    frame = torch.zeros(1, 3, SIDE, SIDE, dtype=torch.float64, device=model.device)
    mask = torch.zeros_like(frame[:, :1])
    mask[:, :, SIDE // 4 : -SIDE // 4, SIDE // 4 : -SIDE // 4] = 1
    try:
        with _InFloat64():
            memory, token = model.memorize(frame, mask, model.initial_tokens(1, 1).double())
            model.segment(model.encode_frame(frame), [memory], token)
    finally:
        for hook in hooks:
            hook.remove()
    return {name: torch.stack(parts).mean(dim=0) for name, parts in seen.items()}


class _InFloat64(TorchFunctionMode):
    """Operations take the network's float32 parameters as float64, each copy for as long as the operation runs.

    To code that asks for their type they are float64, too. The whole network in float64 would need twice its memory.
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__name__", "") == "__get__":  # a tensor's type, shape and the like
            found = func(*args)
            return torch.float64 if found is torch.float32 else found
        return func(*map(_double, args), **{name: _double(value) for name, value in (kwargs or {}).items()})


def _double(value: Any) -> Any:
    return value.double() if isinstance(value, nn.Parameter) else value
