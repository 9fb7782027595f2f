"""AdamW or Muon with the run's parameter groups, and the learning rate as a function of progress."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

from jointformer.errors import ConfigError
from jointformer.train.muon import Muon


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW's settings; the defaults are the published runs'.

    `backbone_scale` multiplies the learning rate of parameters named `convmae.*`; `decay_all=False` leaves
    biases, norms and other one-dimensional parameters without weight decay; `clip` is the largest global
    norm of the gradient. `muon`: the matrices inside the network step by Muon. Raises ConfigError.
    """

    lr: float = 5e-5
    weight_decay: float = 0.05
    backbone_scale: float = 0.1
    decay_all: bool = True
    clip: float = 0.1
    betas: tuple[float, float] = (0.9, 0.999)
    muon: bool = False

    def __post_init__(self) -> None:
        for name in ("lr", "clip", "backbone_scale"):
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError("must be positive and finite", where=name, got=getattr(self, name))


@dataclass(frozen=True)
class MultiStep:
    """The learning rate's factor: x0.1 at every iteration of `steps`."""

    steps: tuple[int, ...]

    def factor(self, iteration: int, fraction: float) -> float:
        """The factor at an iteration."""
        return 0.1 ** sum(iteration >= step for step in self.steps)


@dataclass(frozen=True)
class WarmupCosine:
    """The learning rate's factor: a linear warm-up over `warmup` iterations, then a cosine down to `floor`."""

    warmup: int = 100
    floor: float = 0.02

    def factor(self, iteration: int, fraction: float) -> float:
        """The factor at an iteration, `fraction` of the run being over."""
        rise = min(1.0, (iteration + 1) / max(1, self.warmup))
        return rise * (self.floor + (1 - self.floor) * 0.5 * (1 + math.cos(math.pi * min(1.0, fraction))))


Schedule = MultiStep | WarmupCosine


def build_optimiser(model: nn.Module, config: OptimiserConfig) -> torch.optim.AdamW:
    """AdamW or Muon over the model's trainable parameters; every group carries its `scale` of the learning rate."""
    groups: dict[tuple[bool, bool, int], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            decays = config.decay_all or (parameter.ndim > 1 and not name.endswith("cls_token"))
            matrices = _matrices(name, parameter) if config.muon else 0
            groups.setdefault((name.startswith("convmae."), decays, matrices), []).append(parameter)
    described = [
        {
            "params": parameters,
            "weight_decay": config.weight_decay if decays else 0.0,
            "scale": config.backbone_scale if backbone else 1.0,
            **({"orthogonal": matrices} if config.muon else {}),
        }
        for (backbone, decays, matrices), parameters in groups.items()
    ]
    optimiser = Muon if config.muon else torch.optim.AdamW
    return optimiser(described, lr=config.lr, betas=config.betas, fused=True)


def _matrices(name: str, parameter: nn.Parameter) -> int:
    """How many matrices a parameter holds for Muon: none for the first and last layers, norms, depthwise kernels."""
    inner = parameter.ndim in (2, 4) and parameter[0].numel() > 32 and len(parameter) > 1
    if not inner or "patch_embed1" in name or "decoder.pred" in name:
        return 0
    return 3 if name.endswith("qkv.weight") else 1


def set_learning_rate(optimiser: torch.optim.Optimizer, lr: float) -> None:
    """Give every group `lr` times its scale."""
    for group in optimiser.param_groups:
        group["lr"] = lr * group["scale"]


class MovingAverage:
    """An exponential moving average of parameters: what a short run exports."""

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self.live = [p for p in parameters if p.requires_grad]
        self.average = [p.detach().clone() for p in self.live]
        self.decay = decay

    @torch.no_grad()
    def update(self, iteration: int) -> None:
        """Move towards the live weights; the average is short while the run is young."""
        decay = min(self.decay, (1 + iteration) / (10 + iteration))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.live], 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged weights (call again to undo)."""
        for live, average in zip(self.live, self.average, strict=True):
            kept = live.detach().clone()
            live.copy_(average)
            average.copy_(kept)
