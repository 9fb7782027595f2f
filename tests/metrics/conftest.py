"""The golden cases: inputs rebuilt from their seeds, and what the official toolkits said of exactly these inputs."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from PIL import Image

GOLDEN = Path(__file__).resolve().parent.parent / "golden" / "metrics"


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_cases", GOLDEN / "make_cases.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_cases"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function that gives the folder of a golden case's inputs, built once and checked against its hash."""
    hashes = json.loads((GOLDEN / "manifest.json").read_text())["cases"]
    built: dict[str, Path] = {}

    def build(name: str) -> Path:
        if name not in built:
            folder = tmp_path_factory.mktemp(name)
            info = _generator().make_case(name, folder)
            assert info["inputs_sha256"] == hashes[name]["inputs_sha256"], "the inputs are not the golden ones"
            built[name] = folder
        return built[name]

    return build


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Any]:
    """A function that gives the content of a golden JSON."""
    return lambda name: json.loads((GOLDEN / f"{name}.json").read_text())


@pytest.fixture
def same() -> Callable[[float, Any], None]:
    """A function that holds a figure against a golden number; "NaN" and null mean NaN."""

    def compare(value: float, expected: Any, scale: float = 1.0) -> None:
        wanted = math.nan if expected in (None, "NaN") else expected
        assert value * scale == pytest.approx(wanted, rel=0, abs=1e-9, nan_ok=True)

    return compare


@pytest.fixture
def save_labels() -> Callable[..., None]:
    """A function that writes a label map as a palette PNG (or in another Pillow mode)."""

    def save(path: Path, labels: Any, mode: str = "P") -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(np.asarray(labels, dtype=np.uint8))
        if mode == "P":
            picture = Image.frombytes("P", picture.size, picture.tobytes())
            picture.putpalette([value for index in range(256) for value in (index, index, 255 - index)])
        else:
            picture = picture.convert(mode)
        picture.save(path)

    return save
