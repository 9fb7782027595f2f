"""What each iteration trains on, decided before its data is made: size, frames, objects, clips, loss."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from jointformer.errors import ConfigError

#: What a frame without gradient costs, compared with one that is learnt from.
BLIND_COST = 0.35
#: With so many blind frames a clip moves half as far from one frame to the next: what it follows stays in view, and
#: long stretches of slow motion are what videos mostly are.
CALM_FRAMES = 20
#: Shapes and lengths are drawn of which the smallest batch costs at most this many ordinary iterations.
DEAREST = 2.5


@dataclass(frozen=True)
class IterationPlan:
    """One iteration's work, the same on every process.

    `first_clip` is the index of the batch's first clip in the run's endless sequence of clips; `fraction`
    is how far the run had come (0..1) when the plan was made, and sets the learning rate as well. Frames are
    `size` x `size` pixels, or `size` x `width` where a width is given; `difficulty` is the stills' motion,
    `max_skip` the videos' frame distance, `hardest` the share of pixels in the cross entropy (None: all). `blind` of
    the `frames`, the second and following, are unrolled without gradient or loss.
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
    width: int | None = None
    blind: int = 0

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the frames in pixels."""
        return self.size, self.width or self.size

    @property
    def next_clip(self) -> int:
        """The index of the first clip after this batch."""
        return self.first_clip + self.batch

    def share(self, rank: int, processes: int) -> range:
        """The clip indices of one process; together the processes make the same batch however many they are.

        Raises ConfigError for a batch that cannot be shared equally.
        """
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

    Every iteration draws one of `objects` and of `blind`, then one of `shapes` (height, width) and of `frames` that it
    can hold with these: clips with much in them are smaller ones, not rarer. The number of clips then follows from
    `load`, the pixels x frames x objects (in units of one 128x128 frame with one object) that one iteration can hold,
    so that iterations of every shape cost about the same. `difficulty` runs linearly through the phase; clips with
    blind frames are calmer. `hardest` is the share of pixels in the cross entropy (None: all). `blind` frames come
    between the first and those that are learnt from (`frames` does not count them), so that the network starts from
    masks as they are late in a video. Raises ConfigError.
    """

    until: float
    shapes: tuple[tuple[int, int], ...]
    frames: tuple[int, ...]
    objects: tuple[int, ...]
    load: int
    difficulty: tuple[float, float]
    hardest: float | None = None
    blind: tuple[int, ...] = (0,)

    def __post_init__(self) -> None:
        for name in ("shapes", "frames", "objects", "blind"):
            if not getattr(self, name):
                raise ConfigError("empty", where=name)
        if any(side % 16 or side < 32 for shape in self.shapes for side in shape):
            raise ConfigError("not multiples of 16", where="shapes", got=self.shapes)
        if min(self.frames) < 2:
            raise ConfigError("clips need at least 2 frames", where="frames", got=self.frames)


@dataclass(frozen=True)
class Curriculum:
    """The phases of a stills run; `multiple`: the number of clips of an iteration is a multiple of it.

    Raises ConfigError for phases that do not follow one another to the run's end.
    """

    phases: tuple[Phase, ...]
    multiple: int = 2
    seed: int = 0
    _starts: tuple[float, ...] = field(init=False, repr=False, default=())

    def __post_init__(self) -> None:
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(ends) or ends[-1] < 1:
            raise ConfigError("must rise and reach 1", where="until", got=ends)
        object.__setattr__(self, "_starts", (0.0, *ends[:-1]))

    @property
    def fewest_frames(self) -> int:
        """Frames of the shortest clips, blind ones left out."""
        return min(frames for phase in self.phases for frames in phase.frames)

    def plan(self, iteration: int, fraction: float, first_clip: int) -> IterationPlan:
        """The plan of an iteration; depends on its arguments and the seed only."""
        index = next((i for i, p in enumerate(self.phases) if fraction < p.until), len(self.phases) - 1)
        phase, start = self.phases[index], self._starts[index]
        rng = random.Random(f"{self.seed}:{iteration}")
        for _ in range(20):  # where many processes share a small load, some objects or blind frames are too many
            objects, blind = rng.choice(phase.objects), rng.choice(phase.blind)
            kinds = [
                (
                    phase.load / (height * width / 128**2 * (frames + BLIND_COST * blind) * objects),
                    height,
                    width,
                    frames,
                )
                for height, width in phase.shapes
                for frames in phase.frames
            ]
            held = [kind for kind in kinds if self.multiple <= DEAREST * kind[0]]
            if held:
                break
        clips, height, width, frames = rng.choice(held or [max(kinds)])
        batch = max(1, round(clips / self.multiple)) * self.multiple
        along = min(1.0, (fraction - start) / max(phase.until - start, 1e-9))
        low, high = phase.difficulty
        difficulty = (low + along * (high - low)) / (1 + blind / CALM_FRAMES)
        return IterationPlan(
            iteration, fraction, first_clip, batch, frames + blind, objects, height, difficulty,
            hardest=phase.hardest, width=width, blind=blind,
        )  # fmt: skip


#: The embedded default's recipe on a CPU: small pictures first, shapes mixed from early on (positions and the
#: number of keys change with them), and clips long enough that the network lives on its own masks.
STILLS_CPU = Curriculum(
    (
        Phase(0.03, ((96, 96), (128, 128)), (3,), (1,), 24, (0.0, 0.15)),
        Phase(0.15, ((96, 96), (128, 128), (112, 176), (160, 160)), (3, 4), (1, 1, 2), 28, (0.15, 0.5)),
        Phase(
            0.5,
            ((96, 96), (128, 128), (160, 160), (128, 208), (144, 256)),
            (3, 4, 5), (1, 1, 1, 2), 36, (0.5, 0.7), blind=(0, 0, 4),
        ),
        Phase(
            0.8,
            ((128, 128), (160, 160), (144, 256), (192, 336)),
            (3, 4), (1, 1, 1, 2), 42, (0.7, 0.8), blind=(0, 4, 8, 16),
        ),
        Phase(
            1.0,
            ((128, 128), (160, 160), (192, 336), (240, 432)),
            (3, 4), (1, 1, 2, 2, 3), 46, (0.8, 0.85), blind=(4, 8, 16, 24),
        ),
    )
)  # fmt: skip

#: The same on a GPU.
STILLS_GPU = Curriculum(
    (
        Phase(0.05, ((128, 128),), (3,), (1, 2), 192, (0.0, 0.2)),
        Phase(0.30, ((128, 128), (160, 160), (144, 240)), (3, 4), (1, 2, 3), 384, (0.2, 0.7)),
        Phase(0.70, ((160, 160), (256, 256), (192, 336)), (3, 4, 5), (1, 2, 3), 512, (0.6, 1.0), blind=(0, 0, 4)),
        Phase(
            1.0,
            ((256, 256), (384, 384), (240, 432), (384, 672)),
            (4, 6),
            (1, 2, 3),
            768,
            (0.8, 1.0),
            0.4,
            (4, 8, 16, 24),
        ),
    ),
    multiple=8,
)

#: Larger pictures for weights that are good already (`--fine-tune`).
STILLS_CPU_FINE = Curriculum(
    (
        Phase(
            1.0,
            ((192, 336), (240, 432), (320, 576), (384, 672), (352, 352)),
            (3,), (1, 1, 2, 2, 3), 100, (0.85, 0.9), blind=(0, 4, 8, 16),
        ),
    )
)  # fmt: skip

#: The same on a GPU, where the last phase has such pictures.
STILLS_GPU_FINE = Curriculum(STILLS_GPU.phases[-1:], multiple=8)
