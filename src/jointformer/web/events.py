"""News from a project's threads to every open page."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

#: A way to publish news: of a kind, made when its turn has come (see `Broadcaster.publish`).
Publish = Callable[[str, Callable[[], Any]], None]
_MOST_WAITING = 2000  # messages; a page that reads more slowly starts afresh
_KEEP_ALIVE = 15.0  # seconds between comments, so that proxies keep quiet connections


class Broadcaster:
    """Hands every message to all listeners; `publish` may be called from any thread."""

    def __init__(self) -> None:
        self._order = threading.Lock()
        # Taken by `close` in a signal's handler, which may interrupt the loop's own thread while it has it.
        self._lock = threading.RLock()
        self._listeners: dict[asyncio.Queue[str | None], asyncio.AbstractEventLoop] = {}

    @property
    def listeners(self) -> int:
        """How many pages listen."""
        return len(self._listeners)

    def publish(self, kind: str, make: Callable[[], Any]) -> None:
        """Send everyone what `make` returns. It is called when its turn has come: older news never follows newer.

        Whoever publishes must hold no lock that the making of any news needs.
        """
        with self._order:
            self._send(f"event: {kind}\ndata: {json.dumps(make())}\n\n")

    def close(self) -> None:
        """End every listener's stream."""
        self._send(None)

    async def listen(self, first: str) -> AsyncIterator[str]:
        """Yield the stream of one page: `first`, then what is published from before `first` was made on."""
        queue: asyncio.Queue[str | None] = asyncio.Queue(_MOST_WAITING)
        with self._lock:
            self._listeners[queue] = asyncio.get_running_loop()
        try:
            yield first
            while True:
                try:
                    text = await asyncio.wait_for(queue.get(), _KEEP_ALIVE)
                except asyncio.TimeoutError:
                    yield ": still here\n\n"
                    continue
                if text is None:
                    return
                yield text
        finally:
            with self._lock:
                del self._listeners[queue]

    def _send(self, text: str | None) -> None:
        with self._lock:
            listeners = list(self._listeners.items())
        for queue, loop in listeners:
            with suppress(RuntimeError):  # the loop has ended meanwhile, and its page with it
                loop.call_soon_threadsafe(_put, queue, text)


def _put(queue: asyncio.Queue[str | None], text: str | None) -> None:
    if queue.full():
        while not queue.empty():
            queue.get_nowait()
        queue.put_nowait("event: reload\ndata: {}\n\n")
    queue.put_nowait(text)
