"""An SQLite file of ours, opened safely: its tables must be exactly ours, and its errors become one line."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from jointformer.errors import DataError, OutputError
from jointformer.system.files import atomic_path

_APPLICATION = 0x4A46_5331  # "JFS1"

_TABLES = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "cells": (
        "CREATE TABLE cells (kind INTEGER, frame INTEGER, object INTEGER, value BLOB, score REAL, edit INTEGER,"
        " sides INTEGER, PRIMARY KEY (kind, object, frame)) WITHOUT ROWID"
    ),
    "edits": "CREATE TABLE edits (edit INTEGER PRIMARY KEY, label TEXT NOT NULL)",
    "journal": (
        "CREATE TABLE journal (at INTEGER, kind INTEGER, frame INTEGER, object INTEGER, existed INTEGER, value BLOB,"
        " score REAL, edit INTEGER, sides INTEGER, PRIMARY KEY (at, kind, object, frame)) WITHOUT ROWID"
    ),
    "stale": "CREATE TABLE stale (edit INTEGER, object INTEGER, low INTEGER, high INTEGER)",
}
#: What a journal ends with that belongs to several files, behind the name of the journal of them all.
_OF_SEVERAL = bytes.fromhex("d9d505f920a163d7")
_FRAMES = "CREATE INDEX cells_by_frame ON cells (kind, frame)"


class Database:
    """The open file. Not thread-safe by itself: whoever uses it holds `lock`.

    thorough: all of it is looked through for damage first, at a second per GB; else what is damaged is said when it
    is read.
    """

    def __init__(self, path: Path, *, create: bool, thorough: bool = True) -> None:
        self.path = path
        self.lock = threading.RLock()
        if not create and not path.is_file():
            raise DataError("no session here", where=path.parent, expected=f"a folder with {path.name}")
        _refuse_journal_of_several(path)
        with self._errors():
            self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            with self._errors():
                self._harden()
                if create and not self._tables():
                    self._make_tables()
                self._check(thorough)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file when nobody is at it; what was written stays."""
        with self.lock, self._errors():  # closed under another thread's query it ends the process
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """A block whose writes are kept together or not at all, whatever happens to the process."""
        try:
            with self._errors():
                self._db.execute("BEGIN IMMEDIATE")
            yield
            with self._errors():
                self._db.execute("COMMIT")
        except BaseException:  # Ctrl-C may also come just behind one of the two
            with suppress(sqlite3.ProgrammingError):  # it is closed
                if self._db.in_transaction:
                    self._db.rollback()
            raise

    def copy_to(self, folder: Path) -> None:
        """Write a compact copy into another folder, whole or not at all. Raises OutputError."""
        target = folder / self.path.name
        with atomic_path(target) as temporary, self._errors():
            self._db.execute("VACUUM INTO ?", (str(temporary),))
            for log in ("-wal", "-shm"):  # a killed process's, which would be played into the copy
                target.with_name(target.name + log).unlink(missing_ok=True)

    # -- inside

    def _harden(self) -> None:
        defensive = getattr(sqlite3, "SQLITE_DBCONFIG_DEFENSIVE", None)
        if defensive is not None:  # Python 3.12
            self._db.setconfig(defensive, True)  # type: ignore[attr-defined]
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "busy_timeout = 5000"):
            self._db.execute(f"PRAGMA {pragma}")

    def _tables(self) -> dict[str, str]:
        return dict(self._db.execute("SELECT name, sql FROM sqlite_schema WHERE sql IS NOT NULL").fetchall())

    def _make_tables(self) -> None:
        with self.transaction():
            for statement in (*_TABLES.values(), _FRAMES):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA application_id = {_APPLICATION}")

    def _check(self, thorough: bool) -> None:
        """Refuse a file whose tables are not exactly ours (a trigger or view would be someone else's program)."""
        application = self._db.execute("PRAGMA application_id").fetchone()[0]
        if application != _APPLICATION or self._tables() != {**_TABLES, "cells_by_frame": _FRAMES}:
            raise DataError("not a session of this version of JointFormer", where=self.path)
        if thorough and (problem := self._db.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise self._damaged(problem)
        # With a write-ahead log a frame costs one append, and a killed process leaves a valid file.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")

    def _damaged(self, what: str) -> DataError:
        return DataError("the session is damaged", where=self.path, got=what)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """SQLite's errors inside the block become ours, in one line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            hint = "free some space, or choose another folder" if "full" in str(error) else None
            raise OutputError(f"the session cannot be written: {error}", where=self.path, hint=hint) from error
        except sqlite3.ProgrammingError as error:
            raise DataError("the session is closed", where=self.path) from error
        except (sqlite3.DatabaseError, OverflowError) as error:
            raise self._damaged(str(error)) from error


def _refuse_journal_of_several(path: Path) -> None:
    """Refuse a file with a journal of several files, as SQLite would delete the one named there, whichever that is.

    Ours have none: they are written by themselves.
    """
    journal = os.path.realpath(path) + "-journal"  # SQLite follows links first, too
    if not os.path.isfile(journal):
        return
    try:
        with open(journal, "rb") as file:
            file.seek(max(0, os.path.getsize(journal) - len(_OF_SEVERAL)))
            end = file.read()
    except OSError as error:
        raise DataError("cannot be read", where=journal, got=error.strerror) from error
    if end == _OF_SEVERAL:
        raise DataError("not a session of JointFormer: its journal names another file", where=journal)
