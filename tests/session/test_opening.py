"""Sessions opened again: what they keep of their surroundings, and what is refused."""

from __future__ import annotations

import errno
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jointformer.errors import ConfigError, DataError, OutputError
from jointformer.session import stored_video
from session.scripted import H, ScriptedSession, W, damage, video


@pytest.mark.parametrize("keep_soft", [False, True])
def test_whether_probabilities_are_kept_is_kept(tmp_path: Path, keep_soft: bool) -> None:
    ScriptedSession(video(), folder=tmp_path / "kept", keep_soft=keep_soft).close()
    with ScriptedSession.load(tmp_path / "kept", video=video()) as session:
        assert session.keep_soft is keep_soft


def test_whether_probabilities_are_kept_is_yes_or_no(tmp_path: Path) -> None:
    neither: Any = "no"  # what was kept of it could not be opened again
    with pytest.raises(ConfigError, match=r"^keep_soft, expected True or False, got 'no'$"):
        ScriptedSession(video(), folder=tmp_path / "kept", keep_soft=neither)
    assert not (tmp_path / "kept").exists()


def test_a_refused_session_leaves_its_folder_free_also_while_the_error_is_looked_at(kept: Path) -> None:
    with pytest.raises(DataError, match="holds a session already") as first:
        ScriptedSession(video(), folder=kept)
    with pytest.raises(DataError, match="another video") as second:
        ScriptedSession.load(kept, video=video(29))
    damage(kept, "PRAGMA application_id = 7")
    with pytest.raises(DataError, match="not a session") as third:
        ScriptedSession.load(kept, video=video())
    damage(kept, "PRAGMA application_id = 0x4A465331")
    ScriptedSession.load(kept, video=video()).close()
    assert all(len(error.traceback) > 1 for error in (first, second, third))


def test_a_folder_that_cannot_be_locked_is_told(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("jointformer.system.locks.FileLock.acquire", refuse)
    with pytest.raises(OutputError, match="the file system is read-only"):
        ScriptedSession.load(kept, video=video())


@pytest.mark.usefixtures("no_locks")
def test_a_folder_on_a_file_system_without_locks_is_told_and_nothing_begins_there(tmp_path: Path) -> None:
    # SQLite writes no session there either, and says "disk I/O error".
    with pytest.raises(OutputError, match=r"^\S*new: this file system has no file locks; choose another folder"):
        ScriptedSession(video(), folder=tmp_path / "new")
    assert not (tmp_path / "new" / "session.db").exists()


def test_a_session_with_a_folder_is_saved_there_already(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(kept.parent)
    with ScriptedSession.load(kept, video=video()) as session:
        assert session.save() == kept
        for same in (kept, "kept", kept / ".." / "kept"):
            assert session.save(same) == kept


def test_the_model_of_a_loaded_session_is_the_given_one_else_its_own(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[object, ...]] = []
    monkeypatch.setattr("jointformer.session.session.load_model", lambda *given: asked.append(given))
    for name in ("s012", None):
        with ScriptedSession.load(kept, video=video(), model=name, device="cpu", precision="float32") as session:
            _ = session.model
    assert asked == [("s012", "cpu", "float32"), ("tiny", "cpu", "float32")]


@pytest.mark.parametrize("model", ["weights/own.pth", "own.safetensors", "x" * 64])
def test_a_model_that_is_a_file_is_not_kept_and_has_to_be_given(tmp_path: Path, model: str) -> None:
    ScriptedSession(video(), folder=tmp_path / "kept", model=model).close()
    message = "this session's model has no name; give Session.load the model"
    with ScriptedSession.load(tmp_path / "kept", video=video()) as session, pytest.raises(ConfigError, match=message):
        _ = session.model


@pytest.mark.parametrize("rate", ["5", "x", "0", "1/0", "-1", "9" * 50, 25, None])
def test_a_strangers_rate_is_another_videos(tmp_path: Path, rate: object) -> None:
    (tmp_path / "frames").mkdir()
    Image.fromarray(video(1)[0]).save(tmp_path / "frames" / "0.png")
    ScriptedSession(tmp_path / "frames", folder=tmp_path / "kept").close()
    facts = json.dumps({"frames": 2, "height": H, "width": W, "fps": rate})
    damage(tmp_path / "kept", "UPDATE meta SET value = ? WHERE key = 'facts'", facts)
    with pytest.raises(DataError, match="a session of another video"):
        ScriptedSession.load(tmp_path / "kept")


@pytest.mark.parametrize("path", [5, ["frames"], "a\0b"])
def test_a_strangers_path_that_is_none_is_refused(kept: Path, path: object) -> None:
    damage(kept, "UPDATE meta SET value = ? WHERE key = 'video'", json.dumps(path))
    for use in (stored_video, ScriptedSession.load):
        with pytest.raises(DataError, match="a session with a damaged path"):
            use(kept)


def test_only_who_opens_a_session_looks_through_all_of_it(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    connect = sqlite3.connect

    def listened(*given: Any, **named: Any) -> sqlite3.Connection:
        connection = connect(*given, **named)
        connection.set_trace_callback(asked.append)
        return connection

    monkeypatch.setattr("jointformer.session.database.sqlite3.connect", listened)
    stored_video(kept)  # of every project, each time that their list is shown
    assert asked
    assert not any("quick_check" in statement for statement in asked)
    ScriptedSession.load(kept, video=video()).close()
    assert any("quick_check" in statement for statement in asked)
