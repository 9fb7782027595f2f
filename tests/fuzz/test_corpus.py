"""Whole inputs are read, and what once brought a reader down is read or refused in one line; so is what is changed.

`python -m fuzz` looks for more of the kind.
"""

from __future__ import annotations

import random
from contextlib import nullcontext
from pathlib import Path

import pytest

from fuzz.__main__ import complaint, inputs
from fuzz.mutate import change_bytes, change_json
from fuzz.table import READERS
from jointformer.errors import UserError

#: These readers need more beside the file than there is.
ALONE = {"lists"}


@pytest.mark.parametrize("name", READERS)
def test_whole_inputs_are_read_and_the_corpus_is_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    for number, (file, data) in enumerate(inputs(name)):
        path = tmp_path / str(number) / file
        path.parent.mkdir()
        path.write_bytes(data)
        assert complaint(name, path) is None, file
        if number < len(READERS[name].seeds()) and file != "other.pth":
            with pytest.raises(UserError) if name in ALONE else nullcontext():
                READERS[name].read(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", READERS)
def test_changed_inputs_are_read_or_refused_in_one_line(name: str, tmp_path: Path) -> None:
    chance, whole = random.Random(7), inputs(name)
    change = change_json if READERS[name].made_of == "json" else change_bytes
    for number in range(40):
        file, data = chance.choice(whole)
        path = tmp_path / str(number) / file
        path.parent.mkdir()
        path.write_bytes(change(chance, data, [other for _, other in whole]))
        assert complaint(name, path) is None, number
