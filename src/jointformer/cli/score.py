"""Score predicted masks as a benchmark's own toolkit does, and name what it gets wrong.

  jointformer score davis17 --annotations DAVIS/2017/trainval --predictions output/D17_val
  jointformer score lvos --annotations LVOS/valid --predictions results.zip --json scores.json
  jointformer score generic --annotations masks --predictions output/G --per-object

Predictions are palette or grey PNGs <video>/<frame>.png in a folder or a zip, which is read in place.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jointformer.cli.flags import add_workers_flag, worker_count
from jointformer.cli.running import add_missing_flag, print_scores
from jointformer.errors import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jointformer score`."""
    parser.add_argument(
        "benchmark",
        metavar="BENCHMARK",
        help="davis16, davis17, ytvos18, ytvos19, vost, mose, lvos, visor, burst or generic (D16, D17, Y18, … too)",
    )
    parser.add_argument(
        "--annotations", required=True, type=Path, metavar="DIR", help="the dataset's folder or its folder of masks"
    )
    parser.add_argument(
        "--predictions", required=True, type=Path, metavar="DIR", help="folder or zip of masks (BURST: also a json)"
    )
    parser.add_argument("--set", metavar="NAME", help="list of videos: a name such as val (default) or a .txt file")
    parser.add_argument("--meta", type=Path, metavar="FILE", help="meta.json, if it is not beside the annotations")
    parser.add_argument(
        "--groups", type=Path, metavar="FILE", help="LVOS: list of unseen videos; YouTube-VOS: seen categories"
    )
    parser.add_argument(
        "--rules",
        metavar="NAME",
        help="rules of another toolkit or year (docs/scoring.md; an unknown name lists the benchmark's)",
    )
    parser.add_argument(
        "--strict-toolkit", action="store_true", help="give the toolkit's values even where they are NaN or wrong"
    )
    add_missing_flag(parser)
    burst = parser.add_argument_group("BURST")
    burst.add_argument(
        "--similarity", choices=("box", "mask"), default="box", help="IoU of boxes or of masks in HOTA (default: box)"
    )
    burst.add_argument("--filter-tracks", action="store_true", help="match predictions to annotated tracks by id")
    output = parser.add_argument_group("output")
    output.add_argument("--json", metavar="FILE", help="write all figures with full digits; - for standard output")
    output.add_argument("--per-object", action="store_true", help="print a row per object (BURST: per class)")
    output.add_argument("--per-video", action="store_true", help="print a row per video")
    output.add_argument("--per-frame", action="store_true", help="add every frame's values to the JSON")
    output.add_argument("--plot", type=Path, metavar="FILE.png", help="draw J&F per video and J over time")
    add_workers_flag(parser)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Score, print the table, write what was asked for."""
    _refuse_unused(args)
    from jointformer.data.inputs import check_outputs
    from jointformer.evaluation.score import score

    given = [path for path in (args.annotations, args.predictions, args.meta, args.groups) if path and path.is_file()]
    outputs = [path for path in (args.json, args.plot) if path and path != "-"]
    check_outputs(outputs, given)
    scores = score(
        args.benchmark,
        args.annotations,
        args.predictions,
        rules=args.rules,
        set_name=args.set,
        meta=args.meta,
        groups=args.groups,
        missing=args.missing,
        strict_toolkit=args.strict_toolkit,
        similarity=args.similarity,
        filter_tracks=args.filter_tracks,
        outputs=outputs,
        workers=worker_count(args.workers),
        progress=not args.quiet,
    )
    table = scores.table(per_object=args.per_object, per_video=args.per_video)
    print_scores(table, args.json, lambda: scores.to_json(per_frame=args.per_frame))
    if args.plot:  # last: where it cannot be drawn, the figures are there
        from jointformer.evaluation.score_plot import plot_scores

        plot_scores(scores, args.plot)
    return 0


def _refuse_unused(args: argparse.Namespace) -> None:
    """Raise ConfigError for an output that the benchmark does not have, before the minutes that scores may take."""
    from jointformer.metrics.protocols import find_protocol

    if args.per_frame and not args.json:
        raise ConfigError("values of every frame are only written as JSON", where="--per-frame", hint="add --json FILE")
    if find_protocol(args.benchmark, args.rules).layout != "burst":
        return
    for flag, given, what in (
        ("--per-video", args.per_video, "row per video"),
        ("--per-frame", args.per_frame, "values per frame"),
        ("--plot", args.plot, "J per frame to plot"),
    ):
        if given:
            raise ConfigError(
                f"burst has no {what}: HOTA counts over all videos", where=flag, hint="--per-object prints its classes"
            )
