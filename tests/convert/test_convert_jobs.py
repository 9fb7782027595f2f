"""Many videos by several processes: what fails, is cut off or dies leaves finished work alone."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from jointformer.data.convert_jobs import run_jobs
from jointformer.errors import ConfigError, DataError
from jointformer.system import parallel
from jointformer.system.files import replace_dir


@dataclass(frozen=True)
class Task:
    """A job that makes a folder, fails or dies."""

    target: Path
    fate: str = ""
    files: int = 1

    def run(self) -> None:
        if self.fate == "fails":
            raise DataError("is damaged", where=self.target)
        with replace_dir(self.target) as folder:
            (folder / "a").write_text("a")
            if self.fate == "dies":
                os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_first_failure_is_raised_and_finished_folders_stay(
    workers: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_FILES_PER_WORKER", 1)
    jobs = [Task(tmp_path / "a"), Task(tmp_path / "b", "fails"), Task(tmp_path / "c")]
    with pytest.raises(DataError, match="b: is damaged"):
        run_jobs(jobs, workers=workers)
    assert (tmp_path / "a").is_dir()
    done = run_jobs([Task(job.target) for job in jobs], workers=workers)
    assert done.done + done.kept == 3
    assert done.kept >= 1


def test_a_worker_that_is_killed_is_one_line_and_its_leftovers_go_with_the_next_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_FILES_PER_WORKER", 1)
    with pytest.raises(ConfigError, match="a worker process was ended from outside"):
        run_jobs([Task(tmp_path / "a", "dies"), Task(tmp_path / "b", "dies")], workers=2)
    assert not (tmp_path / "a").exists()
    run_jobs([Task(tmp_path / "a"), Task(tmp_path / "b")])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b"]


def test_two_videos_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="two videos would be written to one folder"):
        run_jobs([Task(tmp_path / "a"), Task(tmp_path / "a")])
