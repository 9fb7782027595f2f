"""Linear layers and convolutions that take what comes before and after them into the same pass.

Inference in bfloat16 on a CPU uses kernels of our own for many rows (ops/kernels, on processors that multiply it), else
oneDNN's fused operations, which PyTorch has under `torch.ops.mkldnn`: what follows a product (GELU, ReLU, an addition)
is done while it is still in registers or the nearest cache, and no bias is spread out beforehand. float32 takes them
where oneDNN multiplies it faster than MKL (ops/products.py). Everything else (gradients, autocast, accelerators,
float32 where they gain nothing) takes the plain operations that the fused ones are tested against.
"""

from __future__ import annotations

import functools
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.ops import products
from jointformer.ops.kernels import kernel_module

#: Without gradients a GPU computes an MLP on as many rows at a time as keep its widest features within so many bytes,
#: which would else be the peak of a step's memory. One object of `base` at stride 4 of 480p and five at stride 16 fit:
#: parts cost a GPU as many more operations, and the host the time to give it these.
GPU_MLP_BYTES = 64 << 20


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
    return x.dtype == weight.dtype == torch.bfloat16 and _infers_on_cpu(x) and _has_fused()


def _fuses_layer(x: Tensor, weight: Tensor) -> bool:
    """Whether a linear layer of these is one of oneDNN's fused operations, in bfloat16 or float32."""
    if x.dtype != torch.float32:
        return fuses(x, weight)
    return (
        weight.dtype == torch.float32
        and _infers_on_cpu(x)
        and not torch.is_autocast_enabled("cpu")  # it does not know them, and they would not give its type
        and products.onednn_is_faster()
    )


def _infers_on_cpu(x: Tensor) -> bool:
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not torch.compiler.is_compiling()


def _maps(x: Tensor, *others: Tensor) -> ModuleType | None:
    """The kernels for whole maps where they serve x (B, C, h, w) with these."""
    maps = kernel_module("maps_cpu") if fuses(x, others[0]) else None
    return maps if maps is not None and maps.fits_map(x, *others) else None


def _rows(x: Tensor, *weights: Tensor) -> ModuleType | None:
    """The kernels for rows where they multiply x (..., C) by these weights (D, C)."""
    tiles = kernel_module("linear_cpu") if fuses(x, weights[0]) else None
    return tiles if tiles is not None and tiles.fits(x, *weights) else None


def linear(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    norm: nn.LayerNorm | None = None,
    gelu: bool = False,
    add: Tensor | None = None,
) -> Tensor:
    """Return x (..., C), through `norm`, times weight (D, C) plus bias, then GELU or plus `add` (..., D)."""
    tiles = _rows(x, weight)
    if tiles is not None:
        before = None if norm is None else (norm.weight, norm.bias, norm.eps)
        multiplied: Tensor = tiles.linear(x, (weight, bias), norm=before, gelu=gelu, add=add)
        return multiplied
    if _fuses_layer(x, weight):
        x = x if norm is None else norm(x)
        if add is not None:
            add = add.expand(*x.shape[:-1], -1)
            fused: Tensor = torch.ops.mkldnn._linear_pointwise.binary(x, add, weight, bias, "add")
        else:
            kind: tuple[str, list[float], str] = ("gelu", [], "none") if gelu else ("none", [], "")
            fused = torch.ops.mkldnn._linear_pointwise(x, weight, bias, *kind)
        return fused
    y = F.linear(x if norm is None else norm(x), weight, bias)
    if gelu:
        return _gelu(y)
    return y if add is None else add_to(y, add)


def mlp(x: Tensor, norm: nn.LayerNorm, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
    """Return x (..., C) plus second(GELU(first(norm(x)))), both (weight, bias) of linear layers."""
    tiles = _rows(x, first[0], second[0])
    if tiles is not None:
        mixed: Tensor = tiles.mlp(x, (norm.weight, norm.bias, norm.eps), first, second, add=x)
        return mixed
    return linear(linear(x, *first, norm=norm, gelu=True), *second, add=x)


def linear_mlp(
    x: Tensor, layer: tuple[Tensor, Tensor], add: Tensor, norm: nn.LayerNorm, first: tuple[Tensor, Tensor],
    second: tuple[Tensor, Tensor], *, cpu_bytes: int | None = None,
) -> Tensor:  # fmt: skip
    """Return y (..., D) plus second(GELU(first(norm(y)))) of y = `add` (..., D) plus layer(x (..., C)).

    cpu_bytes: what the widest features may take at a time on a CPU that does not multiply them by tiles.
    """
    tiles = _rows(x, layer[0], first[0], second[0])
    if tiles is not None:
        mixed: Tensor = tiles.linear_mlp(x, layer, add, (norm.weight, norm.bias, norm.eps), first, second)
        return mixed
    y = linear(x, *layer, add=add)
    most = cpu_bytes if y.device.type == "cpu" else GPU_MLP_BYTES
    row = first[0].shape[0] * y.element_size()
    whole = torch.is_grad_enabled() or torch.compiler.is_compiling()
    if whole or most is None or y.numel() // y.shape[-1] * row <= most:
        return mlp(y, norm, first, second)
    for part in y.view(-1, 1, y.shape[-1]).split(max(1, most // row)):  # by single rows, too few for `_rows`
        part.copy_(mlp(part, norm, first, second))
    return y


def norm_gelu(x: Tensor, norm: nn.LayerNorm) -> Tensor:
    """Return GELU(norm(x)) of x (..., C); nobody else may need x, whose place the result may take."""
    tiles = kernel_module("linear_cpu") if fuses(x, norm.weight) and x.is_contiguous() else None
    if tiles is not None and tiles.fits_norm(x):
        changed: Tensor = tiles.norm_gelu_(x, (norm.weight, norm.bias, norm.eps))
        return changed
    return _gelu(norm(x))


def add_to(x: Tensor, other: Tensor) -> Tensor:
    """Return x + other, in the place of x where no gradient is computed; nobody else may need x.

    With gradients the sum has the larger of both types, as automatic casting expects.
    """
    return x + other if torch.is_grad_enabled() else x.add_(other)


def _gelu(x: Tensor) -> Tensor:
    """Return GELU(x), in the place of x where no gradient needs that: the widest features are there only once."""
    if torch.is_grad_enabled():
        return F.gelu(x)
    in_place: Tensor = torch.ops.aten.gelu_(x)
    return in_place


def conv_relu(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return the ReLU of a convolution layer of x (B, C, h, w)."""
    if fuses(x, layer.weight):
        place = (layer.padding, layer.stride, layer.dilation, layer.groups)
        fused: Tensor = torch.ops.mkldnn._convolution_pointwise(x, layer.weight, layer.bias, *place, "relu", [], "")
        return fused
    return F.relu(layer(x))


def enlarge_add(x: Tensor, add: Tensor) -> tuple[Tensor, Tensor]:
    """Return (y, ReLU(y)), each (B, C, 2h, 2w): x (B, C, h, w) bilinearly enlarged plus `add` (1 or B, C, 2h, 2w)."""
    maps = _maps(x, add)
    if maps is not None:
        both: tuple[Tensor, Tensor] = maps.enlarge_add(x, add)
        return both
    y = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False) + add
    return y, F.relu(y)


def relu_conv(x: Tensor, layer: nn.Conv2d) -> Tensor:
    """Return a convolution layer, 3×3 with zeros around and one channel out, of the ReLU of x (B, C, h, w)."""
    maps = _maps(x, layer.weight)
    if maps is not None:
        assert layer.bias is not None
        predicted: Tensor = maps.predict(x, layer.weight, layer.bias)
        return predicted
    convolved: Tensor = layer(F.relu(x))
    return convolved
