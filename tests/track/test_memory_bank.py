"""Where entries of memorised frames go in the bank."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jointformer.errors import ConfigError
from jointformer.model.config import ModelConfig
from jointformer.track.memory_bank import MemoryBank, Spot

CONFIG = ModelConfig("mini", (8, 12, 24), (1, 1, 2), heads=2)
TOKENS, PLACES, ROWS = 3, 3, 4
NEIGHBOURS = [Spot(0, 0, 1), Spot(1, 1, 1), Spot(2, 2, 1), Spot(3, 3, 1)]


class Copies(TorchDispatchMode):
    """Counts copies."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += str(func).startswith("aten.copy_")
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(
    ("spots", "copies"),
    [
        (NEIGHBOURS, 1),
        ([Spot(0, 0, 2), Spot(1, 1, 2), Spot(2, 2, 0), Spot(3, 3, 0)], 2),
        ([Spot(0, 1, 1), Spot(1, 0, 1), Spot(2, 3, 1)], 3),
        ([Spot(0, 0, 1), Spot(0, 0, 2)], 2),
        ([], 0),
    ],
)
def test_every_entry_comes_to_its_spot_and_neighbours_come_together(spots: list[Spot], copies: int) -> None:
    bank = MemoryBank(CONFIG, TOKENS, PLACES - 1, temporary=True, device=torch.device("cpu"), dtype=torch.float32)
    bank.add_rows(ROWS)
    stored = bank._keys[1], bank._values[1]
    for tensor in stored:
        tensor.fill_(-1.0)
    new = torch.arange(2 * ROWS * 2 * TOKENS * 12).float().view(2, ROWS, 2, TOKENS, 12)
    expected = [tensor.clone() for tensor in stored]
    for spot in spots:
        for tensor, entries in zip(expected, new, strict=True):
            tensor[spot.row, :, spot.place * TOKENS : (spot.place + 1) * TOKENS] = entries[spot.source]
    with Copies() as counted:
        bank.writer(spots)(1, *new)
    assert counted.count == 2 * copies
    assert all(torch.equal(*pair) for pair in zip(stored, expected, strict=True))


@dataclass
class Remembered:
    """What an object's row should hold, in the plainest words: frames in their order, and the temporary one."""

    frames: list[int] = field(default_factory=list)
    pinned: set[int] = field(default_factory=set)
    temporary: int | None = None

    def append(self, frame: int, pinned: bool, capacity: int, keeps_temporary: bool) -> None:
        if capacity and len(self.frames) == capacity:
            given_up = next((old for old in self.frames[1:] if old not in self.pinned), None)
            if given_up is None and not pinned:
                self.temporary = frame if keeps_temporary else self.temporary
                return
            if given_up is None:  # all are the user's: the oldest but the first, or the first where it is alone
                given_up = self.frames[1] if capacity > 1 else self.frames[0]
            self.frames.remove(given_up)
        self.frames.append(frame)
        if pinned:
            self.pinned.add(frame)


def rows_of(bank: MemoryBank) -> list[list[int]]:
    """What a reader of each row finds, frame by frame, in the order in which it lies there."""
    found: list[list[int]] = []
    for layer in bank.view().layers:
        for group in layer:
            for keys, values in zip(group.keys, group.values, strict=True):
                assert torch.equal(keys, -values)
                frames = keys[0, ::TOKENS, 0].int().tolist()
                assert torch.equal(keys, torch.tensor(frames).repeat_interleave(TOKENS)[None, :, None].expand_as(keys))
                found.append(frames)
    layers, each = len(bank.view().layers), len(bank)
    assert [found[n * each : (n + 1) * each] for n in range(layers)] == [found[:each]] * layers
    return found[:each]


@pytest.mark.parametrize("keeps_temporary", [True, False])
@pytest.mark.parametrize("capacity", [0, 1, 2, 4])
def test_every_row_holds_what_the_rules_keep_whatever_comes_appears_and_goes(
    capacity: int, keeps_temporary: bool
) -> None:
    chance = random.Random(capacity)
    bank = MemoryBank(
        CONFIG, TOKENS, capacity, temporary=keeps_temporary, device=torch.device("cpu"), dtype=torch.float32
    )
    expected: list[Remembered] = []

    def write(spots: list[Spot], frames: list[int]) -> None:
        entries = torch.tensor(frames, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 2, TOKENS, 12)
        for layer in range(CONFIG.layers):
            bank.writer(spots)(layer, entries, -entries)

    frame = 0
    for _ in range(60):
        action = chance.choice(["add", "append", "append", "append", "temporary", "first", "remove"])
        if action == "add" or not expected:
            bank.add_rows(2)
            new = range(len(expected), len(expected) + 2)
            expected += [Remembered(), Remembered()]
            write(bank.append(new, first_source=1), [0, frame + 1, frame + 2])
            for row in new:
                frame += 1
                expected[row].append(frame, False, capacity, keeps_temporary)
        elif action == "remove":
            row = chance.randrange(len(expected))
            bank.remove_row(row)
            del expected[row]
        elif action == "first":
            row = chance.randrange(len(expected))
            frame += 1
            write(bank.set_first(row, 1), [0, frame])
            old = expected[row].frames[0]
            expected[row].frames[0], expected[row].temporary = frame, None
            if old in expected[row].pinned:
                expected[row].pinned.add(frame)
        else:
            rows = range(chance.randrange(len(expected)), len(expected))
            frames = [frame + 1 + n for n in range(len(rows))]
            frame += len(rows)
            pinned = [row for row in rows if chance.random() < 0.4]
            if action == "append":
                write(bank.append(rows, pinned=pinned), frames)
            elif keeps_temporary:
                write(bank.set_temporary(rows), frames)
            for row, new_frame in zip(rows, frames, strict=True):
                if action == "append":
                    expected[row].append(new_frame, row in pinned, capacity, keeps_temporary)
                elif keeps_temporary:
                    expected[row].temporary = new_frame
        for row, (held, wanted) in enumerate(zip(rows_of(bank), expected, strict=True)):
            temporary = [] if wanted.temporary is None else [wanted.temporary]
            assert held[: len(temporary)] == temporary
            assert sorted(held) == sorted([*temporary, *wanted.frames])
            assert bank.frames(row) == len(wanted.frames)


def test_neighbours_that_are_equally_full_are_read_as_one_without_a_copy() -> None:
    bank = MemoryBank(CONFIG, TOKENS, 2, temporary=True, device=torch.device("cpu"), dtype=torch.float32)
    bank.add_rows(4)
    bank.append(range(4))
    bank.append(range(2, 4))
    view = bank.view()
    assert [(group.keys.shape[0], group.keys.shape[2] // TOKENS) for group in view.layers[0]] == [(2, 1), (2, 2)]
    stored = bank._keys[0].untyped_storage().data_ptr()
    assert {group.keys.untyped_storage().data_ptr() for group in view.layers[0]} == {stored}


def test_more_memory_frames_than_fit_are_one_line() -> None:
    bank = MemoryBank(CONFIG, 1 << 20, 2_000_000_000, temporary=True, device=torch.device("cpu"), dtype=torch.float32)
    with pytest.raises(ConfigError, match=r"no memory for the memory bank, got 1 objects .*fewer memory frames"):
        bank.add_rows(1)


def test_a_fault_of_the_gpu_is_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = MemoryBank(CONFIG, TOKENS, 3, temporary=True, device=torch.device("cpu"), dtype=torch.float32)

    def fail(*_: object) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.Tensor, "new_empty", fail)
    with pytest.raises(torch.AcceleratorError, match="illegal memory access"):
        bank.add_rows(1)


def test_room_that_was_never_used_is_not_copied() -> None:
    """Memory is lent when it is touched: a bank takes what it holds, and not what it may come to hold."""
    bank = MemoryBank(CONFIG, TOKENS, 100, temporary=True, device=torch.device("cpu"), dtype=torch.float32)
    bank.add_rows(2)
    bank.append(range(2))
    copied = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if str(func).startswith("aten.copy_"):
                copied.append(args[0].shape[2] // TOKENS)
            return func(*args, **(kwargs or {}))

    with Sizes():
        bank.add_rows(1)
        bank.remove_row(0)
    assert set(copied) == {2}  # the temporary memory's place and the first frame's
