"""Training on GPUs, as far as it shows without one: how processes meet, and what a checkpoint keeps of generators."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import distributed as dist

from jointformer.train.distributed import join_processes
from jointformer.train.settings import Settings
from jointformer.train.state import random_states, restore_random_states


class Generators:
    """Stands for the generators of three GPUs, of which the second is the current one."""

    def __init__(self) -> None:
        self.states = [torch.tensor([10]), torch.tensor([11]), torch.tensor([12])]

    def get(self) -> torch.Tensor:
        return self.states[1]

    def set(self, state: torch.Tensor) -> None:
        self.states[1] = state

    @property
    def numbers(self) -> list[int]:
        """Return the three states."""
        return [int(state) for state in self.states]


@pytest.fixture
def generators(monkeypatch: pytest.MonkeyPatch) -> Generators:
    found = Generators()
    monkeypatch.setattr(torch.cuda, "get_rng_state", found.get)
    monkeypatch.setattr(torch.cuda, "set_rng_state", found.set)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    for name in ("is_available", "is_initialized"):
        monkeypatch.setattr(torch.cuda, name, lambda: True)
    return found


def test_a_checkpoint_keeps_the_current_gpus_generator(generators: Generators) -> None:
    states = random_states()
    assert states["cuda"] == [11]
    generators.set(torch.tensor([99]))
    restore_random_states(states)
    assert generators.numbers == [10, 11, 12]


def test_of_an_older_checkpoints_generators_each_gpu_takes_its_own(generators: Generators) -> None:
    restore_random_states({**random_states(), "cuda": [torch.tensor([n]) for n in (20, 21, 22)]})
    assert generators.numbers == [10, 21, 12]


def test_a_checkpoint_of_gpus_serves_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    restore_random_states({**random_states(), "cuda": [torch.tensor([20])]})


@pytest.mark.parametrize(("device", "backend"), [("cuda", "nccl"), ("cpu", "gloo")])
def test_processes_wait_for_one_that_validates(monkeypatch: pytest.MonkeyPatch, device: str, backend: str) -> None:
    begun: list[Any] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(dist, "init_process_group", lambda *args, **options: begun.append((args, options)))
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: None)
    with join_processes(device) as processes:
        assert processes.count == 2
    place = torch.device("cuda:1") if device == "cuda" else None
    assert begun == [((backend,), {"timeout": timedelta(hours=2), "device_id": place})]


@pytest.mark.parametrize(
    ("capability", "precision"),
    [((7, 5), "autocast-float16"), ((8, 0), "autocast-bfloat16"), ((12, 0), "autocast-bfloat16")],
)
def test_a_gpu_trains_in_what_it_computes_in_hardware(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], precision: str
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: capability)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)  # of any GPU: emulated
    assert Settings(Path("out")).precision_on(torch.device("cuda:0")) == precision
    assert Settings(Path("out"), precision="float32").precision_on(torch.device("cuda:0")) == "float32"
