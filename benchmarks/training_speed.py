"""Clips per second of one training iteration, per precision: `python benchmarks/training_speed.py --model tiny`.

Rounds of all variants alternate, so that whatever else the machine does hits them alike; the best round counts.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable

import torch
from torch import nn

from jointformer.model.config import PRESETS
from jointformer.model.network import JointFormer
from jointformer.system.heap import keep_all_freed_memory
from jointformer.train.initialise import initialise
from jointformer.train.losses import frame_loss
from jointformer.train.optimiser import OptimiserConfig, build_optimiser
from jointformer.train.unroll import PRECISIONS, ClipBatch, ClipUnroller, UnrollConfig


def random_batch(clips: int, frames: int, height: int, width: int, objects: int, device: torch.device) -> ClipBatch:
    """Noise with random masks: speed does not depend on what is in the pictures."""
    shape = (clips, frames, height, width)
    return ClipBatch(
        torch.randint(0, 256, (*shape, 3), dtype=torch.uint8),
        torch.randint(0, objects + 1, shape, dtype=torch.uint8),
        torch.full((clips,), objects),
        objects,
    ).to(device)


def iteration(model: JointFormer, batch: ClipBatch, precision: str) -> Callable[[], None]:
    """A function that does one optimiser update and waits for it."""
    unroller = ClipUnroller(model, UnrollConfig(), precision)
    optimiser = build_optimiser(model, OptimiserConfig())

    def run() -> None:
        optimiser.zero_grad(set_to_none=True)
        losses = [
            frame_loss(logits, batch.label_maps[:, t + 1], batch.num_objects)
            for t, logits in enumerate(unroller(batch, 0).logits)
        ]
        torch.stack([loss.cross_entropy + loss.dice for loss in losses]).sum().backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if batch.frames.is_cuda:
            torch.cuda.synchronize()

    return run


def main() -> int:
    """Print one line per variant."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny", choices=PRESETS)
    parser.add_argument("--shape", default="128x128", help="height x width")
    parser.add_argument("--clips", type=int, default=8)
    parser.add_argument("--frames", type=int, default=3)
    parser.add_argument("--objects", type=int, default=1)
    parser.add_argument(
        "--precisions", nargs="+", default=["float32", "autocast-bfloat16", "bfloat16"], choices=PRECISIONS
    )
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    height, width = map(int, args.shape.split("x"))
    device = torch.device(args.device)
    model = JointFormer(PRESETS[args.model])
    initialise(model, 0)
    model.to(device)
    batch = random_batch(args.clips, args.frames, height, width, args.objects, device)
    keep_all_freed_memory()
    runs = {precision: iteration(model, batch, precision) for precision in args.precisions}
    best = dict.fromkeys(runs, float("inf"))
    processor = dict.fromkeys(runs, float("inf"))
    for number in range(args.rounds + 1):
        for name, run in runs.items():
            start, cpu = time.perf_counter(), time.process_time()
            run()
            if number:  # the first round warms up
                best[name] = min(best[name], time.perf_counter() - start)
                processor[name] = min(processor[name], time.process_time() - cpu)
    rows = [
        {"precision": name, "seconds": round(best[name], 4), "cpu_seconds": round(processor[name], 4),
         "clips_per_s": round(args.clips / best[name], 2)}
        for name in runs
    ]  # fmt: skip
    if args.json:
        print(json.dumps({"settings": vars(args), "threads": torch.get_num_threads(), "rows": rows}))
        return 0
    print(f"{args.model}, {args.clips} clips of {args.frames} frames {args.shape}, {args.objects} objects, {device}")
    for row in rows:
        print("  {precision:18s} {seconds:8.3f} s  {cpu_seconds:8.3f} s CPU  {clips_per_s:7.2f} clips/s".format(**row))
    return 0


if __name__ == "__main__":
    sys.exit(main())
