"""The network and the frame loop once more, plainly, from the published rules: what the fast paths are held to.

One object at a time, every memory frame kept as the joint blocks' inputs, softmaxes over whole rows. It shares nothing
with the package but the names in the state dict, and agrees with the published numbers of tests/golden/model.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.model.network import JointFormer
from jointformer.track import TrackerConfig


def aggregate(masks: list[Tensor]) -> Tensor:
    """Return the probabilities (N+1, H, W) of background and objects."""
    background = torch.stack([1 - mask for mask in masks]).prod(0)
    prob = torch.stack([background, *masks]).clamp(1e-7, 1 - 1e-7)
    return torch.log(prob / (1 - prob)).softmax(0)


def keep_largest(scores: Tensor, k: int) -> Tensor:
    """Return the scores with all but the k largest of every row at minus infinity."""
    values, places = scores.topk(min(k, scores.shape[-1]), -1)
    return torch.full_like(scores, -math.inf).scatter(-1, places, values)


class NaiveNetwork:
    """The five computations on tensors of one object; tokens are (1, 1, C), maps (1, C, h, w)."""

    def __init__(self, model: JointFormer, config: TrackerConfig) -> None:
        self.state = {name.removeprefix("convmae."): value for name, value in model.state_dict().items()}
        self.heads, self.config = model.config.heads, config
        self.depth, self.update_depth, self.enhance_depth = (self._count(f"blocks{i}.") for i in (3, 4, 5))

    def _count(self, prefix: str) -> int:
        return len({name[len(prefix) :].split(".")[0] for name in self.state if name.startswith(prefix)})

    def linear(self, x: Tensor, name: str) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def conv(self, x: Tensor, name: str, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        padding = weight.shape[-1] // 2 if stride == 1 else 0
        return F.conv2d(x, weight, self.state[f"{name}.bias"], stride, padding, groups=groups)

    def norm(self, x: Tensor, name: str, eps: float = 1e-6) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"], eps)

    def norm_map(self, x: Tensor, name: str) -> Tensor:
        return self.norm(x.movedim(1, -1), name, 1e-5).movedim(-1, 1)

    def embed(self, x: Tensor, name: str) -> Tensor:
        stride = self.state[f"{name}.proj.weight"].shape[-1]
        return F.gelu(self.norm_map(self.conv(x, f"{name}.proj", stride), f"{name}.norm"))

    def conv_blocks(self, x: Tensor, name: str) -> Tensor:
        for block in (f"{name}.{i}" for i in range(self._count(f"{name}."))):
            y = self.conv(self.norm_map(x, f"{block}.norm1"), f"{block}.conv1")
            x = x + self.conv(self.conv(y, f"{block}.attn", groups=y.shape[1]), f"{block}.conv2")
            y = self.conv(self.norm_map(x, f"{block}.norm2"), f"{block}.mlp.fc1")
            x = x + self.conv(F.gelu(y), f"{block}.mlp.fc2")
        return x

    def place(self, height: int, width: int) -> Tensor:
        """Return the grid's rows of the position table (1, h·w, C); the token's row is zero by definition."""
        rows = self.state["pos_embed"][:, 1:]
        grid = rows.transpose(1, 2).unflatten(2, (math.isqrt(rows.shape[1]), -1))
        return F.interpolate(grid, (height, width), mode="bicubic").flatten(2).transpose(1, 2)

    def encode(self, x: Tensor, first: str) -> tuple[Tensor, Tensor, Tensor]:
        f4 = self.conv_blocks(self.embed(x, first), "blocks1")
        f8 = self.conv_blocks(self.embed(f4, "patch_embed2"), "blocks2")
        f16 = self.embed(f8, "patch_embed3")
        tokens = self.linear(f16.flatten(2).transpose(1, 2), "patch_embed4")
        return f4, f8, tokens + self.place(*f16.shape[2:])

    def heads_of(self, x: Tensor, block: str) -> list[Tensor]:
        """Return q, k and v (1, A, P, D) of a block's input."""
        parts = self.linear(self.norm(x, f"{block}.norm1"), f"{block}.attn.qkv").chunk(3, -1)
        return [part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts]

    def finish(self, x: Tensor, attended: Tensor, block: str) -> Tensor:
        x = x + self.linear(attended.transpose(1, 2).flatten(2), f"{block}.attn.proj")
        y = F.gelu(self.linear(self.norm(x, f"{block}.norm2"), f"{block}.mlp.fc1"))
        return x + self.linear(y, f"{block}.mlp.fc2")

    def chooses(self, layer: int) -> bool:
        """Whether a joint block reads only the k best."""
        first = {"all_blocks": 0, "half": self.depth // 2, "last_block": self.depth - 1, "None": self.depth}
        return self.config.topk is not None and layer >= first[self.config.topk_blocks]

    def joint(self, x: Tensor, others: list[Tensor], block: str, k: int | None, each: bool = False) -> Tensor:
        """Return a block's output for x, which attends to itself and, with k to the best of, the other inputs."""
        q, own_k, own_v = self.heads_of(x, block)
        pairs = [self.heads_of(other, block)[1:] for other in others]
        scale = q.shape[-1] ** -0.5
        own = q @ own_k.transpose(-1, -2) * scale
        scores = [q @ key.transpose(-1, -2) * scale for key, _ in pairs]
        if scores and k is not None:
            scores = [keep_largest(s, k) for s in scores] if each else [keep_largest(torch.cat(scores, -1), k)]
        weights = torch.cat([own, *scores], -1).softmax(-1)
        return self.finish(x, weights @ torch.cat([own_v, *(value for _, value in pairs)], 2), block)

    def memorize(self, frame: Tensor, mask: Tensor, others: Tensor, token: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the joint blocks' inputs, which are the memory frame, and the updated token."""
        x = self.encode(torch.cat([frame, mask[None], others[None]])[None], "patch_embed1_memory")[2]
        inputs = []
        for layer in range(self.depth):
            block = f"blocks3.{layer}"
            inputs.append(x)
            k = self.config.topk if self.config.token_topk and self.chooses(layer) else None
            token = self.joint(token, [x], block, k)
            x = self.joint(x, [], block, None)
        return inputs, self.norm(token, "norm")

    def read(self, tokens: Tensor, memory: list[list[Tensor]]) -> Tensor:
        for layer in range(self.depth):
            k = self.config.topk if self.chooses(layer) else None
            inputs = [frame[layer] for frame in memory]
            tokens = self.joint(tokens, inputs, f"blocks3.{layer}", k, self.config.topk_range == "every_frame")
        return self.norm(tokens, "norm")

    def enhance(self, f16: Tensor, token: Tensor, grid: tuple[int, int]) -> Tensor:
        x, token = (
            self.linear(f16, "patch_embed4_block5") + self.place(*grid),
            self.linear(token, "patch_embed4_block5"),
        )
        for block in (f"blocks5.{i}" for i in range(self.enhance_depth)):
            q, (_, k, v) = self.heads_of(x, block)[0], self.heads_of(token, block)
            x = self.finish(x, torch.sigmoid(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5) * v, block)
            token = token + self.norm(token, f"{block}.norm1")
            y = F.gelu(self.linear(self.norm(token, f"{block}.norm2"), f"{block}.mlp.fc1"))
            token = token + self.linear(y, f"{block}.mlp.fc2")
        return self.norm(x, "norm")

    def update(self, fusion: Tensor, token: Tensor) -> Tensor:
        x = self.linear(fusion.flatten(2).transpose(1, 2), "patch_embed4_block4") + self.place(*fusion.shape[2:])
        token = self.linear(token, "patch_embed4_block4")
        k = self.config.topk if self.config.token_topk and self.config.topk_blocks != "None" else None
        for block in (f"blocks4.{i}" for i in range(self.update_depth)):
            token, x = self.joint(token, [x], block, k), self.joint(x, [], block, None)
        return self.norm(token, "norm")

    def residual(self, x: Tensor, name: str) -> Tensor:
        y = self.conv(F.relu(self.conv(F.relu(x), f"{name}.conv1")), f"{name}.conv2")
        return y + (self.conv(x, f"{name}.downsample") if f"{name}.downsample.weight" in self.state else x)

    def decode(self, f16: Tensor, enhanced: Tensor, f8: Tensor, f4: Tensor) -> tuple[Tensor, Tensor]:
        """Return the object's probability (H, W) and its fusion feature."""

        def grown(x: Tensor, factor: int) -> Tensor:
            return F.interpolate(x, scale_factor=factor, mode="bilinear")

        def gate(x: Tensor) -> Tensor:
            name = "decoder.fuser_16.attention.ChannelGate.mlp"
            return self.linear(F.relu(self.linear(x, f"{name}.1")), f"{name}.3")[..., None, None]

        x = self.residual(torch.cat([f16, enhanced], 1), "decoder.fuser_16.block1")
        y = x * torch.sigmoid(gate(x.mean((2, 3))) + gate(x.amax((2, 3))))
        seen = torch.cat([y.amax(1, keepdim=True), y.mean(1, keepdim=True)], 1)
        y = y * torch.sigmoid(self.conv(seen, "decoder.fuser_16.attention.SpatialGate.spatial.conv"))
        g16 = self.residual(x + y, "decoder.fuser_16.block2")
        skip = self.conv(f8, "decoder.up_16_8.skip_conv")
        g8 = self.residual(skip + grown(g16, 2), "decoder.up_16_8.out_conv")
        skip = self.conv(f4, "decoder.up_8_4.skip_conv")
        g4 = self.residual(skip + grown(g8, 2), "decoder.up_8_4.out_conv")
        logits = self.conv(F.relu(g4), "decoder.pred")
        parts = {"g16": g16, "g8": F.avg_pool2d(g8, 2), "g4": F.avg_pool2d(torch.cat([g4, logits], 1), 4)}
        fusion = [self.conv(part, f"decoder.fuser_all.{name}_conv") for name, part in parts.items()]
        return torch.sigmoid(grown(logits, 4))[0, 0], torch.cat(fusion, 1)


class NaiveLoop:
    """The published frame loop: a list of memory frames, a temporary one and a token for each object."""

    def __init__(self, model: JointFormer, config: TrackerConfig) -> None:
        self.network, self.config = NaiveNetwork(model, config), config
        self.bank: dict[int, list[list[Tensor]]] = {}
        self.temporary: dict[int, list[Tensor]] = {}
        self.tokens: dict[int, Tensor] = {}
        self.steps = self.last_memory = 0

    @torch.inference_mode()
    def step(self, frame: Tensor, masks: Mapping[int, Tensor], last: bool) -> Tensor:
        """Return the probabilities (N+1, H, W) of a frame (3, H, W) in which `masks` are of new objects."""
        height, width = frame.shape[1:]
        top, left = -height % 16 // 2, -width % 16 // 2
        edges = (left, -width % 16 - left, top, -height % 16 - top)
        x = F.pad(frame, edges)
        is_memory = bool(masks) or self.steps - self.last_memory >= self.config.memory_every
        found = self._segment(x) if self.tokens else {}
        old = list(found)
        given = {i: F.pad(mask, edges) for i, mask in masks.items()}
        if found:
            prob = aggregate([*found.values()])
            found = dict(zip(found, prob[1:], strict=True))
        if given:
            covered = torch.stack([*given.values()]).amax(0) > 0.5
            found = {i: mask.masked_fill(covered, 0) for i, mask in found.items()} | given
            prob = aggregate([*found.values()])
            found = dict(zip(found, prob[1:], strict=True))
            self.tokens |= dict.fromkeys(given, self.network.state["cls_token"])
        if not last and (is_memory or self.config.include_last):
            for i in found:
                others = torch.stack([torch.zeros_like(x[0]), *(found[j] for j in found if j != i)]).sum(0)
                memory, self.tokens[i] = self.network.memorize(x, found[i], others, self.tokens[i])
                self._keep(i, memory, is_memory, i not in old)
        if is_memory:
            self.last_memory = self.steps
        self.steps += 1
        return prob[:, top : top + height, left : left + width]

    def _segment(self, x: Tensor) -> dict[int, Tensor]:
        f4, f8, tokens = self.network.encode(x[None], "patch_embed1_query")
        grid = (x.shape[1] // 16, x.shape[2] // 16)
        found = {}
        for i, token in self.tokens.items():
            f16 = self.network.read(tokens, [*self.bank[i], *([self.temporary[i]] if i in self.temporary else [])])
            enhanced = self.network.enhance(f16, token, grid)
            f16, enhanced = (y.transpose(1, 2).unflatten(2, grid) for y in (f16, enhanced))
            found[i], fusion = self.network.decode(f16, enhanced, f8, f4)
            self.tokens[i] = self.network.update(fusion, token)
        return found

    def _keep(self, i: int, memory: list[Tensor], is_memory: bool, new: bool) -> None:
        most = self.config.max_memory_frames
        if new:
            self.bank[i] = [memory]
        elif not is_memory or most == 1:
            self.temporary[i] = memory
        else:
            if most and len(self.bank[i]) == most:
                del self.bank[i][1]
            self.bank[i].append(memory)
