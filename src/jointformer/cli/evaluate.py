"""Run a benchmark: track every video and write its masks where its scorer or server wants them.

An interrupted run continues with the unfinished videos. Exit code 0 when all videos are finished, 1 when some failed
(each is listed with its error; the others are finished), 2 for a mistake in settings or data, 130 when interrupted.

  jointformer evaluate --dataset D17 --workers 4              four processes, one network each
  jointformer evaluate --dataset D17 --devices cuda:0,cuda:1  one process per GPU
  jointformer evaluate --dataset D17 --shard 3/8              part 3 of 8, as in a SLURM array
  jointformer evaluate --merge output/D17_val                 combine the shards, list what is missing
  jointformer evaluate --dataset D17 --ray auto               a Ray cluster
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.flags import add_model_flag
from jointformer.cli.running import (
    add_running_flags,
    add_scale_flags,
    label_and_report,
    merge_command,
    run_options,
)

if TYPE_CHECKING:
    from jointformer.data.benchmarks import Dataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer evaluate`."""
    add_model_flag(parser)
    parser.add_argument("--dataset", help="D16 D17 Y18 Y19 VOST MOSE VISOR LVOS BURST, or G for folders")
    parser.add_argument("--split", default="val", help="val (default) or test")
    parser.add_argument(
        "--data-root", default="..", type=Path, help="the folder that holds DAVIS/, VOST/, … (default: ..)"
    )
    parser.add_argument("--generic-path", type=Path, help="for G: the folder that holds JPEGImages/ and Annotations/")
    parser.add_argument("--output", "-o", type=Path, help="folder for the results (default: output/<dataset>_<split>)")
    parser.add_argument("--save-scores", action="store_true", help="also write each object's probabilities")
    parser.add_argument(
        "--save-all", action="store_true", help="write masks of all frames, not only of those that are scored"
    )
    memory = parser.add_argument_group("memory")
    memory.add_argument("--preset", action="store_true", help="take memory and k from the benchmark's published row")
    memory.add_argument("--max-memory-frames", type=int, help="memory frames per object, 0: no bound (default: 5)")
    memory.add_argument("--topk", type=int, help="memory keys kept per query, 0 for all (default: 30)")
    memory.add_argument("--memory-every", type=int, default=5, help="steps between memory frames (default: 5)")
    memory.add_argument("--no-last", action="store_true", help="do not keep the last frame as temporary memory")
    add_running_arguments(parser)
    views = parser.add_argument_group("views (if several, their probabilities are averaged)")
    views.add_argument(
        "--sizes",
        default="480",
        help="shorter sides the network sees, comma-separated (default: 480); -1: the frame's own",
    )
    views.add_argument("--flip", action="store_true", help="also run the mirrored video")


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `evaluate` and eval.py share besides the published flags."""
    group = add_running_flags(parser)
    group.add_argument("--videos", nargs="+", metavar="NAME", help="run only these videos")
    group.add_argument("--json", action="store_true", help="print the run's figures as JSON on standard output")
    add_scale_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer evaluate`."""
    from jointformer.data.published import published_on
    from jointformer.errors import ConfigError

    if args.merge is not None:
        return merge_command(args)
    if args.dataset is None:
        raise ConfigError(
            "--dataset is missing", expected="one of D16, D17, Y18, Y19, VOST, MOSE, VISOR, LVOS, BURST, G"
        )
    memory, topk = args.max_memory_frames, args.topk
    if args.preset:
        rows = published_on(args.dataset, args.split)
        if not rows:
            raise ConfigError(
                f"nothing was published for {args.dataset} {args.split}, so it has no preset",
                hint="give --max-memory-frames and --topk (DAVIS 2017 used 1 and 60)",
            )
        memory = rows[0].max_memory_frames if memory is None else memory
        topk = rows[0].topk_num if topk is None else topk
    tracker = {
        "max_memory_frames": 5 if memory is None else memory,
        "topk": {None: 30, 0: None}.get(topk, topk),
        "memory_every": args.memory_every,
        "include_last": not args.no_last,
    }
    return evaluate_command(args, tracker, parse_sizes(args.sizes), plain=True, flipped=args.flip)


def parse_sizes(text: str) -> list[int]:
    """Return the sizes of a comma-separated list. Raises ConfigError."""
    from jointformer.errors import ConfigError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError("--sizes", expected="integers separated by commas", got=repr(text)) from None


def evaluate_command(
    args: argparse.Namespace, tracker: dict[str, Any], sizes: list[int], *, plain: bool, flipped: bool
) -> int:
    """Open the data, load the model, evaluate, report; shared with eval.py."""
    from jointformer.system.stop import stop_on_signal

    with stop_on_signal():  # an import that is cut off fails in any way it likes
        from jointformer.data.benchmarks import open_benchmark
        from jointformer.evaluation.runner import evaluate
        from jointformer.track import TrackerConfig
        from jointformer.track.ensemble import choose_views

    # Settings and data are checked before weights are loaded or downloaded: mistakes should show at once.
    ways = {"objects_per_pass": args.objects_per_pass, "compile": args.compile}
    config = TrackerConfig(**tracker, size=sizes[0], **ways)
    views = choose_views(sizes, plain=plain, flipped=flipped)
    options = run_options(args)
    dataset = open_benchmark(
        args.dataset,
        args.split,
        args.data_root,
        generic_path=args.generic_path,
        size=-1 if -1 in sizes else max(sizes),  # a frame's own size is the largest that there is
        save_all=args.save_all,
    )
    output = args.output or Path("output") / f"{args.dataset}_{args.split}"
    code = label_and_report(
        args,
        output,
        lambda model: evaluate(
            model,
            dataset,
            output,
            config=config,
            views=views,
            videos=args.videos,
            save_all=args.save_all,
            save_scores=args.save_scores,
            **options,
        ),
    )
    if code == 0 and not args.videos:
        _say_what_to_pack(args, dataset, output)
    return code


def _say_what_to_pack(args: argparse.Namespace, dataset: Dataset, output: Path) -> None:
    """Say where the results themselves, or their zip, are not what the benchmark's server takes."""
    row = dataset.benchmark
    if not row.zip_holds:
        return
    if not row.zips_masks:
        what = "there is no zip, as the server takes polygons"
    elif not row.zips_run(args.save_all):
        what = "there is no zip, as it would hold frames that are not scored"
    elif row.saved == "lvos" and any(min(video.frames_to_save) < video.first_mask for video in dataset.videos):
        what = "there are no masks of frames before the first given one, which LVOS asks for"
    else:
        return
    place = shlex.join([str(output), "--split", row.split, "--data-root", str(args.data_root)])
    print(f"note: {what}; `jointformer submit pack {row.key} {place}` makes the archive", file=sys.stderr)
