"""Every bad input ends in one sentence, and docs/errors.md holds what is really said.

JOINTFORMER_WRITE_ERRORS=1 python -m pytest tests/errors     writes docs/errors.md anew
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from errors.bad_inputs import CASES, Bench, Case
from jointformer.cli.main import main

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "errors.md"
HEAD = """# Error messages

A mistake in the input or the settings ends a command with one line on standard error. The line says what is wrong and
where, what was expected, what was found, and what to do. The exit code is 2; it is 1 if single videos of a run failed
and the others are finished.

Below, `…` stands for a folder, or for the words of a library. The tests cause every one of these errors and compare the
messages with this page (`tests/errors`).
"""


@pytest.fixture(scope="module")
def messages() -> dict[tuple[str, str], str]:
    """What was said so far, by group and name."""
    return {}


@pytest.mark.parametrize("case", CASES, ids=[f"{c.group}: {c.name}" for c in CASES])
def test_a_bad_input_is_one_clear_sentence(
    case: Case,
    tmp_path: Path,
    mini_weights: Path,
    capfd: pytest.CaptureFixture[str],
    messages: dict[tuple[str, str], str],
) -> None:
    bench = Bench(tmp_path, mini_weights)
    arguments = case.make(bench)
    capfd.readouterr()
    code = main(arguments)
    captured = capfd.readouterr()
    lines = captured.err.strip().splitlines()
    if case.code == 1:
        lines = [line for line in lines if line.startswith("not finished: ")]
    assert code == case.code, lines
    assert len(lines) == 1, captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert len(lines[0]) < 700
    messages[case.group, case.name] = tidy(lines[0], case, tmp_path, mini_weights)


def tidy(line: str, case: Case, folder: Path, weights: Path) -> str:
    """Return a message without what differs from machine to machine."""
    text = line.replace(str(folder), "…").replace(str(weights.parent), "…")
    text = re.sub(r"(long){20,}", "longlong…", text)
    text = re.sub(r"^(jointformer \w+|not finished): ", "", text)
    if case.loose:
        text = re.sub(r"((?:, got |damaged: |decoded: |read: )).*?(?=; |$)", r"\1…", text)
    if case.name.startswith("a memory budget that cannot"):
        text = re.sub(r"\d[\d,.]* [MG]B", "… MB", text)  # of this process, which grows with the tests before
    return text


def test_the_table_is_what_is_really_said(messages: dict[tuple[str, str], str]) -> None:
    if len(messages) < len(CASES):
        pytest.skip("needs the whole table to run")
    assert len(CASES) >= 60
    text = HEAD
    for group in dict.fromkeys(case.group for case in CASES):
        text += f"\n## {group}\n\n| what is wrong | message |\n| --- | --- |\n"
        for (of, name), message in messages.items():
            if of == group:
                text += f"| {name} | {message.replace('|', chr(92) + '|').replace('<', '&lt;')} |\n"
    if os.environ.get("JOINTFORMER_WRITE_ERRORS"):
        DOCUMENT.write_text(text, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == text, "run JOINTFORMER_WRITE_ERRORS=1 python -m pytest tests/errors"
