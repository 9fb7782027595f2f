"""The formulas of a step's cost agree with what PyTorch counts."""

from __future__ import annotations

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from jointformer.model.config import ModelConfig
from jointformer.model.cost import bank_bytes, step_cost
from jointformer.track.config import TrackerConfig
from jointformer.track.engine import Engine
from seeded import seeded_model

MINI = ModelConfig("mini", (16, 24, 48), (1, 2, 3), heads=2, enhance_depth=2)
H, W = 48, 64


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("topk", [None, 6])
@pytest.mark.usefixtures("counted_products")
def test_a_steps_operations_are_the_formulas(objects: int, topk: int | None) -> None:
    engine = Engine(seeded_model(MINI), TrackerConfig(max_memory_frames=2, memory_every=1, topk=topk, size=-1))
    frames = torch.randn(5, 3, H, W, generator=torch.Generator().manual_seed(0))
    masks = torch.zeros(objects, H, W)
    for i in range(objects):
        masks[i, 8 * i : 8 * i + 8, 8:24] = 1
    for t in range(3):
        engine.step(frames[t], new_masks=masks if t == 0 else None)
    with FlopCounterMode(display=False) as counter:
        engine.step(frames[3])
    # Two memory frames: the first and the newest (memory_every 1 never leaves a temporary one).
    expected = step_cost(MINI, H, W, objects, 2).total
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.01)


def test_the_banks_size_is_the_formulas() -> None:
    config = TrackerConfig(max_memory_frames=3, size=-1)
    engine = Engine(seeded_model(MINI), config)
    engine.step(torch.zeros(3, H, W), new_masks=torch.ones(2, H, W))
    assert engine.bank is not None
    assert engine.bank.nbytes == bank_bytes(MINI, H, W, 2, 4, 4)
