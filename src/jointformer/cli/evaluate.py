"""Run a benchmark: label every video, write its masks where its scorer or server wants them.

An interrupted run continues with the unfinished videos. Exit code 0 when all videos are finished, 1 when some failed
(each is listed with its error; the others are finished), 2 for a mistake in settings or data, 130 when interrupted.

  jointformer evaluate --dataset D17 --workers 4              four processes, one network each
  jointformer evaluate --dataset D17 --devices cuda:0,cuda:1  one process per GPU
  jointformer evaluate --dataset D17 --shard 3/8              part 3 of 8, as in a SLURM array
  jointformer evaluate --merge output/D17_val                 put shards together, name what is missing
  jointformer evaluate --dataset D17 --ray auto               a Ray cluster
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jointformer.evaluate.runner import Scale


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer evaluate`."""
    parser.add_argument("--model", default="tiny", help="tiny, a published name (s012, …) or a weights file")
    parser.add_argument("--dataset", help="D16 D17 Y18 Y19 VOST MOSE VISOR LVOS BURST, or G for folders")
    parser.add_argument("--split", default="val", help="val or test")
    parser.add_argument("--data-root", default="..", type=Path, help="the folder of DAVIS/, VOST/, … (default: ..)")
    parser.add_argument("--generic-path", type=Path, help="for G: the folder of JPEGImages/ and Annotations/")
    parser.add_argument("--output", "-o", type=Path, help="results (default: output/<dataset>_<split>)")
    parser.add_argument("--save-scores", action="store_true", help="also write each object's probabilities")
    parser.add_argument("--save-all", action="store_true", help="write every frame, not only those that are scored")
    memory = parser.add_argument_group("memory")
    memory.add_argument("--preset", action="store_true", help="take memory and k from the benchmark's published row")
    memory.add_argument("--max-memory-frames", type=int, help="memory frames per object, 0: no bound (default: 5)")
    memory.add_argument("--topk", type=int, help="memory keys kept per query, 0 for all (default: 30)")
    memory.add_argument("--memory-every", type=int, default=5, help="steps between memory frames (default: 5)")
    memory.add_argument("--no-last", action="store_true", help="do not keep the last frame as temporary memory")
    add_running_arguments(parser)
    views = parser.add_argument_group("views (more than one: probabilities are averaged)")
    views.add_argument("--sizes", default="480", help="shorter sides the network sees, comma-separated; -1: as it is")
    views.add_argument("--flip", action="store_true", help="also look at the mirrored video")


def add_running_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `evaluate` and eval.py share besides the published flags."""
    group = parser.add_argument_group("running")
    group.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    group.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16")
    group.add_argument("--overwrite", action="store_true", help="start anew where results are there already")
    group.add_argument("--videos", nargs="+", metavar="NAME", help="these videos only")
    group.add_argument("--objects-per-pass", type=int, help="bound the working memory of videos with many objects")
    group.add_argument("--memory-budget", metavar="SIZE", help="such as 2GB: plan for it, or refuse what cannot fit")
    group.add_argument(
        "--on-bad-frame",
        default="stop",
        metavar="stop|skip|hold",
        help="frames that cannot be read: their video fails (default), they get no mask, or the mask before",
    )
    group.add_argument("--json", action="store_true", help="print the run's figures as JSON on standard output")
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    scale = parser.add_argument_group("scaling out (docs/scaling.md)")
    scale.add_argument("--workers", type=int, metavar="N", help="processes; with --ray: at most so many actors")
    scale.add_argument("--devices", metavar="LIST", help="a process each: cuda:0,cuda:1 (with --ray: cuda or cpu)")
    scale.add_argument("--threads", type=int, metavar="N", help="processor threads of each process")
    scale.add_argument("--shard", metavar="I/N", help="only part I of N (counted from 1) of the videos")
    scale.add_argument("--merge", type=Path, metavar="OUTPUT", help="only put the shards of this folder together")
    scale.add_argument("--ray", metavar="auto|ADDRESS", help="the workers of a Ray cluster (needs the extra: scale)")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer evaluate`."""
    from jointformer.data.published import find_published
    from jointformer.errors import ConfigError

    if args.merge is not None:
        return merge_command(args)
    if args.dataset is None:
        raise ConfigError("--dataset is missing", expected="D16 D17 Y18 Y19 VOST MOSE VISOR LVOS BURST or G")
    memory, topk = args.max_memory_frames, args.topk
    if args.preset:
        rows = find_published(args.dataset, args.split)
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
    import sys

    from jointformer.data.benchmarks import open_benchmark
    from jointformer.evaluate.runner import FailedVideos, evaluate
    from jointformer.evaluate.scale.manifest import choose_views
    from jointformer.evaluate.scale.shards import merge
    from jointformer.model.weights import load_model
    from jointformer.track import TrackerConfig
    from jointformer.track.budget import parse_size

    # Settings and data are checked before weights are loaded or downloaded: mistakes should show at once.
    config = TrackerConfig(**tracker, size=sizes[0], objects_per_pass=args.objects_per_pass)
    views = choose_views(sizes, plain=plain, flipped=flipped)
    scale = build_scale(args)
    budget = None if args.memory_budget is None else parse_size(args.memory_budget)
    dataset = open_benchmark(
        args.dataset,
        args.split,
        args.data_root,
        generic_path=args.generic_path,
        size=max(sizes),
        save_all=args.save_all,
    )
    output = args.output or Path("output") / f"{args.dataset}_{args.split}"
    device, precision = first_device(args)
    model = load_model(args.model, device=device, precision=precision)
    failed: dict[str, str] = {}
    try:
        manifest = evaluate(
            model,
            dataset,
            output,
            config=config,
            views=views,
            videos=args.videos,
            save_all=args.save_all,
            save_scores=args.save_scores,
            overwrite=args.overwrite,
            progress=not args.quiet,
            on_bad_frame=args.on_bad_frame,
            memory_budget=budget,
            scale=scale,
        )
    except FailedVideos as error:
        failed = error.failed
        manifest = merge(output)[0]
    print(
        f"{output}: {len(manifest.videos)} videos, {manifest.frames} frames in {manifest.seconds:.1f} s, "
        f"{manifest.fps:.2f} frames/s, peak memory {manifest.peak_memory / 2**20:.0f} MiB",
        file=sys.stderr,
    )
    list_failed(failed)
    if args.json:
        print_json(output, manifest.as_data())
    return 1 if failed else 0


def merge_command(args: argparse.Namespace) -> int:
    """Return the exit code of putting shards together: 0 where nothing is missing, else 1."""
    import sys

    from jointformer.evaluate.scale.shards import merge

    manifest, missing = merge(args.merge)
    print(f"{args.merge}: {len(manifest.videos)} of {len(manifest.wanted)} videos are finished", file=sys.stderr)
    list_failed({name: manifest.failed.get(name, "not begun, or cut off") for name in missing})
    if args.json:
        print_json(args.merge, manifest.as_data())
    return 1 if missing else 0


def list_failed(failed: dict[str, str]) -> None:
    """Print the videos that are not finished, a line each; of many only the first, as run.json has them all."""
    import sys

    for name, error in list(failed.items())[:20]:
        print(f"not finished: {name}: {error}", file=sys.stderr)
    if len(failed) > 20:
        print(f"not finished: {len(failed) - 20} more, see run.json", file=sys.stderr)


def print_json(output: Path, data: dict[str, Any]) -> None:
    """Print a run's figures on standard output."""
    import json
    import sys

    json.dump({"output": str(output), **data}, sys.stdout, indent=2)
    print()


def build_scale(args: argparse.Namespace) -> Scale:
    """Return who does the work. Raises ConfigError."""
    from jointformer.evaluate.runner import Scale
    from jointformer.evaluate.scale.shards import Shard
    from jointformer.model.device import choose_device

    devices = tuple(name.strip() for name in (args.devices or "").split(",") if name.strip())
    if args.ray is None:
        for name in devices:
            choose_device(name)
    shard = None if args.shard is None else Shard.parse(args.shard)
    return Scale(args.workers, devices, args.threads, args.ray, shard)


def first_device(args: argparse.Namespace) -> tuple[str, str]:
    """Return (device, precision) to load the network with: on the CPU where other processes will work with it."""
    from jointformer.model.device import choose_device, choose_precision

    if args.devices is None or args.ray is not None:
        return args.device, args.precision
    return "cpu", choose_precision(choose_device(args.devices.split(",")[0].strip()), args.precision)
