"""Runs the grid of docs/performance.md and writes its table: each figure beside the command that gave it.

    python benchmarks/performance.py [--steps 7] [--only TEXT] [--kind NAME] [--no-write]

Every case runs in a process of its own, so that its peak memory is its own, one after the other on an otherwise idle
machine. Times are medians of single steps. The page has a table for each kind of processor; the one of this kind is
rewritten.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

from jointformer.ops.kernels.processor import AMX, CAN_MULTIPLY

PAGE = Path(__file__).parent.parent / "docs" / "performance.md"
KIND = "AMX" if AMX else "AVX512-BF16" if CAN_MULTIPLY else "other"
END = "<!-- end of figures -->"
FIRST = ("--model", "base", "--objects", "1", "--memory", "1", "--topk", "60")
CASES: tuple[tuple[str, ...], ...] = (
    (*FIRST, "--precision", "bfloat16"),
    ("--model", "base", "--objects", "1", "--memory", "3", "--topk", "120", "--precision", "bfloat16"),
    ("--model", "base", "--objects", "3", "--memory", "1", "--topk", "60", "--precision", "bfloat16"),
    (*FIRST, "--precision", "float32"),
    ("--model", "tiny", "--objects", "1", "--memory", "1", "--topk", "60", "--precision", "bfloat16"),
    ("--model", "tiny", "--objects", "3", "--memory", "1", "--topk", "60", "--precision", "bfloat16"),
    ("--model", "tiny", "--objects", "1", "--memory", "1", "--topk", "60", "--precision", "float32"),
)
PARTS = ("encode", "read", "enhance", "decode", "update_token", "write")


def measure(case: tuple[str, ...], steps: int) -> dict[str, Any]:
    """Return the speed report of one case."""
    command = [sys.executable, "-m", "jointformer", "speed", *case, "--steps", str(steps), "--json", "--quiet"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def tables(reports: list[tuple[tuple[str, ...], dict[str, Any]]], kind: str) -> str:
    """Return the tables in Markdown, of a `kind` of processor."""
    settings = reports[0][1]["settings"]
    flags = reports[0][0][::2]
    columns = " | ".join(flag.removeprefix("--") for flag in flags)
    machine = f"{platform.machine()} with {kind}, {settings['threads']} threads, {settings['size']}"
    lines = [
        f"{machine}; `jointformer speed {' '.join(f'{flag} …' for flag in flags)} --steps {settings['steps']}`.",
        "",
        f"| {columns} | median, s | 10–90 %, s | frames/s | TFLOP | efficiency | peak, MiB |",
        "|---" * (len(flags) + 6) + "|",
    ]
    for case, r in reports:
        median, low, high = r["step"]
        lines.append(
            f"| {' | '.join(case[1::2])} | {median:.3f} | {low:.3f}–{high:.3f} | {r['fps']:.2f} "
            f"| {r['flop'] / 1e12:.3f} | {r['efficiency']:.0%} | {r['peak_memory'] / 2**20:.0f} |"
        )
    head = " | ".join(part.replace("_", " ") for part in PARTS)
    lines += [
        "",
        "Where a step's milliseconds go (medians):",
        "",
        f"| {columns} | {head} | rest | TFLOP/s: matrices, convolutions |",
    ]
    lines.append("|---" * (len(flags) + len(PARTS) + 2) + "|")
    for case, r in reports:
        parts = [1000 * r["parts"][part] for part in PARTS]
        cells = " | ".join(f"{ms:.0f}" for ms in (*parts, 1000 * r["rest"]))
        rates = r["rates"]
        lines.append(
            f"| {' | '.join(case[1::2])} | {cells} | {rates['matrix'] / 1e12:.2f}, {rates['convolution'] / 1e12:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Run the cases and write or print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=7)
    parser.add_argument("--only", default="", help="cases whose flags contain this text")
    parser.add_argument("--kind", default=KIND, help="whose table is rewritten (default: %(default)s)")
    parser.add_argument("--no-write", action="store_true", help="print the tables, leave the page as it is")
    args = parser.parse_args()
    begin = f"<!-- figures: benchmarks/performance.py on {args.kind} -->"
    writes = not args.no_write and not args.only
    if writes and begin not in PAGE.read_text():  # before the measurements, which take long
        parser.error(f"{PAGE} has no table for {args.kind}: --kind names one that it has, --no-write only prints")
    reports = []
    for case in CASES:
        if args.only in " ".join(case):
            reports.append((case, measure(case, args.steps)))
            print(f"{' '.join(case)}: {reports[-1][1]['step'][0]:.3f} s", file=sys.stderr, flush=True)
    text = tables(reports, args.kind)
    print(text)
    if writes:
        before, _, rest = PAGE.read_text().partition(begin)
        PAGE.write_text(f"{before}{begin}\n{text}\n{END}{rest.split(END, 1)[1]}")


if __name__ == "__main__":
    main()
