"""Frames to a GPU and results back, without the host waiting; for a model on the CPU none of this does anything.

A frame is copied from pinned memory on a stream of its own while the frame before it is segmented; a result is copied
into pinned memory on another, and only who reads it waits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

#: PyTorch's streams and events; tests put their own in its place.
gpu: Any = torch.cuda


def on_gpu(device: torch.device) -> bool:
    """Whether copies to and from this device can run beside its work."""
    return device.type == "cuda"


def pinned(x: Tensor) -> Tensor:
    """Return a CPU tensor in memory that a GPU reads by itself; PyTorch keeps such memory for the next one."""
    return x.pin_memory()


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """Return a CPU tensor on the device, in time for what the current stream does next; x itself on a CPU."""
    if on_gpu(device):
        return pinned(x).to(device, non_blocking=True)
    return x if x.device == device else x.to(device)


@dataclass(frozen=True)
class StagedFrame:
    """A frame on its way to the GPU. pixels: (H, W, 3) uint8 RGB there. copied: the event at the end of its copy."""

    pixels: Tensor
    copied: Any | None

    def get(self) -> Tensor:
        """Return the pixels for use on the current stream, which waits for the copy; the host does not."""
        if self.copied is not None:
            stream = gpu.current_stream(self.pixels.device)
            stream.wait_event(self.copied)
            self.pixels.record_stream(stream)  # so that their memory is not given away before it has used them
        return self.pixels

    def flipped(self) -> StagedFrame:
        """Return the mirrored frame."""
        return StagedFrame(self.get().flip(1), None)


def stage(pixels: Tensor, device: torch.device) -> StagedFrame:
    """Start copying a frame (H, W, 3) from the CPU to a GPU, beside what it is computing."""
    stream = _streams(device)[0]
    with _queued_on(stream, device):
        there = pinned(pixels).to(device, non_blocking=True)
        copied = gpu.Event()
        copied.record(stream)
    return StagedFrame(there, copied)


@dataclass(frozen=True)
class Download:
    """A tensor on its way to the CPU."""

    host: Tensor
    copied: Any | None

    def wait(self) -> Tensor:
        """Return the tensor when it is there."""
        if self.copied is not None:
            self.copied.synchronize()
        return self.host


def download(x: Tensor) -> Download:
    """Start copying to the CPU what the current stream is computing; what it is given later does not delay the copy."""
    if not on_gpu(x.device):
        return Download(x.cpu(), None)
    stream = _streams(x.device)[1]
    stream.wait_stream(gpu.current_stream(x.device))
    with _queued_on(stream, x.device):
        host = pinned(torch.empty(x.shape, dtype=x.dtype, device="cpu"))
        host.copy_(x, non_blocking=True)
        copied = gpu.Event()
        copied.record(stream)
    x.record_stream(stream)
    return Download(host, copied)


def mark(device: torch.device) -> Any:
    """Return an event that notes when the GPU is done with what the current stream has been given so far."""
    event = gpu.Event(enable_timing=True)
    event.record(gpu.current_stream(device))
    return event


def seconds_between(begun: Any, ended: Any) -> float:
    """Return the seconds that a GPU took from one mark to another, waiting for that one."""
    ended.synchronize()
    return float(begun.elapsed_time(ended)) / 1000


@contextmanager
def _queued_on(stream: Any, device: torch.device) -> Iterator[None]:
    """A block whose work goes to a stream of this device.

    Made the current one first: on its way out PyTorch's block would else make the thread's own, the first GPU in most,
    the current one again in a way that takes a context's memory there.
    """
    with gpu.device(device), gpu.stream(stream):
        yield


def one_behind(items: Iterable[T]) -> Iterator[T]:
    """Yield the same items, each when the next one is there: what the next one starts runs beside the use of this one.

    An exception of the source is raised at the place where its item would have come.
    """
    held: list[T] = []
    try:
        for item in items:
            held.append(item)
            if len(held) > 1:
                yield held.pop(0)
    except Exception:
        yield from held
        raise
    yield from held


@functools.cache
def _streams(device: torch.device) -> tuple[Any, Any]:
    """The device's streams for copies to it and from it."""
    return gpu.Stream(device), gpu.Stream(device)
