"""What every kind of run shares: where results go, what it starts from, the machine, what a person sees."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from jointformer.errors import ConfigError
from jointformer.model.device import choose_precision, cpu_has_bfloat16
from jointformer.track.config import TrackerConfig
from jointformer.train.config import RunConfig
from jointformer.train.defaults import KEEP, LOG_EVERY, SAVE_EVERY, VALIDATE_EVERY, VALIDATE_SIZE


@dataclass(frozen=True)
class Settings:
    """What every kind of run shares: where results go, what it starts from, the machine, what a person sees.

    Raises ConfigError.
    """

    out: Path
    model: str = "base"
    init: str | None = None
    checkpoint: Path | None = None
    resume: bool = False
    seed: int = 0
    precision: str = "auto"
    workers: int | None = None
    checkpointing: bool = False
    refuse_broken: bool = False
    log_every: int = LOG_EVERY
    save_every: int = SAVE_EVERY
    keep: int = KEEP
    tensorboard: bool = False
    validate_on: Path | None = None
    validate_every: int = VALIDATE_EVERY
    validate_size: int = VALIDATE_SIZE

    def __post_init__(self) -> None:
        for name in ("workers", "log_every", "save_every", "keep", "validate_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError("must be positive", where=name, got=value)
        if not 0 <= self.seed < 1 << 63:
            raise ConfigError("out of range", where="seed", expected="0 to 2^63 - 1", got=self.seed)
        self.validation  # noqa: B018 - a bad size is said now, not when the first validation is due

    @property
    def validation(self) -> TrackerConfig:
        """How videos are tracked while a run goes on. Raises ConfigError for a size that cannot be."""
        return TrackerConfig(size=self.validate_size)

    def as_given(self) -> dict[str, Any]:
        """All of them as plain data; paths as they were written."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in asdict(self).items()}

    def precision_on(self, device: torch.device) -> str:
        """The fastest precision that the device computes in hardware, unless one was asked for."""
        if self.precision != "auto":
            return self.precision
        if device.type == "cuda":
            return f"autocast-{choose_precision(device)}"
        if device.type == "cpu" and cpu_has_bfloat16():
            return "autocast-bfloat16" if self.checkpointing else "bfloat16"
        return "float32"

    def workers_on(self, device: torch.device) -> int:
        """Threads that make clips: one beside a CPU that computes, more beside a GPU."""
        return self.workers or (1 if device.type == "cpu" else 12)

    def apply(self, config: RunConfig) -> RunConfig:
        """A run's configuration with what these settings say about reporting and saving."""
        return dataclasses.replace(
            config, log_every=self.log_every, save_every=self.save_every, keep=self.keep,
            refuse_broken=self.refuse_broken,
        )  # fmt: skip
