"""docs/benchmarks.md says what the command line takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from jointformer.cli.main import build_parser
from jointformer.data.benchmark_rows import BENCHMARKS
from jointformer.train.datasets import VIDEO_SETS

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs/benchmarks.md").read_text()
COMMANDS = [line for line in TEXT.splitlines() if line.startswith("jointformer ")]


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_of_the_page_is_understood(line: str) -> None:
    words = shlex.split(line, comments=True)
    parser, _ = build_parser(words[1])
    parser.parse_args(words[2:])


def test_training_sets_are_resized_to_where_training_reads_them() -> None:
    targets = re.findall(r"^jointformer data resize \S+ DATA/(\S+)", TEXT, re.MULTILINE)
    read = {folder for row in VIDEO_SETS.values() for folder in row.images if "train_480p" in folder}
    assert len(targets) == 3
    assert {f"{target}/JPEGImages" for target in targets} <= read


def test_every_benchmark_and_every_conversion_is_on_the_page() -> None:
    for (key, _), row in BENCHMARKS.items():
        assert re.search(rf"\b{key}\b", TEXT), key
        assert row.download in TEXT or "davischallenge.org" in row.download, key
    for action in ("resize", "first-masks", "burst-masks", "burst-frames", "burst-json", "visor-json"):
        assert f"jointformer data {action}" in TEXT
