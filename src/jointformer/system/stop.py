"""Ctrl-C, SIGTERM and a closed terminal as a wish that is never lost: the frame is finished and files are closed first.

A command catches all from its first moment to its last (`catch_signals`). Inside `stop_on_signal` they wait until they
are asked for; inside `at_once` they end the block, which is for work that cannot ask and leaves nothing half done.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

#: Asked between frames: whether to end.
Stop = Callable[[], bool]

#: What is true of every command that is caught here, where nothing better is known.
GO_ON = "interrupted: what is finished stays; the same command goes on from there"
#: Seconds within which a second signal is the same wish: many senders repeat it, and terminals send it to everybody.
_SAME_WISH = 1.0


def _signals() -> list[int]:
    """The signals that mean the wish: SIGINT, SIGTERM, and SIGHUP unless whoever began us has it ignored, as nohup."""
    hang_up = getattr(signal, "SIGHUP", None)  # Windows has none
    closed = [] if hang_up is None or signal.getsignal(hang_up) is signal.SIG_IGN else [hang_up]
    return [signal.SIGINT, signal.SIGTERM, *closed]


class Interrupted(KeyboardInterrupt):
    """A run ended early at the user's wish; its text says how to go on."""

    def __str__(self) -> str:
        return super().__str__() or (GO_ON if _catcher is None else _catcher.text)


def never() -> bool:
    """Return False: nobody asks this run to stop."""
    return False


class _Catcher:
    """The handler of these signals: notes the wish, and raises Interrupted unless somebody will ask for it."""

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.asked_at: float | None = None
        self.waiting = 0
        self.text = GO_ON
        self.before = {number: signal.getsignal(number) for number in _signals()}

    def install(self) -> None:
        for number in self.before:
            signal.signal(number, self.handle)

    def asked(self) -> bool:
        return self.asked_at is not None

    def handle(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self.pid:  # a forked child, which has nobody to ask
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        now = time.monotonic()
        if self.asked_at is None:
            self.asked_at = now
            if not self.waiting:
                raise Interrupted
        elif now - self.asked_at >= _SAME_WISH:
            raise KeyboardInterrupt(self.text)


#: The catcher at work; signals are the main thread's alone.
_catcher: _Catcher | None = None


@contextmanager
def catch_signals(*, last: bool = False) -> Iterator[None]:
    """A block in which SIGINT, SIGTERM and SIGHUP wait for `at_once` or for a `stop_on_signal` within it.

    last: the process ends with this block, so a later Ctrl-C comes too late and is ignored. Inside another such block,
    or outside of the main thread, where Python has no signals, nothing changes.
    """
    global _catcher
    if _catcher is not None or not _in_main_thread():
        yield
        return
    catcher = _Catcher()
    catcher.waiting = 1
    _catcher = catcher
    catcher.install()
    try:
        yield
    finally:
        for number, handler in catcher.before.items():
            signal.signal(number, signal.SIG_IGN if last and number == signal.SIGINT else handler or signal.SIG_DFL)
        _catcher = None


@contextmanager
def stop_on_signal() -> Iterator[Stop]:
    """A function that tells whether SIGINT, SIGTERM or SIGHUP came; they wait while the block runs, and are not lost
    after it.

    Where one came and the block ends without an error, Interrupted is raised at its end. A second one, a second or
    more after the first, raises KeyboardInterrupt at once. Outside of the main thread the function always tells False.
    """
    if not _in_main_thread():
        yield never
        return
    with catch_signals():
        catcher = _catcher
        assert catcher is not None
        outside, catcher.waiting = catcher.waiting, catcher.waiting + 1
        try:
            yield catcher.asked
        finally:
            catcher.waiting = outside
    if catcher.asked():  # from here on a signal does by itself what it did before the block
        raise Interrupted


@contextmanager
def at_once() -> Iterator[None]:
    """A block that SIGINT, SIGTERM and SIGHUP end at once with Interrupted, within `stop_on_signal` too; raised on
    entry where one came before. Without a catcher, or outside of the main thread, nothing changes."""
    catcher = _catcher
    if catcher is None or not _in_main_thread():
        yield
        return
    outside, catcher.waiting = catcher.waiting, 0
    try:
        if catcher.asked():
            raise Interrupted
        yield
    finally:
        catcher.waiting = outside


@contextmanager
def note_signals(note: Callable[[], None]) -> Iterator[None]:
    """A block in which SIGINT, SIGTERM and SIGHUP call `note` and do nothing else, however often they come.

    For work that loses much where it is cut off, as schedulers and launchers repeat themselves. Outside of the main
    thread nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    with _answered_by(lambda *_: note()):
        yield


@contextmanager
def delay_signals(note: Callable[[], None]) -> Iterator[None]:
    """A block in which SIGINT, SIGTERM and SIGHUP call `note` and nothing else; each comes anew when it has ended.

    For libraries that call Python and swallow what a signal raises there. Outside of the main thread nothing changes.
    """
    if not _in_main_thread():
        yield
        return
    came: list[int] = []

    def hold(number: int, _frame: FrameType | None) -> None:
        came.append(number)
        note()

    try:
        with _answered_by(hold):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


@contextmanager
def _answered_by(handler: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """A block of the main thread in which the signals call a handler of its own."""
    with ExitStack() as stack:
        for number in _signals():
            stack.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
            signal.signal(number, handler)
        yield


def raise_if_asked() -> None:
    """Raise Interrupted where a signal came before: a library's callback may have swallowed what it raised there.

    Without a catcher nothing changes.
    """
    if _catcher is not None and _catcher.asked():
        raise Interrupted


def say_if_stopped(text: str) -> None:
    """Let an interruption say this from now on, instead of `GO_ON`. Without a catcher nothing changes."""
    if _catcher is not None:
        _catcher.text = text


def catch_again() -> None:
    """Take the signals back from a library that took them for itself."""
    if _catcher is not None and _in_main_thread():
        _catcher.install()


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
