"""Compare scores: figures side by side, differences, and the videos that make them.

  jointformer score davis17 --annotations DAVIS/2017/trainval --predictions output/old --json old.json
  jointformer score davis17 --annotations DAVIS/2017/trainval --predictions output/new --json new.json
  jointformer compare old.json new.json

Every file is compared with the first one, over the same videos. The interval says in which range the mean difference
lies in 95 of 100 sets of videos that are drawn again from these: one that includes 0 may be a few videos' luck.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jointformer.cli.running import print_scores


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jointformer compare`."""
    parser.add_argument("scores", nargs="+", type=Path, metavar="FILE", help="what `jointformer score --json` wrote")
    parser.add_argument("--figure", metavar="NAME", help="compare videos by this figure (default: the first, as J&F)")
    parser.add_argument("--per-video", action="store_true", help="print all videos, not only those that differ most")
    parser.add_argument("--json", metavar="FILE", help="write everything with full digits; - for standard output")


def run(args: argparse.Namespace) -> int:
    """Print the comparison, write what was asked for."""
    from jointformer.data.inputs import check_outputs
    from jointformer.evaluation.score_compare import compare

    check_outputs([args.json] if args.json and args.json != "-" else [], args.scores)
    comparison = compare(args.scores, figure=args.figure)
    print_scores(comparison.table(None if args.per_video else 10), args.json, comparison.to_json)
    return 0
