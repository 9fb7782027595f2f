from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jointformer.train.losses import frame_loss, hardest_share

GOLDEN = Path(__file__).parent / "golden"
CASES = json.loads((GOLDEN / "loss_seed0.json").read_text())


@pytest.mark.parametrize("case", [name for name in CASES if "@" in name])
def test_the_losses_equal_the_golden_numbers(case: str) -> None:
    kind, iteration = case.split("@")
    want = CASES[case]
    arrays = np.load(GOLDEN / "loss_seed0.npz")
    share = hardest_share(int(iteration), 20_000, 70_000)
    labels = torch.from_numpy(arrays["gt_void" if kind == "vost" else "gt"])[:, :, 0]
    objects = torch.tensor(CASES["num_objects"])
    assert (share or 1.0) == pytest.approx(want["p"])
    total = 0.0
    for frame in (1, 2):
        logits = torch.from_numpy(arrays[f"logits_{frame}"])
        got = frame_loss(logits, labels[:, frame], objects, share, void=kind == "vost")
        assert got.cross_entropy.item() == pytest.approx(want[f"ce_loss_{frame}"], rel=1e-6)
        assert got.dice.item() == pytest.approx(want[f"dice_loss_{frame}"], rel=1e-6)
        total += got.cross_entropy.item() + got.dice.item()
    assert total == pytest.approx(want["total_loss"], rel=1e-6)


def test_a_slot_beyond_a_clips_objects_gets_no_gradient_from_the_cross_entropy() -> None:
    logits = torch.randn(1, 4, 8, 8, requires_grad=True)
    labels = torch.randint(0, 4, (1, 8, 8))
    loss = frame_loss(logits, labels, torch.tensor([1]))
    loss.cross_entropy.backward()
    assert logits.grad is not None
    assert logits.grad[:, 2:].abs().sum() == 0
    assert logits.grad[:, :2].abs().sum() > 0
