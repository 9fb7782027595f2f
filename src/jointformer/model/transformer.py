"""The joint transformer: one set of weights encodes frames, reads and writes memory and keeps the memory token."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, cast

import torch
from torch import Tensor, nn

from jointformer.model.attention import AttentionConfig
from jointformer.model.config import ModelConfig
from jointformer.model.convolution import ConvBlock, PatchEmbed
from jointformer.model.fused import linear
from jointformer.model.joint_block import JointBlock, LayerMemory, Projected
from jointformer.model.position import resize_table, sincos_table


@dataclass(frozen=True)
class FrameFeatures:
    """The object-independent half of a query frame.

    f4: (B, C4, H/4, W/4). f8: (B, C8, H/8, W/8). tokens: (B, P, C), positions added, before the first joint block.
    grid: (h, w) at stride 16, P = h·w.
    """

    f4: Tensor
    f8: Tensor
    tokens: Tensor
    grid: tuple[int, int]


@dataclass(frozen=True)
class MemoryFrame:
    """All that later frames read of a memory frame: per joint block its keys and values, each (N, A, P, D)."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


#: KeepKeys of all joint blocks: (layer, keys, values).
KeepLayer: TypeAlias = Callable[[int, Tensor, Tensor], None]


@dataclass(frozen=True)
class MemoryView:
    """What a query frame reads: per joint block, groups of rows whose memories are equally full."""

    layers: tuple[tuple[LayerMemory, ...], ...]
    rows: int

    @classmethod
    def of_frames(cls, frames: Sequence[MemoryFrame]) -> MemoryView:
        """Return the view of memory frames that all rows share (training)."""
        rows = frames[0].keys[0].shape[0]
        layers = []
        for keys, values in zip(zip(*(f.keys for f in frames)), zip(*(f.values for f in frames))):
            k = keys[0] if len(keys) == 1 else torch.cat(keys, dim=2)
            v = values[0] if len(values) == 1 else torch.cat(values, dim=2)
            layers.append((LayerMemory(0, rows, k, v),))
        return cls(tuple(layers), rows)

    def slice_rows(self, start: int, stop: int) -> MemoryView:
        """Return the view of rows [start, stop) alone, renumbered from 0."""
        layers = []
        for groups in self.layers:
            kept = []
            for g in groups:
                a, b = max(start, g.start), min(stop, g.stop)
                if a < b:
                    own = slice(a - g.start, b - g.start)
                    kept.append(LayerMemory(a - start, b - start, g.keys[own], g.values[own]))
            layers.append(tuple(kept))
        return MemoryView(tuple(layers), stop - start)


class JointTransformer(nn.Module):
    """The published network's `convmae` part (paper, section 3): embeddings, conv blocks, joint and token blocks."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        w4, w8, width = config.widths
        self.register_buffer("pos_embed", sincos_table(width))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.patch_embed1_query = PatchEmbed(3, w4, stride=4)
        self.patch_embed1_memory = PatchEmbed(5, w4, stride=4)
        self.patch_embed2 = PatchEmbed(w4, w8, stride=2)
        self.patch_embed3 = PatchEmbed(w8, width, stride=2)
        self.patch_embed4 = nn.Linear(width, width)
        self.blocks1 = nn.ModuleList(ConvBlock(w4) for _ in range(config.depths[0]))
        self.blocks2 = nn.ModuleList(ConvBlock(w8) for _ in range(config.depths[1]))
        self.blocks3 = nn.ModuleList(JointBlock(width, config.heads) for _ in range(config.depths[2]))
        self.patch_embed4_block4 = nn.Linear(width, width)
        self.blocks4 = nn.ModuleList(JointBlock(width, config.heads) for _ in range(config.update_depth))
        self.patch_embed4_block5 = nn.Linear(width, width)
        self.blocks5 = nn.ModuleList(JointBlock(width, config.heads) for _ in range(config.enhance_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self._positions: dict[tuple[int, int], tuple[tuple[int, int, torch.dtype], Tensor]] = {}

    def positions(self, grid: tuple[int, int]) -> Tensor:
        """Return the grid's position rows (1, P, C), resized once per grid size and table."""
        table = self.get_buffer("pos_embed")
        if torch.compiler.is_compiling():  # the compiler cannot know when a kept one would be stale
            return resize_table(table, *grid).to(table)
        stamp = (table.data_ptr(), 0 if table.is_inference() else table._version, table.dtype)
        known = self._positions.get(grid)
        if known is None or known[0] != stamp:
            if len(self._positions) >= 8:
                self._positions.clear()
            known = (stamp, resize_table(table, *grid).to(table))
            self._positions[grid] = known
        return known[1]

    def _embed(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return (f4, f8, tokens) from stride-4 patches (B, H/4, W/4, C4), all channels last."""
        for block in self.blocks1:
            x = block(x)
        f4 = x
        x = self.patch_embed2(x.permute(0, 3, 1, 2))
        for block in self.blocks2:
            x = block(x)
        f8 = x
        x = self.patch_embed3(x.permute(0, 3, 1, 2))
        grid = (x.shape[1], x.shape[2])
        return f4, f8, self._placed(self.patch_embed4, x.flatten(1, 2), grid)

    def _placed(self, layer: nn.Linear, x: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return a linear layer of tokens (N, P, C) plus the grid's position rows."""
        return linear(x, layer.weight, layer.bias, add=self.positions(grid))

    def encode_frame(self, frame: Tensor) -> FrameFeatures:
        """Return what every object shares of a query frame (B, 3, H, W)."""
        f4, f8, tokens = self._embed(self.patch_embed1_query(frame))
        grid = (frame.shape[2] // 16, frame.shape[3] // 16)
        return FrameFeatures(f4.permute(0, 3, 1, 2), f8.permute(0, 3, 1, 2), tokens, grid)

    def project(self, features: FrameFeatures) -> Projected:
        """Return the first joint block's queries, keys and values of a query frame, which its objects share."""
        return _joint(self.blocks3)[0].project(features.tokens)

    def read(
        self,
        features: FrameFeatures,
        memory: MemoryView,
        attention: AttentionConfig,
        *,
        projected: Projected | None = None,
        kept: list[Projected] | None = None,
    ) -> Tensor:
        """Return f16 tokens (N, P, C) of the query frame for each row of memory (computation B).

        projected: the result of `project`, for a frame that is read for several groups of objects.
        kept: gets the queries, keys and values of every joint block.
        """
        x = features.tokens
        frame_tokens = x.shape[1] if attention.range == "every_frame" else None
        projected = projected or self.project(features)
        blocks = _joint(self.blocks3)
        for layer, block in enumerate(blocks):
            topk = attention.layer_topk(layer, len(blocks))
            if kept is not None:
                kept.append(projected)
            heads_out = block.read(projected, memory.layers[layer], memory.rows, topk=topk, frame_tokens=frame_tokens)
            if layer + 1 < len(blocks):
                del projected  # before the MLP needs its memory
                x, projected = self._between_reads(block, blocks[layer + 1], x, heads_out)
        del projected
        return self._after_reads(x, heads_out)

    @staticmethod
    def _between_reads(
        block: JointBlock, following: JointBlock, x: Tensor, heads_out: Tensor
    ) -> tuple[Tensor, Projected]:
        """Return the tokens (N, P, C) after a joint block has read, and the following one's projections of them."""
        x = block.finish_read(x, heads_out)
        return x, following.project(x)

    def _after_reads(self, x: Tensor, heads_out: Tensor) -> Tensor:
        """Return the f16 tokens (N, P, C) after the last joint block has read."""
        return self.norm(_joint(self.blocks3)[-1].finish_read(x, heads_out))

    def embed_masks(self, frames_and_masks: Tensor) -> Tensor:
        """Return the tokens (N, P, C) of memory frames (N, 5, H, W), positions added, before the first joint block.

        The five channels are RGB, this object's mask and the sum of the others'.
        """
        return self._embed(self.patch_embed1_memory(frames_and_masks))[2]

    def write(self, x: Tensor, token: Tensor | None, attention: AttentionConfig, keep: KeepLayer) -> Tensor | None:
        """Return the updated token (N, 1, C) of memory frames (computation A); `keep` gets the rest.

        x: (N, P, C) from `embed_masks`. token: (N, 1, C), or None to leave it out of the blocks. keep: called once per
        joint block, first to last, as soon as its keys and values are made.
        """
        has_token = token is not None
        if token is not None:
            x = torch.cat([token + self.get_buffer("pos_embed")[:, :1], x], dim=1)
        depth = len(self.blocks3)
        *first, last = _joint(self.blocks3)
        for layer, block in enumerate(first):
            topk = attention.token_layer_topk(layer, depth)
            x = block.write(x, has_token=has_token, token_topk=topk, keep=partial(keep, layer))
        topk = attention.token_layer_topk(depth - 1, depth)
        token, k, v = last.write_last(x, has_token=has_token, token_topk=topk)
        keep(depth - 1, k, v)
        return None if token is None else self.norm(token)

    def enhance(self, f16: Tensor, token: Tensor, grid: tuple[int, int]) -> Tensor:
        """Return f16 tokens (N, P, C) enhanced by each row's memory token (N, 1, C) (computation C)."""
        x = self._placed(self.patch_embed4_block5, f16, grid)
        token = self.patch_embed4_block5(token) + self.get_buffer("pos_embed")[:, :1]
        for i, block in enumerate(_joint(self.blocks5)):
            x, token = block.enhance(x, token, last=i == len(self.blocks5) - 1)
        return self.norm(x)

    def update_token(self, fusion: Tensor, token: Tensor, attention: AttentionConfig) -> Tensor:
        """Return the token (N, 1, C) updated from the fusion feature (N, C, h, w) (computation E)."""
        grid = (fusion.shape[2], fusion.shape[3])
        token = self.patch_embed4_block4(token) + self.get_buffer("pos_embed")[:, :1]
        x = self._placed(self.patch_embed4_block4, fusion.flatten(2).transpose(1, 2), grid)
        x = torch.cat([token, x], dim=1)
        topk = attention.token_update_topk
        *first, last = _joint(self.blocks4)
        for block in first:
            x = block.write(x, has_token=True, token_topk=topk)
        return self.norm(last.write_last(x, has_token=True, token_topk=topk)[0])


def _joint(blocks: nn.ModuleList) -> list[JointBlock]:
    """Return the blocks with their type, which a ModuleList does not carry."""
    return [cast(JointBlock, block) for block in blocks]
