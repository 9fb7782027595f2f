"""One clip through the network, frame by frame, under autograd: the training driver of `segment`/`memorize`."""

from __future__ import annotations

import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from jointformer.errors import ConfigError
from jointformer.model.config import MEAN, STD
from jointformer.train.mask_noise import spoil
from jointformer.train.matching import matching_loss, matching_targets

if TYPE_CHECKING:
    from jointformer.model.network import JointFormer
    from jointformer.model.transformer import FrameFeatures

PRECISIONS = ("float32", "bfloat16", "autocast-bfloat16", "autocast-float16")


@dataclass(frozen=True)
class ClipBatch:
    """Clips of equal size: frames (B, T, H, W, 3) uint8, label_maps (B, T, H, W) uint8, num_objects (B,).

    `slots` is the number of object rows the network works with, the same for all clips; it comes from the
    sampler, not from the batch's content, so that every process of a run sees the same shape of loss. Frames
    1..`blind` are lived through as at inference, without gradient or loss. points (B, T, P, 3), where it is known what
    each token shows: layer, x, y.
    """

    frames: Tensor
    label_maps: Tensor
    num_objects: Tensor
    slots: int
    blind: int = 0
    points: Tensor | None = None

    def to(self, device: torch.device) -> ClipBatch:
        """The same batch on a device."""
        return ClipBatch(
            self.frames.to(device, non_blocking=True),
            self.label_maps.to(device, non_blocking=True),
            self.num_objects.to(device, non_blocking=True),
            self.slots,
            self.blind,
            None if self.points is None else self.points.to(device, non_blocking=True),
        )


@dataclass(frozen=True)
class UnrollConfig:
    """How a clip is unrolled: memory frames read at most, and how often a prediction updates the token.

    `spoiled`: share of the predicted masks that are made worse before they are memorised, drawn for every clip and
    frame. `matching`: weight of the matching loss in the clips that it is known for (0: not computed).
    """

    memory_frames: int = 2
    token_update_probability: float = 0.6
    spoiled: float = 0.0
    matching: float = 0.0
    checkpointing: bool = False


def check_precision(precision: str, config: UnrollConfig) -> None:
    """Raises ConfigError for a precision that is unknown, or that clips cannot be unrolled in."""
    if precision not in PRECISIONS:
        raise ConfigError("unknown", where="precision", expected=" | ".join(PRECISIONS), got=precision)
    if config.checkpointing and precision == "bfloat16":
        # Recomputed activations would meet the float32 weights: the cast ones are gone by then.
        raise ConfigError(
            "does not go with activation checkpointing",
            where="precision",
            expected="float32 or autocast-*",
            got=precision,
        )


def normalise(frames: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """Frames (..., H, W, 3) uint8 as (..., 3, H, W) in the network's range; memory stays channels-last."""
    mean = torch.tensor(MEAN, device=frames.device) * 255
    scale = 1 / (torch.tensor(STD, device=frames.device) * 255)
    return ((frames.float() - mean) * scale).to(dtype).movedim(-1, -3)


def one_hot(label_maps: Tensor, slots: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Masks (B, N, H, W) of the ids 1..N of label maps (B, H, W); every other label is in no mask."""
    ids = torch.arange(1, slots + 1, device=label_maps.device, dtype=label_maps.dtype)
    return (label_maps[:, None] == ids.view(1, -1, 1, 1)).to(dtype)


def draw_memory_frames(frame: int, most: int, rng: random.Random) -> list[int]:
    """The memory frames that frame `frame` reads: all earlier ones, or frame 0 and most-1 drawn others."""
    if frame <= most:
        return list(range(frame))
    return [0, *sorted(rng.sample(range(1, frame), most - 1))]


@dataclass(frozen=True)
class Unrolled:
    """Logits (B, N+1, H, W) of the frames that are learnt from, background first; their mean matching loss, if any."""

    logits: list[Tensor]
    matching: Tensor | None = None


def unroll_clip(model: JointFormer, batch: ClipBatch, config: UnrollConfig, rng: random.Random) -> Unrolled:
    """What frames blind+1..T-1 of every clip give.

    Frame 0's masks are given; every later frame reads its memory frames, and what it predicts is
    memorised in turn, with gradients through the soft masks. The batch's blind frames read the first frame and the
    one before, and leave their memories without gradient. All random choices come from `rng` and hold
    for the whole batch. Source: the training step of JointFormer (arXiv 2308.13505).
    """
    dtype = model.dtype
    clips, length = batch.frames.shape[:2]
    drawn_from = batch.label_maps[:, 0].cpu() if config.spoiled else None  # before a GPU has anything to do
    # Frame-major, so that one frame of all clips is one contiguous block.
    frames = normalise(batch.frames.transpose(0, 1), dtype)
    blind, grad = batch.blind, torch.is_grad_enabled()
    with torch.no_grad():
        features = _per_frame(model, frames[1 : blind + 1], False) if blind else []
    features += _per_frame(model, frames[blind + 1 :], config.checkpointing)
    masks = one_hot(batch.label_maps[:, 0], batch.slots, dtype)
    used = torch.arange(1, batch.slots + 1, device=batch.num_objects.device)
    selector = (used[None] <= batch.num_objects[:, None]).to(dtype)
    memory, tokens = model.memorize(frames[0], masks, model.initial_tokens(clips, batch.slots))
    memories = [memory]
    logits, matching = [], []
    points = batch.points if config.matching else None
    for t in range(1, length):
        last = t == length - 1
        memory_frames = sorted({0, t - 1}) if blind else draw_memory_frames(t, config.memory_frames, rng)
        with torch.set_grad_enabled(grad and t > blind):
            output = _run(
                config.checkpointing,
                model.segment,
                features[t - 1],
                [memories[r] for r in memory_frames],
                tokens,
                selector=selector,
                update_token=not last,
                keep_projected=t > blind and points is not None,
            )
            if t > blind:
                logits.append(output.logits)
            if output.projected is not None and points is not None:
                targets = matching_targets(points[:, t], points[:, memory_frames].flatten(1, 2))
                keys = [memories[r].keys for r in memory_frames]
                # Without the first block: it looks before anything is known, and finds likes from the start.
                matching.append(matching_loss(output.projected[1:], [k[1:] for k in keys], *targets))
            if last:
                break
            update = rng.random() < config.token_update_probability
            prob = output.prob
            if drawn_from is not None:
                prob = spoil(prob, drawn_from, batch.num_objects, config.spoiled, rng.getrandbits(32))
            masks = prob[:, 1:].to(dtype)
            memory, tokens = _run(
                config.checkpointing, model.memorize, frames[t], masks, output.tokens, update_token=update
            )
            memories.append(memory)
    return Unrolled(logits, torch.stack(matching).mean() if matching else None)


def _per_frame(model: JointFormer, frames: Tensor, checkpointing: bool) -> list[FrameFeatures]:
    """FrameFeatures of every frame of frames (T, B, 3, H, W), computed in one batch."""
    length = len(frames)
    features = _run(checkpointing, model.encode_frame, frames.flatten(0, 1))
    parts = zip(*(x.chunk(length) for x in (features.f4, features.f8, features.tokens)), strict=True)
    return [replace(features, f4=f4, f8=f8, tokens=tokens) for f4, f8, tokens in parts]


def _run(checkpointing: bool, function, *args, **kwargs):  # type: ignore[no-untyped-def]
    """function(*args, **kwargs), its activations recomputed in the backward pass where asked for."""
    if not checkpointing or not torch.is_grad_enabled():
        return function(*args, **kwargs)
    from torch.utils.checkpoint import checkpoint

    return checkpoint(function, *args, use_reentrant=False, **kwargs)


class ClipUnroller(nn.Module):
    """The network wrapped so that one forward call is one whole clip: what DistributedDataParallel needs.

    `precision`: "float32"; "bfloat16": weights are cast once per iteration and everything between the pixels
    and the logits runs in bfloat16 (fastest; the float32 weights get the gradient); "autocast-bfloat16" and
    "autocast-float16": torch.autocast (what activation checkpointing and loss scaling need).
    """

    def __init__(self, model: JointFormer, config: UnrollConfig, precision: str = "float32") -> None:
        super().__init__()
        check_precision(precision, config)
        self.model = _Unroll(model, config)
        self.precision = precision

    def forward(self, batch: ClipBatch, seed: int) -> Unrolled:
        """What frames blind+1..T-1 give; `seed` decides the memory frames and token updates of this iteration."""
        rng = random.Random(seed)
        if self.precision == "float32":
            return self.model(batch, rng)
        if self.precision.startswith("autocast-"):
            dtype = torch.bfloat16 if self.precision.endswith("bfloat16") else torch.float16
            with torch.autocast(batch.frames.device.type, dtype):
                return self.model(batch, rng)
        state = [*self.model.named_parameters(), *self.model.named_buffers()]
        cast = {name: x.to(torch.bfloat16) if x.is_floating_point() else x for name, x in state}
        return torch.func.functional_call(self.model, cast, (batch, rng))


class _Unroll(nn.Module):
    """`unroll_clip` as a module's forward: functional_call swaps the parameters of modules only."""

    def __init__(self, model: JointFormer, config: UnrollConfig) -> None:
        super().__init__()
        self.model = model
        self.config = config

    def forward(self, batch: ClipBatch, rng: random.Random) -> Unrolled:
        return unroll_clip(self.model, batch, self.config, rng)
