"""Linear layers and convolutions that take what follows them (GELU, ReLU, an addition) into the same pass.

Inference in bfloat16 on a CPU uses oneDNN's fused operations, which PyTorch has under `torch.ops.mkldnn`: what follows
is done while a product's tile is still in registers, and no bias is spread out beforehand. Everything else (gradients,
accelerators, float32, where they gain nothing) takes the plain operations that the fused ones are tested against.
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@functools.cache
def _has_fused() -> bool:
    """Whether this build of PyTorch and this processor have the fused operations for bfloat16."""
    if not torch.backends.mkldnn.is_available():
        return False
    names = ("_linear_pointwise", "_convolution_pointwise", "_is_mkldnn_bf16_supported")
    if not all(hasattr(torch.ops.mkldnn, name) for name in names):
        return False
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def fuses(x: Tensor, weight: Tensor) -> bool:
    """Whether an operation on these is computed by a fused operation."""
    return (
        x.dtype == weight.dtype == torch.bfloat16
        and x.device.type == "cpu"
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
        and _has_fused()
    )


def linear(x: Tensor, weight: Tensor, bias: Tensor, *, gelu: bool = False, add: Tensor | None = None) -> Tensor:
    """Return x (..., C) times weight (D, C) plus bias, then GELU or plus `add` (..., D)."""
    if fuses(x, weight):
        if add is not None:
            add = add.expand(*x.shape[:-1], -1)
            fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, add, weight, bias, "add")
        else:
            kind: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            fused = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *kind)
        return fused
    y = F.linear(x, weight, bias)
    if gelu:
        return F.gelu(y)
    return y if add is None else y + add


def conv_relu(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return the ReLU of a convolution layer of x (B, C, h, w)."""
    if fuses(x, layer.weight):
        place = (layer.padding, layer.stride, layer.dilation, layer.groups)
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(x, layer.weight, layer.bias, *place, "relu", [], "")
        return fused
    return F.relu(layer(x))
