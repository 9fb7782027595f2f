"""Bytes from standard input, a named pipe or a device file, readable by FFmpeg; reading can be stopped."""

from __future__ import annotations

import os
import select
import stat
import sys
import threading
from contextlib import suppress
from pathlib import Path

from jointformer.errors import ConfigError, DataError

#: What stands for standard input and output on the command line.
STANDARD = "-"
_POLL = 0.1  # seconds between two looks at whether the reader should stop


class Pipe:
    """The reading end of a pipe: what has arrived is given at once, without waiting for a full buffer.

    `stop` may be called from any thread; reading then ends as at the end of the pipe. `head` is the first bytes,
    by which an error can say what the stream looked like. Raises ConfigError for a terminal, DataError for a path that
    cannot be opened.
    """

    def __init__(self, source: str) -> None:
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self.head = b""
        try:
            # Below Python's buffer: a thread that waits inside it would stop the program from ending.
            self._fd = os.dup(sys.stdin.fileno()) if source == STANDARD else os.open(source, os.O_RDONLY)
        except (OSError, ValueError, AttributeError) as error:
            reason = getattr(error, "strerror", None) or "it is closed"
            raise DataError("cannot be read", where=_place(source), got=reason.lower()) from error
        if os.isatty(self._fd):
            os.close(self._fd)
            raise ConfigError("is a terminal", where=_place(source), hint="pipe a video or raw frames in")

    def read(self, size: int) -> bytes:
        """Return at most `size` bytes, as soon as there are any; none at the end or after `stop`.

        Raises OSError once where reading fails; the pipe has ended then.
        """
        try:
            while not self._stopped.is_set():
                with self._lock:  # `close` must not take the descriptor from under a thread that waits for it
                    if self._fd >= 0 and (os.name != "posix" or select.select([self._fd], [], [], _POLL)[0]):
                        data = os.read(self._fd, size)
                        self.head = self.head or data[:16]
                        return data
        except OSError:
            self.stop()
            raise
        return b""

    def seekable(self) -> bool:
        """Whether it is a file after all (`jointformer track - < video.mp4`)."""
        return stat.S_ISREG(os.fstat(self._fd).st_mode)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Return the new place in a file; for one that cannot be, a negative number, as FFmpeg's own files do."""
        try:
            return os.lseek(self._fd, offset, whence)
        except OSError as error:
            return -(error.errno or 1)

    def tell(self) -> int:
        """Return the place in a file."""
        return self.seek(0, os.SEEK_CUR)

    def stop(self) -> None:
        """End the stream for its reader."""
        self._stopped.set()

    def close(self) -> None:
        """Free the descriptor (where no thread waits in it that cannot be woken)."""
        self.stop()
        if self._lock.acquire(timeout=1):
            with suppress(OSError):
                os.close(self._fd)
            self._fd = -1
            self._lock.release()


def _place(source: str) -> str:
    return "standard input" if source == STANDARD else source


def is_pipe(path: str) -> bool:
    """Whether a path is read as bytes come: a named pipe or a device file such as /dev/stdin."""
    place = Path(path)
    return place.is_fifo() or place.is_char_device()
