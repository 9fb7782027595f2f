"""The published training stages as rows of a table, and the plan that a row makes for every iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

from jointformer.errors import ConfigError
from jointformer.train.losses import hardest_share
from jointformer.train.plan import IterationPlan

#: Frame distances along a run: (from this share of the iterations, at most this many frames apart).
SKIPS = ((0.0, 5), (0.1, 10), (0.3, 15), (0.9, 5))
SKIPS_BL30K = ((0.0, 5), (0.1, 10), (0.3, 15), (0.8, 5))
FINE_TUNE_SKIP = 5
#: Label maps of clips have 8 bits, and 255 is void.
MOST_OBJECTS = 254


@dataclass(frozen=True)
class Stage:
    """One stage: data sets with their repetitions, and the run's lengths (in iterations) and sizes.

    `batch` is over all processes. `steps`: where the learning rate falls to a tenth. `warm`: the cross entropy
    keeps every pixel before its first number and the hardest 15 % after its second. The fine-tune phase
    follows the iterations, with short frame distances and without affine augmentation. Raises ConfigError.
    """

    number: int
    title: str
    data: tuple[tuple[str, int], ...]
    batch: int
    iterations: int
    fine_tune: int
    steps: tuple[int, ...]
    frames: int
    memory_frames: int
    warm: tuple[int, int]
    objects: int = 3
    size: int = 384
    lr: float = 5e-5
    skips: tuple[tuple[float, int], ...] = SKIPS
    nonempty_start: bool = False
    void: bool = False

    def __post_init__(self) -> None:
        me = self.title if self.number < 0 else f"stage {self.number}"
        for name in ("batch", "iterations", "memory_frames", "objects"):
            if getattr(self, name) < 1:
                raise ConfigError("must be positive", where=f"{me}: {name}", got=getattr(self, name))
        if self.objects > MOST_OBJECTS:
            raise ConfigError("too many", where=f"{me}: objects", expected=f"at most {MOST_OBJECTS}", got=self.objects)
        if self.frames < 2:
            raise ConfigError("clips need two frames", where=f"{me}: frames", got=self.frames)
        if self.size % 16 or self.size < 32:
            raise ConfigError("not a multiple of 16", where=f"{me}: size", got=self.size)
        if self.fine_tune < 0:
            raise ConfigError("negative", where=f"{me}: fine_tune", got=self.fine_tune)
        if self.warm[1] <= self.warm[0]:
            raise ConfigError("ends before it starts", where=f"{me}: warm", got=self.warm)

    @property
    def total(self) -> int:
        """Iterations including the fine-tune phase."""
        return self.iterations + self.fine_tune

    @property
    def fewest_frames(self) -> int:
        """Frames of every clip."""
        return self.frames

    def max_skip(self, iteration: int) -> int:
        """How far apart frames of a clip may lie (before the data set's own divisor)."""
        if iteration >= self.iterations:
            return FINE_TUNE_SKIP
        share = iteration / self.iterations
        return next(skip for start, skip in reversed(self.skips) if share >= start)

    def plan(self, iteration: int, fraction: float, first_clip: int) -> IterationPlan:
        """The plan of an iteration."""
        return IterationPlan(
            iteration, fraction, first_clip, self.batch, self.frames, self.objects, self.size,
            max_skip=self.max_skip(iteration),
            hardest=hardest_share(iteration, *self.warm),
            fine_tune=iteration >= self.iterations,
        )  # fmt: skip


_WARM = (20_000, 70_000)
_DAVIS_YOUTUBE = (("davis", 5), ("youtube", 1))
_STATIC = (("fss", 1), ("duts_tr", 1), ("duts_te", 1), ("ecssd", 1), ("big_small", 5), ("hrsod_small", 5))
_MIXED = (("davis", 2), ("youtube", 1), ("mose", 1), ("burst", 1), ("ovis", 1))

STAGES: dict[int, Stage] = {
    stage.number: stage
    for stage in (
        Stage(0, "static images", _STATIC, 24, 150_000, 0, (100_000,), 3, 2, _WARM, objects=1),
        Stage(1, "BL30K", (("bl30k", 1),), 12, 300_000, 0, (200_000,), 4, 2, _WARM, skips=SKIPS_BL30K),
        Stage(2, "DAVIS 2017 + YouTube-VOS", _DAVIS_YOUTUBE, 12, 150_000, 10_000, (100_000,), 4, 2, _WARM),
        # The published table calls stage 3 "shorter" and gives no numbers; these are a third of stage 2's.
        Stage(
            3, "DAVIS 2017 + YouTube-VOS, shorter", _DAVIS_YOUTUBE, 12, 50_000, 5_000, (35_000,), 4, 2, (7_000, 23_000)
        ),
        Stage(4, "VOST", (("vost", 1),), 12, 30_000, 10_000, (20_000,), 4, 2, (4_000, 13_000), void=True),
        Stage(5, "MOSE", (("mose", 1),), 12, 150_000, 10_000, (100_000,), 4, 2, _WARM),
        Stage(6, "LVOS", (("lvos", 1),), 12, 5_000, 5_000, (3_000,), 4, 2, (1_000, 2_500)),
        Stage(7, "VISOR", (("visor", 1),), 12, 150_000, 10_000, (100_000,), 4, 2, _WARM),
        Stage(8, "BURST", (("burst", 1),), 8, 150_000, 10_000, (120_000,), 8, 3, _WARM),
        Stage(
            9, "DAVIS, YouTube-VOS, MOSE, BURST and OVIS together", _MIXED, 8, 200_000, 10_000, (160_000, 180_000),
            8, 3, (30_000, 100_000), nonempty_start=True,
        ),
    )
}  # fmt: skip


def parse_stages(text: str) -> list[Stage]:
    """The stages of a run such as "02": stage 0, then stage 2 from its weights. Raises ConfigError.

    With a comma they are numbers, for stages added to the published ten: "0,12", or "12," for that one alone.
    """
    digits = text.removeprefix("s")
    numbers = digits.removesuffix(",").split(",") if "," in digits else list(digits)
    if not numbers or not all(number.isdecimal() and int(number) in STAGES for number in numbers):
        raise ConfigError("not a list of stages", where="stages", expected="digits such as 02", got=repr(text)[:80])
    return [STAGES[int(number)] for number in numbers]


def own_stage(*, iterations: int, batch: int, frames: int, objects: int, size: int, lr: float, max_skip: int) -> Stage:
    """A stage for one's own videos: starting from trained weights, all pixels count for a fifth of the run.

    From three fifths of it on the hardest 15 % do. It has no steps: the learning rate of such a run falls by a cosine.
    """
    return Stage(
        -1, "own videos", (("own", 1),), batch, iterations, 0, (), frames, 2,
        (max(1, round(0.2 * iterations)), max(2, round(0.6 * iterations))), objects=objects, size=size, lr=lr,
        skips=((0.0, max(1, max_skip // 2)), (0.3, max_skip)),
    )  # fmt: skip


def with_total(stage: Stage, total: int) -> Stage:
    """The stage in `total` iterations, fine-tune phase included: every length in proportion."""
    share = total / stage.total
    fine_tune = total * stage.fine_tune // stage.total
    start = round(stage.warm[0] * share)
    return replace(
        stage, iterations=total - fine_tune, fine_tune=fine_tune,
        steps=tuple(max(1, round(step * share)) for step in stage.steps),
        warm=(start, max(start + 1, round(stage.warm[1] * share))),
    )  # fmt: skip


def overridden(stage: Stage, changes: dict[str, object]) -> Stage:
    """The stage with some fields replaced; validated again."""
    return replace(stage, **changes)  # type: ignore[arg-type]
