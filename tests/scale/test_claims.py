"""Processes that share an output folder: locks whose folder goes, videos in work."""

from __future__ import annotations

import errno
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jointformer.data.writer import SCORES, ResultWriter
from jointformer.errors import DataError, OutputError
from jointformer.evaluation.manyvideos import Part, VideoJob
from jointformer.evaluation.scale import claims
from jointformer.evaluation.scale.claims import RUN, RunFolder
from jointformer.evaluation.scale.manifest import MANIFEST, read_manifest
from jointformer.evaluation.scale.shards import fold, join_run

SETTINGS = {"command": "track"}
VIDEO = VideoJob("v", Path("v.mp4"), Path("v.png"), Part(), (1, 1), 1, 1, 1)


def test_shards_that_end_together_all_end_well(tmp_path: Path) -> None:
    manifest = join_run(tmp_path, SETTINGS, [VIDEO], 1)
    RunFolder(tmp_path, manifest.run).write_record("v", {"state": "finished", "frames": 1})
    (tmp_path / "v").mkdir()
    together = threading.Barrier(8)

    def end() -> list[str]:
        together.wait()
        return list(fold(tmp_path).videos)

    with ThreadPoolExecutor(8) as shards:
        ends = [shards.submit(end) for _ in range(8)]
    assert [one.result() for one in ends] == [["v"]] * 8
    assert not (tmp_path / RUN).exists()


def test_a_finished_video_stays_finished_whatever_another_process_met_later(tmp_path: Path) -> None:
    manifest = join_run(tmp_path, SETTINGS, [VIDEO], 1)
    manifest.add("v", {"state": "failed", "error": "the disk is full"})
    assert manifest.failed == {"v": "the disk is full"}
    manifest.add("v", {"state": "finished", "frames": 3})
    manifest.add("v", {"state": "failed", "error": "the disk is full"})
    assert (manifest.videos["v"].frames, manifest.failed) == (3, {})


def test_a_failure_told_later_does_not_take_the_place_of_a_finished_videos_record(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, join_run(tmp_path, SETTINGS, [VIDEO], 1).run)
    run.write_record("v", {"state": "finished", "frames": 3})
    (tmp_path / "v").mkdir()
    run.write_record("v", {"state": "failed", "error": "the disk is full"})
    manifest = fold(tmp_path)
    assert (manifest.videos["v"].frames, manifest.failed) == (3, {})


def test_a_video_that_another_process_has_finished_is_known_with_what_it_took(tmp_path: Path) -> None:
    run = RunFolder(tmp_path, join_run(tmp_path, SETTINGS, [VIDEO], 1).run)
    run.write_record("v", {"state": "finished", "frames": 3})
    assert run.finished(tmp_path, "v") is None  # the process may die before the folder has its name
    (tmp_path / "v").mkdir()
    found = run.finished(tmp_path, "v")
    assert found is not None
    assert found.frames == 3


def test_a_record_is_read_until_it_is_in_the_manifest_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = [replace(VIDEO, name=name) for name in ("v", "w")]
    run, read = RunFolder(tmp_path, join_run(tmp_path, SETTINGS, jobs, 2).run), []
    original = Path.read_text

    def note(self: Path, *args: Any, **options: Any) -> str:
        read.extend([self.parent.name] * (self.parent.name == RUN))
        return original(self, *args, **options)

    monkeypatch.setattr(Path, "read_text", note)
    for name, times in (("v", 1), ("w", 3)):
        run.write_record(name, {"state": "finished", "frames": 7})
        assert name not in fold(tmp_path).videos, "its folder is not there yet"
        (tmp_path / name).mkdir()
        assert fold(tmp_path).videos[name].frames == 7
        assert len(read) == times + 1
    manifest = fold(tmp_path)
    assert (sorted(manifest.videos), len(read)) == (["v", "w"], 4)


def test_the_folder_of_claims_is_made_again_for_whoever_waits(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)

    def wait() -> bool:
        with RunFolder(tmp_path).manifest_lock():
            return True

    with ThreadPoolExecutor(1) as waiter:
        with run.manifest_lock():
            waiting = waiter.submit(wait)
            while not waiting.running():
                pass
            run.clear()
        assert waiting.result(timeout=30)


@pytest.mark.usefixtures("no_locks")
def test_a_file_system_without_locks_is_refused(tmp_path: Path) -> None:
    told = r"^\S*\.run: this file system has no file locks"
    with pytest.raises(OutputError, match=told), RunFolder(tmp_path).claim("v"):
        pass


def test_a_file_in_place_of_the_folder_of_claims_is_one_line(tmp_path: Path) -> None:
    (tmp_path / RUN).write_text("")
    with pytest.raises(OutputError, match=r"\.run: cannot be written: a file is in the way"):
        fold(tmp_path)


def deny(monkeypatch: pytest.MonkeyPatch, name: Path) -> None:
    """Let a name not be there until its folder is looked at, as on NFS, which remembers what was not there."""
    denied, scandir = {name}, os.scandir

    def look(path: Any = ".") -> Any:
        if Path(path) == name.parent:
            denied.clear()
        return scandir(path)

    def denying(original: Any) -> Any:
        def ask(self: Path, *args: Any, **options: Any) -> Any:
            if self in denied:
                raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(self))
            return original(self, *args, **options)

        return ask

    monkeypatch.setattr(os, "scandir", look)
    for method in ("read_text", "stat"):
        monkeypatch.setattr(Path, method, denying(getattr(Path, method)))


def test_a_run_that_began_meanwhile_is_seen_where_a_mount_remembers_that_none_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = join_run(tmp_path, SETTINGS, [VIDEO], 1)
    deny(monkeypatch, tmp_path / MANIFEST)
    assert join_run(tmp_path, SETTINGS, [VIDEO], 1).run == first.run


@pytest.mark.parametrize("what", ["its folder", "its record"])
def test_a_video_that_was_finished_meanwhile_is_seen_where_a_mount_remembers_that_it_was_not_there(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path, join_run(tmp_path, SETTINGS, [VIDEO], 1).run)
    run.write_record("v", {"state": "finished", "frames": 3})
    (tmp_path / "results/v").mkdir(parents=True)
    (record,) = run.path.glob("*.json")
    deny(monkeypatch, record if what == "its record" else tmp_path / "results/v")
    found = run.finished(tmp_path / "results", "v")
    assert found is not None
    assert found.frames == 3


def stale(monkeypatch: pytest.MonkeyPatch, holder: Any, name: str, times: int) -> None:
    """Let a function say so many times that what it opened has been replaced on the server."""
    left, original = [None] * times, getattr(holder, name)

    def ask(*args: Any, **options: Any) -> Any:
        if left:
            left.pop()
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), str(args[0]))
        return original(*args, **options)

    monkeypatch.setattr(holder, name, ask)


def test_files_that_other_machines_replace_meanwhile_are_opened_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = join_run(tmp_path, SETTINGS, [VIDEO], 1).run
    stale(monkeypatch, Path, "read_text", 3)
    stale(monkeypatch, claims, "hold", 3)
    with RunFolder(tmp_path, run).manifest_lock():
        manifest = read_manifest(tmp_path)
    assert manifest is not None
    assert manifest.run == run


def test_nobody_is_told_to_overwrite_a_run_whose_manifest_cannot_be_read_now(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / MANIFEST).mkdir()
    with pytest.raises(DataError, match=rf"{MANIFEST}: cannot be read: \w[^;]*$"):
        read_manifest(tmp_path)
    stale(monkeypatch, Path, "read_text", 1000)
    with pytest.raises(DataError, match=rf"{MANIFEST}: cannot be read: \w[^;]*$"):
        read_manifest(tmp_path)


@pytest.mark.parametrize("how", ["its process seems dead", "it seems old, and of another machine"])
def test_a_video_that_is_claimed_keeps_its_folder_in_work(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path)
    with run.claim("v") as mine:
        assert mine
        results = ResultWriter(tmp_path, "v", scores_root=tmp_path / SCORES).__enter__()
        results._pool.shutdown()
        assert results._scores is not None
        folders = [results._folder, results._scores]
        if how == "its process seems dead":
            monkeypatch.setattr(os, "kill", no_such_process)
        else:
            monkeypatch.setattr("jointformer.system.process._machine", lambda: "00000000")
            for folder in folders:
                os.utime(folder, (0, 0))
        join_run(tmp_path, SETTINGS, [VIDEO], 1)
        assert all(folder.is_dir() for folder in folders)
    join_run(tmp_path, SETTINGS, [VIDEO], 1)
    assert not any(folder.is_dir() for folder in folders)


def no_such_process(*_: object) -> None:
    raise ProcessLookupError
