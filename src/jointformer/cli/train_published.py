"""Train the published stages with the published command line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jointformer.cli.flags import CommandParser
from jointformer.cli.main import run_safely
from jointformer.cli.standard import prepare_standard
from jointformer.cli.train import add_run_arguments, settings_from, start_logging

#: Per-stage flags `--s2_<name>`: the field of the stage's row that each replaces, its type and what it is.
STAGE_FLAGS: dict[str, tuple[str, type, str]] = {
    "batch_size": ("batch", int, "clips per iteration, over all processes"),
    "iterations": ("iterations", int, "optimiser updates before the fine-tune phase"),
    "finetune": ("fine_tune", int, "optimiser updates of the fine-tune phase"),
    "lr": ("lr", float, "learning rate (the backbone gets a tenth)"),
    "num_frames": ("frames", int, "frames per clip"),
    "num_ref_frames": ("memory_frames", int, "memory frames per clip"),
    "num_objects": ("objects", int, "most objects per clip"),
    "crop_size": ("size", int, "side of the crops, a multiple of 16"),
}
#: The same for flags that replace no whole field: where the learning rate falls, and what the loss keeps.
_STEPS = "iterations at which the learning rate falls to a tenth"
_WARM = {
    "start_warm": "iteration up to which the loss keeps every pixel",
    "end_warm": "iteration from which it keeps the hardest 15 %%",
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the published flags, with ours."""
    parser = CommandParser(prog="train.py", description=__doc__)
    parser.add_argument("--stages", default="02", help="stages in order, such as 02 or 012 (02)")
    parser.add_argument("--exp_id", default="run", help="the run's name (run); results go to <out>/<exp_id>_s<stages>")
    parser.add_argument("--load_network", metavar="WEIGHTS", help="start from these weights")
    parser.add_argument(
        "--load_checkpoint",
        type=Path,
        metavar="FILE",
        help="continue from this checkpoint (with --resume: unless the folder has one)",
    )
    parser.add_argument(
        "--data_root", type=Path, default=Path(".."), help="the folder that holds static/, DAVIS/, ... (..)"
    )
    add_run_arguments(parser)
    group = parser.add_argument_group(
        "values of one stage (here 2; --s0_ to --s9_ likewise); default: the published table"
    )
    for digit in range(10):
        shown = digit == 2  # one stands for all
        for name, (_, kind, text) in STAGE_FLAGS.items():
            group.add_argument(f"--s{digit}_{name}", type=kind, metavar="N", help=text if shown else argparse.SUPPRESS)
        group.add_argument(
            f"--s{digit}_steps", type=int, nargs="*", metavar="N", help=_STEPS if shown else argparse.SUPPRESS
        )
        for name, text in _WARM.items():
            group.add_argument(f"--s{digit}_{name}", type=int, metavar="N", help=text if shown else argparse.SUPPRESS)
    return parser


def run(args: argparse.Namespace) -> int:
    """Return the exit code of train.py."""
    from jointformer.train.distributed import join_processes
    from jointformer.train.runs import run_stages
    from jointformer.train.stages import overridden, parse_stages

    start_logging()
    stages = [overridden(stage, _changes(args, stage.number, stage.warm)) for stage in parse_stages(args.stages)]
    settings = replace(
        settings_from(args),
        out=args.out / f"{args.exp_id}_s{args.stages.removeprefix('s')}",
        init=args.load_network or args.init,
        checkpoint=args.load_checkpoint,
    )
    with join_processes(args.device) as processes:
        return 0 if run_stages(settings, processes, stages, args.data_root) else 130


def _changes(args: argparse.Namespace, number: int, warm: tuple[int, int]) -> dict[str, object]:
    if f"s{number}_steps" not in args:  # the published flags are those of ten stages
        return {}
    given = {field: getattr(args, f"s{number}_{name}") for name, (field, *_) in STAGE_FLAGS.items()}
    changes: dict[str, object] = {field: value for field, value in given.items() if value is not None}
    if (steps := getattr(args, f"s{number}_steps")) is not None:
        changes["steps"] = tuple(steps)
    start, end = (getattr(args, f"s{number}_{name}") for name in ("start_warm", "end_warm"))
    if start is not None or end is not None:
        changes["warm"] = (warm[0] if start is None else start, warm[1] if end is None else end)
    return changes


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of one train.py command line."""
    prepare_standard()
    return run_safely(run, build_parser(), sys.argv[1:] if argv is None else argv)
