"""Handing videos out to workers that may die: longest first, each tried a few times, everything reported."""

from __future__ import annotations

import logging
import time
import traceback
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from jointformer.errors import ConfigError, NoMemoryError, OutputError, UserError
from jointformer.evaluation.scale.label import Job, OnFrames, Work, longest_first
from jointformer.model.network import JointFormer
from jointformer.system.stop import Interrupted, Stop

logger = logging.getLogger(__name__)

#: How often a video is given to a worker before it counts as failed.
TRIES = 3
#: Seconds after which a video that another run was labelling is asked for again.
PATIENCE = 0.5
#: Workers that may die one after the other before any is ready, until only those that start already are waited for;
#: beside others at work so many for each that is wanted.
_STILLBORN = 3


@dataclass(frozen=True)
class Outcome:
    """What became of a video: nothing said is success."""

    video: str
    error: str = ""


@dataclass(frozen=True)
class Message:
    """What a worker says: it is ready; so many frames more; the video is done, is another run's, failed; it died."""

    worker: int
    kind: Literal["ready", "frames", "done", "elsewhere", "failed", "died", "stopped"]
    value: Any = None


class Pool(Protocol):
    """Workers by number."""

    def start(self) -> int:
        """Start one more worker and return its number; it reports "ready"."""

    def begin(self, worker: int, video: Job) -> None:
        """Give a ready worker a video."""

    def wait(self, seconds: float) -> list[Message]:
        """Return what was said since the last call, waiting so long for the first message."""

    def stop(self) -> None:
        """Ask the workers to end after their present frame, and wait until they have."""


@dataclass
class _Open:
    """What is still to do, and who does what. wanted: the number of workers. stillborn: those that died one after the
    other as they started; unreplaced: those of them in whose place nobody starts before another one is ready.
    """

    queue: deque[Job]
    wanted: int
    busy: dict[int, Job] = field(default_factory=dict)
    frames: dict[int, int] = field(default_factory=dict)
    idle: list[int] = field(default_factory=list)
    starting: set[int] = field(default_factory=set)
    later: list[tuple[float, Job]] = field(default_factory=list)
    tries: dict[str, int] = field(default_factory=dict)
    stillborn: int = 0
    unreplaced: int = 0

    @property
    def anything(self) -> bool:
        return bool(self.queue or self.busy or self.later)


def hand_out(pool: Pool, count: int, videos: Sequence[Job], *, on_frames: OnFrames, stop: Stop) -> Iterator[Outcome]:
    """Yield each video's outcome as it comes, from up to `count` workers of a pool.

    The longest video goes first. A worker that dies is replaced (not for ever where new ones die as they start) and its
    video goes to another, at most TRIES times; so does one that failed for reasons that may pass. What is wrong with
    the data is not tried again. Raises OutputError at once (no other video could be written either), Interrupted when
    `stop` asks for it, ConfigError where no worker comes to life.
    """
    left = _Open(deque(longest_first(videos)), min(count, len(videos)))
    try:
        for _ in range(left.wanted):
            left.starting.add(pool.start())
        while left.anything:
            if stop():
                raise Interrupted
            now = time.monotonic()
            left.queue.extend(video for due, video in left.later if due <= now)
            left.later = [(due, video) for due, video in left.later if due > now]
            while left.queue and left.idle:
                worker = left.idle.pop(0)
                left.busy[worker] = left.queue.popleft()
                left.frames[worker] = 0
                pool.begin(worker, left.busy[worker])
            messages = pool.wait(0.2)
            if stop():  # before anybody is replaced: a signal to the whole group has ended the workers too
                raise Interrupted
            for message in messages:
                outcome = _take(message, left, pool, on_frames)
                if outcome is not None:
                    yield outcome
    finally:
        pool.stop()


def _take(message: Message, left: _Open, pool: Pool, on_frames: OnFrames) -> Outcome | None:
    """Take note of a message; return the outcome that it brings, if any."""
    worker = message.worker
    if message.kind == "ready":
        left.stillborn = 0
        left.starting.discard(worker)
        left.idle.append(worker)
        missing, left.unreplaced = left.unreplaced, 0
        for _ in range(min(missing, len(left.queue) + len(left.later))):
            left.starting.add(pool.start())
        return None
    if message.kind == "frames":
        left.frames[worker] = left.frames.get(worker, 0) + message.value
        on_frames(message.value)
        return None
    video = left.busy.pop(worker, None)
    if message.kind == "died":
        left.idle = [w for w in left.idle if w != worker]
        if worker in left.starting:
            _take_stillborn(message, left, pool)
        elif video is not None or left.queue or left.later:
            left.starting.add(pool.start())
    else:
        left.idle.append(worker)
    if video is None:
        return None
    if message.kind == "done":
        return Outcome(video.name)
    on_frames(-left.frames.pop(worker, 0))
    if message.kind == "elsewhere":
        left.later.append((time.monotonic() + PATIENCE, video))
        return None
    error = message.value
    if isinstance(error, OutputError):
        raise error
    tried = left.tries[video.name] = left.tries.get(video.name, 0) + 1
    if tried < TRIES and may_pass(error):
        left.queue.appendleft(video)
        return None
    return Outcome(video.name, describe(error, tried))


def _take_stillborn(message: Message, left: _Open, pool: Pool) -> None:
    """Replace a worker that died as it started, while there is hope. Raises ConfigError where nobody is left."""
    left.starting.discard(message.worker)
    left.stillborn += 1
    if left.stillborn >= _STILLBORN and not (left.busy or left.idle):
        if not left.starting:
            raise ConfigError(f"workers die as soon as they start: {message.value}", hint="try fewer of them")
        left.unreplaced += 1  # if those that are starting die as well, more would too
        return
    if left.stillborn == _STILLBORN * left.wanted:
        logger.warning("going on with fewer workers, as the others die when they start: %s", message.value)
    if left.stillborn < _STILLBORN * left.wanted and (left.queue or left.later):
        left.starting.add(pool.start())


def label_here(
    model: JointFormer, work: Work[Any], videos: Sequence[Job], *, on_frames: OnFrames, stop: Stop
) -> Iterator[Outcome]:
    """Yield each video's outcome, labelled in this process in their order; rules and errors are `hand_out`'s."""
    queue, tries, claimed = deque(videos), {v.name: 0 for v in videos}, 0
    while queue:
        if stop():
            raise Interrupted
        video = queue.popleft()
        seen = _Count(on_frames)
        try:
            record = work.label(model, video, on_frames=seen, stop=stop)
        except OutputError:
            raise
        except Exception as error:
            on_frames(-seen.total)
            tries[video.name] += 1
            if tries[video.name] < TRIES and may_pass(error):
                queue.append(video)
            else:
                yield Outcome(video.name, describe(error, tries[video.name]))
            continue
        if record is not None:
            claimed = 0
            yield Outcome(video.name)
            continue
        queue.append(video)
        claimed += 1
        if claimed >= len(queue):  # all that is left is another run's: its claims end when it does
            claimed = 0
            time.sleep(PATIENCE)


class _Count:
    """Passes frame counts on and keeps their sum."""

    def __init__(self, on_frames: OnFrames) -> None:
        self.on_frames = on_frames
        self.total = 0

    def __call__(self, frames: int) -> None:
        self.total += frames
        self.on_frames(frames)


def may_pass(error: object) -> bool:
    """Whether trying again could help: not where the user has to mend something."""
    return isinstance(error, NoMemoryError) or not isinstance(error, UserError)


def describe(error: object, tries: int = 1) -> str:
    """Return an error's one line; of a defect in the program its kind and place too."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, BaseException):
        frames = traceback.extract_tb(error.__traceback__)
        place = f" at {frames[-1].name}:{frames[-1].lineno}" if frames else ""
        text = " ".join(f"{type(error).__name__}: {error}{place}".split())
    else:
        text = str(error)
    return f"{text} (tried {tries} times)" if tries > 1 else text
