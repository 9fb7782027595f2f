"""Every code block of the guides runs, in order, in a folder with a small video and its first mask.

What needs data, a GPU or a browser is read instead: its commands parse, its Python compiles and finds what it imports.
"""

from __future__ import annotations

import ast
import json
import re
import shlex
import sys
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointformer.cli import published
from jointformer.cli.main import COMMANDS, build_parser, main
from jointformer.data.video_writer import VideoWriter
from jointformer.model.network import JointFormer
from jointformer.session import STATUSES, Session
from seeded import MINI, seeded_model

DOCS = Path(__file__).resolve().parents[2] / "docs"
#: Documents whose blocks need data, weights or time. Every other one is a guide.
READ = {
    "architecture",
    "benchmarks",
    "index",
    "performance",
    "reference",
    "scaling",
    "scoring",
    "training",
    "web-tool",
    "weights",
}
#: Run by tests of its own, as it needs packages that few have.
OWN = {"onnx"}
GUIDES = sorted({path.stem for path in DOCS.glob("*.md") if "\n```" in path.read_text()} - READ - OWN)
READ_PATHS = [DOCS.parent / "README.md", *(DOCS / f"{name}.md" for name in sorted(READ))]
H, W = 48, 64


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of a reader: video.mp4, first.png, masks/, annotations.json, and my-session/.

    `tiny` is a random network.
    """
    model = seeded_model(MINI)

    def load_model(name: str = "tiny", **_: object) -> JointFormer:
        assert name == "tiny"
        return model

    for place in ("jointformer.model.weights", "jointformer.session.session"):
        monkeypatch.setattr(f"{place}.load_model", lambda name="tiny", *_, **__: load_model(name))
    for place in ("tracker", "frames"):  # the guides' 480 pixels would take a minute
        monkeypatch.setattr(f"jointformer.track.{place}.network_size", lambda height, width, size: (height, width))
    monkeypatch.chdir(tmp_path)
    first = np.zeros((H, W), np.uint8)
    first[8:24, 10:30] = 1
    Image.fromarray(first).save("first.png")
    Path("masks").mkdir()
    base = np.random.default_rng(0).integers(0, 255, (H + 20, W + 20, 3), dtype=np.uint8)
    with VideoWriter("video.mp4", Fraction(25), (H, W)) as writer:
        for t in range(12):
            writer.write(base[t : t + H, t : t + W])
            Image.fromarray(first).save(f"masks/{t:05d}.png")
    outline = [[10, 8, 30, 8, 30, 24, 10, 24]]
    coco = {
        "images": [{"id": 1, "file_name": "00000.png", "height": H, "width": W}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": outline}],
    }
    Path("annotations.json").write_text(json.dumps(coco))
    with Session("video.mp4", folder="my-session") as session:
        session.add_masks(0, first)
    return tmp_path


@pytest.mark.parametrize("guide", GUIDES)
def test_every_block_of_the_guide_runs(guide: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (DOCS / f"{guide}.md").read_text()
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    if "my-session" in text and 'folder="my-session"' in text:
        (folder / "my-session" / "session.db").unlink()
    for language, code in blocks:
        if language == "python":
            exec(compile(code, f"{guide}.md", "exec"), {})
        else:
            assert language == "sh"
            for line in code.splitlines():
                with redirected(shlex.split(line)) as words:
                    assert words[0] == "jointformer"
                    assert main(words[1:]) == 0, capsys.readouterr().err


@contextmanager
def redirected(words: list[str]) -> Iterator[list[str]]:
    """A command's words without `< FILE` and `> FILE`, which are heeded in the block."""
    with ExitStack() as stack:
        for sign, mode, name in (("<", "r", "stdin"), (">", "w", "stdout")):
            if sign in words:
                at = words.index(sign)
                file = stack.enter_context(open(words[at + 1], mode))
                stack.enter_context(pytest.MonkeyPatch.context()).setattr(sys, name, file)
                words = words[:at] + words[at + 2 :]
        yield words


@pytest.mark.parametrize("document", READ_PATHS, ids=lambda path: path.stem)
def test_every_block_that_is_not_run_can_be_read(document: Path) -> None:
    blocks = re.findall(r"^ *```(\w*)\n(.*?)^ *```", document.read_text(), re.DOTALL | re.MULTILINE)
    for language, code in blocks:
        if language == "python":
            tree = ast.parse(textwrap.dedent(code))
            imports: list[ast.stmt] = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
            exec(compile(ast.Module(imports, []), document.name, "exec"), {})
            continue
        for line in code.replace("\\\n", " ").splitlines():
            match shlex.split(line, comments=True) if line.strip().startswith(("jointformer ", "python ")) else []:
                case ["jointformer", command, *words] if command in COMMANDS:
                    build_parser(command)[0].parse_args(words)
                case ["python", "eval.py", *words]:
                    published.build_parser().parse_args(words)


def test_the_table_of_formats_is_the_programs() -> None:
    from jointformer.data.export_formats import FORMATS

    rows = re.findall(r"^\| `([\w-]+)` \| .* \| ([^|]*) \|$", (DOCS / "exports.md").read_text(), re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", options)) for name, options in rows}
    empty = re.findall(r"^\| `([\w-]+)` \| .* \| \|$", (DOCS / "exports.md").read_text(), re.MULTILINE)
    told |= {name: set() for name in empty}
    assert told == {name: set(row.options) for name, row in FORMATS.items()}


def test_the_statuses_are_the_programs_in_their_order() -> None:
    head, *rows = re.findall(r"^\| `(\w+)` \| .* \|$", (DOCS / "correcting.md").read_text(), re.MULTILINE)
    value = re.search(r"STATUSES\n.*\n   :value: (.*)", (DOCS / "reference.md").read_text())
    assert head == "status"
    assert value is not None
    assert tuple(rows) == ast.literal_eval(value.group(1)) == STATUSES
