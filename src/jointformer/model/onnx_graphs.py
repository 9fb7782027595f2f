"""The network's two calls as functions of plain tensors, for one size of frames: what an exported file computes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor, nn

from jointformer.errors import ConfigError, require
from jointformer.model.attention import AttentionConfig
from jointformer.model.config import MEAN, STD
from jointformer.model.joint_block import LayerMemory
from jointformer.model.network import JointFormer, sum_of_others
from jointformer.model.transformer import MemoryView
from jointformer.ops.padding import STRIDE, Padding, pad, padded, padding_to_multiple

#: Names of axes that are free, by axis, for each input.
FreeAxes: TypeAlias = dict[str, dict[int, str]]


@dataclass(frozen=True)
class GraphConfig:
    """What is fixed in exported graphs: the network's size of frames, and the memory keys that count.

    height, width: pixels of frames as the network sees them, any number. topk: None for all. Raises ConfigError.
    """

    height: int
    width: int
    topk: int | None = 60

    def __post_init__(self) -> None:
        AttentionConfig(topk=self.topk)
        for side in (self.height, self.width):
            require("size of frames", side, int, "whole numbers of pixels")
        if min(self.height, self.width) < STRIDE:
            got = f"{self.height}x{self.width}"
            raise ConfigError("size of frames", expected=f"{STRIDE} pixels or more on each side", got=got)
        if self.topk is not None and self.topk >= self.tokens:
            raise ConfigError(
                "topk", expected=f"less than the {self.tokens} keys of one memory frame of this size", got=self.topk,
                hint="0 keeps all keys",
            )  # fmt: skip

    @property
    def padding(self) -> Padding:
        """What frames get on each side: (left, right, top, bottom)."""
        return padding_to_multiple(self.height, self.width)

    @property
    def padded(self) -> tuple[int, int]:
        """The size (H, W) of padded frames, and of masks and probabilities."""
        return padded(self.height, self.width)

    @property
    def tokens(self) -> int:
        """Tokens of a frame (P)."""
        return self.padded[0] // STRIDE * (self.padded[1] // STRIDE)


class Graph(nn.Module):
    """What both graphs share: the network, its settings, and the way from pixels to what it takes.

    Shape letters as the network's, with M memory frames and L joint blocks: memory is (M, L, 2, N, A, P, D), keys
    before values. Frames are padded in the graphs, as zeros are what comes after normalising. Masks come and go padded:
    what the network says of the margin is remembered, too.
    """

    name: str
    outputs: tuple[str, ...]
    free: ClassVar[FreeAxes]

    def __init__(self, model: JointFormer, config: GraphConfig) -> None:
        super().__init__()
        self.model = model
        self.attention = AttentionConfig(topk=config.topk)
        self.config = config
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None])
        self.register_buffer("std", torch.tensor(STD)[:, None, None])

    def image(self, frame: Tensor) -> Tensor:
        """Return the normalised, padded (1, 3, H, W) of uint8 pixels (h, w, 3), RGB."""
        x = frame.permute(2, 0, 1).float() / 255
        return pad((x - self.get_buffer("mean")) / self.get_buffer("std"), self.config.padding)[None]

    def example(self, objects: int, frames: int) -> dict[str, Tensor]:
        """Return made-up inputs by name, of so many objects and memory frames."""
        raise NotImplementedError

    def _frame(self, seed: int = 0) -> Tensor:
        """Return uint8 pixels (h, w, 3): coarse patches of colour, in which there is something to match."""
        height, width = size = (self.config.height, self.config.width)
        generator = torch.Generator().manual_seed(seed)
        coarse = torch.rand(1, 3, 2 + height // 32, 2 + width // 32, generator=generator)
        smooth = nn.functional.interpolate(coarse, size=size, mode="bilinear")
        return (smooth[0].permute(1, 2, 0) * 255).to(torch.uint8).contiguous()

    def _tokens(self, objects: int) -> Tensor:
        return self.model.initial_tokens(1, objects)[0].clone()


class Segment(Graph):
    """(frame, memory, tokens) to each object's probabilities (N, H, W) before aggregation, and its token after it."""

    name = "segment"
    outputs = ("object_prob", "tokens_after")
    free: ClassVar[FreeAxes] = {"frame": {}, "memory": {0: "frames", 3: "objects"}, "tokens": {0: "objects"}}

    def forward(self, frame: Tensor, memory: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """frame: uint8 (h, w, 3). memory: (M, L, 2, N, A, P, D). tokens: (N, C)."""
        layers, rows = memory.shape[1], memory.shape[3]
        joined = memory.permute(1, 2, 3, 4, 0, 5, 6).flatten(4, 5)
        view = MemoryView(tuple((LayerMemory(0, rows, joined[i, 0], joined[i, 1]),) for i in range(layers)), rows)
        features = self.model.encode_frame(self.image(frame))
        out = self.model.segment(features, view, tokens[None], attention=self.attention)
        return out.object_prob[0], out.tokens[0]

    def example(self, objects: int, frames: int) -> dict[str, Tensor]:
        """Return made-up inputs by name; the memory is one that the network has written."""
        memorize = Memorize(self.model, self.config)
        inputs = memorize.example(objects, 1)
        with torch.no_grad():
            written = [memorize(**inputs | {"frame": self._frame(seed)})[0] for seed in range(1, 1 + frames)]
        return {"frame": self._frame(), "memory": torch.stack(written), "tokens": self._tokens(objects)}


class Memorize(Graph):
    """(frame, masks, others, tokens) to one memory frame (L, 2, N, A, P, D), and each object's token after it."""

    name = "memorize"
    outputs = ("memory", "tokens_after")
    free: ClassVar[FreeAxes] = {"frame": {}, **{name: {0: "objects"} for name in ("masks", "others", "tokens")}}

    def forward(self, frame: Tensor, masks: Tensor, others: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """frame: uint8 (h, w, 3). masks, others: float32 (N, H, W). tokens: (N, C)."""
        memory, after = self.model.memorize(
            self.image(frame), masks[None], tokens[None], others=others[None], attention=self.attention
        )
        return torch.stack([torch.stack(pair) for pair in zip(memory.keys, memory.values)]), after[0]

    def example(self, objects: int, frames: int) -> dict[str, Tensor]:
        """Return made-up inputs by name; the objects stand side by side. This graph writes one memory frame."""
        height, width = self.config.padded
        masks = torch.zeros(objects, height, width)
        for i, mask in enumerate(masks):
            mask[height // 4 :, i * width // objects : (i + 1) * width // objects] = 1
        return {
            "frame": self._frame(),
            "masks": masks,
            "others": sum_of_others(masks[None])[0],
            "tokens": self._tokens(objects),
        }
