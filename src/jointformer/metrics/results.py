"""What scoring one video gives: values per object and frame, and what was odd about it."""

from __future__ import annotations

from dataclasses import dataclass, field

#: Values by measure name ("J", "F", "F_adaptive"), one per scored frame.
FrameValues = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class ObjectPlan:
    """Which frames of one object count.

    `frames` are names in order. `length` is the number of values the object's mean is taken over: LVOS
    counts entries it never fills as zeros, MOSE V2 an object without any as one. `group` is `seen` or
    `unseen` where a benchmark tells them apart.
    """

    object_id: int
    frames: tuple[str, ...]
    length: int = -1
    group: str = ""

    @property
    def unfilled(self) -> int:
        """How many zeros follow the scored frames' values."""
        return max(self.length - len(self.frames), 0) if self.length >= 0 else 0


@dataclass(frozen=True)
class ObjectScores:
    """One object's values over its scored frames (fractions in [0, 1]).

    `visible` says for each frame whether the truth has the object there. Values beyond `frames` are
    the zeros of LVOS and MOSE V2.
    """

    video: str
    object_id: int
    frames: tuple[str, ...]
    values: FrameValues
    visible: tuple[bool, ...]
    group: str = ""
    phantom: bool = False

    @property
    def name(self) -> str:
        """The toolkits' name of the object: video and id joined by an underscore."""
        return f"{self.video}_{self.object_id}"

    def __len__(self) -> int:
        return max((len(values) for values in self.values.values()), default=0)


@dataclass(frozen=True)
class VideoScores:
    """All objects of one video, with the frames in which something was amiss."""

    video: str
    objects: list[ObjectScores] = field(default_factory=list)
    #: Frames whose prediction holds labels that are no object here, with those labels.
    extra_labels: dict[str, tuple[int, ...]] = field(default_factory=dict)
    #: Truth labels that these rules never score, with the frame that shows them first.
    unscored_labels: dict[int, str] = field(default_factory=dict)
