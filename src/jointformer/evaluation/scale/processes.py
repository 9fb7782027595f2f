"""Workers as processes of this machine: one network each, processors shared out, gone when their parent is."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, cast

from jointformer.evaluation.scale.label import Job, Work, unpack_model
from jointformer.evaluation.scale.schedule import Message, describe
from jointformer.system.parallel import without_ctrl_c
from jointformer.system.stop import Interrupted

#: Seconds between two reports of a worker.
_REPORT = 0.2
#: Seconds that a worker gets to finish its frame.
_GRACE = 60.0


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    reason: str = ""  # why it cannot begin


class ProcessPool:
    """Processes that label videos; worker k works on devices[k mod len(devices)] with so many threads."""

    def __init__(self, weights: bytes, work: Work[Any], devices: list[str], threads: int) -> None:
        self._weights = weights
        self._work = work
        self._devices = devices
        self._threads = threads
        self._context = multiprocessing.get_context("spawn")  # forked CUDA and OpenMP do not work
        self._workers: dict[int, _Worker] = {}
        self._slots: dict[int, int] = {}

    def start(self) -> int:
        """Start one more worker and return its number."""
        number = len(self._slots)
        taken = {slot for n, slot in self._slots.items() if n in self._workers}
        slot = self._slots[number] = next(s for s in range(number + 1) if s not in taken)
        device = self._devices[slot % len(self._devices)]
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=_serve, args=(theirs, self._work, device, self._threads), name=f"label-{number}", daemon=True
        )
        with without_ctrl_c():  # Ctrl-C reaches the whole process group; the parent says when to end
            process.start()
        theirs.close()
        self._workers[number] = _Worker(process, ours)
        return number

    @property
    def processes(self) -> dict[int, int]:
        """{worker: process id} of those that live."""
        return {number: worker.process.pid or 0 for number, worker in self._workers.items()}

    def begin(self, worker: int, video: Job) -> None:
        """Give a ready worker a video; where it has died meanwhile, `wait` tells."""
        _send(self._workers[worker].pipe, video)

    def wait(self, seconds: float) -> list[Message]:
        """Return what was said since the last call, waiting so long for the first message."""
        numbers = {worker.pipe: number for number, worker in self._workers.items()}
        messages = []
        for pipe in cast(list[Connection], wait(list(numbers), seconds)):
            number = numbers[pipe]
            try:
                kind, value = pipe.recv()
            except (EOFError, OSError):
                worker = self._workers.pop(number)
                worker.process.join(_GRACE)
                worker.pipe.close()
                messages.append(Message(number, "died", worker.reason or _cause(worker.process.exitcode)))
                continue
            if kind == "weights":  # not before it asks: others would wait for its imports
                _send(pipe, self._weights)
            elif kind == "unable":
                self._workers[number].reason = value
            else:
                messages.append(Message(number, kind, value))
        return messages

    def stop(self) -> None:
        """Ask the workers to end after their present frame, and wait until they have."""
        for worker in self._workers.values():
            _send(worker.pipe, None)
        end = time.monotonic() + _GRACE
        for worker in self._workers.values():
            while worker.process.is_alive() and time.monotonic() < end:
                try:
                    while worker.pipe.poll():  # what it still says must not block it
                        worker.pipe.recv()
                except (EOFError, OSError):
                    pass
                worker.process.join(0.05)
            if worker.process.is_alive():
                worker.process.kill()
            worker.process.join()
            worker.pipe.close()
        self._workers.clear()


def _serve(pipe: Connection, work: Work[Any], device: str, threads: int) -> None:
    """Label the videos that come through the pipe until it closes or says None."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import torch

    from jointformer.model.device import use_device

    torch.set_num_threads(threads)
    try:
        pipe.send(("weights", None))
        weights = pipe.recv()
        if weights is None:
            return
        try:
            model = unpack_model(weights, use_device(device))
        except Exception as error:  # a device without memory for one more network, for instance
            pipe.send(("unable", describe(error)))
            return
        pipe.send(("ready", None))
        while (video := pipe.recv()) is not None:
            pipe.send(_label(pipe, work, model, video))
    except (EOFError, BrokenPipeError, ConnectionResetError, Interrupted):
        return


def _label(pipe: Connection, work: Work[Any], model: Any, video: Job) -> tuple[str, Any]:
    """Return the message that a video ends with."""
    unsaid, said = 0, time.monotonic()

    def on_frames(frames: int) -> None:
        nonlocal unsaid, said
        unsaid += frames
        if time.monotonic() - said >= _REPORT:
            pipe.send(("frames", unsaid))
            unsaid, said = 0, time.monotonic()

    try:
        # Anything in the pipe while a video is in work means the end: a None, or a parent that is gone.
        record = work.label(model, video, on_frames=on_frames, stop=pipe.poll)
    except (Interrupted, EOFError, BrokenPipeError, ConnectionResetError):
        raise Interrupted from None
    except Exception as error:
        return "failed", portable(error)
    if unsaid:
        pipe.send(("frames", unsaid))
    return ("elsewhere" if record is None else "done"), None


def portable(error: Exception) -> Exception:
    """Return an error that another process can read: itself where it survives pickling, else its text."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(describe(error))
    return error


def _send(pipe: Connection, value: object) -> None:
    try:
        pipe.send(value)
    except (BrokenPipeError, ConnectionResetError):
        return  # it has died: `wait` will tell


def _cause(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        try:
            name = signal.Signals(-exit_code).name
        except ValueError:
            name = f"signal {-exit_code}"
        return f"the worker process was killed by {name}"
    return f"the worker process ended with exit code {exit_code}"
