"""Measured peaks of memory against what a memory budget plans.

This is how the constants of track/budget.py and model/cost.py are found.

    python benchmarks/memory_plans.py [--repeat 5] [--only TEXT] [--json]

Every measurement is a process of its own that tracks noise until its memory is full. Peaks of one case differ from
process to process, because glibc's heap has gaps whose sizes depend on where blocks happen to lie: the plan has to hold
for all of them. tests/scale/test_budget.py holds some of the cases.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from watched import ENV


@dataclass(frozen=True)
class Case:
    """What is tracked, and how. size: (H, W). per_pass: objects that go through the network together."""

    preset: str
    size: tuple[int, int]
    objects: int = 1
    per_pass: int = 1
    memory: int = 1
    precision: str = "float32"
    threads: int = 1

    def __str__(self) -> str:
        height, width = self.size
        return (
            f"{self.preset} {self.precision} {height}x{width}, {self.objects} objects, {self.per_pass} per pass, "
            f"{self.memory} memory, {self.threads} threads"
        )


SMALL, USUAL, LARGE = (240, 432), (480, 854), (1080, 1920)
CASES = (
    Case("tiny", SMALL),
    Case("tiny", SMALL, 8, 8),
    Case("tiny", SMALL, 12, 2),
    Case("tiny", SMALL, 40),
    Case("tiny", USUAL, 1, 1, 2),
    Case("tiny", USUAL, 3, 3),
    Case("tiny", USUAL, 10),
    Case("tiny", USUAL, 10, 4),
    Case("tiny", LARGE, 2),
    Case("small", SMALL, 4, 4),
    Case("base", SMALL, 4, 4),
    Case("base", USUAL),
    Case("tiny", USUAL, 1, 1, 1, "bfloat16", 2),
    Case("tiny", USUAL, 10, 1, 2, "bfloat16", 2),
    Case("tiny", SMALL, 8, 8, 1, "bfloat16", 2),
    Case("small", USUAL, 3, 3, 1, "bfloat16", 2),
    Case("small", LARGE, 1, 1, 1, "bfloat16", 2),
    Case("base", USUAL, 1, 1, 3, "bfloat16", 2),
    Case("base", USUAL, 3, 1, 1, "bfloat16", 2),
)


def measure(case: Case) -> dict[str, int]:
    """Return the plan, its parts and the measured peak, in bytes."""
    environment = {**ENV, "OMP_NUM_THREADS": str(case.threads)}
    command = [sys.executable, __file__, "--measure", json.dumps(asdict(case))]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment, timeout=900)
    found: dict[str, int] = json.loads(done.stdout)
    return found


def _measure_here(case: Case) -> dict[str, int]:
    import numpy as np
    import torch

    from jointformer.model.config import PRESETS
    from jointformer.model.device import DTYPES, peak_memory
    from jointformer.model.network import JointFormer
    from jointformer.track import Tracker, TrackerConfig
    from jointformer.track.budget import VideoSize, base_within, fit_budget

    torch.set_num_threads(case.threads)
    model = JointFormer(PRESETS[case.preset]).to(DTYPES[case.precision]).eval().requires_grad_(False)
    every = min(case.memory, 2)  # where there are several memory frames, one in between is the temporary one
    config = TrackerConfig(size=-1, memory_every=every, max_memory_frames=case.memory, objects_per_pass=case.per_pass)
    base, before = base_within(model, config, 10**12)
    video = VideoSize("noise", every * case.memory + 3, case.size, case.objects)
    itemsize = model.dtype.itemsize
    plan = fit_budget(model.config, config, video, 10**12, base=base, itemsize=itemsize, before=before)
    tracker = Tracker(model, replace(plan.config, memory_limit=plan.total))
    height, width = case.size
    frame = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
    columns = np.arange(1, case.objects + 1).repeat(-(-width // case.objects))[:width]
    labels = np.repeat(columns[None], height, 0)
    for step in range(video.frames):
        _ = tracker.step(frame, labels if step == 0 else None).label_map
    parts = {name: getattr(plan, name) for name in ("base", "bank", "work", "pictures", "before")}
    return {"plan": plan.total, "peak": peak_memory(model.device), **parts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5, help="processes per case")
    parser.add_argument("--only", default="", help="only cases whose name holds this text")
    parser.add_argument("--json", action="store_true", help="print every measurement as JSON instead")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        values: dict[str, Any] = json.loads(args.measure)
        print(json.dumps(_measure_here(Case(**{**values, "size": tuple(values["size"])}))))
        return
    if not args.json:
        print("| case | plan: program, bank, a step, pictures (MB) | measured (MB) | share |\n|---|---|---|---|")
    for case in (c for c in CASES if args.only in str(c)):
        # Memory, not time, is measured: two may run at once.
        with ThreadPoolExecutor(max(1, 2 // case.threads)) as pool:
            found = list(pool.map(measure, [case] * args.repeat))
        if args.json:
            print(json.dumps({"case": asdict(case), "measured": found}), flush=True)
            continue
        plan, peaks = found[0], sorted(row["peak"] for row in found)
        parts = ", ".join(f"{plan[name] / 1e6:.0f}" for name in ("base", "bank", "work", "pictures"))
        low, high = (peak / plan["plan"] for peak in (peaks[0], peaks[-1]))
        print(
            f"| {case} | {plan['plan'] / 1e6:.0f}: {parts} | {peaks[0] / 1e6:.0f} – {peaks[-1] / 1e6:.0f} "
            f"| {low:.1%} – {high:.1%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
