"""A session's folder while the session is open: its store, for this process alone."""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from pathlib import Path

from filelock import FileLock

from jointformer.errors import DataError
from jointformer.session.store import FILE, Store
from jointformer.system.files import make_dir, writing
from jointformer.system.locks import hold


class OpenAlready(DataError):
    """A session's folder that another session has, here or in another process."""


class Home:
    """A folder and its store, locked until `close` is called or nobody has it any more; a temporary folder goes then.

    Raises OpenAlready where another session has the folder, OutputError.
    """

    def __init__(self, folder: Path, *, temporary: bool = False, create: bool = False) -> None:
        self.folder, self.temporary = folder, temporary
        lock = _lock(folder)
        try:
            self.store = Store(folder / FILE, create=create)
        except BaseException:
            lock.release()
            raise
        self.close = weakref.finalize(self, _close, os.getpid(), self.store, lock, folder if temporary else None)

    @staticmethod
    def make(folder: str | Path | None) -> Home:
        """Return the home of a new session; None: a temporary folder."""
        if folder is None:
            return Home(Path(tempfile.mkdtemp(prefix="jointformer-")), temporary=True, create=True)
        return Home(make_dir(folder), create=True)

    @staticmethod
    def find(folder: Path) -> Home:
        """Return the home of a session that is kept. Raises DataError where there is none."""
        if not (folder / FILE).is_file():
            raise DataError("no session here", where=folder, expected=f"a folder with {FILE}")
        return Home(folder)

    def copy_to(self, folder: Path) -> None:
        """Write a compact copy into another folder, in place of a session there; OpenAlready where that is open."""
        lock = _lock(folder) if (folder / FILE).exists() else None
        try:
            self.store.copy_to(folder)
        finally:
            if lock is not None:
                lock.release()


def check_closed(folder: Path) -> None:
    """Raise OpenAlready where a session has the folder, OutputError."""
    _lock(folder).release()


def _lock(folder: Path) -> FileLock:
    """Return the lock of a session's folder, held. Raises OpenAlready where another session holds it, OutputError."""
    with writing(folder):
        lock = hold(folder / ".lock")
    if lock is None:
        raise OpenAlready("the session is open already", where=folder, hint="close it there first")
    return lock


def _close(process: int, store: Store, lock: FileLock, temporary: Path | None) -> None:
    if os.getpid() != process:  # a forked child, whose parent goes on with them
        return
    store.close()
    lock.release()
    if temporary is not None:
        shutil.rmtree(temporary, ignore_errors=True)
