"""Ctrl-C and SIGTERM as a wish: the frame is finished and files are closed before the process ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: Asked between frames: whether to end.
Stop = Callable[[], bool]


class Interrupted(KeyboardInterrupt):
    """A run ended early at the user's wish; its text says how to go on."""


def never() -> bool:
    """Return False: nobody asks this run to stop."""
    return False


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """A function that tells whether SIGINT or SIGTERM came while the block runs; a second one ends it at once.

    Outside of the main thread, where Python has no signals, it always tells False.
    """
    if threading.current_thread() is not threading.main_thread():
        yield never
        return
    asked = threading.Event()

    def handle(number: int, _frame: FrameType | None) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked.is_set
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
