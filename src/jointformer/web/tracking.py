"""One project's tracking: a thread that a page starts, watches and stops."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from jointformer.errors import ConfigError, DataError, UserError
from jointformer.ops.resize import network_size
from jointformer.session import STATUSES, FrameResult
from jointformer.web.events import Publish
from jointformer.web.models import SharedModel, SharedSession
from jointformer.web.pace import Pace
from jointformer.web.record import Range

logger = logging.getLogger(__name__)

_LEAVING = 10.0  # seconds that a run gets to finish its frame when the program ends


@dataclass(frozen=True)
class Desk:
    """What the projects of one server share.

    turn: held by the project that tracks; two at once would crawl. outcomes: how the last run of each folder ended, for
    those who come back when the project has been closed since.
    """

    model: SharedModel
    pace: Pace
    turn: threading.Lock
    outcomes: dict[Path, dict[str, Any]] = field(default_factory=dict)


class Tracking:
    """Runs `Session.propagate` and tells how it goes.

    publish: tells the pages how it goes. remember: called with the range when a run begins and with None when it has
    finished or was stopped by a person; a run that the program's end cut off is thereby known as such.
    """

    def __init__(
        self,
        session: SharedSession,
        desk: Desk,
        publish: Publish,
        remember: Callable[[Range | None], None],
    ) -> None:
        self._session, self._desk = session, desk
        self._publish, self._remember = publish, remember
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()
        self._leaving = False
        self._status: dict[str, Any] = {"state": "idle", "outcome": desk.outcomes.get(session.folder)}

    @property
    def running(self) -> bool:
        """Whether a run is going on."""
        return self._thread is not None and self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """Return how the run goes, or how the last one ended."""
        return dict(self._status)

    def plan(self, wanted: Range) -> dict[str, Any]:
        """Return how many steps a run would take, and how many seconds: as measured here, or a rough guess, or None.

        Where nothing was measured yet, the network is loaded meanwhile, and pages are told when a guess can be made.
        """
        plan = self._session.plan(**vars(wanted))
        objects = sum(bool(need.any()) for need in plan.needs.values())
        pace = self._desk.pace.seconds(*self._setting(), max(1, objects))
        steps, rough = plan.steps(), pace is None
        if pace is None and steps:
            config = self._session.config
            size = network_size(*self._session.size, config.size)
            pace = self._desk.model.guess(*size, max(1, objects), min(2, config.max_memory_frames or 2))
            self._desk.model.warm(lambda: self._publish("tracking", self.status))
        return {"steps": steps, "objects": objects, "seconds": None if pace is None else steps * pace, "rough": rough}

    def has_more(self, wanted: Range) -> bool:
        """Return whether a run would find anything to track."""
        try:
            return self._session.plan(**vars(wanted)).steps() > 0
        except (DataError, ConfigError):
            return False

    def outlook(self, wanted: Range) -> dict[str, Any]:
        """Return `plan`; where there is nothing to track from, no steps and the reason.

        A page asks whenever masks have changed, and another page may have taken the last one back meanwhile.
        """
        try:
            return self.plan(wanted)
        except DataError as error:
            return {"steps": 0, "objects": 0, "seconds": None, "rough": True, "reason": str(error)}

    def start(self, wanted: Range) -> None:
        """Begin a run. Raises DataError where there is nothing to track from, or another run goes on."""
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                if self._status["state"] != "idle":
                    raise DataError("this project is being tracked already", hint="stop it first")
                self._thread.join()  # pages may know its end before the run is forgotten
            plan = self.plan(wanted)
            if not plan["steps"]:
                raise DataError("nothing to track", hint="every frame of the range is up to date")
            if not self._desk.turn.acquire(blocking=False):
                raise DataError("another project is being tracked", hint="stop it or wait until it is done")
            try:
                self._remember(wanted)
                self._stop.clear()
                self._status = {"state": "starting", **asdict(wanted), **plan, "done": 0, "outcome": None}
                self._thread = threading.Thread(target=self._run, args=(wanted,), name="tracking", daemon=True)
                self._thread.start()
            except BaseException:
                self._desk.turn.release()
                raise
        self._publish("tracking", self.status)

    def stop(self) -> None:
        """Ask the run to end after the frame it is at."""
        with self._lock:
            if not self.running or self._status["state"] == "idle":
                return
            self._stop.set()
            self._status = {**self._status, "state": "stopping"}
        self._publish("tracking", self.status)

    def leave(self) -> None:
        """End the run because the program ends; it counts as interrupted, not as stopped."""
        self._leaving = True
        self._stop.set()
        with self._lock:  # a thread that is not started yet cannot be waited for
            thread = self._thread
        if thread is not None:
            thread.join(_LEAVING)

    # -- in the thread

    def _run(self, wanted: Range) -> None:
        began = time.monotonic()
        outcome: dict[str, Any] = {"kind": "failed", "text": "tracking ended unexpectedly"}
        try:
            outcome = self._track(wanted)
        except UserError as error:
            outcome = {"kind": "failed", "text": str(error)}
        except Exception as error:  # the page must learn of it, whatever it is
            logger.exception("tracking failed")
            outcome = {"kind": "failed", "text": f"tracking failed: {type(error).__name__}: {error}"}
        finally:
            self._desk.turn.release()
            self._desk.pace.save()
            outcome["seconds"] = time.monotonic() - began
            self._finish(outcome)

    def _track(self, wanted: Range) -> dict[str, Any]:
        self._desk.model.get()  # before the clock of the steps begins
        status = self._status
        objects, steps = max(1, status["objects"]), status["steps"]
        run = self._session.propagate(**vars(wanted))
        done, last, pace = 0, time.monotonic(), status["seconds"] and status["seconds"] / steps
        recent: list[float] = []
        held: set[int] = set()
        since = wanted.since
        for frame, result in run:
            now = time.monotonic()
            # The first step compiles kernels and reads the frames before; it says nothing about the rest.
            if done:
                recent = [*recent[-9:], now - last]
                pace = sum(recent) / len(recent)
                self._desk.pace.note(*self._setting(), objects, now - last)
            elif wanted.again and since is None:
                since = self._session.edit
                self._remember(replace(wanted, since=since))  # cut off from now on, it goes on from there
            if result.status == "held":
                held.add(frame)
            last, done = now, done + 1
            left = None if pace is None else max(0, steps - done) * pace
            state = "stopping" if self._stop.is_set() else "running"
            self._status = {**self._status, "state": state, "done": done, "frame": frame, "seconds": left, "pace": pace}
            self._tell(frame, result)
            if self._stop.is_set():
                run.close()
                return {"kind": "stopped", "text": f"stopped after {done} of {steps} steps", "done": done}
        return self._ending(replace(wanted, since=since), done, steps, len(held))

    def _tell(self, frame: int, result: FrameResult) -> None:
        sure = {i: c for i, c in result.confidence.items() if i not in result.drawn}
        news = {
            "frame": frame,
            "status": STATUSES.index(result.status),
            "confidence": min(sure.values(), default=None),
        }
        self._publish("frame", lambda: {**news, "tracking": self.status()})

    def _ending(self, wanted: Range, done: int, steps: int, held: int) -> dict[str, Any]:
        """A run that somebody's edit has ended early leaves something to track, or nothing to track from.

        held: how many frames could not be read.
        """
        try:
            left = self._session.plan(**vars(wanted)).steps()
        except (DataError, ConfigError):
            left = steps
        if left and done < steps:
            text = f"tracking stopped after {done} of {steps} steps, because masks were changed"
            return {"kind": "edited", "text": text, "done": done}
        text = f"tracked {done} steps"
        if held:
            text += f"; {held} frames could not be read and have the masks of the frame beside them"
        return {"kind": "finished", "text": text, "done": done, "held": held}

    def _finish(self, outcome: dict[str, Any]) -> None:
        self._desk.outcomes[self._session.folder] = outcome
        with self._lock:  # who stops it meanwhile must not take the end back
            self._status = {"state": "idle", "outcome": outcome}
        if not self._leaving:
            try:
                self._remember(None)
            except UserError as error:
                logger.warning("%s", error)
            self._publish("tracking", self.status)

    def _setting(self) -> tuple[str, int]:
        """What a step's time depends on besides the objects: the model and its device, and the pixels it sees."""
        height, width = self._session.size
        size = self._session.config.size
        scale = 1.0 if size < 0 else size / min(height, width)
        return f"{self._desk.model.name} on {self._desk.model.device}", max(1, round(height * width * scale**2))
