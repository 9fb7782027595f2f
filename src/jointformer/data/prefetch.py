"""The next items are made on a thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterable
from time import monotonic
from typing import Any, TypeVar

T = TypeVar("T")


class _End:
    """The last thing in the queue, with the exception that ended the source, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class NewestQueue(queue.Queue[T]):
    """A bounded queue whose `put` makes room by dropping the oldest item that `keep` does not want kept.

    `dropped` counts them. Where nothing may be dropped `put` waits, as any bounded queue does.
    """

    def __init__(self, maxsize: int, keep: Callable[[T], bool]) -> None:
        super().__init__(maxsize)
        self.dropped = 0
        self._keep = keep

    def put(self, item: T, block: bool = True, timeout: float | None = None) -> None:
        """Add an item; raises queue.Full as `queue.Queue` does where all that waits must be kept."""
        if not isinstance(item, _End):  # the end pushes nothing out
            with self.mutex:
                oldest = next((k for k, old in enumerate(self.queue) if not self._keep(old)), None)
                if self._qsize() >= self.maxsize and oldest is not None:
                    del self.queue[oldest]
                    self.dropped += 1
                    self.not_full.notify()
        super().put(item, block, timeout)


def prefetch(
    iterable: Iterable[T],
    depth: int = 4,
    *,
    through: queue.Queue[Any] | None = None,
    stop_source: Callable[[], None] | None = None,
    patience: float | None = None,
) -> Generator[T, None, None]:
    """The items of `iterable` in order, up to `depth` of them made ahead on a thread.

    An exception of the source is raised at the place where its item would have come. Closing the iterator
    (leaving a `for` loop, `close()`) stops the thread and closes the source. `depth` < 1 makes
    nothing ahead. `through`: the queue, instead of one of that depth. `stop_source`: called first at the close, to
    make a source give up waiting. `patience`: seconds to wait then; after them its thread is left to itself (None:
    wait until it ends).
    """
    if depth < 1 and through is None:
        yield from iterable
        return
    items: queue.Queue[T | _End] = queue.Queue(depth) if through is None else through
    stop = threading.Event()
    thread = threading.Thread(target=_fill, args=(iterable, items, stop), name="prefetch", daemon=True)
    thread.start()
    try:
        while True:
            item = items.get()
            if isinstance(item, _End):
                if item.error is not None:
                    raise item.error
                return
            yield item
    finally:
        stop.set()
        if stop_source is not None:
            stop_source()
        until = None if patience is None else monotonic() + patience
        while thread.is_alive() and (until is None or monotonic() < until):
            _drain(items)  # makes room for a put that is waiting
            thread.join(0.01)


def _fill(iterable: Iterable[T], items: queue.Queue[T | _End], stop: threading.Event) -> None:
    error: BaseException | None = None
    iterator = None
    try:
        iterator = iter(iterable)
        for item in iterator:
            if not _put(items, item, stop):
                break
    except BaseException as caught:  # carried over to the consumer's thread
        error = caught
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            try:
                close()
            except BaseException as caught:
                error = error or caught
        _put(items, _End(error), stop)


def _put(items: queue.Queue[T | _End], item: T | _End, stop: threading.Event) -> bool:
    while not stop.is_set():
        try:
            items.put(item, timeout=0.1)
            return True
        except queue.Full:
            continue
    return False


def _drain(items: queue.Queue[T | _End]) -> None:
    try:
        while True:
            items.get_nowait()
    except queue.Empty:
        return
