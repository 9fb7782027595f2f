"""Workers as actors of a Ray cluster: the network put into its object store once, results on shared storage."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
from dataclasses import dataclass
from typing import Any

from jointformer.errors import ConfigError, missing_extra
from jointformer.evaluation.scale.label import Job, Work, unpack_model
from jointformer.evaluation.scale.processes import portable
from jointformer.evaluation.scale.schedule import Message
from jointformer.system.stop import Interrupted, catch_again

#: Seconds between two questions to an actor how far it is.
_ASK = 1.0
#: Seconds that an actor gets to finish its frame.
_GRACE = 60.0


class Labeller:
    """The actor: one network, one video at a time; a second thread answers how far it is."""

    def __init__(self, weights: bytes, work: Work[Any], device: str, threads: int) -> None:
        import torch

        if device == "cpu":
            torch.set_num_threads(threads)
        self._threads = threads
        self._device = device
        self._model = unpack_model(weights, device)
        self._work = work
        self._frames = 0
        self._stop = False

    def ready(self) -> None:
        """Return once the network is there."""

    def label(self, video: Job) -> tuple[str, Any]:
        """Return the message that a video ends with."""
        import torch

        if self._device == "cpu":
            torch.set_num_threads(self._threads)  # OpenMP keeps it per thread, and Ray chooses the thread
        self._frames = 0
        try:
            record = self._work.label(self._model, video, on_frames=self._count, stop=lambda: self._stop)
        except Interrupted:
            return "stopped", None
        except Exception as error:
            return "failed", portable(error)
        return ("elsewhere" if record is None else "done"), self._frames

    def frames(self) -> int:
        """Return how many frames of the present video are done."""
        return self._frames

    def stop(self) -> None:
        """End the present video after this frame."""
        self._stop = True

    def _count(self, frames: int) -> None:
        self._frames += frames


@dataclass
class _Asked:
    """What one call to an actor will answer."""

    worker: int
    what: str


class RayPool:
    """Actors that label videos, one per GPU, or per `threads` processors where the device is a CPU.

    address: "auto" (this machine's cluster), "local" (a cluster of this machine for this run), or a cluster's own.
    An actor whose node goes is replaced on another one as soon as there is room. Raises ConfigError where Ray is
    missing, no cluster answers, this process is connected to one already, or there is no room for an actor.
    """

    def __init__(self, address: str, weights: bytes, work: Work[Any], *, device: str, threads: int) -> None:
        self._ray = _connect(address)
        resource = "GPU" if device == "cuda" else "CPU"
        each = 1 if device == "cuda" else threads
        there = self._ray.cluster_resources().get(resource, 0)
        self.room = int(there) // each
        if self.room < 1:
            self._ray.shutdown()  # nobody gets this pool, so nobody would stop it
            raise ConfigError(
                "the Ray cluster has no room for a worker", expected=f"{each} {resource}", got=f"{there:g}"
            )
        options = {"num_gpus": 1} if device == "cuda" else {"num_cpus": threads}
        self._actor = self._ray.remote(**options, max_restarts=0, max_concurrency=2)(Labeller)
        self._arguments = (self._ray.put(weights), work, device, threads)
        self._actors: dict[int, Any] = {}
        self._started = 0
        self._asked: dict[Any, _Asked] = {}
        self._frames: dict[int, int] = {}
        self._last_asked = 0.0
        # Ray tells of dead workers on standard output, which is for our figures.
        self._elsewhere = contextlib.redirect_stdout(sys.stderr)
        self._elsewhere.__enter__()

    def start(self) -> int:
        """Start one more actor and return its number."""
        number, self._started = self._started, self._started + 1
        self._actors[number] = self._actor.remote(*self._arguments)
        self._ask(number, "ready")
        return number

    def begin(self, worker: int, video: Job) -> None:
        """Give a ready actor a video."""
        self._frames[worker] = 0
        self._asked[self._actors[worker].label.remote(video)] = _Asked(worker, "label")

    def wait(self, seconds: float) -> list[Message]:
        """Return what was answered since the last call, waiting so long for the first answer."""
        if time.monotonic() - self._last_asked > _ASK:
            self._last_asked = time.monotonic()
            pending = {asked.worker for asked in self._asked.values() if asked.what == "frames"}
            for worker in self._frames.keys() - pending:
                self._ask(worker, "frames")
        if not self._asked:  # all are idle, and Ray waits for nothing in no time
            time.sleep(seconds)
            return []
        ready, _ = self._ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0)
        if not ready:
            ready, _ = self._ray.wait(list(self._asked), num_returns=1, timeout=seconds)
        messages: list[Message] = []
        for answer in ready:
            asked = self._asked.pop(answer, None)
            if asked is not None and asked.worker in self._actors:
                messages += self._read(answer, asked)
        return messages

    def _read(self, answer: Any, asked: _Asked) -> list[Message]:
        worker = asked.worker
        try:
            value = self._ray.get(answer)
        except self._ray.exceptions.RayError as error:
            actor = self._actors.pop(worker)
            self._frames.pop(worker, None)
            self._asked = {a: b for a, b in self._asked.items() if b.worker != worker}
            with contextlib.suppress(Exception):  # it may be half alive behind a broken connection
                self._ray.kill(actor)
            return [Message(worker, "died", f"the Ray actor died: {_reason(str(error))}")]
        if asked.what == "ready":
            return [Message(worker, "ready")]
        if asked.what == "frames":
            return self._more_frames(worker, value) if worker in self._frames else []
        kind, detail = value
        counted = self._more_frames(worker, detail) if kind == "done" else []
        del self._frames[worker]
        return [*counted, Message(worker, kind, detail)]

    def _more_frames(self, worker: int, frames: int) -> list[Message]:
        more, self._frames[worker] = frames - self._frames[worker], frames
        return [Message(worker, "frames", more)] if more > 0 else []

    def _ask(self, worker: int, what: str) -> None:
        self._asked[getattr(self._actors[worker], what).remote()] = _Asked(worker, what)

    def stop(self) -> None:
        """Ask the actors to end after their present frame, wait until they have, leave the cluster."""
        with contextlib.suppress(Exception):  # a cluster that is gone already needs no goodbye
            for worker in self._frames:
                self._actors[worker].stop.remote()
            labels = [answer for answer, asked in self._asked.items() if asked.what == "label"]
            if labels:
                self._ray.wait(labels, num_returns=len(labels), timeout=_GRACE)
            for actor in self._actors.values():
                self._ray.kill(actor)
        self._ray.shutdown()
        self._elsewhere.__exit__(None, None, None)


def _reason(text: str) -> str:
    """Return what Ray's many lines about a dead actor say: the error of its beginning, else the first and the last."""
    lines = [line.strip()[:200] for line in re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines() if line.strip()]
    if "creation task" in text:  # the lines above the error are its traceback
        return lines[-1]
    return " … ".join(dict.fromkeys([*lines[:1], *lines[-1:]])) or "no reason given"


def _connect(address: str) -> Any:
    """Return the ray module, connected."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
        import ray.exceptions
    except ImportError:
        raise missing_extra("Ray is not installed", "scale", where="--ray") from None
    if ray.is_initialized():  # by the program that calls us: its connection is not ours to use and to end
        what, hint = "this process is connected to a Ray cluster already", "call ray.shutdown() first"
        raise ConfigError(what, where=f"--ray {address}", hint=hint)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=None)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[0][:160] if str(error).strip() else type(error).__name__
        raise ConfigError(
            "no Ray cluster answers",
            where=f"--ray {address}",
            got=reason,
            hint="start one with `ray start --head`, or give its address",
        ) from None
    catch_again()  # Ray takes SIGTERM for itself
    return ray
