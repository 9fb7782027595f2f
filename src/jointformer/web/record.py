"""What a project's folder says beside its session: name, dates, the run that was going on, the last frame seen."""

from __future__ import annotations

import json
import math
import os
import re
import threading
import time
import unicodedata
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jointformer.data.metas import is_plain_name
from jointformer.errors import DataError
from jointformer.session import DIRECTIONS, Direction
from jointformer.session.book import is_printable
from jointformer.session.store import FILE as SESSION
from jointformer.system.files import write_json

FILE = "project.json"
_LONGEST_NAME = 120


@dataclass(frozen=True)
class Range:
    """What is to be tracked: frames start to end, both included (None: the video's ends).

    since: the edit that a cut-off run which tracks all `again` was, to go on with it.
    """

    start: int | None = None
    end: int | None = None
    direction: Direction = "forward"
    again: bool = False
    since: int | None = None

    @staticmethod
    def parse(value: Any) -> Range:
        """Return the range of a JSON value. Raises DataError."""
        value = value if isinstance(value, dict) else {}
        start, end, since = value.get("start"), value.get("end"), value.get("since")
        direction, again = value.get("direction", "forward"), value.get("again", False)
        good = all(v is None or type(v) is int for v in (start, end, since)) and type(again) is bool
        if not good or direction not in DIRECTIONS:
            expected = f"start and end as frame numbers, direction as one of {', '.join(DIRECTIONS)}"
            raise DataError("frames to track", expected=expected)
        return Range(start, end, direction, again, since)


@dataclass(frozen=True)
class Record:
    """One project.json. tracking: the run that was neither finished nor stopped, by whatever end of the program."""

    name: str
    created: float
    opened: float
    tracking: Range | None = None
    frame: int = 0
    model: str = ""


class RecordFile:
    """A project.json; changes are written at once, whole or not at all."""

    def __init__(self, home: Path, record: Record) -> None:
        self._path = home / FILE
        self._lock = threading.Lock()
        self.record = record

    @staticmethod
    def load(home: Path) -> RecordFile:
        """Return a project's record. Raises DataError."""
        path = home / FILE
        try:
            value = json.loads(path.read_text("utf-8"))
            tracking = None if value["tracking"] is None else Range.parse(value["tracking"])
            dates = float(value["created"]), float(value["opened"])
            if not all(map(math.isfinite, dates)):  # which JSON knows not, but Python's reader takes
                raise ValueError("dates that are none")
            model = fitting_name(str(value["model"])) if value.get("model") else ""  # older ones do not tell
            record = Record(checked_name(value["name"]), *dates, tracking, max(0, int(value["frame"])), model)
        except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            raise DataError("not a project of the web tool", where=home, got=str(error)[:120]) from error
        return RecordFile(home, record)

    @staticmethod
    def of(home: Path) -> RecordFile:
        """Return a project's record; for a session that Python keeps there, one that the first change writes.

        Raises DataError.
        """
        if (home / FILE).is_file():
            return RecordFile.load(home)
        try:
            changed = (home / SESSION).stat().st_mtime
        except OSError as error:
            raise DataError("not a project of the web tool", where=home, got=error.strerror) from error
        return RecordFile(home, Record(fitting_name(home.name), changed, changed))

    @staticmethod
    def create(home: Path, name: str) -> RecordFile:
        """Return the record of a new project. Raises DataError, OutputError."""
        now = time.time()
        file = RecordFile(home, Record(checked_name(name), now, now))
        file.update()
        return file

    def update(self, **changes: Any) -> None:
        """Change fields and write the file. Raises OutputError."""
        with self._lock:
            record = replace(self.record, **changes)
            write_json(self._path, asdict(record))
            self.record = record  # not before: what cannot be written has not changed


def is_project(folder: Path, name: str) -> bool:
    """Whether a folder has a project of this name, or a session that Python keeps there, which is one as well.

    Its name may be any that people can read; hidden ones, and those that lead elsewhere, are none.
    """
    plain = is_plain_name(name) and is_printable(name) and len(name.encode()) < 256
    if not plain or name.startswith(".") or ":" in name:  # C: is a drive
        return False
    return any(os.path.isfile(folder / name / file) for file in (FILE, SESSION))  # no, too, in a closed folder


def checked_name(name: object) -> str:
    """Return a project's name without surrounding blanks. Raises DataError for none, unprintable or long ones."""
    text = name.strip() if isinstance(name, str) else ""
    if not text or not is_printable(text) or len(text) > _LONGEST_NAME:
        raise DataError("name of a project", expected=f"1 to {_LONGEST_NAME} printable characters")
    return text


def fitting_name(text: str) -> str:
    """Return a file's name, which may hold anything, as a project's."""
    return "".join(c if is_printable(c) else " " for c in text)[:_LONGEST_NAME].strip() or "video"


def slug(name: str) -> str:
    """Return a name as a part of a file name: small letters without marks, digits and hyphens."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name.casefold()) if not unicodedata.combining(c))
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-")[:40] or "project"
