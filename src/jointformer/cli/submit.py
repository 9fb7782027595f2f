"""Check results against a benchmark's submission rules, and pack the archive for its server.

  jointformer submit check D17 output/D17_test --split test --data-root ..
  jointformer submit pack LVOS output/LVOS_test --split test --output lvos_test.zip

Both check the videos, and the frames, sizes, labels and palettes of all masks. Packing also writes empty masks for
missing frames before the first given mask, leaves out what the server does not ask for, and says so.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from jointformer.cli.flags import add_workers_flag, worker_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the two actions of `jointformer submit`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, text in (("check", "List what is wrong with the results."), ("pack", "Check, then write the archive.")):
        sub = actions.add_parser(name, help=text, description=text)
        sub.add_argument("dataset", metavar="DATASET", help="D17 Y18 Y19 MOSE LVOS VISOR BURST")
        sub.add_argument("results", type=Path, metavar="RESULTS", help="folder or zip of <video>/<frame>.png")
        sub.add_argument("--split", default="val", help="val or test (default: val)")
        sub.add_argument(
            "--data-root", default="..", type=Path, help="the folder that holds DAVIS/, MOSE/, … (default: ..)"
        )
        add_workers_flag(sub)
        sub.add_argument("--json", action="store_true", help="print the findings as JSON on standard output")
        sub.add_argument("--quiet", action="store_true", help="no progress bar")
        if name == "pack":
            sub.add_argument(
                "--output", "-o", type=Path, metavar="ZIP", help="archive to write (default: <dataset>_<split>.zip)"
            )


def run(args: argparse.Namespace) -> int:
    """Return 0 where the results are in order (or packed), 2 where they are not."""
    from jointformer.data.benchmark_rows import find_benchmark
    from jointformer.data.benchmarks import open_benchmark
    from jointformer.data.inputs import check_outputs, refuse_inputs
    from jointformer.evaluation.submit import check_submission, pack_submission, refuse_without_server

    refuse_without_server(find_benchmark(args.dataset, args.split))  # said before the data are looked for
    target: Path | None = None
    if args.action == "pack":
        target = args.output or Path(f"{args.dataset}_{args.split}.zip")
        check_outputs([target], [args.results])
    workers = worker_count(args.workers)
    dataset = open_benchmark(args.dataset, args.split, args.data_root)
    if target is not None:  # no picture that is read becomes an archive, whatever name it was given
        names = [Path(folder, video.name) for folder in ("", "Annotations") for video in dataset.videos]
        read = (path for video in dataset.videos for path in video.inputs)
        refuse_inputs([target], [*read, *(args.results / name for name in names)])
    found = check_submission(dataset, args.results, workers=workers, progress=not args.quiet)
    for line in found.lines():
        print(line, file=sys.stderr)
    archive: Path | None = None
    if target is not None:
        archive = pack_submission(found, target, workers=workers)
    good = archive is not None or found.uploadable
    state = "in order" if good else "not in order"
    place = f"; for {found.server}" if found.server else ""
    print(
        f"{archive or args.results}: {len(dataset.videos)} videos, {found.files} masks, {state}{place}",
        file=sys.stderr,
    )
    if args.json:
        report = {
            "dataset": args.dataset,
            "split": args.split,
            "results": str(args.results),
            "in_order": good,
            "videos": len(dataset.videos),
            "masks": found.files,
            "server": found.server,
            "problems": found.problems.files,
            "mended_by_packing": found.mended.files,
            "archive": None if archive is None else str(archive),
        }
        print(json.dumps(report, indent=2))
    return 0 if good else 2
