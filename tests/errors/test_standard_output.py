"""Standard output that is full, closed or read by nobody ends a command in one line, or in silence."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from jointformer.cli.main import main

pytestmark = pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="needs /dev/full")

#: What is printed at once, through argparse, as a table and as one long text.
COMMANDS = ["--version", "track --help", "weights list", "weights list --json"]


def run(words: str, redirected: str, unbuffered: str = "") -> tuple[int, str]:
    """Return the exit code and standard error of a command whose output the shell sends somewhere."""
    command = f'"{sys.executable}" -m jointformer {words} {redirected}'
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"], env=environment, capture_output=True, text=True
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", COMMANDS)
@pytest.mark.parametrize(
    ("redirected", "said"), [(">/dev/full", "the disk is full; free"), (">&-", "it is closed; let")]
)
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_that_cannot_be_written_is_one_line(words: str, redirected: str, said: str, unbuffered: str) -> None:
    code, error = run(words, redirected, unbuffered)
    assert code == 2
    assert f"standard output: cannot be written: {said}" in error
    assert error.count("\n") == 1


@pytest.fixture
def read_by_nobody() -> Iterator[int]:
    """The end of a pipe whose other end is closed."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error(unbuffered: str, read_by_nobody: int) -> None:
    command = [sys.executable, "-m", "jointformer", "weights", "list", "--json"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(command, env=environment, stdout=read_by_nobody, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_file_that_is_written_does_not_take_the_place_of_closed_output(tmp_path: Path) -> None:
    path = shlex.quote(str(tmp_path / "tiny.safetensors"))
    code, error = run(f"weights convert tiny {path}", ">&- 2>&-")
    assert (code, error) == (2, "")
    assert main(["weights", "info", str(tmp_path / "tiny.safetensors")]) == 0


@pytest.mark.parametrize("full", [True, False])
@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_messages_that_nobody_can_be_shown_do_not_end_the_work(
    full: bool, unbuffered: str, read_by_nobody: int
) -> None:
    work = "list(map(time.sleep, tqdm([0.01] * 3, mininterval=0)))"
    safely = f"cli._safely(lambda: {work} and print('done') or 0, 'work')"
    program = (
        f"import sys, time; from tqdm import tqdm; import jointformer.cli.main as cli; cli.prepare_standard(); {safely}"
    )
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    with open("/dev/full", "wb") as disk:
        errors = disk if full else read_by_nobody
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, stdout=subprocess.PIPE, stderr=errors, text=True
        )
    assert (done.returncode, done.stdout) == (0, "done\n")


def test_a_mistake_that_cannot_be_told_has_its_exit_code() -> None:
    assert run("nosuch", "2>/dev/full")[0] == 2


@pytest.mark.parametrize("handler", ["", ":strict", ":surrogateescape"])  # the C locale's is the last
def test_letters_that_the_encoding_lacks_are_shown_as_escapes(handler: str) -> None:
    language = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": f"ascii{handler}"}
    if not handler:
        del language["PYTHONIOENCODING"]
    environment = {**os.environ, **language}
    command = [sys.executable, "-m", "jointformer", "track", "--help"]
    done = subprocess.run(command, env=environment, capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb"gray, yuv420p \u2026 (raw)" in done.stdout
    program = "import jointformer.cli.main as cli; cli.prepare_standard(); print('caf\\udce9 \\u20ac\\udce8\\ud800')"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True)
    name = rb"caf\udce9 \u20ac\udce8\ud800" if handler == ":strict" else b"caf\xe9 " + rb"\u20ac" + b"\xe8" + rb"\ud800"
    assert (done.stdout.strip(), done.stderr) == (name, b"")
