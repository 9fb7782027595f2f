"""`jointformer train`: the published stages, clips from stills, or one's own videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    what = parser.add_argument_group("what to train on")
    what.add_argument("--stills", type=Path, metavar="FOLDER", help="clips from the stills of FOLDER/manifest.csv")
    run = parser.add_argument_group("the run")
    run.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="checkpoints, log and weights go here")
    run.add_argument("--model", default="base", help="base, small or tiny (default: base)")
    run.add_argument("--init", metavar="WEIGHTS", help="start from these weights (a name or a file)")
    run.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if any")
    run.add_argument("--iterations", type=int, help="length of the run in optimiser updates")
    run.add_argument("--minutes", type=float, help="length of the run in minutes of training")
    run.add_argument("--seed", type=int, default=0)
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="auto", help="auto, cpu or cuda (default: auto)")
    machine.add_argument("--precision", default="auto", help="auto, float32, bfloat16 or autocast-*")
    machine.add_argument("--workers", type=int, help="threads that make clips (default: 1 on a CPU, 8 beside a GPU)")
    machine.add_argument("--checkpointing", action="store_true", help="recompute activations to save memory")
    machine.add_argument("--load", type=float, default=1.0, help="factor on the clips of an iteration")
    machine.add_argument("--log_every", type=int, default=20, metavar="N")
    machine.add_argument("--save_every", type=int, default=200, metavar="N")


def run(args: argparse.Namespace) -> int:
    """Train as asked; 0 when the run ended, 130 when a signal stopped it (its checkpoint is written)."""
    import logging

    from jointformer.train.distributed import join_processes
    from jointformer.train.runs import default_device, run_stills

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    with join_processes(default_device(args.device)) as processes:
        finished = run_stills(args, processes)
    return 0 if finished else 130


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    sys.exit(run(parser.parse_args()))
