"""What a caller has to expect is in the docstring: a function says which of our errors it raises itself."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import jointformer
from jointformer import errors

PACKAGE = Path(jointformer.__file__).parent
ROOMS = ("ops", "system", "model", "data", "metrics", "train")
OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, errors.UserError)}
#: Special methods that callers run without naming them: their class may speak for them.
SPECIAL = ("__init__", "__post_init__", "__enter__", "__iter__", "__next__", "__getitem__")


def raised_by(function: ast.AST) -> Iterator[str]:
    """The names of our errors that a function raises itself; what functions inside it raise is theirs."""
    for node in ast.iter_child_nodes(function):
        if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            yield from {node.exc.func.id} & OURS
        yield from raised_by(node)


def untold(path: Path) -> Iterator[str]:
    """FILE:LINE NAME: ERROR of every public function whose docstring, and whose class's, names no error it raises."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = [(node, "") for node in tree.body]
    for outer in tree.body:
        if isinstance(outer, ast.ClassDef) and not outer.name.startswith("_"):
            public += [(node, ast.get_docstring(outer) or "") for node in outer.body]
    for function, above in public:
        if isinstance(function, ast.FunctionDef) and (function.name[0] != "_" or function.name in SPECIAL):
            told = f"{ast.get_docstring(function)} {above}"
            for name in sorted(set(raised_by(function))):
                if name not in told and "UserError" not in told:
                    yield f"{path.relative_to(PACKAGE)}:{function.lineno} {function.name}: {name}"


@pytest.mark.parametrize("room", ROOMS)
def test_public_functions_say_which_of_our_errors_they_raise(room: str) -> None:
    assert [line for path in sorted((PACKAGE / room).rglob("*.py")) for line in untold(path)] == []
