"""Where entries of memorised frames go in the bank."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jointformer.model.config import ModelConfig
from jointformer.track.memory_bank import MemoryBank, Slot

CONFIG = ModelConfig("mini", (8, 12, 24), (1, 1, 2), heads=2)
TOKENS, PLACES, ROWS = 3, 3, 4
NEIGHBOURS = [Slot(0, 0, 1), Slot(1, 1, 1), Slot(2, 2, 1), Slot(3, 3, 1)]


class Copies(TorchDispatchMode):
    """Counts copies."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).startswith("aten.copy_")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("slots", "copies"),
    [
        (NEIGHBOURS, 1),
        ([Slot(0, 0, 2), Slot(1, 1, 2), Slot(2, 2, 0), Slot(3, 3, 0)], 2),
        ([Slot(0, 1, 1), Slot(1, 0, 1), Slot(2, 3, 1)], 3),
        ([Slot(0, 0, 1), Slot(0, 0, 2)], 2),
        ([], 0),
    ],
)
def test_every_entry_comes_to_its_slot_and_neighbours_come_together(slots: list[Slot], copies: int) -> None:
    bank = MemoryBank(CONFIG, TOKENS, PLACES - 1, temporary=True, device=torch.device("cpu"), dtype=torch.float32)
    bank.add_rows(ROWS)
    stored = bank._keys[1], bank._values[1]
    for tensor in stored:
        tensor.fill_(-1.0)
    new = torch.arange(2 * ROWS * 2 * TOKENS * 12).float().view(2, ROWS, 2, TOKENS, 12)
    expected = [tensor.clone() for tensor in stored]
    for slot in slots:
        for tensor, entries in zip(expected, new, strict=True):
            tensor[slot.row, :, slot.place * TOKENS : (slot.place + 1) * TOKENS] = entries[slot.source]
    with Copies() as counted:
        bank.writer(slots)(1, *new)
    assert counted.count == 2 * copies
    assert all(torch.equal(*pair) for pair in zip(stored, expected, strict=True))
