"""The network's shape as data: the published `base` and two smaller presets."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from jointformer.errors import ConfigError

#: Of ImageNet's pictures, RGB from 0 to 1: frames are normalised by them.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ModelConfig:
    """Widths, depths and heads of one network; everything else follows from them.

    widths: channels at strides 4, 8 and 16. depths: conv blocks at stride 4, at stride 8, joint blocks at stride 16.
    The decoder works at widths[1] at stride 16 and at widths[0] at strides 8 and 4; the fusion feature's three parts
    are a third of the token width each.

    Raises ConfigError naming the field when a value cannot make a network.
    """

    name: str = "base"
    widths: tuple[int, int, int] = (256, 384, 768)
    depths: tuple[int, int, int] = (2, 2, 11)
    heads: int = 12
    update_depth: int = 2
    enhance_depth: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))
        object.__setattr__(self, "depths", tuple(self.depths))
        for field, length in (("widths", 3), ("depths", 3)):
            value = getattr(self, field)
            if len(value) != length or not all(isinstance(v, int) and v >= 1 for v in value):
                raise ConfigError(f"{field} of the model", expected="three positive integers", got=value)
        for field in ("heads", "update_depth", "enhance_depth"):
            value = getattr(self, field)
            if not isinstance(value, int) or value < 1:
                raise ConfigError(f"{field} of the model", expected="a positive integer", got=value)
        token_width = self.widths[2]
        if token_width % self.heads or token_width % 12:
            raise ConfigError(
                "widths[2] of the model", expected=f"a multiple of 12 and of heads={self.heads}", got=token_width
            )

    @property
    def token_width(self) -> int:
        """Channels of one token (C)."""
        return self.widths[2]

    @property
    def head_width(self) -> int:
        """Channels of one attention head (D)."""
        return self.widths[2] // self.heads

    @property
    def layers(self) -> int:
        """Number of joint blocks, each with keys and values in the memory bank."""
        return self.depths[2]

    def to_json(self) -> str:
        """Return the config as one line of JSON, as it travels in safetensors metadata."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ModelConfig:
        """Return the config that `to_json` wrote; ConfigError for anything else."""
        try:
            data: dict[str, Any] = json.loads(text)
            return cls(**data)
        except (ValueError, TypeError, RecursionError) as error:
            if isinstance(error, ConfigError):
                raise
            raise ConfigError("model config", expected="the JSON of a ModelConfig", got=text[:80]) from None


PRESETS: dict[str, ModelConfig] = {
    "base": ModelConfig(),
    "small": ModelConfig("small", (128, 192, 384), (2, 2, 11), heads=6),
    "tiny": ModelConfig("tiny", (64, 96, 192), (2, 2, 8), heads=3),
}
