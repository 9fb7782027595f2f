"""Locks that end with their process, and file systems that have none."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from jointformer.system.locks import _REAL_LOCKS, NoLocksError, hold

_HOLD = """
import sys, time
from pathlib import Path
from jointformer.system.locks import hold
lock = hold(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""


def test_a_lock_is_held_once_and_free_when_it_is_released(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock")
    assert first is not None
    assert hold(tmp_path / "lock") is None
    first.release()
    again = hold(tmp_path / "lock")
    assert again is not None
    again.release()


def test_a_lock_may_be_released_by_another_thread(tmp_path: Path) -> None:
    first = hold(tmp_path / "lock")
    assert first is not None
    thread = Thread(target=first.release)
    thread.start()
    thread.join()
    again = hold(tmp_path / "lock")
    assert again is not None
    again.release()


def test_a_folder_in_the_place_of_a_lock_does_not_mean_that_there_are_none(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        hold(tmp_path)


def test_a_killed_process_holds_no_lock(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        assert hold(tmp_path / "lock") is None
        process.kill()
        process.wait()
        lock = hold(tmp_path / "lock")
    assert lock is not None
    lock.release()


@pytest.mark.skipif(sys.platform == "win32", reason="locks are another system call there")
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_to_be_one_and_nothing_else_stands_for_them(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if number != errno.ENOSYS and not _REAL_LOCKS:
        pytest.skip("old versions of filelock take it for a lock that another process holds")

    def flock(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(NoLocksError, match="this file system has no file locks; choose another folder"):
        hold(tmp_path / "lock")
