"""The next items are made on a thread while the present one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


class _End:
    """The last thing in the queue, with the exception that ended the source, if any."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def prefetch(iterable: Iterable[T], depth: int = 4) -> Iterator[T]:
    """The items of ``iterable`` in order, up to ``depth`` of them made ahead on a thread.

    An exception of the source is raised at the place where its item would have come. Closing the iterator
    (leaving a ``for`` loop, ``close()``) stops the thread and closes the source. ``depth`` < 1 makes
    nothing ahead.
    """
    if depth < 1:
        yield from iterable
        return
    items: queue.Queue[T | _End] = queue.Queue(depth)
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
        while thread.is_alive():  # make room for a put that is waiting
            _drain(items)
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
