"""Patch embeddings and the convolutional blocks of strides 4 and 8, on channels-last features (B, h, w, C)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.model.fused import linear, linear_mlp, norm_gelu

#: Without gradients or tiles a CPU computes an MLP on as many rows at a time as keep its widest features within this
#: many bytes: they stay in the cache, and no large block of memory is fetched from the system and given back.
CPU_MLP_BYTES = 4 << 20


class PointwiseConv(nn.Conv2d):
    """A 1×1 convolution on channels-last features: a matrix product over the last dimension."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size=1)

    def forward(self, x: Tensor, *, norm: nn.LayerNorm | None = None, add: Tensor | None = None) -> Tensor:
        return linear(x, *self.layer, norm=norm, add=add)

    @property
    def layer(self) -> tuple[Tensor, Tensor]:
        """Weight (D, C) and bias (D,) of the product."""
        assert self.bias is not None
        return self.weight.flatten(1), self.bias


class DepthwiseConv(nn.Conv2d):
    """A depthwise 5×5 convolution of (B, C, h, w), any memory layout."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, kernel_size=5, padding=2, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        if x.requires_grad and x.device.type == "cpu" and self.weight.dtype == x.dtype == torch.bfloat16:
            return _DepthwiseCpu.apply(x, self.weight, self.bias)
        return super().forward(x)


class _DepthwiseCpu(torch.autograd.Function):
    """The same convolution with a faster gradient of the weights: oneDNN's bfloat16 one is five times slower."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        return F.conv2d(x, weight, bias, padding=weight.shape[-1] // 2, groups=weight.shape[0])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous(memory_format=torch.channels_last)
        pad, width = weight.shape[-1] // 2, weight.shape[0]
        grad_x = F.conv2d(grad, weight.flip(2, 3), padding=pad, groups=width)
        grad_weight, grad_bias = torch.ops.aten.convolution_backward(
            grad.float(), x.float(), weight.float(), [width], [1, 1], [pad, pad], [1, 1], False, [0, 0], width,
            [False, True, True],
        )[1:]  # fmt: skip
        return grad_x, grad_weight.to(weight.dtype), grad_bias.to(weight.dtype)


class PatchEmbed(nn.Module):
    """Non-overlapping patches to features: convolution (kernel = stride), LayerNorm over channels, GELU."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, out_channels, kernel_size=stride, stride=stride)
        self.norm = nn.LayerNorm(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, h/stride, w/stride, C_out) features of a (B, C_in, h, w) picture."""
        return norm_gelu(self.proj(x).permute(0, 2, 3, 1), self.norm)


class PointwiseMlp(nn.Module):
    """The two 1×1 convolutions, with expansion 4, of an MLP with GELU; its block computes it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = PointwiseConv(width, 4 * width)
        self.fc2 = PointwiseConv(4 * width, width)


class ConvBlock(nn.Module):
    """A transformer block whose attention is a depthwise 5×5 convolution (ConvMAE, arXiv 2205.03892)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.conv1 = PointwiseConv(width, width)
        self.attn = DepthwiseConv(width)
        self.conv2 = PointwiseConv(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = PointwiseMlp(width)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape (B, h, w, C)."""
        y = self.attn(self.conv1(x, norm=self.norm1).permute(0, 3, 1, 2))
        y = y.permute(0, 2, 3, 1)
        return linear_mlp(
            y, self.conv2.layer, x, self.norm2, self.mlp.fc1.layer, self.mlp.fc2.layer, cpu_bytes=CPU_MLP_BYTES
        )
