"""What a newcomer relies on: quick help, one version, commands that exist, links that lead somewhere."""

from __future__ import annotations

import argparse
import fnmatch
import importlib.metadata
import json
import os
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import jointformer
from jointformer.cli import published, train_published
from jointformer.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "numpy", "cv2", "scipy", "PIL", "av", "numba", "pycocotools", "httpx", "matplotlib")
DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])


def modules_after(statement: str) -> set[str]:
    """Modules, and the packages they are in, that a fresh interpreter has loaded after `statement`."""
    code = f"{statement}\nimport sys; print('\\n' + ' '.join(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    names = done.stdout.splitlines()[-1].split()
    return {*names, *(name.partition(".")[0] for name in names)}


def test_help_loads_no_heavy_library() -> None:
    loaded = modules_after("from jointformer.cli.main import main; main(['--help'])")
    assert loaded.isdisjoint(HEAVY)


def test_no_subcommands_parser_loads_a_heavy_library() -> None:
    loaded = modules_after(
        "from jointformer.cli.main import COMMANDS, build_parser\n"
        "for name in COMMANDS: build_parser(name)[0].format_help()"
    )
    assert loaded.isdisjoint(HEAVY)


def test_help_takes_less_than_half_a_second_of_the_processor() -> None:
    # The processor's time, not the clock's: other work on the machine must not fail this.
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-m", "jointformer", "--help"], capture_output=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 0.5


def test_scoring_needs_no_pytorch() -> None:
    assert "torch" not in modules_after("import jointformer.metrics, jointformer.evaluation.score")


def test_a_video_is_tracked_without_an_http_library_or_the_compiler() -> None:
    # The http library's command line, which comes with it, draws from the program's random numbers when it is imported.
    loaded = modules_after(
        "import numpy as np\n"
        "from jointformer import Tracker, TrackerConfig, load_model\n"
        "tracker = Tracker(load_model('tiny', device='cpu'), TrackerConfig(size=48))\n"
        "picture = np.zeros((48, 64, 3), np.uint8)\n"
        "for masks in (picture[..., 0] + 1, None): tracker.step(picture, masks).label_map"
    )
    assert loaded.isdisjoint({"httpx", "torch._dynamo", "torch._inductor", "sympy"})


@pytest.mark.parametrize("name", COMMANDS)
def test_every_subcommand_of_the_table_has_help(name: str) -> None:
    parser, _ = build_parser(name)
    assert parser.format_help().startswith(f"usage: jointformer {name}")
    assert parser.description


def test_every_option_says_what_it_is_and_its_default() -> None:
    parsers = [build_parser(name)[0] for name in COMMANDS] + [published.build_parser(), train_published.build_parser()]
    for parser in parsers:
        parser.format_help()
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                parsers += action.choices.values()
            assert action.help or isinstance(action, argparse._SubParsersAction), (parser.prog, action.dest)
            told = "default" in (action.help or "") or f"({action.default})" in (action.help or "")
            assert told or action.default in (None, False, [], argparse.SUPPRESS), (parser.prog, action.dest)


@pytest.mark.parametrize("command", [["-m", "jointformer", "track"], [ROOT / "eval.py"], [ROOT / "train.py"]])
def test_help_can_be_read_where_the_terminal_lacks_its_letters(command: list[str | Path]) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, *command, "--help"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: ")


def test_the_tests_are_of_this_checkout_whatever_is_installed() -> None:
    assert jointformer.__file__ is not None
    assert Path(jointformer.__file__).is_relative_to(ROOT / "src")


def test_the_version_is_the_same_everywhere() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jointformer", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["jointformer", jointformer.__version__]
    assert importlib.metadata.version("jointformer") == jointformer.__version__
    assert re.search(rf"^## {re.escape(jointformer.__version__)}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


def test_the_source_archive_holds_what_git_has() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no checkout of git")
    lines = [line.split() for line in (ROOT / "MANIFEST.in").read_text().splitlines() if line]
    named = [pattern for word, *patterns in lines if word == "include" for pattern in patterns]
    folders = [folder for word, *rest in lines if word == "graft" for folder in rest]
    always = ("LICENSE", "pyproject.toml")
    pattern = r"^\[tool\.setuptools\.package-data\]\njointformer = (\[.*\])$"
    data = re.search(pattern, (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert data is not None
    packed = [f"src/jointformer/{pattern}".replace("**/", "*") for pattern in json.loads(data.group(1))]

    def is_taken(path: Path) -> bool:
        if path.parts[0] == "src":  # modules, and what the packages name
            return path.suffix == ".py" or any(fnmatch.fnmatch(path.as_posix(), pattern) for pattern in packed)
        whole = any(path.parent.parts == Path(name).parent.parts and path.match(name) for name in named)
        return path.parts[0] in folders or whole or str(path) in always

    assert [name for name in listed.stdout.splitlines() if not is_taken(Path(name))] == []


def test_every_public_name_can_be_imported() -> None:
    for name in jointformer.__all__:
        assert getattr(jointformer, name) is not None
        assert name in dir(jointformer)
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(jointformer, "no_such_name")  # noqa: B009


def test_evaluate_can_be_called_whatever_was_imported_before() -> None:
    code = """
import os, pickle, torch, jointformer

for first in ("jointformer.evaluate", "from jointformer import evaluate", "import jointformer.evaluation.score"):
    if os.fork() == 0:  # a program in which nothing else of jointformer was imported
        exec(first)
        from jointformer import evaluate
        for function in (evaluate, jointformer.evaluate, pickle.loads(pickle.dumps(evaluate))):
            try:
                function()
            except TypeError as error:
                print(error, flush=True)
        os._exit(0)
    os.wait()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = "evaluate() missing 3 required positional arguments: 'model', 'dataset', and 'output'"
    assert done.stdout.splitlines() == [said] * 9


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_in_the_documents_lead_to_files_that_exist(document: Path) -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)", document.read_text()) + re.findall(r'src="([^"]+)"', document.read_text())
    local = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    assert [target for target in local if not (document.parent / target).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_package_is_installed_into_an_environment_of_its_own(document: Path) -> None:
    """Debian's and Ubuntu's own Python refuses `pip install` outside of one (PEP 668)."""
    for block in re.findall(r"```[a-z]*\n(.*?)```", document.read_text(), re.DOTALL):
        if before := re.match(r"(.*?)^pip install \.$", block, re.DOTALL | re.MULTILINE):
            assert "-m venv" in before[1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_commands_in_the_documents_exist(document: Path) -> None:
    text = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", document.read_text(), re.DOTALL))
    makefile = (ROOT / "Makefile").read_text()
    targets = {name for line in re.findall(r"^\.PHONY:(.*)$", makefile, re.MULTILINE) for name in line.split()}
    assert set(re.findall(r"\bmake ([a-z][a-z-]*)", text)) <= targets
    assert set(re.findall(r"^(?:\$ )?`?jointformer ([a-z]+)\b", text, re.MULTILINE)) <= set(COMMANDS)


def test_ci_runs_every_check_that_contributors_are_told_of() -> None:
    run = (ROOT / ".ci" / "run").read_text()
    told = re.findall(r"^\| `make ([a-z-]+)` .*\| yes \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(told) >= 7
    assert [name for name in told if f"make {name}" not in run and f" {name} " not in run] == []
