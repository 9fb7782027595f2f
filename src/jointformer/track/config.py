"""The tracker's settings, validated."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from jointformer.errors import ConfigError, require
from jointformer.model.attention import AttentionConfig


@dataclass(frozen=True)
class TrackerConfig:
    """How a video is tracked. Defaults are eval.py's.

    max_memory_frames: memory frames kept per object, the first one included, the temporary (last) one not counted;
    0 is unbounded. memory_every: a frame becomes memory at least that often. include_last: every other frame becomes
    the temporary memory. topk, topk_range, topk_blocks, token_topk: AttentionConfig's; topk None reads densely.
    size: the shorter side the network sees, in pixels; negative keeps the frame's own. objects_per_pass: objects that
    go through the network together (None: one on a CPU, else all), which bounds the working memory. compile: the
    network goes through PyTorch's compiler, whose first steps take minutes (model/compiled.py). memory_limit: bytes
    that this process should not exceed: near it, on a CPU, the tracker gives freed memory back to the system, which
    costs time (track/budget.py finds the settings that fit).

    NumPy's integers are taken as Python's. Raises ConfigError naming the field.
    """

    max_memory_frames: int = 5
    memory_every: int = 5
    include_last: bool = True
    topk: int | None = 30
    topk_range: str = "all_frames"
    topk_blocks: str = "all_blocks"
    token_topk: bool = False
    size: int = 480
    objects_per_pass: int | None = None
    compile: bool = False
    memory_limit: int | None = None

    def __post_init__(self) -> None:
        take_numpy_numbers(self)
        self._check_int("max_memory_frames", 0, "0 (unbounded) or more")
        self._check_int("memory_every", 1, "1 or more")
        check_size(self.size)
        if self.objects_per_pass is not None:
            self._check_int("objects_per_pass", 1, "1 or more, or None for all")
        if self.memory_limit is not None:
            self._check_int("memory_limit", 1, "bytes, or None")
        for name in ("include_last", "compile"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(name, expected="True or False", got=repr(getattr(self, name)))
        _ = self.attention  # validates its own fields

    def _check_int(self, field: str, least: int, expected: str) -> None:
        value = getattr(self, field)
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ConfigError(field, expected=expected, got=repr(value))

    @property
    def attention(self) -> AttentionConfig:
        """The network's part of these settings."""
        return AttentionConfig(self.topk, self.topk_range, self.topk_blocks, self.token_topk)

    @property
    def keeps_temporary(self) -> bool:
        """Whether a temporary memory frame can exist: the last frame, or with one memory frame the newest."""
        return self.include_last or self.max_memory_frames == 1


def require_config(config: TrackerConfig | None) -> TrackerConfig:
    """Return the settings, the defaults for None. Raises ConfigError for what is neither, such as a dict of them."""
    if config is None:
        return TrackerConfig()
    require("config", config, TrackerConfig, "a TrackerConfig, such as TrackerConfig(size=240)")
    return config


def check_size(size: object) -> None:
    """Raises ConfigError for what is no shorter side of frames as the network sees them."""
    if isinstance(size, bool) or not isinstance(size, int) or 0 <= size < 16 or size > 8192:
        raise ConfigError("size", expected="16 to 8192 pixels, or -1 for the frame's own size", got=repr(size))


def take_numpy_numbers(settings: Any) -> None:
    """Put Python's numbers in the place of NumPy's, in settings that are being made."""
    for field in fields(settings):
        if isinstance(value := getattr(settings, field.name), np.integer | np.bool_):
            object.__setattr__(settings, field.name, value.item())
