"""The decoder: readout and skip features to one logit map per object, and the fusion feature that updates the token."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.model.config import ModelConfig
from jointformer.model.fused import add_to, conv_relu, enlarge_add, relu_conv


def _conv3(in_channels: int, out_channels: int) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, kernel_size=3, padding=1)


class ResBlock(nn.Module):
    """conv2(relu(conv1(relu(x)))) + x, x through a third convolution where the width changes."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.downsample = _conv3(in_channels, out_channels) if in_channels != out_channels else None
        self.conv1 = _conv3(in_channels, out_channels)
        self.conv2 = _conv3(out_channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.finish(x, self.begin(F.relu(x)))

    def begin(self, positive: Tensor) -> Tensor:
        """Return what `finish` takes beside x, from relu(x)."""
        return conv_relu(positive, self.conv1)

    def finish(self, x: Tensor, hidden: Tensor) -> Tensor:
        """Return the block's output."""
        return add_to(self.conv2(hidden), x if self.downsample is None else self.downsample(x))


class ChannelGate(nn.Module):
    """CBAM's channel attention (arXiv 1807.06521): x times the sigmoid of an MLP over average- and max-pooled x."""

    def __init__(self, width: int) -> None:
        super().__init__()
        hidden = max(1, width // 16)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3))))
        return x * gate[:, :, None, None]


class _GateConv(nn.Module):
    """One convolution under the published name."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size=7, padding=3)


class SpatialGate(nn.Module):
    """CBAM's spatial attention: x times the sigmoid of a 7×7 convolution over the channels' maximum and mean."""

    def __init__(self) -> None:
        super().__init__()
        self.spatial = _GateConv()

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial.conv(pooled))


class Cbam(nn.Module):
    """Channel gate, then spatial gate."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.ChannelGate = ChannelGate(width)
        self.SpatialGate = SpatialGate()

    def forward(self, x: Tensor) -> Tensor:
        return self.SpatialGate(self.ChannelGate(x))


class ReadoutFuser(nn.Module):
    """The readout and its enhanced form to g16."""

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        self.block1 = ResBlock(in_channels, width)
        self.attention = Cbam(width)
        self.block2 = ResBlock(width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.block1(x)
        return self.block2(x + self.attention(x))


class UpsampleBlock(nn.Module):
    """Coarse features ×2 plus the skip features, through a ResBlock."""

    def __init__(self, skip_channels: int, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.skip_conv = _conv3(skip_channels, in_channels)
        self.out_conv = ResBlock(in_channels, out_channels)

    def forward(self, skip: Tensor, x: Tensor) -> Tensor:
        """skip: (B, C', h, w) from skip_conv, shared by a clip's objects; x: (N, C', h/2, w/2), N a multiple of B."""
        if skip.shape[0] not in (1, x.shape[0]):
            skip = skip.repeat_interleave(x.shape[0] // skip.shape[0], dim=0)
        x, positive = enlarge_add(x, skip)
        hidden = self.out_conv.begin(positive)
        del positive  # as large as any map of a step
        return self.out_conv.finish(x, hidden)


class FusionHead(nn.Module):
    """g16, g8 and [g4, logits] brought to stride 16 and joined: the fusion feature."""

    def __init__(self, w16: int, w8: int, w4: int, width: int) -> None:
        super().__init__()
        self.g16_conv = nn.Conv2d(w16, width // 3, kernel_size=1)
        self.g8_conv = nn.Conv2d(w8, width // 3, kernel_size=1)
        self.g4_conv = nn.Conv2d(w4 + 1, width // 3, kernel_size=1)

    def forward(self, g16: Tensor, g8: Tensor, g4: Tensor, logits: Tensor) -> Tensor:
        # Pooling and 1×1 convolution commute, so the convolutions run on the small maps.
        fine = torch.cat([F.avg_pool2d(g4, 4), F.avg_pool2d(logits, 4)], dim=1)
        parts = [self.g16_conv(g16), self.g8_conv(F.avg_pool2d(g8, 2)), self.g4_conv(fine)]
        return torch.cat(parts, dim=1)


@dataclass(frozen=True)
class Decoded:
    """logits: (N, 1, H/4, W/4). g16, g8, g4: the features that the fusion feature is made of."""

    logits: Tensor
    g16: Tensor
    g8: Tensor
    g4: Tensor


class Decoder(nn.Module):
    """Computation D up to the stride-4 logits; `fuse` makes the fusion feature when someone will read it."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w4, w8, width = config.widths
        self.fuser_16 = ReadoutFuser(2 * width, w8)
        self.up_16_8 = UpsampleBlock(w8, w8, w4)
        self.up_8_4 = UpsampleBlock(w4, w4, w4)
        self.pred = _conv3(w4, 1)
        self.fuser_all = FusionHead(w8, w4, w4, width)

    def skips(self, f8: Tensor, f4: Tensor) -> tuple[Tensor, Tensor]:
        """Return what a clip's objects share of f8 (B, C8, 2h, 2w) and f4 (B, C4, 4h, 4w): both convolved."""
        return self.up_16_8.skip_conv(f8), self.up_8_4.skip_conv(f4)

    def forward(self, f16: Tensor, enhanced: Tensor, skip8: Tensor, skip4: Tensor) -> Decoded:
        """f16, enhanced: (N, C, h, w). skip8, skip4: as `skips` returns them."""
        g16 = self.fuser_16(torch.cat([f16, enhanced], dim=1))
        g8 = self.up_16_8(skip8, g16)
        g4 = self.up_8_4(skip4, g8)
        return Decoded(relu_conv(g4, self.pred), g16, g8, g4)

    def fuse(self, decoded: Decoded) -> Tensor:
        """Return the fusion feature (N, C, h, w)."""
        return self.fuser_all(decoded.g16, decoded.g8, decoded.g4, decoded.logits)
