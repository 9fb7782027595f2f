"""The network that most tests of trackers use."""

from __future__ import annotations

import pytest

from jointformer.model.network import JointFormer
from seeded import MINI, seeded_model


@pytest.fixture(scope="module")
def model() -> JointFormer:
    return seeded_model(MINI)
