"""The settings of clips made from stills."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from jointformer.data.clips.motion import CELLS
from jointformer.errors import ConfigError


@dataclass(frozen=True)
class ClipConfig:
    """What clips are like.

    `size`: height in pixels (and width, where `width` is None), multiples of 16; `frames`: T;
    `max_objects`: most targets of a clip; `full_share`: share of clips that have exactly so many;
    `difficulty` in [0,1]: 0 = nearly static, 1 = like videos of 24 frames per second sampled with skips 1–5;
    `smallest`: least share of the first frame that each target covers; `distractors`: mean number of
    pasted things that are not targets (at difficulty 1); `own_share` and `lifted_share`: shares of clips
    with targets that are regions of the background still, moving with it, and apart from it;
    `blob_share`: share of pasted things that are random shapes; `twin_share`: share of clips with a
    distractor that looks like a pasted target; `leave_share`: share of pasted things that leave
    and come back; `cross_share`: share of clips with several pasted targets in which two start apart, pass
    each other and come back; `travel_share`: share of clips whose camera follows the targets far beyond what the
    first frame shows; `meet_share`: share of these in which it comes upon things that are not targets, some like
    one, and upon other scenery; `grow_share`: share of targets that come much nearer or go far away (all but
    `meet_share` at difficulty 1; what leaves, passes, travels and grows does so in clips of 5 frames and more).
    Raises ConfigError.
    """

    size: int = 128
    frames: int = 3
    max_objects: int = 3
    difficulty: float = 1.0
    width: int | None = None
    full_share: float = 0.0
    smallest: float = 0.005
    distractors: float = 0.8
    own_share: float = 0.15
    lifted_share: float = 0.2
    blob_share: float = 0.08
    twin_share: float = 0.15
    leave_share: float = 0.08
    cross_share: float = 0.0
    travel_share: float = 0.0
    grow_share: float = 0.0
    meet_share: float = 0.0

    def __post_init__(self) -> None:
        for name, side in (("size", self.size), ("width", self.size if self.width is None else self.width)):
            if side < 32 or side % CELLS:
                raise ConfigError(f"ClipConfig.{name}", expected=f"a multiple of {CELLS}, at least 32", got=side)
        if self.frames < 1:
            raise ConfigError("ClipConfig.frames", expected="at least 1", got=self.frames)
        if not 1 <= self.max_objects <= 8:
            raise ConfigError("ClipConfig.max_objects", expected="1..8", got=self.max_objects)
        for name in (
            "difficulty",
            "full_share",
            "own_share",
            "lifted_share",
            "blob_share",
            "twin_share",
            "leave_share",
            "cross_share",
            "travel_share",
            "grow_share",
            "meet_share",
        ):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ConfigError(f"ClipConfig.{name}", expected="0..1", got=value)
        if self.own_share + self.lifted_share > 1.0:
            got = self.own_share + self.lifted_share
            raise ConfigError("ClipConfig.own_share + lifted_share", expected="at most 1", got=got)
        if not 0.0 <= self.smallest <= 0.05:
            raise ConfigError("ClipConfig.smallest", expected="0..0.05", got=self.smallest)
        if not 0.0 <= self.distractors <= 4.0:
            raise ConfigError("ClipConfig.distractors", expected="0..4", got=self.distractors)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self.size, self.width or self.size

    @property
    def side(self) -> float:
        """The side of a square of the same area: the unit of sizes and motion."""
        height, width = self.shape
        return float(np.sqrt(height * width))
