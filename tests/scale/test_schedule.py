"""Who gets which video, when it is tried again, and what is said in the end; with workers that only pretend."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from jointformer.errors import ConfigError, DataError, NoMemoryError, OutputError
from jointformer.evaluation.scale import schedule
from jointformer.evaluation.scale.label import Job
from jointformer.evaluation.scale.schedule import Message, Outcome, hand_out, label_here
from jointformer.system.stop import Interrupted


@dataclass(frozen=True)
class Video:
    name: str
    tracked_frames: int = 4
    fingerprint: dict[str, str] = field(default_factory=dict)
    inputs: tuple = ()


VIDEOS = [Video("short", 2), Video("long", 9), Video("middle", 5)]
DISK = OutputError("no space left")
BROKEN = DataError("00004.jpg is damaged")


@dataclass
class Script:
    """What becomes of each video, try by try: an answer's kind and value; "done" where nothing is left to say."""

    answers: dict[str, list[tuple[str, Any]]] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)
    frames: int = 0

    def take(self, video: str) -> tuple[str, Any]:
        self.given.append(video)
        return self.answers[video].pop(0) if self.answers.get(video) else ("done", None)

    def on_frames(self, frames: int) -> None:
        self.frames += frames


class PretendingPool:
    """Workers that say two frames and then the script's answer; those numbered in `stillborn` die before they begin.

    One worker is heard at a time: meanwhile the others are at work.
    """

    def __init__(self, script: Script, stillborn: Collection[int] = ()) -> None:
        self.script, self.stillborn = script, stillborn
        self.started, self.stopped = 0, False
        self.alive: set[int] = set()
        self.messages: list[list[Message]] = []

    def start(self) -> int:
        number, self.started = self.started, self.started + 1
        if number in self.stillborn:
            self.messages.append([Message(number, "died", "killed")])
        else:
            self.alive.add(number)
            self.messages.append([Message(number, "ready")])
        return number

    def begin(self, worker: int, video: Job) -> None:
        assert worker in self.alive
        kind, value = self.script.take(video.name)
        said = [Message(worker, each, value) for each in kind.split(", ")]  # type: ignore[arg-type]
        self.messages.append([Message(worker, "frames", 2), *said])
        if "died" in kind:
            self.alive.discard(worker)

    def wait(self, seconds: float) -> list[Message]:
        return self.messages.pop(0) if self.messages else []

    def stop(self) -> None:
        self.stopped = True


class PretendingWork:
    """Labels by the script: a value that is an error is raised."""

    def __init__(self, script: Script) -> None:
        self.script = script

    def label(self, model: Any, video: Video, *, on_frames: Callable[[int], object], stop: Any) -> Any:
        kind, value = self.script.take(video.name)
        if kind == "elsewhere":
            return None
        on_frames(2)
        if isinstance(value, BaseException):
            raise value
        return value or "record"


def by_workers(script: Script, count: int = 2, stillborn: Collection[int] = ()) -> tuple[list[Outcome], PretendingPool]:
    pool = PretendingPool(script, stillborn)
    try:
        return list(hand_out(pool, count, VIDEOS, on_frames=script.on_frames, stop=lambda: False)), pool
    finally:
        assert pool.stopped


def here(script: Script) -> list[Outcome]:
    work: Any = PretendingWork(script)
    return list(label_here(None, work, VIDEOS, on_frames=script.on_frames, stop=lambda: False))  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schedule, "PATIENCE", 0.0)


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (2, 2), (8, 3)])
def test_the_longest_video_goes_first_and_no_more_workers_start_than_there_are_videos(count: int, workers: int) -> None:
    script = Script()
    outcomes, pool = by_workers(script, count)
    assert script.given == ["long", "middle", "short"]
    assert outcomes == [Outcome("long"), Outcome("middle"), Outcome("short")]
    assert (pool.started, script.frames) == (workers, 6)


def test_a_dead_worker_is_replaced_and_its_video_given_to_another() -> None:
    script = Script({"middle": [("died", "killed")], "short": [("died", "killed"), ("died", "killed")]})
    outcomes, pool = by_workers(script)
    assert sorted(outcomes, key=lambda o: o.video) == [Outcome("long"), Outcome("middle"), Outcome("short")]
    assert Counter(script.given) == {"long": 1, "middle": 2, "short": 3}
    assert script.frames == 6  # those of tries that came to nothing are taken back
    assert pool.started == 5


def test_a_worker_that_dies_between_two_videos_gets_none() -> None:
    script = Script({"long": [("done, died", None)], "short": [("done, died", None)]})
    outcomes, pool = by_workers(script, 1)
    assert outcomes == [Outcome("long"), Outcome("middle"), Outcome("short")]
    assert pool.started == 2  # none for the last one: nothing is left to do


@pytest.mark.parametrize("kind", ["died", "failed"])
def test_a_video_that_fails_three_times_is_named_and_the_others_are_finished(kind: str) -> None:
    script = Script({"long": [(kind, "killed")] * 3})
    outcomes, _ = by_workers(script, 1)
    assert outcomes[0] == Outcome("long", "killed (tried 3 times)")
    assert outcomes[1:] == [Outcome("middle"), Outcome("short")]
    assert script.frames == 4


def test_a_defect_is_named_with_its_place() -> None:
    (error,) = (outcome.error for outcome in here(Script({"long": [("failed", KeyError("odd"))] * 3})) if outcome.error)
    assert re.fullmatch(r"KeyError: 'odd' at label:\d+ \(tried 3 times\)", error)


@pytest.mark.parametrize("label", [here, lambda script: by_workers(script)[0]])
def test_what_the_user_has_to_mend_is_not_tried_again_and_a_full_disk_ends_the_run(label: Any) -> None:
    script = Script({"middle": [("failed", BROKEN)]})
    assert Outcome("middle", str(BROKEN)) in label(script)
    assert Counter(script.given) == {"long": 1, "middle": 1, "short": 1}
    assert script.frames == 4
    with pytest.raises(OutputError, match="no space left"):
        label(Script({"middle": [("failed", DISK)]}))


@pytest.mark.parametrize("label", [here, lambda script: by_workers(script)[0]])
def test_memory_that_was_not_there_may_be_there_at_the_next_try(label: Any) -> None:
    script = Script({"middle": [("failed", NoMemoryError("no memory left"))] * 2})
    assert {outcome.video: outcome.error for outcome in label(script)} == {"long": "", "middle": "", "short": ""}
    assert Counter(script.given) == {"long": 1, "middle": 3, "short": 1}


@pytest.mark.parametrize("label", [here, lambda script: by_workers(script)[0]])
def test_a_video_that_another_run_labels_is_asked_for_until_it_is_finished(label: Any) -> None:
    script = Script({"long": [("elsewhere", None)] * 5, "short": [("elsewhere", None)]})
    assert {outcome.video: outcome.error for outcome in label(script)} == {"long": "", "middle": "", "short": ""}
    assert Counter(script.given) == {"long": 6, "middle": 1, "short": 2}
    assert script.frames == 6


def test_a_failed_video_comes_again_after_the_others_where_one_process_labels_all() -> None:
    script = Script({"short": [("failed", RuntimeError("odd"))]})
    assert here(script) == [Outcome("long"), Outcome("middle"), Outcome("short")]
    assert script.given == ["short", "long", "middle", "short"]
    assert script.frames == 6


def test_workers_that_die_before_any_is_ready_end_the_run_but_not_after_one_was() -> None:
    with pytest.raises(ConfigError, match=r"workers die as soon as they start: killed.*try fewer"):
        by_workers(Script(), 2, stillborn=(0, 1, 2, 3, 4))
    outcomes, pool = by_workers(Script(), 2, stillborn=(0, 1))
    assert len(outcomes) == 3
    assert pool.started == 4
    died = Script({"long": [("died", "killed")]})
    for script, count, stillborn in ((Script(), 2, (1, 2, 3)), (died, 1, (0, 1, 3, 4))):  # beside; before and after one
        outcomes, _ = by_workers(script, count, stillborn)
        assert {outcome.video: outcome.error for outcome in outcomes} == {"long": "", "middle": "", "short": ""}


@pytest.mark.parametrize("stillborn", [(0, 1, 2), (0, 1, 2, 3), (0, 2, 3, 4)])
def test_workers_that_die_as_they_start_end_no_run_that_others_who_are_starting_could_do(
    stillborn: tuple[int, ...],
) -> None:
    script = Script()
    pool = PretendingPool(script, stillborn)
    videos = [*VIDEOS, *(Video(f"v{number}", 3) for number in range(40))]
    outcomes = list(hand_out(pool, 3, videos, on_frames=script.on_frames, stop=lambda: False))
    assert {outcome.video for outcome in outcomes if not outcome.error} == {video.name for video in videos}
    assert len(pool.alive) == 3
    assert pool.started == 3 + len(stillborn)


def test_workers_that_all_die_as_they_start_end_the_run_before_many_more_are_tried() -> None:
    pool = PretendingPool(Script(), range(1000))
    with pytest.raises(ConfigError, match="workers die as soon as they start: killed"):
        list(hand_out(pool, 8, [Video(f"v{n}") for n in range(40)], on_frames=lambda n: None, stop=lambda: False))
    assert pool.started == 10


def test_workers_that_die_as_they_start_are_not_replaced_for_ever_beside_one_that_works(
    caplog: pytest.LogCaptureFixture,
) -> None:
    videos = [*VIDEOS, *(Video(f"v{number}", 3) for number in range(40))]
    for deaths, stillborn, started in (([], 10**6, 11), ([("died", "out of memory")], 11, 12)):
        script, caplog.records[:] = (
            Script({"short": deaths}),
            [],
        )  # the last of all: another takes the first one's place
        pool = PretendingPool(script, stillborn=range(1, stillborn))
        outcomes = list(hand_out(pool, 3, videos, on_frames=script.on_frames, stop=lambda: False))
        assert sorted(outcome.video for outcome in outcomes) == sorted(video.name for video in videos)
        assert not any(outcome.error for outcome in outcomes)
        assert pool.started == started
        said = [record.message for record in caplog.records]
        assert said == ["going on with fewer workers, as the others die when they start: killed"]


@pytest.mark.parametrize("calls", [0, 1])
def test_a_run_that_is_asked_to_stop_ends_its_workers(calls: int) -> None:
    asked = iter([False] * calls + [True])
    pool = PretendingPool(Script())
    with pytest.raises(Interrupted):
        list(hand_out(pool, 2, VIDEOS, on_frames=lambda n: None, stop=lambda: next(asked)))
    assert pool.stopped
    work: Any = PretendingWork(Script({video.name: [("elsewhere", None)] * 9 for video in VIDEOS}))
    asked = iter([False] * (3 + calls) + [True])
    with pytest.raises(Interrupted):
        list(label_here(None, work, VIDEOS, on_frames=lambda n: None, stop=lambda: next(asked)))  # type: ignore[arg-type]
