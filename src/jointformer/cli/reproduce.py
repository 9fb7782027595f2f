"""Run rows of the published tables again and compare our figures with the published ones.

  jointformer reproduce --list
  jointformer reproduce d17-val/s012 --data-root ..          one row: download, evaluate, score, compare
  jointformer reproduce d17-val s02 'lvos-*'                 a benchmark, weights, a pattern
  jointformer reproduce --dry-run                            what all rows need, and what is missing
  jointformer reproduce d17-val --published-masks            score the published masks; needs no GPU
  jointformer reproduce --workers 4                          four processes, one network each (docs/scaling.md)
  jointformer reproduce --shard 3/8                          part 3 of 8 of every row's videos

If a benchmark's annotations are on a server, the submission is checked and packed instead of scored. An interrupted run
continues with the unfinished videos. Parts (--shard) may share one report. Exit code 2 if a row failed or lacks
something, 0 otherwise, also where a row is still open because other parts have to finish it.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jointformer.cli.flags import worker_count
from jointformer.cli.running import add_missing_flag, add_running_flags, add_scale_flags, first_device, run_options

if TYPE_CHECKING:
    from jointformer.evaluation.reproduce_result import RowResult


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer reproduce`."""
    parser.add_argument("rows", nargs="*", metavar="ROW", help="d17-val/s012, d17-val, s012, a pattern (default: all)")
    parser.add_argument("--list", action="store_true", help="list the rows with settings and published figures")
    parser.add_argument("--dry-run", action="store_true", help="say what each row needs and what is missing")
    parser.add_argument(
        "--published-masks", action="store_true", help="score the published masks instead of running the network"
    )
    parser.add_argument(
        "--data-root", default="..", type=Path, help="the folder that holds DAVIS/, VOST/, … (default: ..)"
    )
    parser.add_argument(
        "--output",
        "-o",
        default="output/reproduce",
        type=Path,
        help="folder for the results (default: output/reproduce)",
    )
    report = parser.add_argument_group("report")
    report.add_argument("--markdown", type=Path, metavar="FILE", help="write the comparison as Markdown")
    report.add_argument("--json", metavar="FILE", help="write it as JSON, full digits; - for standard output")
    running = add_running_flags(parser)
    running.add_argument("--model", metavar="NAME", help="use these weights instead of the rows' own")
    running.add_argument(
        "--size", type=int, default=480, help="shorter side the network sees (default: 480, as published)"
    )
    running.add_argument("--scorers", type=int, metavar="N", help="processes that score (default: one per processor)")
    add_missing_flag(running)
    add_scale_flags(parser, merge=False)


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer reproduce`."""
    if args.list:
        return _list(args)
    from jointformer.system.stop import stop_on_signal

    with stop_on_signal():  # an import that is cut off fails in any way it likes
        from jointformer.evaluation.reproduce import Options, reproduce
        from jointformer.evaluation.reproduce_report import as_data, table
        from jointformer.evaluation.reproduce_rows import select_rows
        from jointformer.system.files import check_writable

    for path in (args.markdown, args.json):
        if path and path != "-":
            check_writable(path)
    ways = run_options(args)
    device, precision = first_device(args)
    options = Options(
        data_root=args.data_root,
        output=args.output,
        model=args.model,
        device=device,
        precision=precision,
        size=args.size,
        objects_per_pass=args.objects_per_pass,
        compile=args.compile,
        workers=worker_count(args.scorers),
        published_masks=args.published_masks,
        missing=args.missing,
        **ways,
    )
    rows = select_rows(args.rows)
    results = reproduce(rows, options, dry_run=args.dry_run, after_row=lambda so_far: _write(args, so_far))
    # With JSON on standard output the table is for the eyes only.
    print(table(results), file=sys.stderr if args.json == "-" else sys.stdout)
    if args.json == "-":
        print(json.dumps(as_data(results), indent=2))
    return 0 if all(result.good for result in results) else 2


def _write(args: argparse.Namespace, results: list[RowResult]) -> None:
    """Write the report so far: a run over many rows may be cut off days later."""
    from jointformer.evaluation.reproduce_report import as_data, markdown
    from jointformer.system.files import write_json, write_text

    if args.markdown:
        write_text(args.markdown, markdown(results))
    if args.json and args.json != "-":
        write_json(args.json, as_data(results))
    if not args.dry_run:
        print(f"{results[-1].name}: {results[-1].status} ({len(results)} rows so far)", file=sys.stderr)


def _list(args: argparse.Namespace) -> int:
    from jointformer.evaluation.reproduce_report import list_table
    from jointformer.evaluation.reproduce_rows import row_name, select_rows
    from jointformer.system.files import write_json

    rows = select_rows(args.rows)
    data = [{"row": row_name(row), "published": dict(row.published)} for row in rows]
    if args.json == "-":
        print(json.dumps(data, indent=2))
        return 0
    if args.json:
        write_json(args.json, data)
    print(list_table(rows))
    return 0
