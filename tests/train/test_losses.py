from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jointformer.train.losses import frame_loss, hardest_share, iou_sum

GOLDEN = Path(__file__).parent.parent / "golden" / "model"
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


def test_the_label_of_void_is_background_where_there_is_no_void() -> None:
    logits = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    labels = torch.randint(0, 3, (2, 8, 8), generator=torch.Generator().manual_seed(0))
    marked = labels.masked_fill(labels == 0, 255)
    for share in (None, 0.5):
        plain, other = (frame_loss(logits, each, torch.tensor([2, 2]), share) for each in (labels, marked))
        assert torch.equal(plain.cross_entropy, other.cross_entropy)
        assert torch.equal(plain.dice, other.dice)


def test_the_iou_counts_the_objects_that_are_in_the_frame_and_belong_to_the_clip() -> None:
    labels = torch.zeros(2, 4, 4, dtype=torch.uint8)
    labels[0, :2], labels[0, 2, :2] = 1, 2
    labels[1, :1], labels[1, 3] = 1, 2  # of the second clip only the first slot is an object
    found = labels.clone()
    found[0, 1] = 2  # object 1: 4 of 8 pixels; object 2: 2 of 6
    logits = 9.0 * torch.nn.functional.one_hot(found.long(), 4).permute(0, 3, 1, 2)
    assert iou_sum(logits, labels, torch.tensor([3, 1])).tolist() == pytest.approx([4 / 8 + 2 / 6 + 1, 3])
    assert iou_sum(logits, torch.zeros_like(labels), torch.tensor([3, 1])).tolist() == [0, 0]


def test_what_is_found_in_void_does_not_lower_the_iou() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.uint8)
    labels[0, :2], labels[0, 2] = 1, 255
    found = labels.masked_fill(labels == 255, 1)
    logits = 9.0 * torch.nn.functional.one_hot(found.long(), 2).permute(0, 3, 1, 2)
    assert iou_sum(logits, labels, torch.tensor([1])).tolist() == [1, 1]
