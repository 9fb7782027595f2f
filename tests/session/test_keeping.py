"""Sessions on disk: saved, found again, killed in the middle, handed over by strangers."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import re
import signal
import sqlite3
import struct
import threading
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jointformer.data.video import open_video
from jointformer.data.video_writer import VideoWriter, h264
from jointformer.errors import ConfigError, DataError, OutputError
from jointformer.session import FrameResult, Session, stored_video
from jointformer.session.store import FILE, Cell, Kind, Store
from jointformer.track import TrackerConfig
from session.scripted import H, ScriptedSession, W, damage, square, video


def labels_of(session: Session) -> list[np.ndarray]:
    return [session.result(t).label_map for t in range(30)]


def test_a_session_is_found_again_as_it_was(kept: Path) -> None:
    with ScriptedSession.load(kept, video=video()) as session:
        assert session.objects[0].name == "cat"
        assert session.annotated_frames == (0,)
        assert session.config.max_memory_frames == 7
        assert [session.status(t) for t in (0, 20, 21)] == ["annotated", "tracked", "none"]
        assert [frame for frame, _ in session.propagate()] == list(range(21, 30))
        assert session.undo() == "track"


def test_the_last_50_edits_are_undone_also_after_a_restart(kept: Path) -> None:
    with ScriptedSession.load(kept, video=video()) as session:
        for number in range(60):
            session.set_object(1, name=f"cat {number}")
    with ScriptedSession.load(kept, video=video()) as session:
        undone = [session.undo() for _ in range(51)]
        assert undone == [*["object"] * 50, None]
        assert session.objects[0].name == "cat 9"


def test_a_memory_limit_is_the_processs_and_stays_out_of_the_session(tmp_path: Path) -> None:
    config = TrackerConfig(max_memory_frames=7, memory_limit=10**12)
    with ScriptedSession(video(), folder=tmp_path / "kept", model="tiny", config=config) as session:
        kept = set(session._store.meta("config"))
    # What sessions have always stored: another field would keep every older one from being opened.
    assert kept == {
        "max_memory_frames", "memory_every", "include_last", "topk", "topk_range", "topk_blocks", "token_topk", "size",
        "objects_per_pass", "compile",
    }  # fmt: skip
    with ScriptedSession.load(tmp_path / "kept", video=video()) as session:
        assert session.config == TrackerConfig(max_memory_frames=7)


def test_save_writes_a_copy_that_opens(session: Session, tmp_path: Path) -> None:
    session.add_masks(0, {1: square(0)})
    list(session.propagate())
    with pytest.raises(ConfigError, match="give save a path"):
        session.save()
    folder = session.save(tmp_path / "copy")
    session.add_masks(5, {2: square(5, 14)})
    with ScriptedSession.load(folder, video=session.video) as copy:
        assert [o.id for o in copy.objects] == [1]
        for a, b in zip(labels_of(copy)[:5], labels_of(session)[:5]):
            assert np.array_equal(a, b)


def test_a_saved_copy_takes_the_place_of_a_killed_session_and_of_no_open_one(session: Session, kept: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_track_and_die, args=(kept,))
    process.start()
    process.join(60)
    assert (kept / f"{FILE}-wal").exists()
    session.add_masks(3, {7: square(3)})
    session.save(kept)
    with ScriptedSession.load(kept, video=video()) as copy:
        assert [one.id for one in copy.objects] == [7]
        with pytest.raises(DataError, match="open already"):
            session.save(kept)
        copy.add_masks(4, {8: square(4)})
    with ScriptedSession.load(kept, video=video()) as copy:
        assert copy.annotated_frames == (3, 4)


def test_closing_waits_for_whoever_is_at_work(session: Session) -> None:
    closing = threading.Thread(target=session.close)
    with session._book.lock:
        closing.start()
        closing.join(0.2)
        assert closing.is_alive()
        session.add_masks(0, {1: square(0)})
    closing.join()
    with pytest.raises(DataError, match="the session is closed"):
        session.result(0)


def test_nobody_waits_for_a_model_that_is_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    begun, known = threading.Event(), threading.Event()

    def load_model(*_: object) -> None:
        begun.set()
        assert known.wait(10)

    monkeypatch.setattr("jointformer.session.session.load_model", load_model)
    with ScriptedSession(video()) as session:
        loading = threading.Thread(target=lambda: session.model)
        loading.start()
        assert begun.wait(10)
        reading = threading.Thread(target=lambda: session.result(0))
        reading.start()
        reading.join(5)
        waits = reading.is_alive()
        known.set()
        loading.join()
        reading.join()
    assert not waits


def test_a_forked_childs_end_leaves_the_parents_session_alone() -> None:
    with ScriptedSession(video()) as session:
        session.add_masks(0, {1: square(0)})
        child = multiprocessing.get_context("fork").Process(target=session.close)
        child.start()
        child.join(60)
        assert (child.exitcode, session.folder.is_dir()) == (0, True)
        assert list(session.propagate())


def test_a_folder_holds_one_session_open_in_one_place(kept: Path) -> None:
    with pytest.raises(DataError, match="holds a session already"):
        ScriptedSession(video(), folder=kept)
    with ScriptedSession.load(kept, video=video()), pytest.raises(DataError, match="open already"):
        ScriptedSession.load(kept, video=video())
    ScriptedSession.load(kept, video=video()).close()


@pytest.mark.parametrize("tables", [False, True])
def test_a_session_whose_process_died_beginning_it_is_begun_anew(tmp_path: Path, tables: bool) -> None:
    if tables:
        Store(tmp_path / FILE, create=True).close()
        with pytest.raises(DataError, match="no session here, got one whose process died beginning it"):
            ScriptedSession.load(tmp_path, video=video())
    else:
        (tmp_path / FILE).touch()
    with ScriptedSession(video(), folder=tmp_path) as session:
        session.add_masks(0, {1: square(0)})
    with ScriptedSession.load(tmp_path, video=video()) as session:
        assert session.annotated_frames == (0,)


def test_a_session_of_another_video_is_refused(kept: Path) -> None:
    with pytest.raises(DataError, match="a session of another video"):
        ScriptedSession.load(kept, video=video(29))
    with pytest.raises(DataError, match=r"video is not there.*give video="):
        ScriptedSession.load(kept)


def test_the_video_is_found_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(video(4)):
        Image.fromarray(frame).save(folder / f"{t}.png")
    monkeypatch.chdir(tmp_path)
    ScriptedSession("frames", folder="kept").close()
    monkeypatch.chdir("/")
    assert stored_video(tmp_path / "kept") == folder.resolve()
    with ScriptedSession.load(tmp_path / "kept") as session:
        assert len(session) == 4
    with pytest.raises(DataError, match="no session here"):
        ScriptedSession.load(folder)
    assert not (folder / ".lock").exists()
    folder.rename(tmp_path / "moved")
    gone = re.escape(f"the session's video is not there, got nothing at {folder.resolve()}; give video=")
    with pytest.raises(DataError, match=gone):
        ScriptedSession.load(tmp_path / "kept")
    with ScriptedSession.load(tmp_path / "kept", video=str(tmp_path / "moved")) as session:
        assert len(session) == 4


def test_pictures_keep_the_rate_that_they_were_given(tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(video(2)):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t}.png")
    rate = Fraction(24000, 1001)
    ScriptedSession(open_video(tmp_path / "frames", fps=rate), folder=tmp_path / "kept").close()
    for given in (None, tmp_path / "frames", str(tmp_path / "frames")):
        with ScriptedSession.load(tmp_path / "kept", video=given) as session:
            assert session.video.fps == rate


def _track_and_die(folder: Path) -> None:
    with ScriptedSession.load(folder, video=video()) as session:
        for frame, _ in session.propagate():
            if frame == 25:
                os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_propagation_loses_nothing_finished(kept: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_track_and_die, args=(kept,))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    with ScriptedSession.load(kept, video=video()) as session:
        assert [session.status(t) for t in (25, 26)] == ["tracked", "none"]
        assert [frame for frame, _ in session.propagate()] == list(range(26, 30))


class InterruptedConnection:
    """A connection in which Ctrl-C comes once, before or behind one statement."""

    def __init__(self, connection: sqlite3.Connection, statement: str, when: str) -> None:
        self._connection, self._statement, self._when = connection, statement, when

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> sqlite3.Cursor:
        hit = statement.startswith(self._statement)
        if hit:
            self._statement = "none more"
        if hit and self._when == "before":
            raise KeyboardInterrupt
        cursor = self._connection.execute(statement, *values)
        if hit:
            raise KeyboardInterrupt
        return cursor


@pytest.mark.parametrize(
    ("statement", "when", "there"),
    [("BEGIN", "before", ()), ("BEGIN", "behind", ()), ("COMMIT", "before", ()), ("COMMIT", "behind", (0,))],
)
def test_ctrl_c_at_either_end_of_a_transaction_leaves_a_session_that_works(
    session: Session, statement: str, when: str, there: tuple[int, ...]
) -> None:
    connection: Any = InterruptedConnection(session._store._db, statement, when)
    session._store._db = connection
    with pytest.raises(KeyboardInterrupt):
        session.add_masks(0, {1: square(0)})
    assert session.annotated_frames == there
    session.add_masks(0, {1: square(1)})
    assert session.undo() == "masks"
    assert session.annotated_frames == there


def use_everything(folder: Path) -> None:
    with ScriptedSession.load(folder, video=video()) as session:
        session.timeline()
        labels_of(session)
        list(session.propagate())


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        ("CREATE TRIGGER t AFTER INSERT ON cells BEGIN DELETE FROM cells; END", ()),
        ("CREATE VIEW v AS SELECT * FROM cells", ()),
        ("CREATE TABLE more (x)", ()),
        ("PRAGMA application_id = 7", ()),
        ("UPDATE meta SET value = '[' WHERE key = 'config'", ()),
        ("UPDATE meta SET value = '{\"size\": 1}' WHERE key = 'config'", ()),
        ("UPDATE meta SET value = ? WHERE key = 'model'", ('"../../evil.pth"',)),
        ("UPDATE meta SET value = '\"x\"' WHERE key = 'position'", ()),
        ("UPDATE meta SET value = 'null' WHERE key = 'facts'", ()),
        ("UPDATE cells SET frame = 4000 WHERE kind = 3 AND frame = 9", ()),
        ("UPDATE cells SET frame = -1 WHERE kind = 2", ()),
        ("UPDATE cells SET frame = 'x' WHERE kind = 2", ()),
        ("UPDATE cells SET object = 'x' WHERE kind = 1", ()),
        ("UPDATE cells SET value = '{}' WHERE kind = 1", ()),
        ("UPDATE cells SET value = ? WHERE kind = 1", (b'{"name": "a\\u0000b", "colour": [1, 2, 3]}',)),
        ("UPDATE cells SET value = ? WHERE kind = 1", (b"[" * 100_000,)),
        ("UPDATE cells SET value = ? WHERE kind = 2", (b"PPPPPPPPPPPPPPPPP",)),
        ("UPDATE cells SET value = ? WHERE kind = 2", (b"\xff\x00",)),
        ("UPDATE cells SET value = NULL WHERE kind = 3", ()),
        ("UPDATE cells SET score = 'x' WHERE kind = 3", ()),
        ("UPDATE cells SET edit = 1e300 WHERE kind = 3", ()),
    ],
)
def test_a_strangers_session_is_refused_in_one_line(kept: Path, statement: str, values: tuple[object, ...]) -> None:
    damage(kept, statement, *values)
    with pytest.raises((DataError, ConfigError)) as error:
        use_everything(kept)
    assert "\n" not in str(error.value)


def write_journal_of_several(database: Path, named: Path) -> None:
    """Leave a journal beside a closed database, as of a process that was killed while it wrote to several."""
    with sqlite3.connect(database) as db:
        db.execute("PRAGMA journal_mode = DELETE")
        pages, page_size = (db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "page_size"))
    db.close()
    magic, name = bytes.fromhex("d9d505f920a163d7"), os.fsencode(named)
    head = magic + struct.pack(">5I", 0, 1, pages, 512, page_size)
    end = struct.pack(">I", 2**30 // page_size + 1) + name + struct.pack(">2I", len(name), sum(name)) + magic
    database.with_name(database.name + "-journal").write_bytes(head.ljust(512, b"\0") + end)


@pytest.mark.parametrize("linked", [False, True], ids=["", "linked"])
def test_a_strangers_journal_deletes_no_file(kept: Path, tmp_path: Path, linked: bool) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    database = kept / FILE
    if linked:
        database = database.rename(kept / "other.db")
        (kept / FILE).symlink_to(database)
    write_journal_of_several(database, precious)
    for use in (use_everything, stored_video, lambda folder: ScriptedSession(video(), folder=folder)):
        with pytest.raises(DataError, match="its journal names another file"):
            use(kept)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("name", [".lock", "session.db-wal", "session.db-shm", "session.db-journal"])
def test_links_in_a_strangers_session_lead_nowhere(kept: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "precious"
    precious.write_text("mine")
    (kept / name).unlink(missing_ok=True)
    (kept / name).symlink_to(precious)
    with suppress(DataError, OutputError):
        use_everything(kept)
    assert precious.read_text() == "mine"


@pytest.mark.parametrize("cut", [0, 100, 5000, 20000])
def test_a_damaged_file_is_refused_in_one_line(kept: Path, cut: int) -> None:
    data = (kept / "session.db").read_bytes()
    (kept / "session.db").write_bytes(data[:cut] + b"\xaa" * 3000 + data[cut + 3000 :] if cut else b"")
    with pytest.raises((DataError, OutputError)) as error:
        use_everything(kept)
    assert "\n" not in str(error.value)


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot be written"):
        ScriptedSession(video(), folder=tmp_path / "file" / "in")


def test_nothing_but_masks_settings_and_names_is_kept(kept: Path) -> None:
    """No frames, no weights, no pickles: what is kept can be given away."""
    with sqlite3.connect(kept / "session.db") as db:
        meta = dict(db.execute("SELECT key, value FROM meta"))
        kinds = {row[0] for row in db.execute("SELECT DISTINCT kind FROM cells")}
    db.close()
    assert set(meta) == {"video", "facts", "model", "config", "keep_soft", "position"}
    assert json.loads(meta["facts"]) == {"frames": 30, "height": H, "width": W, "fps": "25"}
    assert kinds == {1, 2, 3}


def test_a_frames_masks_are_found_as_quickly_in_a_long_video_as_in_a_short_one(tmp_path: Path) -> None:
    steps = {}
    for length in (50, 2000):
        store = Store(tmp_path / f"{length}.db", create=True)
        with store.transaction():
            cells = [Cell(Kind.RESULT, t, i, b"mask") for t in range(length) for i in (1, 2)]
            store.put(cells, at=None)
        count: list[None] = []
        store._db.set_progress_handler(partial(count.append, None), 1)  # called at each of SQLite's operations
        assert [(cell.frame, cell.object) for cell in store.cells(Kind.RESULT, frame=7)] == [(7, 1), (7, 2)]
        steps[length] = len(count)
        store.close()
    assert steps[2000] <= steps[50] < 100


def test_which_frames_are_annotated_is_known_without_reading_their_masks(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    for frame in (5, 0, 9):
        session.add_masks(frame, {1: square(frame)})
    read: list[Kind] = []
    cells = Store.cells

    def counted(store: Store, kind: Kind, **where: int | None) -> list[Cell]:
        read.append(kind)
        return cells(store, kind, **where)

    monkeypatch.setattr(Store, "cells", counted)
    assert session.annotated_frames == (0, 5, 9)
    assert session.timeline()[0].tolist().count(1) == 3
    assert session.plan().steps()
    assert Kind.MASK not in read


def test_an_export_reads_each_frames_result_once(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    asked: list[int] = []
    result = Session.result

    def counted(self: Session, frame: int) -> FrameResult:
        asked.append(frame)
        return result(self, frame)

    monkeypatch.setattr(Session, "result", counted)
    session.export("burst", tmp_path / "burst.json", start=0, end=3)
    assert asked == [0, 1, 2, 3]


def test_a_closed_session_says_so(kept: Path) -> None:
    session = ScriptedSession.load(kept, video=video())
    session.close()
    session.close()
    with pytest.raises(DataError, match="the session is closed"):
        session.result(3)
    with pytest.raises(DataError, match="the session is closed"):
        session.undo()


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="open files are counted as Linux lists them")
def test_a_closed_session_lets_go_of_its_video(tmp_path: Path) -> None:
    path = tmp_path / "grey.mp4"
    with VideoWriter(path, Fraction(24), (16, 16), codec=h264(12)) as writer:
        for t in range(10):
            writer.write(np.full((16, 16, 3), 6 * t, np.uint8))

    def opened() -> int:
        return [os.path.realpath(entry) for entry in Path("/proc/self/fd").iterdir()].count(os.path.realpath(path))

    session = ScriptedSession(path)
    before = session.frame(3)
    assert opened() == 1
    gc.disable()  # without it nobody would free a decoder that is forgotten
    try:
        session.close()
        assert opened() == 0
    finally:
        gc.enable()
    assert np.array_equal(session.frame(3), before)
