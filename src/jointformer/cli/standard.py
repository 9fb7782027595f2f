"""Standard output and error, which may be closed, full, read by nobody, or lack letters."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress

#: How Python's "surrogateescape", which is the C locale's, becomes one that fails for no letter.
_NAMES_AND_ESCAPES = "jointformer.surrogateescape"


class _Output(io.TextIOWrapper):
    """Standard output that remembers why it could not be written: argparse, for one, passes over it."""

    failed: OSError | None = None

    def write(self, text: str) -> int:
        try:
            return super().write(text)
        except OSError as error:
            self.failed = error
            raise

    def flush(self) -> None:
        try:
            super().flush()
        except OSError as error:
            self.failed = error
            raise


class _Messages(io.TextIOWrapper):
    """Standard error, which may fail to take a message: what there was to do is done all the same."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare_standard() -> None:
    """Let standard output show letters that its encoding lacks as escapes, as standard error does, and hold the places
    of both where they are closed: a file that is opened would get such a place, and with it whatever is printed.
    Progress and messages that nobody can be shown (a terminal that was closed, a full disk) end nothing."""
    for number in (1, 2):
        try:
            os.fstat(number)
        except OSError:
            unwritable = os.open(os.devnull, os.O_RDONLY)
            if unwritable != number:
                os.dup2(unwritable, number)
                os.close(unwritable)
    if sys.stdout is None:
        # Writing to it fails, which is then told.
        closed = io.BufferedWriter(io.FileIO(1, "w", closefd=False))
        sys.stdout = _Output(closed, encoding="utf-8", errors="backslashreplace")
    if sys.stderr is None:
        sys.stderr = io.TextIOWrapper(io.BufferedWriter(io.FileIO(os.devnull, "w")), encoding="utf-8")
    if isinstance(sys.stdout, io.TextIOWrapper):
        if sys.stdout.errors == "strict":
            sys.stdout.reconfigure(errors="backslashreplace")
        elif sys.stdout.errors == "surrogateescape":
            codecs.register_error(_NAMES_AND_ESCAPES, _names_and_escapes)
            sys.stdout.reconfigure(errors=_NAMES_AND_ESCAPES)
    # Others than Python's own are their makers' business.
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout is sys.__stdout__:
        sys.stdout = _as(_Output, sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper) and sys.stderr is sys.__stderr__:
        sys.stderr = _as(_Messages, sys.stderr)


def _names_and_escapes(error: UnicodeError) -> tuple[bytes, int]:
    """Return what stands for letters that an encoding lacks: a file name's odd bytes as they are, the rest escaped."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    shown = b"".join(
        bytes([ord(letter) - 0xDC00]) if "\udc80" <= letter <= "\udcff" else letter.encode("ascii", "backslashreplace")
        for letter in error.object[error.start : error.end]
    )
    return shown, error.end


def _as(kind: type[io.TextIOWrapper], old: io.TextIOWrapper) -> io.TextIOWrapper:
    """Return a stream of this kind in place of the old one, which stays open."""
    return kind(
        old.buffer,
        encoding=old.encoding,
        errors=old.errors,
        line_buffering=old.line_buffering,
        write_through=old.write_through,
    )


def end_output() -> OSError | None:
    """Return why what was printed could not be written, None where it was. What is left of it is dropped: Python would
    try again at its end, and fail with a text of its own."""
    failed = sys.stdout.failed if isinstance(sys.stdout, _Output) else None
    try:
        sys.stdout.flush()
    except OSError as error:
        failed = error
    if failed is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
    return failed
