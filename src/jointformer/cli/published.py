"""Run a benchmark with the published command line (INFERENCE.md), all of it, and more flags for long runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from jointformer.cli.evaluate import add_running_arguments, evaluate_command, parse_sizes
from jointformer.cli.flags import CommandParser
from jointformer.cli.main import run_safely
from jointformer.cli.running import merge_command
from jointformer.cli.standard import prepare_standard
from jointformer.errors import ConfigError
from jointformer.system.stop import catch_signals


def _boolean(text: str) -> bool:
    values = {"true": True, "1": True, "yes": True, "y": True, "false": False, "0": False, "no": False, "n": False}
    if text.lower() not in values:
        raise argparse.ArgumentTypeError(f"expected true or false, got {text!r}")
    return values[text.lower()]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the published flags, with ours that speed and safety need."""
    parser = CommandParser(prog="eval.py", description=__doc__)
    parser.add_argument("--model", default=None, help="tiny, a published name (s012, …) or a weights file")
    parser.add_argument(
        "--data_root", default="..", type=Path, help="the folder that holds DAVIS/, VOST/, … (default: ..)"
    )
    parser.add_argument("--dataset", default="D17", help="D16 D17 (default) Y18 Y19 VOST MOSE VISOR LVOS BURST G")
    parser.add_argument("--split", default="val", help="val (default) or test")
    parser.add_argument("--generic_path", type=Path, help="for G: the folder that holds JPEGImages/ and Annotations/")
    parser.add_argument("--output", type=Path, help="folder for the results (default: ./output/<dataset>_<split>)")
    parser.add_argument(
        "--save_all", action="store_true", help="write masks of all frames, not only of those that are scored"
    )
    parser.add_argument("--benchmark", action="store_true", help="compute in float32, for timing")
    parser.add_argument("--topk_num", type=int, default=30, help="memory keys kept per query (default: 30)")
    parser.add_argument("--topk_range", default="all_frames", help="all_frames (default) or every_frame")
    parser.add_argument(
        "--topk_block", default="all_blocks", help="all_blocks (default), half, last_block or None (dense)"
    )
    parser.add_argument(
        "--topk_clstoken", default="N", choices=["Y", "N"], help="Y: the memory token keeps k keys, too (default: N)"
    )
    parser.add_argument("--mem_every", type=int, default=5, help="steps between memory frames (default: 5)")
    parser.add_argument(
        "--include_last", type=_boolean, nargs="?", const=True, default=True, metavar="true|false",
        help="keep the last frame as temporary memory (default: true)",
    )  # fmt: skip
    parser.add_argument(
        "--max_memory_frames", type=int, default=5, help="memory frames per object, 0: no bound (default: 5)"
    )
    parser.add_argument("--save_scores", action="store_true", help="also write each object's probabilities")
    parser.add_argument("--flip", action="store_true", help="mirror the video and mirror the result back")
    parser.add_argument(
        "--size", type=int, default=480, help="shorter side the network sees (default: 480); -1: the frame's own"
    )
    parser.add_argument("--update_block_depth", type=int, help="must agree with the weights, from which it is read")
    parser.add_argument("--enhance_block_depth", type=int, help="must agree with the weights, from which it is read")
    parser.add_argument(
        "--sizes", help="several sizes, comma-separated: probabilities are averaged; with --flip, mirrored too"
    )
    add_running_arguments(parser)
    return parser


def run(args: argparse.Namespace) -> int:
    """Return the exit code of eval.py."""
    if args.merge is not None:
        return merge_command(args)
    if args.model is None:
        raise ConfigError("--model is missing", expected="tiny, a published name (s012, …) or a weights file")
    if args.topk_num < 1:  # said here, as other commands name the flag otherwise and take 0 for all keys
        raise ConfigError(
            "--topk_num", expected="1 or more", got=args.topk_num, hint="--topk_block None keeps all keys"
        )
    if args.benchmark:
        args.precision = "float32"
    _compare_with_published(args)
    _check_depths(args)
    tracker = {
        "max_memory_frames": args.max_memory_frames,
        "memory_every": args.mem_every,
        "include_last": args.include_last,
        "topk": args.topk_num,
        "topk_range": args.topk_range,
        "topk_blocks": args.topk_block,
        "token_topk": args.topk_clstoken == "Y",
    }
    sizes = parse_sizes(args.sizes) if args.sizes else [args.size]
    return evaluate_command(args, tracker, sizes, plain=bool(args.sizes) or not args.flip, flipped=args.flip)


def _compare_with_published(args: argparse.Namespace) -> None:
    """Say on standard error where memory and k are not those of the published row."""
    from jointformer.data.published import published_on

    rows = published_on(args.dataset, args.split)
    if rows and (args.max_memory_frames, args.topk_num) != (rows[0].max_memory_frames, rows[0].topk_num):
        print(
            f"eval.py: note: the published {rows[0].benchmark} rows used --max_memory_frames "
            f"{rows[0].max_memory_frames} --topk_num {rows[0].topk_num}; this run uses {args.max_memory_frames} "
            f"and {args.topk_num}",
            file=sys.stderr,
        )


def _check_depths(args: argparse.Namespace) -> None:
    """Raise ConfigError where a depth was given that the weights do not have."""
    if args.update_block_depth is None and args.enhance_block_depth is None:
        return
    from jointformer.model.weights import load_whole

    config = load_whole(args.model, progress=not args.quiet).fitted()[0].config
    for name, value in (("update", config.update_depth), ("enhance", config.enhance_depth)):
        given = getattr(args, f"{name}_block_depth")
        if given is not None and given != value:
            raise ConfigError(f"--{name}_block_depth", expected=f"{value}, as in the weights", got=given)


def main(argv: Sequence[str] | None = None) -> int:
    """Return the exit code of one eval.py command line."""
    prepare_standard()
    with catch_signals(last=argv is None):
        return run_safely(run, build_parser(), sys.argv[1:] if argv is None else argv)
