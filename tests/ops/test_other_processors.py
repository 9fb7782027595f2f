"""The compiled CPU kernels as other processors than this one get them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

llvm = pytest.importorskip("jointformer.ops.kernels.llvm", reason="needs numba")
processor = pytest.importorskip("jointformer.ops.kernels.processor", reason="needs numba")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="names an x86 processor"),
]

OLDER = """
import torch
from jointformer.ops.kernels import attention_cpu
from jointformer.ops.attention import plain_attention
assert not attention_cpu.CAN_MULTIPLY
g = torch.Generator().manual_seed(0)
q, k, v, mk, mv = (torch.randn(1, 1, n, 16, generator=g) for n in (40, 40, 40, 100, 100))
out = torch.empty(1, 1, 40, 16)
attention_cpu.attend_rows(q, k, v, mk, mv, 9, 50, out)
torch.testing.assert_close(out, plain_attention(q, k, v, mk, mv, 9, 50), atol=2e-6, rtol=1e-5)
"""
NEWER = """
from numba import cfunc
from jointformer.ops.kernels import processor
processor.AMX = True  # the system need not let this process use it: nothing is run
from jointformer.ops.kernels import compiling, linear_layers, attention_heads
for kernel in (attention_heads.attend_heads, linear_layers.layer_rows):
    code = cfunc(compiling._KERNEL)(kernel._function)._library.get_asm_str()
    assert code.count("tdpbf16ps") > code.count("vdpbf16ps")  # which a few sums take in any case
"""


def environment(folder: Path, name: str, features: list[str]) -> dict[str, str]:
    """Numba compiles for this processor, and caches in this folder."""
    settings = {"NUMBA_CPU_NAME": name, "NUMBA_CPU_FEATURES": ",".join(f"+{feature}" for feature in features)}
    return {**os.environ, **settings, "NUMBA_CACHE_DIR": str(folder)}


def test_older_processors_select_the_same(tmp_path: Path) -> None:
    older = environment(tmp_path, "haswell", ["avx2", "fma"])
    subprocess.run([sys.executable, "-c", OLDER], env=older, check=True, timeout=280)


def test_processors_with_amx_multiply_by_its_tiles(tmp_path: Path) -> None:
    vectors = ["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx512bf16", "avx512vbmi", "avx512vbmi2"]
    newer = environment(tmp_path, "sapphirerapids", [*vectors, "amx-tile", "amx-bf16"])
    subprocess.run([sys.executable, "-c", NEWER], env=newer, check=True, timeout=280)


@pytest.mark.skipif(not processor.CAN_MULTIPLY, reason="needs a processor that multiplies bfloat16")
@pytest.mark.skipif(not processor.AMX, reason="without AMX the kernels' own tests do this")
def test_processors_without_amx_multiply_by_dot_products(tmp_path: Path) -> None:
    features = [name for name, has in llvm.FEATURES.items() if has and not name.startswith("amx")]
    files = [str(Path(__file__).with_name(f"test_{name}.py")) for name in ("attention_kernels", "linear_kernels")]
    command = [sys.executable, "-m", "pytest", "-x", "-p", "no:xdist", "-p", "no:cacheprovider", *files]
    subprocess.run(command, env=environment(tmp_path, "sapphirerapids", features), check=True, timeout=500)
