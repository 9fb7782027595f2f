"""A session on disk: one SQLite file of small cells, with a journal from which edits are undone and redone.

The file is untrusted: nothing in it is executed or unpickled, and what the cells hold is checked by those who read it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from jointformer.session.database import Database

FILE = "session.db"
_HISTORY = 50  # edits that can be undone


class Kind(IntEnum):
    """What a cell holds."""

    OBJECT = 1  # value: json of name and colour; frame 0
    MASK = 2  # the user's mask as run lengths
    RESULT = 3  # a tracked mask as run lengths; score: its confidence; sides: from where it was tracked
    SOFT = 4  # packed probabilities of a frame; object 0
    HALF_FORWARD = 5  # packed probabilities seen from one side, until the other side joins; object 0
    HALF_BACKWARD = 6


@dataclass(frozen=True)
class Cell:
    """One row. edit: the number of the edit or tracking run that wrote it."""

    kind: Kind
    frame: int
    object: int
    value: bytes
    score: float = 0.0
    edit: int = 0
    sides: int = 0


class Store(Database):
    """Cells, edits and what is out of date, in the SQLite file.

    changes: how many edits of masks have begun, and edits been undone or done again, since the file was opened.
    Positions come again after an undo; this does not.
    """

    changes = 0

    # -- meta

    def meta(self, key: str, default: Any = None) -> Any:
        """Return a json value by its name."""
        with self._errors():
            row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        if row is None:
            return default
        try:
            return json.loads(row[0])
        except (TypeError, ValueError, RecursionError) as error:
            raise self._damaged(f"{key}: {error}") from error

    def set_meta(self, key: str, value: Any) -> None:
        """Keep a json value under a name."""
        with self._errors():
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, json.dumps(value)))

    # -- cells

    def cells(self, kind: Kind, *, frame: int | None = None, object_id: int | None = None) -> list[Cell]:
        """Return the cells of a kind by object, then frame, optionally of one frame or object only."""
        where, values = _where(kind, frame, object_id)
        query = f"SELECT frame, object, value, score, edit, sides FROM cells {where} ORDER BY object, frame"
        with self._errors():
            rows = self._db.execute(query, values).fetchall()
        return [self._cell(kind, *row) for row in rows]

    def rows(self, kind: Kind, object_id: int) -> list[tuple[int, float, int, int]]:
        """Return (frame, score, edit, sides) of an object's cells without their values."""
        query = "SELECT frame, score, edit, sides FROM cells WHERE kind = ? AND object = ?"
        with self._errors():
            found = self._db.execute(query, (int(kind), object_id)).fetchall()
        if any(type(v) is not t for row in found for v, t in zip(row, (int, float, int, int))):
            raise self._damaged("a cell of another type")
        return found

    def cell_frames(self, kind: Kind, object_id: int | None) -> list[int]:
        """Return the frames with a cell of a kind (and of an object), ascending; what the cells hold is not read."""
        where, values = _where(kind, None, object_id)
        with self._errors():
            rows = self._db.execute(f"SELECT DISTINCT frame FROM cells {where} ORDER BY frame", values).fetchall()
        if any(type(frame) is not int for (frame,) in rows):
            raise self._damaged("a frame that is no number")
        return [frame for (frame,) in rows]

    def put(self, cells: list[Cell], *, at: int | None) -> None:
        """Write cells, in place of those there; `at`: the edit from whose journal this can be undone."""
        for cell in cells:
            with self._errors():
                if at is not None:
                    self._note(at, cell.kind, cell.frame, cell.object)
                self._db.execute(
                    "INSERT OR REPLACE INTO cells VALUES (?, ?, ?, ?, ?, ?, ?)",
                    (int(cell.kind), cell.frame, cell.object, cell.value, cell.score, cell.edit, cell.sides),
                )

    def delete(self, kind: Kind, *, at: int | None, frame: int | None = None, object_id: int | None = None) -> None:
        """Remove cells of a kind, of one frame or object where given; `at` as for `put`."""
        if at is not None:
            for cell in self.cells(kind, frame=frame, object_id=object_id):
                self.put_journal(at, cell)
        where, values = _where(kind, frame, object_id)
        with self._errors():
            self._db.execute(f"DELETE FROM cells {where}", values)

    def drop(self, kind: Kind, low: int, high: int) -> None:
        """Remove the cells of a kind in frames low to high for good."""
        with self._errors():
            self._db.execute("DELETE FROM cells WHERE kind = ? AND frame BETWEEN ? AND ?", (int(kind), low, high))

    def frames(self, kind: Kind) -> tuple[int, int] | None:
        """Return the lowest and highest frame with a cell of a kind; None without any."""
        with self._errors():
            low, high = self._db.execute(
                "SELECT min(frame), max(frame) FROM cells WHERE kind = ?", (int(kind),)
            ).fetchone()
        if low is not None and (type(low) is not int or type(high) is not int):
            raise self._damaged("a frame that is no number")
        return None if low is None else (low, high)

    def put_journal(self, at: int, cell: Cell) -> None:
        """Keep a cell as it was before an edit, unless that edit has changed it already."""
        with self._errors():
            self._db.execute(
                "INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, 1, ?, ?, ?, ?)",
                (at, int(cell.kind), cell.frame, cell.object, cell.value, cell.score, cell.edit, cell.sides),
            )

    # -- edits

    @property
    def position(self) -> int:
        """The number of the newest edit in force; 0 before the first."""
        value = self.meta("position", 0)
        if type(value) is not int or not 0 <= value < 2**53:
            raise self._damaged(f"position {value!r}")
        return value

    def begin_edit(self, label: str, *, of_masks: bool = True) -> int:
        """Return the number of a new edit; what was undone before it can no longer be redone."""
        number = self.position + 1
        self.changes += of_masks
        with self._errors():
            for table, column in (("edits", "edit"), ("stale", "edit"), ("journal", "at")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} >= ?", (number,))
            for table, column in (("edits", "edit"), ("journal", "at")):
                self._db.execute(f"DELETE FROM {table} WHERE {column} <= ?", (number - _HISTORY,))
            self._db.execute("INSERT INTO edits VALUES (?, ?)", (number, label))
        self.set_meta("position", number)
        return number

    def mark_stale(self, edit: int, object_id: int, low: int, high: int) -> None:
        """Note that an edit made an object's results in frames low to high (both included) out of date."""
        with self._errors():
            self._db.execute("INSERT INTO stale VALUES (?, ?, ?, ?)", (edit, object_id, low, high))

    def stale_spans(self, object_id: int) -> list[tuple[int, int, int]]:
        """Return (edit, low, high) of an object's out-of-date spans in force."""
        query = "SELECT edit, low, high FROM stale WHERE object = ? AND edit <= ?"
        with self._errors():
            rows = self._db.execute(query, (object_id, self.position)).fetchall()
        if any(type(v) is not int for row in rows for v in row):
            raise self._damaged("a span of another type")
        return rows

    def history(self) -> tuple[str | None, str | None]:
        """Return the labels of the edits that undo and redo would take; None where there is none."""
        with self._errors():
            labels = dict(self._db.execute("SELECT edit, label FROM edits").fetchall())
        return labels.get(self.position), labels.get(self.position + 1)

    def undo(self) -> str | None:
        """Take back the newest edit and return its label; None where nothing can be undone."""
        label, number = self.history()[0], self.position
        if label is not None:
            self._swap(number)
            self.set_meta("position", number - 1)
        return label

    def redo(self) -> str | None:
        """Do the edit undone last again and return its label; None where there is none."""
        label, number = self.history()[1], self.position + 1
        if label is not None:
            self._swap(number)
            self.set_meta("position", number)
        return label

    # -- inside

    def _note(self, at: int, kind: Kind, frame: int, object_id: int) -> None:
        key = (int(kind), frame, object_id)
        self._db.execute(
            "INSERT OR IGNORE INTO journal SELECT ?, kind, frame, object, 1, value, score, edit, sides FROM cells"
            " WHERE kind = ? AND frame = ? AND object = ?",
            (at, *key),
        )
        # Ignored where the line above, or an earlier change of this edit, has noted the cell.
        self._db.execute("INSERT OR IGNORE INTO journal VALUES (?, ?, ?, ?, 0, NULL, 0, 0, 0)", (at, *key))

    def _swap(self, at: int) -> None:
        """Exchange the cells an edit changed with what its journal holds: undo and redo are the same."""
        self.changes += 1
        with self._errors():
            run = self._db.execute
            run("CREATE TEMP TABLE now AS SELECT * FROM journal WHERE at = ?", (at,))
            same = "c.kind = n.kind AND c.object = n.object AND c.frame = n.frame"
            run(
                "INSERT OR REPLACE INTO journal SELECT n.at, n.kind, n.frame, n.object, c.kind IS NOT NULL, c.value,"
                f" ifnull(c.score, 0), ifnull(c.edit, 0), ifnull(c.sides, 0) FROM now n LEFT JOIN cells c ON {same}"
            )
            run("DELETE FROM cells WHERE (kind, object, frame) IN (SELECT kind, object, frame FROM now)")
            run("INSERT INTO cells SELECT kind, frame, object, value, score, edit, sides FROM now WHERE existed = 1")
            run("DROP TABLE now")

    def _cell(
        self, kind: Kind, frame: object, number: object, value: object, score: object, edit: object, sides: object
    ) -> Cell:
        match frame, number, value, score, edit, sides:
            case int(), int(), bytes(), float(), int(), int():
                return Cell(kind, frame, number, value, score, edit, sides)
        raise self._damaged("a cell of another type")


def _where(kind: Kind, frame: int | None, object_id: int | None) -> tuple[str, list[int]]:
    """Return (clause, its values) for the cells of a kind, of one frame or object where given."""
    # Left to itself SQLite goes through all cells of the kind to find a frame's: through the whole video.
    index = "INDEXED BY cells_by_frame " if frame is not None and object_id is None else ""
    where, values = index + "WHERE kind = ?", [int(kind)]
    for name, value in (("frame", frame), ("object", object_id)):
        if value is not None:
            where += f" AND {name} = ?"
            values.append(value)
    return where, values
