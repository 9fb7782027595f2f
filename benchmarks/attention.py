"""Times joint attention with top-k memory against PyTorch's own operations, in one run.

    python benchmarks/attention.py [--threads 2] [--rounds 5]

Sizes are those of a 480 x 854 frame: 1620 query tokens and as many own keys. Every way is timed once per round, so
that a busy machine slows all alike; the table gives each way's medians (by the clock, and of processor time over all
threads) and their ratios to the two matrix products of the dense attention, scores and values, by PyTorch.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.ops.attention import joint_attention, plain_attention
from jointformer.ops.kernels import attention_cpu

TOKENS, WIDTH = 1620, 64
CASES = ((12, 2, 60), (12, 4, 120), (3, 2, 60))  # heads, memory frames (with the last), k


def ways(heads: int, frames: int, topk: int, dtype: torch.dtype) -> dict[str, Callable[[], object]]:
    """The computations to time, by name."""
    memory = frames * TOKENS
    q, k, v = torch.randn(1, TOKENS, 3, heads, WIDTH).to(dtype).permute(2, 0, 3, 1, 4)
    memory_k, memory_v = torch.randn(2, 1, heads, memory, WIDTH).to(dtype)
    all_k, all_v = torch.cat((k, memory_k), 2), torch.cat((v, memory_v), 2)
    scores = torch.randn(heads, TOKENS, memory).to(dtype)
    own_and_memory = torch.empty(TOKENS, TOKENS + memory, dtype=dtype)
    product = torch.empty(TOKENS, WIDTH, dtype=dtype)

    def products() -> None:
        for head in range(heads):
            torch.mm(q[0, head], all_k[0, head].mT, out=own_and_memory)
            torch.mm(own_and_memory, all_v[0, head], out=product)

    out = torch.empty(1, TOKENS, heads, WIDTH, dtype=dtype).transpose(1, 2)
    kernel = attention_cpu.attend_tiles if attention_cpu.fits_tiles(q, memory) else attention_cpu.attend_rows
    found: dict[str, Callable[[], object]] = {
        "two matrix products": products,
        "joint_attention, top-k": lambda: joint_attention(q, k, v, memory_k, memory_v, topk=topk, out=out),
        "  by rows": lambda: attention_cpu.attend_rows(q, k, v, memory_k, memory_v, topk, memory, out),
        "  plain, top-k": lambda: plain_attention(q, k, v, memory_k, memory_v, topk, memory),
        "torch.topk alone": lambda: scores.topk(topk, dim=-1),
        "PyTorch's dense attention": lambda: F.scaled_dot_product_attention(q, all_k, all_v),
        "  the same, own keys only": lambda: F.scaled_dot_product_attention(q, k, v),
    }
    if kernel is attention_cpu.attend_rows:
        del found["  by rows"]
    return found


def error(heads: int, frames: int, topk: int) -> tuple[float, float]:
    """Mean absolute error of the fast and of the plain bfloat16 result, against float32."""
    inputs: list[Tensor] = [
        torch.randn(1, 1, n, WIDTH).bfloat16() for n in (256, TOKENS, TOKENS, frames * TOKENS, frames * TOKENS)
    ]
    q, k, v, memory_k, memory_v = (tensor.float() for tensor in inputs)
    exact = plain_attention(q, k, v, memory_k, memory_v, topk, frames * TOKENS)
    q, k, v, memory_k, memory_v = inputs
    fast = joint_attention(q, k, v, memory_k, memory_v, topk=topk).float()
    plain = plain_attention(q, k, v, memory_k, memory_v, topk, frames * TOKENS).float()
    return (fast - exact).abs().mean().item(), (plain - exact).abs().mean().item()


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for dtype in (torch.bfloat16, torch.float32):
        for heads, frames, topk in CASES:
            timed = ways(heads, frames, topk, dtype)
            times: dict[str, list[tuple[float, float]]] = {name: [] for name in timed}
            for way in timed.values():
                way()
            for _ in range(arguments.rounds):
                for name, way in timed.items():
                    clock, used = time.perf_counter(), time.process_time()
                    way()
                    times[name].append((time.perf_counter() - clock, time.process_time() - used))
            print(f"\n{dtype}, {heads} heads, {frames} memory frames, k {topk}, {arguments.threads} threads")
            print(f"  {'':32} {'clock':>10} {'ratio':>6} {'processor':>13} {'ratio':>6}")
            medians = {name: [statistics.median(column) for column in zip(*t)] for name, t in times.items()}
            least = medians["two matrix products"]
            for name, (clock, used) in medians.items():
                ratios = clock / least[0], used / least[1]
                print(f"  {name:32} {clock * 1e3:7.1f} ms {ratios[0]:6.2f} {used * 1e3:10.1f} ms {ratios[1]:6.2f}")
    fast, plain = error(12, 2, 60)
    print(f"\nmean error against float32: {fast:.2e} (plain operations in bfloat16: {plain:.2e})")


if __name__ == "__main__":
    main()
