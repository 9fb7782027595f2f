"""A run's settings besides data and network, and who plans its iterations."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Protocol

from jointformer.errors import ConfigError
from jointformer.train.defaults import KEEP, LOG_EVERY, SAVE_EVERY
from jointformer.train.optimiser import OptimiserConfig, Schedule, WarmupCosine
from jointformer.train.plan import IterationPlan
from jointformer.train.unroll import UnrollConfig, check_precision


class Planner(Protocol):
    """Decides every iteration's work from how far the run has come."""

    @property
    def fewest_frames(self) -> int:
        """Frames of the shortest clips, blind ones left out."""
        ...

    def plan(self, iteration: int, fraction: float, first_clip: int) -> IterationPlan: ...


@dataclass(frozen=True)
class RunConfig:
    """A run's settings besides data and network. Exactly one of `iterations` and `minutes` is the budget.

    `average` is the decay of the weights' moving average that is exported (0: none); `mean_over_frames`
    divides the loss by the number of predicted frames (the published runs sum); `keep` is the number of
    checkpoints kept. `void`: label 255 is ignored in the loss. Raises ConfigError.
    """

    iterations: int | None = None
    minutes: float | None = None
    seed: int = 0
    precision: str = "float32"
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    schedule: Schedule = field(default_factory=WarmupCosine)
    unroll: UnrollConfig = field(default_factory=UnrollConfig)
    void: bool = False
    mean_over_frames: bool = False
    average: float = 0.0
    log_every: int = LOG_EVERY
    save_every: int = SAVE_EVERY
    keep: int = KEEP
    ahead: int = 2
    workers: int = 1
    refuse_broken: bool = False

    def __post_init__(self) -> None:
        if (self.iterations is None) == (self.minutes is None):
            raise ConfigError("give exactly one budget", where="iterations, minutes")
        for name in ("iterations", "minutes", "log_every", "save_every", "keep", "ahead", "workers"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ConfigError("must be positive and finite", where=name, got=value)
        check_precision(self.precision, self.unroll)
