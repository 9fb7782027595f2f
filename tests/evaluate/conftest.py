"""A mini network on disk for whole runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from jointformer.model.config import ModelConfig
from jointformer.model.storage import save_weights
from seeded import seeded_model

MINI = ModelConfig("mini", (16, 24, 48), (1, 1, 3), heads=2)


@pytest.fixture(scope="session")
def mini_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The path of seeded mini weights."""
    return save_weights(seeded_model(MINI), tmp_path_factory.mktemp("weights") / "mini.safetensors")
