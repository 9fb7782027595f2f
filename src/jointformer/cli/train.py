"""Train on the published data sets, on clips from stills, or on your own videos (docs/training.md).

  jointformer train --data MYVIDEOS --init s02 --iterations 2000
  jointformer train --stages 02 --data-root .. --init convmae
  jointformer train --stills FOLDER --model tiny --minutes 25

On several GPUs, one process each: torchrun --nproc-per-node 8 -m jointformer.cli.main train ...
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.train.defaults import KEEP, LOG_EVERY, SAVE_EVERY, VALIDATE_EVERY, VALIDATE_SIZE

if TYPE_CHECKING:
    from jointformer.train.settings import Settings
    from jointformer.train.stages import Stage

#: Flags of a clip's measures: published stages and own videos have some of their own, which these change.
CLIP_FLAGS = ("batch", "frames", "objects", "size")
#: What may be changed of a stage.
STAGE_FLAGS = (*CLIP_FLAGS, "lr")
#: What is given instead of a flag that does nothing for a kind of run.
HINTS = {
    "minutes": "give --iterations",
    "batch": "--load makes iterations smaller or larger",
    "fine_tune": "these begin with --init anyhow",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    what = parser.add_argument_group("what to train on (one of)")
    kind = what.add_mutually_exclusive_group(required=True)
    kind.add_argument("--stages", metavar="DIGITS", help="published stages in order, such as 02")
    kind.add_argument("--data", type=Path, metavar="FOLDER", help="own videos: JPEGImages/ and Annotations/ in FOLDER")
    kind.add_argument("--stills", type=Path, metavar="FOLDER", help="clips from the stills of FOLDER/manifest.csv")
    what.add_argument(
        "--data-root", type=Path, metavar="FOLDER", help="for --stages: the folder that holds DAVIS/, ... (..)"
    )
    add_run_arguments(parser)
    run = parser.add_argument_group("length and size")
    run.add_argument(
        "--iterations", type=int, metavar="N",
        help="optimiser updates; for --stages: total of each stage, its phases and steps in proportion",
    )  # fmt: skip
    run.add_argument("--minutes", type=float, help="for --stills: length of the run in minutes of training")
    run.add_argument("--batch", type=int, metavar="N", help="clips per iteration, over all processes")
    run.add_argument("--frames", type=int, metavar="N", help="frames per clip")
    run.add_argument("--objects", type=int, metavar="N", help="most objects per clip")
    run.add_argument("--size", type=int, metavar="PIXELS", help="side of the crops, a multiple of 16")
    run.add_argument("--lr", type=float, help="learning rate (the backbone gets a tenth, but not with --stills)")
    run.add_argument("--load", type=float, help="for --stills: factor on the number of clips per iteration (1)")
    run.add_argument(
        "--fine-tune", action="store_true", default=None,
        help="for --stills: large pictures and small steps from the start, for the weights of --init",
    )  # fmt: skip


def add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags that the published command line shares."""
    run = parser.add_argument_group("the run")
    run.add_argument("--out", type=Path, default=Path("runs/train"), help="checkpoints, log, weights (runs/train)")
    run.add_argument("--model", default="base", help="base, small or tiny, unless the weights say it (base)")
    run.add_argument("--init", metavar="WEIGHTS", help="start from weights: a name, a file, or convmae")
    run.add_argument("--resume", action="store_true", help="continue from the newest checkpoint in --out, if any")
    run.add_argument("--seed", type=int, default=0, help="random seed of weights, clips and their order (0)")
    run.add_argument("--strict", action="store_true", help="stop at the first broken file instead of skipping it")
    run.add_argument(
        "--log-every", "--log_every", type=int, default=LOG_EVERY, metavar="N",
        help=f"iterations between progress lines ({LOG_EVERY})",
    )  # fmt: skip
    run.add_argument(
        "--save-every", "--save_every", type=int, default=SAVE_EVERY, metavar="N",
        help=f"iterations between checkpoints ({SAVE_EVERY})",
    )  # fmt: skip
    run.add_argument("--keep", type=int, default=KEEP, metavar="N", help=f"checkpoints kept ({KEEP})")
    run.add_argument("--tensorboard", action="store_true", help="write scalars and preview pictures to OUT/board")
    run.add_argument("--validate", type=Path, metavar="FOLDER", help="videos (DAVIS layout) to measure J&F on")
    run.add_argument(
        "--validate-every", type=int, default=VALIDATE_EVERY, metavar="N",
        help=f"iterations between validations ({VALIDATE_EVERY})",
    )  # fmt: skip
    run.add_argument(
        "--validate-size", type=int, default=VALIDATE_SIZE, metavar="PIXELS",
        help=f"shorter side the network sees in validation ({VALIDATE_SIZE})",
    )  # fmt: skip
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--device", default="auto", help="auto (default), cpu or cuda")
    machine.add_argument(
        "--precision", default="auto", help="auto (default), float32, bfloat16, autocast-bfloat16, autocast-float16"
    )
    machine.add_argument(
        "--workers", type=int, metavar="N", help="threads that make clips (1 on a CPU, 12 beside a GPU)"
    )
    machine.add_argument("--checkpointing", action="store_true", help="recompute activations to save memory")


def settings_from(args: argparse.Namespace) -> Settings:
    """The settings that the flags of `add_run_arguments` say."""
    from jointformer.train.settings import Settings

    return Settings(
        out=args.out, model=args.model, init=args.init, resume=args.resume, seed=args.seed,
        precision=args.precision, workers=args.workers, checkpointing=args.checkpointing,
        refuse_broken=args.strict, log_every=args.log_every, save_every=args.save_every, keep=args.keep,
        tensorboard=args.tensorboard, validate_on=args.validate, validate_every=args.validate_every,
        validate_size=args.validate_size,
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Train as asked; 0 when the run ended, 130 when a signal stopped it (its checkpoint is written)."""
    from jointformer.train.distributed import join_processes
    from jointformer.train.runs import run_own, run_stages, run_stills

    start_logging()
    settings = settings_from(args)
    _refuse_unused(args)
    with join_processes(args.device) as processes:
        if args.stills is not None:
            finished = run_stills(
                settings, processes, args.stills, iterations=args.iterations, minutes=args.minutes,
                load=1.0 if args.load is None else args.load, fine_tune=bool(args.fine_tune), lr=args.lr,
            )  # fmt: skip
        elif args.data is not None:
            finished = run_own(settings, processes, args.data, _own_stage(args))
        else:
            finished = run_stages(settings, processes, _stages(args), args.data_root or Path(".."))
    return 0 if finished else 130


def _refuse_unused(args: argparse.Namespace) -> None:
    """Raise ConfigError for a flag that the kind of run has no use for."""
    from jointformer.errors import ConfigError

    stills = args.stills is not None
    for name in CLIP_FLAGS if stills else ("minutes", "load", "fine_tune"):
        if getattr(args, name) is not None:
            kinds = "--stages and --data" if stills else "--stills"
            raise ConfigError(f"goes with {kinds} only", where=f"--{name.replace('_', '-')}", hint=HINTS.get(name))
    if args.data_root is not None and args.stages is None:
        raise ConfigError("goes with --stages only", where="--data-root", hint="--data and --stills name their folder")


def _stages(args: argparse.Namespace) -> list[Stage]:
    from jointformer.train.stages import overridden, parse_stages, with_total

    stages = parse_stages(args.stages)
    if args.iterations is not None:
        stages = [with_total(stage, args.iterations) for stage in stages]
    return [overridden(stage, _given(args, STAGE_FLAGS)) for stage in stages]


def _own_stage(args: argparse.Namespace) -> Stage:
    """Defaults that suit a few videos on one GPU and weights that are good already."""
    from jointformer.train.stages import own_stage

    usual = {"iterations": 2000, "batch": 4, "frames": 4, "objects": 3, "size": 384, "lr": 1e-5}
    return own_stage(**{**usual, **_given(args, usual)}, max_skip=10)


def _given(args: argparse.Namespace, names: Iterable[str]) -> dict[str, Any]:
    return {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def start_logging() -> None:
    """Messages go to standard error, as they are; OpenCV leaves threads to us.

    What all processes of a run would say alike, only the first one says.
    """
    import logging

    import cv2

    level = logging.INFO if os.environ.get("RANK", "0") == "0" else logging.WARNING
    logging.basicConfig(stream=sys.stderr, level=level, format="%(message)s")
    cv2.setNumThreads(1)
