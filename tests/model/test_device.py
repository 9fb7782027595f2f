"""How exact a GPU's products are: PyTorch's settings within a step and after it. No GPU is needed to read them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch

from jointformer.model.config import ModelConfig
from jointformer.model.device import _exact_settings, exact_products
from jointformer.track import engine
from jointformer.track.config import TrackerConfig
from seeded import seeded_model

GPU = torch.device("cuda")
EXACT = [value for _, _, value in _exact_settings()]


def settings() -> list[Any]:
    return [getattr(owner, name) for owner, name, _ in _exact_settings()]


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = settings()
    yield
    for (owner, name, _), value in zip(_exact_settings(), before, strict=True):
        setattr(owner, name, value)


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_gpus_products_are_exact_within_the_block_and_as_before_after_it(ends_well: bool) -> None:
    before = settings()
    assert all(old != exact for old, exact in zip(before, EXACT, strict=True))  # as PyTorch comes
    try:
        with exact_products(GPU):
            assert settings() == EXACT
            if not ends_well:
                raise KeyError
    except KeyError:
        pass
    assert settings() == before


def test_what_is_exact_already_stays_so() -> None:
    torch.backends.cudnn.allow_tf32 = False  # as one writes it before PyTorch 2.9
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    before = settings()
    with exact_products(GPU):
        assert settings() == EXACT
    assert settings() == before
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True


def test_a_cpu_changes_no_setting() -> None:
    before = settings()
    with exact_products(torch.device("cpu")):
        assert settings() == before


def test_every_call_of_the_network_in_a_step_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded_model(ModelConfig("mini", (16, 24, 48), (1, 1, 2), heads=2))
    seen = []
    monkeypatch.setattr(engine, "exact_products", lambda device: exact_products(GPU))
    for name in ("patch_embed2", "norm"):
        getattr(model.convmae, name).register_forward_hook(lambda *_: seen.append(settings()))
    model.decoder.register_forward_hook(lambda *_: seen.append(settings()))
    steps = engine.Engine(model, TrackerConfig(size=-1))
    frame, masks = torch.zeros(3, 48, 64), torch.ones(1, 48, 64)
    steps.step(frame, new_masks=masks)
    steps.step(frame)
    steps.add_memory(frame, masks, [0])
    assert len(seen) > 8
    assert seen == [EXACT] * len(seen)
    assert settings() != EXACT
