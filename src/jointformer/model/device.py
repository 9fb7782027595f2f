"""Which device and which floating-point type suit the machine."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar

import torch
from torch import nn

from jointformer.errors import ConfigError, NoMemoryError
from jointformer.system.heap import largest_resident_size
from jointformer.system.quota import cpu_quota

logger = logging.getLogger(__name__)

M = TypeVar("M", bound=nn.Module)

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Return the device asked for; for "auto" the first GPU where there is one, else the CPU.

    Raises ConfigError for a name that is no device and for one that this machine lacks.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError):
        raise ConfigError("device", expected="auto, cpu, cuda, cuda:N or mps", got=repr(device)) from None
    count = {"cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available()), "cpu": 1}
    available = count.get(chosen.type, 0)
    if (chosen.index or 0) >= available:
        raise ConfigError(
            f"device {device!r} is not available here",
            expected="auto, cpu or one of this machine's GPUs",
            got=f"{available} of the kind {chosen.type}",
        )
    return chosen


def use_device(device: str | torch.device = "auto") -> torch.device:
    """Return the same, made the current one of this thread where it is a numbered GPU: for programs, not for libraries.

    What is told of no device, such as pinned memory, would else take a context's memory on the first GPU as well.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is not None:
        torch.cuda.set_device(chosen)
    return chosen


def choose_precision(device: str | torch.device, precision: str = "auto") -> str:
    """Return the precision asked for; for "auto" the fastest one that the device computes in natively.

    cuda: bfloat16 from compute capability 8.0 on, else float16. cpu: bfloat16 where the processor
    multiplies it in hardware (AMX or AVX512-BF16), else float32. Others: float32. Raises ConfigError for an
    unknown name.
    """
    if precision != "auto":
        if precision not in DTYPES:
            raise ConfigError("precision", expected=f"auto, {', '.join(DTYPES)}", got=repr(precision))
        if precision == "float16" and torch.device(device).type == "cpu":
            _say_if_slow()
        return precision
    device = torch.device(device)
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.get_device_capability(device) >= (8, 0) else "float16"
    if device.type == "cpu" and cpu_has_bfloat16():
        return "bfloat16"
    return "float32"


def cpu_has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 in hardware; emulated it is slower than float32."""
    found = torch.cpu.get_capabilities()
    return bool(found.get("amx_bf16") or found.get("avx512_bf16"))


@functools.cache
def _say_if_slow() -> None:
    """Warn, once, of a processor for which float16 is only a way to store numbers."""
    found = torch.cpu.get_capabilities()
    if not (found.get("amx_fp16") or found.get("avx512_fp16")):
        logger.warning("this processor does not multiply float16, which takes far longer than float32")


def keep_threads_within_quota() -> None:
    """Lower the number of PyTorch's threads to what a container may use of the processors (system/quota.py).

    More of them wait for each other most of the time. OMP_NUM_THREADS is somebody's choice and stays.
    """
    quota, threads = cpu_quota(), torch.get_num_threads()
    if quota is not None and quota < threads and "OMP_NUM_THREADS" not in os.environ:
        logger.info("%d threads instead of %d: this container may not use more", quota, threads)
        torch.set_num_threads(quota)


def move_model(model: M, device: torch.device, dtype: torch.dtype | None = None) -> M:
    """Return a network that only tracks, moved to a device (and a type), its weights laid out as they are read there.

    That is channels last for a GPU's convolutions, as their input is: cuDNN would else rearrange weights at every call.
    Raises NoMemoryError.
    """
    layout: dict[str, Any] = {"memory_format": torch.channels_last} if device.type == "cuda" else {}
    with gpu_memory("what else uses it? Or take another device"):
        return model.to(device=device, dtype=dtype, **layout)


@contextmanager
def gpu_memory(hint: str) -> Iterator[None]:
    """A block, or function, that raises NoMemoryError with this hint where a GPU has no memory left for it."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        got = ". ".join(str(error).split(". ")[:3])  # how much was wanted and how much is free; settings follow
        raise NoMemoryError("no memory left on the GPU", got=got, hint=hint) from error


def reset_peak_memory(device: torch.device) -> None:
    """Start measuring the device's peak memory anew."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Return peak bytes: allocated on a GPU since the last reset, else this process's largest resident size."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return largest_resident_size()


@contextmanager
def exact_products(device: torch.device) -> Iterator[None]:
    """A block within which products are of the network's type, whatever autocast is around it, and a GPU's as exact.

    As it comes, PyTorch lets cuDNN round what convolutions of float32 multiply to 10 bits (TF32), and cuBLAS add parts
    of 16-bit products in 16 bits. Both are settings of the process, put back when the last thread has left such a
    block; whoever has allowed TF32 in matrix products, which PyTorch does not, keeps it there.
    """
    if device.type == "cuda":
        _settings.begin()
    try:
        with _without_autocast(device):
            yield
    finally:
        if device.type == "cuda":
            _settings.end()


class _Settings:
    """The settings of exact products, while any thread needs them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._blocks = 0
        self._before: list[tuple[Any, str, Any]] = []

    def begin(self) -> None:
        with self._lock:
            if not self._blocks:
                self._before = []
                for owner, name, exact in _exact_settings():
                    try:
                        old = getattr(owner, name)
                    except RuntimeError:  # allow_tf32 where the program sets TF32 by PyTorch's newer names
                        continue
                    if old not in exact:
                        self._before.append((owner, name, old))
                        setattr(owner, name, exact[0])
            self._blocks += 1

    def end(self) -> None:
        with self._lock:
            self._blocks -= 1
            if not self._blocks:
                for setting in reversed(self._before):
                    setattr(*setting)


_settings = _Settings()


def _without_autocast(device: torch.device) -> AbstractContextManager[object]:
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()


def _exact_settings() -> list[tuple[Any, str, tuple[str | bool, ...]]]:
    """The settings of exact products: (owner, name, values that are exact).

    TF32 by its older name first: by the newer one alone, whoever asks for the older one meanwhile (PyTorch's compiler
    does, when it tries out kernels) gets an error for two that differ. The newer one still counts where it was set.
    """
    matmul: Any = torch.backends.cuda.matmul
    cudnn: Any = torch.backends.cudnn
    return [
        (cudnn, "allow_tf32", (False,)),
        (cudnn.conv, "fp32_precision", ("ieee", "none")),
        (matmul, "allow_bf16_reduced_precision_reduction", (False,)),
        (matmul, "allow_fp16_reduced_precision_reduction", (False,)),
    ]
