"""The processes of a run: one alone, or those torchrun started."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

from jointformer.errors import UserError
from jointformer.model.device import choose_device, keep_threads_within_quota

#: How long processes wait for each other: the first one validates alone, and NCCL's own ten minutes may not do.
PATIENCE = timedelta(hours=2)

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """This process's place: rank of count, and the device it computes on."""

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and talks."""
        return self.rank == 0

    def largest(self, value: float) -> float:
        """The largest of the processes' values, on every process."""
        if self.count == 1:
            return value
        box = torch.tensor([value], dtype=torch.float64)
        if self.device.type == "cuda":
            box = box.to(self.device)
        dist.all_reduce(box, dist.ReduceOp.MAX)
        return float(box.item())

    def by_first(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function gives in the first process, which alone calls it, on every process; tensors on the CPU.

        For what is decided by files, which may be others on another machine. Raises the UserError that it raises.
        """
        if self.count == 1:
            return function(*args, **kwargs)
        box: list[Any] = [None]
        if self.first:
            try:
                box = [function(*args, **kwargs)]
            except UserError as error:
                box = [error]
        dist.broadcast_object_list(box, 0)
        if isinstance(box[0], UserError):
            raise box[0]
        return box[0]

    def mean(self, values: Tensor) -> Tensor:
        """The mean of a tensor over all processes."""
        if self.count > 1:
            dist.all_reduce(values)
            values /= self.count
        return values

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.count > 1:
            dist.barrier()


@contextmanager
def join_processes(device: str) -> Iterator[Processes]:
    """The run's processes, from the environment that torchrun sets; without it, one process.

    device: "auto", "cpu", "cuda" (each process takes the card of its local rank) or "cuda:N".
    Raises ConfigError for a device that is not there.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    local = int(os.environ.get("LOCAL_RANK", "0"))
    place = choose_device(device)
    if place.type == "cuda" and place.index is None:
        place = choose_device(f"cuda:{local}")
    if place.type == "cuda":
        torch.cuda.set_device(place)
    if count == 1:
        if place.type == "cpu":
            keep_threads_within_quota()
        yield Processes(0, 1, place)
        return
    on_gpus = place.type == "cuda"
    dist.init_process_group("nccl" if on_gpus else "gloo", timeout=PATIENCE, device_id=place if on_gpus else None)
    try:
        yield Processes(dist.get_rank(), dist.get_world_size(), place)
    finally:
        dist.destroy_process_group()
