"""Paths that the system refuses are one line in every command."""

from __future__ import annotations

import argparse
import errno
import os
from pathlib import Path

import pytest

from jointformer.cli.main import main, run_safely

LONG = "long" * 80


@pytest.mark.parametrize(
    "command",
    [
        f"track {LONG} --masks m.png -o out",
        f"track . --masks m.png -o {LONG}",
        f"evaluate --dataset G --generic-path {LONG}",
        f"evaluate --merge {LONG}",
        f"score davis17 --annotations {LONG} --predictions {LONG}",
        f"export {LONG} --format coco -o out",
        f"weights info {LONG}",
        f"info --model {LONG}",
        f"demo -o {LONG}",
    ],
)
def test_a_name_longer_than_the_file_system_takes_is_one_line(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(command.split()) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert LONG in line
    assert line.endswith(": the name is too long for this file system; choose a shorter name")


@pytest.mark.parametrize(("number", "said"), [(errno.EACCES, "no permission; change"), (errno.ELOOP, "the links lead")])
def test_other_paths_that_are_refused_are_one_line(number: int, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    def run(args: argparse.Namespace) -> int:
        raise OSError(number, os.strerror(number), "/some/place")

    assert run_safely(run, argparse.ArgumentParser("jointformer track"), []) == 2
    assert capsys.readouterr().err.startswith(f"jointformer track: /some/place: {said}")


@pytest.mark.parametrize("error", [OSError(errno.EACCES, "no"), OSError(errno.ENOENT, "no", "/some/place")])
def test_errors_that_are_no_users_mistake_keep_their_traceback(error: OSError) -> None:
    def run(args: argparse.Namespace) -> int:
        raise error

    with pytest.raises(OSError, match="no"):
        run_safely(run, argparse.ArgumentParser("jointformer track"), [])


@pytest.mark.parametrize(
    "words", [["track", ""], ["track", ".", "--masks", ""], ["score", "davis17", "--annotations="]]
)
def test_an_empty_path_is_a_mistake_and_not_the_current_folder(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words) == 2
    error = capsys.readouterr().err
    assert "is empty; is a variable of your shell unset?" in error
    assert error.count("\n") == 1


def test_what_steers_a_terminal_is_shown_and_does_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "\x1b]0;mine\x07\x9b2J.png").write_text("no picture")
    assert main(["track", str(tmp_path), "--masks", str(tmp_path), "-o", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert r"\x1b]0;mine\x07\x9b2J.png: not a picture" in error
    assert error.rstrip("\n").isprintable()
