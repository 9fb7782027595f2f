"""Small trees of many short videos, the mini network, and runs of the command line in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from PIL import Image

from jointformer.data.masks import write_mask
from trees import draw_frame, draw_ids
from watched import ENV, masks


def make_videos(root: Path, lengths: list[int]) -> Path:
    """Return a generic tree of videos v0, v1, … of these lengths."""
    for number, length in enumerate(lengths):
        images, masks = root / "JPEGImages" / f"v{number}", root / "Annotations" / f"v{number}"
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for step in range(length):
            Image.fromarray(draw_frame((step + number) % 6)).save(images / f"{step:05d}.jpg", quality=95)
        write_mask(masks / "00000.png", draw_ids((1, 3) if number % 2 else (7,), number % 6))
    return root


@dataclass
class Runs:
    """`jointformer evaluate` over one tree of videos."""

    tree: Path
    weights: Path
    env: dict[str, str] = field(default_factory=lambda: dict(ENV))

    def command(self, output: Path, *more: str) -> list[str]:
        """Return the command line of a run into a folder."""
        return [
            *(sys.executable, "-m", "jointformer", "evaluate", "--dataset", "G", "--generic-path", str(self.tree)),
            *("--model", str(self.weights), "-o", str(output), "--sizes", "-1", "--precision", "float32"),
            *("--device", "cpu", "--quiet", *more),
        ]

    def start(self, output: Path, *more: str) -> subprocess.Popen[str]:
        """Start a run."""
        return subprocess.Popen(self.command(output, *more), stderr=subprocess.PIPE, text=True, env=self.env)

    def run(self, output: Path, *more: str) -> tuple[int, str]:
        """Return (exit code, standard error) of a whole run."""
        with self.start(output, *more) as process:
            _, text = process.communicate(timeout=800)
        return process.returncode, text

    def here(self, output: Path, *more: str) -> int:
        """Return the exit code of a run inside this process."""
        from jointformer.cli.main import main

        return main(self.command(output, *more)[3:])


def leftovers(output: Path) -> list[str]:
    """Return hidden and temporary names in an output folder."""
    return [str(path.relative_to(output)) for path in output.rglob(".*")]


def last_line(capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command said last on standard error."""
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, mini_weights: Path) -> Runs:
    """Runs over two videos."""
    return Runs(make_videos(tmp_path_factory.mktemp("two") / "tree", [3, 2]), mini_weights)


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, mini_weights: Path) -> Runs:
    """Runs over six videos of 3 to 14 frames."""
    return Runs(make_videos(tmp_path_factory.mktemp("tree"), [5, 14, 3, 9, 6, 12]), mini_weights)


@pytest.fixture(scope="session")
def undisturbed(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The masks of a single process with one thread."""
    output = tmp_path_factory.mktemp("undisturbed") / "out"
    assert runs.here(output, "--threads", "1") == 0
    return masks(output)
