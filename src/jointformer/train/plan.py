"""What each iteration trains on, decided before its data is made: size, frames, objects, clips, loss."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from jointformer.errors import ConfigError


@dataclass(frozen=True)
class StepPlan:
    """One iteration's work, the same on every process.

    `first_clip` is the index of the batch's first clip in the run's endless sequence of clips; `fraction`
    is how far the run had come (0..1) when the plan was made, and sets the learning rate as well.
    """

    iteration: int
    fraction: float
    first_clip: int
    batch: int
    frames: int
    slots: int
    size: int
    difficulty: float = 1.0
    max_skip: int = 1
    hardest: float | None = None
    fine_tune: bool = False

    @property
    def next_clip(self) -> int:
        """The index of the first clip after this batch."""
        return self.first_clip + self.batch

    def share(self, rank: int, processes: int) -> range:
        """The clip indices of one process; together the processes make the same batch however many they are."""
        if self.batch % processes:
            raise ConfigError(
                "cannot be shared equally", where="batch", expected=f"a multiple of {processes}", got=self.batch
            )
        each = self.batch // processes
        first = self.first_clip + rank * each
        return range(first, first + each)


@dataclass(frozen=True)
class Phase:
    """A stretch of the stills curriculum, until `until` (fraction of the whole run).

    Every iteration draws one of `sizes`, `frames` and `objects`; the number of clips then follows from
    `load`, the pixels x frames x objects (in units of one 128x128 frame with one object) that one iteration
    can hold, so that iterations of every shape cost about the same. `difficulty` runs linearly through the
    phase. `hardest` is the share of pixels in the cross entropy (None: all).
    """

    until: float
    sizes: tuple[int, ...]
    frames: tuple[int, ...]
    objects: tuple[int, ...]
    load: int
    difficulty: tuple[float, float]
    hardest: float | None = None

    def __post_init__(self) -> None:
        for name in ("sizes", "frames", "objects"):
            if not getattr(self, name):
                raise ConfigError("empty", where=name)
        if any(size % 16 for size in self.sizes):
            raise ConfigError("not multiples of 16", where="sizes", got=self.sizes)
        if min(self.frames) < 2:
            raise ConfigError("clips need at least 2 frames", where="frames", got=self.frames)


@dataclass(frozen=True)
class Curriculum:
    """The phases of a stills run; `multiple`: the number of clips of an iteration is a multiple of it."""

    phases: tuple[Phase, ...]
    multiple: int = 2
    seed: int = 0
    _starts: tuple[float, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(ends) or ends[-1] < 1:
            raise ConfigError("must rise and reach 1", where="until", got=ends)
        object.__setattr__(self, "_starts", (0.0, *ends[:-1]))

    def plan(self, iteration: int, fraction: float, first_clip: int) -> StepPlan:
        """The plan of an iteration; depends on its arguments and the seed only."""
        index = next((i for i, p in enumerate(self.phases) if fraction < p.until), len(self.phases) - 1)
        phase, start = self.phases[index], self._starts[index]
        rng = random.Random(f"{self.seed}:{iteration}")
        size, frames, objects = (rng.choice(x) for x in (phase.sizes, phase.frames, phase.objects))
        clips = phase.load / ((size / 128) ** 2 * frames * objects)
        batch = max(1, round(clips / self.multiple)) * self.multiple
        along = min(1.0, (fraction - start) / max(phase.until - start, 1e-9))
        low, high = phase.difficulty
        return StepPlan(
            iteration, fraction, first_clip, batch, frames, objects, size, low + along * (high - low),
            hardest=phase.hardest,
        )  # fmt: skip


#: The embedded default's recipe on a CPU: small pictures first, sizes mixed from early on, and clips long
#: enough that the network lives on its own masks.
STILLS_CPU = Curriculum(
    (
        Phase(0.06, (96, 128), (3,), (1,), 24, (0.0, 0.15)),
        Phase(0.25, (96, 128, 160), (3, 4), (1, 1, 2), 32, (0.15, 0.5)),
        Phase(0.60, (96, 128, 160, 192, 224), (3, 4, 5), (1, 2, 3), 40, (0.5, 0.9)),
        Phase(1.0, (128, 160, 192, 256, 320), (4, 6, 8), (1, 2, 3), 48, (0.8, 1.0), 0.4),
    )
)

#: The same on a GPU.
STILLS_GPU = Curriculum(
    (
        Phase(0.05, (128,), (3,), (1, 2), 192, (0.0, 0.2)),
        Phase(0.30, (128, 160, 192), (3, 4), (1, 2, 3), 384, (0.2, 0.7)),
        Phase(0.70, (160, 192, 256), (3, 4, 5), (1, 2, 3), 512, (0.6, 1.0)),
        Phase(1.0, (256, 320, 384), (4, 6), (1, 2, 3), 768, (0.8, 1.0), 0.4),
    ),
    multiple=8,
)
