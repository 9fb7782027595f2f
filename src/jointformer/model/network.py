"""JointFormer, stateless: encode a frame, segment it against memory, memorise it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.errors import require
from jointformer.model.attention import DENSE, AttentionConfig
from jointformer.model.config import ModelConfig
from jointformer.model.cost import objects_at_once
from jointformer.model.decoder import Decoded, Decoder
from jointformer.model.joint_block import Projected
from jointformer.model.transformer import FrameFeatures, JointTransformer, KeepLayer, MemoryFrame, MemoryView
from jointformer.ops.aggregation import aggregated_logits, soft_aggregate


@dataclass(frozen=True)
class SegmentOutput:
    """One segmented frame of B clips with N objects each.

    object_prob: (B, N, H, W) float32 before aggregation. prob: (B, N+1, H, W) float32 after it, background first.
    tokens: (B, N, C) memory tokens of the network's type, updated unless that was switched off. projected: of every
    joint block the frame's queries, keys and values, each (B·N, A, P, D), or (B, A, P, D) in the first; None where
    nobody asked for them.
    """

    object_prob: Tensor
    prob: Tensor
    tokens: Tensor
    projected: tuple[Projected, ...] | None = None

    @cached_property
    def logits(self) -> Tensor:
        """The logits (B, N+1, H, W) of prob, which only training needs."""
        return aggregated_logits(self.object_prob)


@dataclass(frozen=True)
class _Shared:
    """What all objects of a frame share, computed once however they are grouped into passes."""

    features: FrameFeatures
    projected: Projected
    skips: tuple[Tensor, Tensor]


class JointFormer(nn.Module):
    """The network of JointFormer (Zhang, Cui, Wu, Wang; TPAMI 2025, arXiv 2308.13505).

    Shape letters: B clips, N objects, P = h·w tokens at stride 16, C channels, A heads, D head width, H W pixels
    (multiples of 16). Frames are normalised: RGB from 0 to 1, less ImageNet's mean (0.485, 0.456, 0.406), over its
    standard deviation (0.229, 0.224, 0.225). Building it touches no disk; weights come from `jointformer.load_model`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.convmae = JointTransformer(config)
        self.decoder = Decoder(config)
        #: Tensors by state-dict name as the file has them, where they were changed for rounding (model/centring.py).
        self.as_loaded: dict[str, Tensor] = {}
        #: The file that the tensors came from, for people to read.
        self.weights_file: Path | None = None
        #: Whether `memorize_into` can hand out a joint block's keys and values before the next block is computed.
        self.hands_out_layers = True

    @property
    def dtype(self) -> torch.dtype:
        """The type the network computes in."""
        return self.convmae.cls_token.dtype

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return self.convmae.cls_token.device

    def load_state_dict(self, *args: Any, **settings: Any) -> Any:
        """See `torch.nn.Module.load_state_dict`; what another file had is forgotten."""
        self.as_loaded.clear()
        return super().load_state_dict(*args, **settings)

    def state_as_loaded(self) -> dict[str, Tensor]:
        """Return the state dict with the file's own numbers in place of those that were changed for rounding."""
        state = self.state_dict()
        return {name: self.as_loaded.get(name, tensor).to(tensor) for name, tensor in state.items()}

    def initial_tokens(self, clips: int, objects: int) -> Tensor:
        """Return the (B, N, C) tokens that new objects start with."""
        return self.convmae.cls_token.expand(clips, objects, -1)

    def encode_frame(self, frame: Tensor) -> FrameFeatures:
        """Return the object-independent half of a normalised frame (B, 3, H, W)."""
        return self.convmae.encode_frame(_image(frame, self.dtype))

    def segment(
        self,
        features: FrameFeatures,
        memory: MemoryView | Sequence[MemoryFrame],
        tokens: Tensor,
        *,
        attention: AttentionConfig = DENSE,
        selector: Tensor | None = None,
        update_token: bool = True,
        objects_per_pass: int | None = None,
        keep_projected: bool = False,
    ) -> SegmentOutput:
        """Return each object's probabilities in a query frame: read memory, enhance, decode, update the token.

        memory: what every object remembers (B·N rows). tokens: (B, N, C). selector: (B, N), 0 silences a slot that a
        clip does not use. objects_per_pass bounds the working memory of many objects (for one clip, B = 1).
        keep_projected: return what the joint blocks compared (all objects in one pass).
        """
        clips, objects, _ = tokens.shape
        view = memory if isinstance(memory, MemoryView) else MemoryView.of_frames(memory)
        token = tokens.flatten(0, 1)[:, None].to(self.dtype)
        shared = self._share(features)
        kept: list[Projected] | None = [] if keep_projected else None
        if objects_per_pass is None or objects_per_pass >= objects:
            logits4, token = self._segment_rows(shared, view, token, attention, update_token, kept)
        else:
            parts = [
                self._segment_rows(shared, view.slice_rows(a, b), token[a:b], attention, update_token)
                for a, b in _passes(objects, objects_per_pass)
            ]
            logits4, token = (torch.cat(part) for part in zip(*parts))
        object_prob, prob = self._probabilities(logits4.unflatten(0, (clips, objects))[:, :, 0], selector)
        tokens = token[:, 0].unflatten(0, (clips, objects))
        return SegmentOutput(object_prob, prob, tokens, None if kept is None else tuple(kept))

    def _share(self, features: FrameFeatures) -> _Shared:
        return _Shared(features, self.convmae.project(features), self.decoder.skips(features.f8, features.f4))

    def _probabilities(self, logits4: Tensor, selector: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return (B, N, H, W) before and (B, N+1, H, W) after aggregation from stride-4 logits (B, N, H/4, W/4)."""
        object_prob = torch.sigmoid(F.interpolate(logits4, scale_factor=4, mode="bilinear", align_corners=False))
        if selector is not None:
            object_prob = object_prob * selector[:, :, None, None]
        return object_prob, soft_aggregate(object_prob)

    def _segment_rows(
        self, shared: _Shared, memory: MemoryView, token: Tensor, attention: AttentionConfig, update: bool,
        kept: list[Projected] | None = None,
    ) -> tuple[Tensor, Tensor]:  # fmt: skip
        """Return (stride-4 logits (N, 1, H/4, W/4) float32, tokens (N, 1, C)) of these rows."""
        f16 = self.convmae.read(shared.features, memory, attention, projected=shared.projected, kept=kept)
        grid = shared.features.grid
        logits, fusions = [], []
        for a, b in self._groups(f16.shape[0], shared.features.tokens.shape[0], grid):
            decoded = self._decode(f16[a:b], grid, shared.skips, token[a:b])
            logits.append(decoded.logits.float())
            if update:
                fusions.append(self._fuse(decoded))
            del decoded  # before the next group's
        del f16
        return _joined(logits), self._update_token(_joined(fusions), token, attention) if update else token

    def _groups(self, rows: int, clips: int, grid: tuple[int, int]) -> list[tuple[int, int]]:
        """Return the rows that go together through what is computed at strides 4 and 8, for a grid at stride 16.

        With gradients all go together: these need the maps of all rows anyhow.
        """
        if torch.is_grad_enabled() or clips > 1:
            return [(0, rows)]
        return _passes(rows, objects_at_once(self.config, 16 * grid[0], 16 * grid[1], self.dtype.itemsize))

    def _decode(self, f16: Tensor, grid: tuple[int, int], skips: tuple[Tensor, Tensor], token: Tensor) -> Decoded:
        enhanced = self.convmae.enhance(f16, token, grid)
        return self.decoder(_to_map(f16, grid), _to_map(enhanced, grid), *skips)

    def _fuse(self, decoded: Decoded) -> Tensor:
        return self.decoder.fuse(decoded)

    def _update_token(self, fusion: Tensor, token: Tensor, attention: AttentionConfig) -> Tensor:
        return self.convmae.update_token(fusion, token, attention)

    def memorize(
        self,
        frame: Tensor,
        masks: Tensor,
        tokens: Tensor,
        *,
        others: Tensor | None = None,
        attention: AttentionConfig = DENSE,
        update_token: bool = True,
    ) -> tuple[MemoryFrame, Tensor]:
        """Return (what later frames read of this frame, updated tokens (B, N, C)).

        frame: (B, 3, H, W) normalised. masks: (B, N, H, W) in [0, 1], soft ones included. others: (B, N, H, W), for
        each object the sum of the other objects' masks (default: of the masks given here). tokens: (B, N, C). Without
        update_token the tokens take no part and come back unchanged.
        """
        if others is None:
            others = sum_of_others(masks)
        token = tokens.flatten(0, 1)[:, None].to(self.dtype) if update_token else None
        memory, token = self._write(self._embed_masks(frame, masks, others), token, attention)
        return memory, tokens if token is None else token[:, 0].unflatten(0, masks.shape[:2])

    def memorize_into(
        self,
        keep: KeepLayer,
        frame: Tensor,
        masks: Tensor,
        tokens: Tensor,
        *,
        others: Tensor,
        attention: AttentionConfig = DENSE,
    ) -> Tensor:
        """Return updated tokens (B, N, C); `keep` gets each joint block's keys and values, of B·N rows, when made.

        So that a memory frame is never there a second time beside the memory bank. The rest is as for `memorize`.
        """
        token: Tensor | None = tokens.flatten(0, 1)[:, None].to(self.dtype)
        embedded = self._embed_masks(frame, masks, others)
        if self.hands_out_layers:
            token = self.convmae.write(embedded, token, attention, keep)
        else:
            memory, token = self._write(embedded, token, attention)
            for layer, (keys, values) in enumerate(zip(memory.keys, memory.values)):
                keep(layer, keys, values)
        assert token is not None
        return token[:, 0].unflatten(0, masks.shape[:2])

    def _embed_masks(self, frame: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        """Return the tokens (B·N, P, C) of a frame to be memorised, before the first joint block."""
        clips, objects, height, width = masks.shape
        groups = self._groups(objects, clips, (height // 16, width // 16))
        return _joined([self._embed_group(frame, masks[:, a:b], others[:, a:b]) for a, b in groups])

    def _embed_group(self, frame: Tensor, masks: Tensor, others: Tensor) -> Tensor:
        return self.convmae.embed_masks(_five_channels(frame, masks, others, self.dtype))

    def _write(
        self, embedded: Tensor, token: Tensor | None, attention: AttentionConfig
    ) -> tuple[MemoryFrame, Tensor | None]:
        keys: list[Tensor] = []
        values: list[Tensor] = []

        def keep(_: int, k: Tensor, v: Tensor) -> None:
            keys.append(k)
            values.append(v)

        token = self.convmae.write(embedded, token, attention, keep)
        return MemoryFrame(tuple(keys), tuple(values)), token


def require_network(model: object) -> None:
    """Raises ConfigError for what is no network, such as a name of weights."""
    require("model", model, JointFormer, "a network, as load_model returns one")


def sum_of_others(masks: Tensor) -> Tensor:
    """Return for each object the sum of the other objects' masks (B, N, H, W); exactly zero for a lone object."""
    return masks.sum(dim=1, keepdim=True) - masks if masks.shape[1] > 1 else torch.zeros_like(masks)


def _passes(objects: int, per_pass: int) -> list[tuple[int, int]]:
    return [(a, min(a + per_pass, objects)) for a in range(0, objects, per_pass)]


def _joined(groups: list[Tensor]) -> Tensor:
    """Return the groups' rows as one tensor, without a copy where there is one group; the list is empty then."""
    joined = groups[0] if len(groups) == 1 else torch.cat(groups)
    groups.clear()  # large, and whoever has the list would keep them
    return joined


def _five_channels(frame: Tensor, masks: Tensor, others: Tensor, dtype: torch.dtype) -> Tensor:
    """Return (B·N, 5, H, W), channels last: the frame, an object's mask and the sum of the others' masks."""
    rgb = frame.to(dtype).permute(0, 2, 3, 1).unsqueeze(1).expand(-1, masks.shape[1], -1, -1, -1)
    parts = [rgb, masks.to(dtype)[..., None], others.to(dtype)[..., None]]
    return torch.cat(parts, dim=4).flatten(0, 1).permute(0, 3, 1, 2)  # half the time of planes laid out afterwards


def _image(x: Tensor, dtype: torch.dtype) -> Tensor:
    return x.to(dtype).contiguous(memory_format=torch.channels_last)  # to() at once for both is twice as slow


def _to_map(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return (N, C, h, w), a channels-last view of (N, P, C) tokens."""
    return tokens.unflatten(1, grid).permute(0, 3, 1, 2)
