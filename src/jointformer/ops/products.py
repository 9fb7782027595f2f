"""Matrix products in float32 on a CPU, by oneDNN where MKL, which PyTorch takes for them, is the slower one."""

from __future__ import annotations

import functools
import platform
from contextlib import suppress

import torch
from torch import Tensor


@functools.cache
def onednn_is_faster() -> bool:
    """Whether this is an AMD processor with AVX-512, of which MKL uses vectors of half that width.

    The processor decides and no measurement, so that a run computes the same every time.
    """
    return (
        torch.backends.mkl.is_available()
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
        and _vendor() == "AuthenticAMD"
    )


def times_transposed(x: Tensor, rows: Tensor, out: Tensor, *, at_once: int | None = None) -> Tensor:
    """Return x (R, C) times the transpose of `rows` (D, C), float32 on the CPU without gradients: (R, D).

    out: (R, D), where the result may go. at_once: oneDNN multiplies by so many of the rows at a time. It keeps code for
    every number of rows that it has met, for good, so that rows that grow by and by would fill the memory with it.
    """
    if not onednn_is_faster():
        return torch.mm(x, rows.mT, out=out)
    if at_once is None or len(rows) <= at_once:
        return _by_onednn(x, rows)
    for part, goal in zip(rows.split(at_once), out.split(at_once, dim=1), strict=True):
        goal.copy_(_by_onednn(x, part))
    return out


def _by_onednn(x: Tensor, rows: Tensor) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(x, rows, None, "none", [], "")
    return product


def _vendor() -> str:
    """What an x86 processor calls its maker; of others, what the system says of them, or nothing."""
    with suppress(OSError), open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
        for line in lines:
            if line.startswith("vendor_id"):
                return line.partition(":")[2].strip()
    return platform.processor().rpartition(", ")[2]  # Windows: "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD"
