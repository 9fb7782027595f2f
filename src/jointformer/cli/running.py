"""What `evaluate`, `reproduce`, `track`, eval.py and `score` share: how a run over videos goes, its end, its scores."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.flags import add_device_flag, add_precision_flag, parse_memory_size
from jointformer.errors import ConfigError

if TYPE_CHECKING:
    from jointformer.evaluation.scale.manifest import Manifest
    from jointformer.evaluation.scale.run import Scale
    from jointformer.model.network import JointFormer


def print_scores(table: str, target: str | None, content: Callable[[], dict[str, Any]]) -> None:
    """Print a table of scores, and write what `content` returns as JSON to `target` (a file, `-`, or None)."""
    from jointformer.system.files import write_text

    # With JSON on standard output the table is for the eyes only.
    print(table, file=sys.stderr if target == "-" else sys.stdout)
    if target:
        text = json.dumps(content(), indent=1, allow_nan=False) + "\n"
        if target == "-":
            sys.stdout.write(text)
        else:
            write_text(target, text)


def add_running_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Declare how the network runs and what becomes of what goes wrong; returns the group for more of the kind."""
    group = parser.add_argument_group("running")
    add_device_flag(group)
    add_precision_flag(group)
    group.add_argument("--overwrite", action="store_true", help="remove existing results and make them anew")
    group.add_argument(
        "--objects-per-pass", type=int, help="objects that go through the network together; fewer take less memory"
    )
    group.add_argument(
        "--compile", action="store_true", help="use PyTorch's compiler (for GPUs); takes minutes at the start"
    )
    group.add_argument("--memory-budget", metavar="SIZE", help="such as 2GB: plan the memory, refuse what cannot fit")
    group.add_argument(
        "--on-bad-frame",
        default="stop",
        metavar="stop|skip|hold",
        help="frames that cannot be read: fail the video (default), write no mask, or repeat the mask before",
    )
    group.add_argument("--quiet", action="store_true", help="no progress bar")
    return group


def add_scale_flags(parser: argparse.ArgumentParser, *, merge: bool = True) -> None:
    """Declare who does the work. merge: with the flag that only puts shards together."""
    scale = parser.add_argument_group("scaling out (docs/scaling.md)")
    scale.add_argument("--workers", type=int, metavar="N", help="number of processes; with --ray, the most actors")
    scale.add_argument("--devices", metavar="LIST", help="one process on each: cuda:0,cuda:1 (with --ray: cuda or cpu)")
    scale.add_argument("--threads", type=int, metavar="N", help="processor threads of each process")
    scale.add_argument("--shard", metavar="I/N", help="process only part I of N of the videos, counted from 1")
    if merge:
        scale.add_argument(
            "--merge", type=Path, metavar="OUTPUT", help="run nothing; combine the shards in this folder"
        )
    scale.add_argument(
        "--ray", metavar="auto|ADDRESS", help="use the workers of a Ray cluster (needs the extra: scale)"
    )


def add_missing_flag(parser: argparse._ActionsContainer) -> None:
    """Declare --missing, what scoring does where a prediction is not there."""
    parser.add_argument(
        "--missing",
        choices=("toolkit", "empty"),
        default="toolkit",
        help="missing predictions: do as the toolkit does (default; most stop), or score empty masks",
    )


def add_rate_flag(parser: argparse.ArgumentParser, of: str) -> None:
    """Declare the rate at which pictures are shown."""
    parser.add_argument("--fps", metavar="RATE", help=f"frame rate of {of}: 30, 23.976, 24000/1001 … (default: 25)")


def parse_rate(args: argparse.Namespace) -> Fraction | None:
    """Return the frames per second that are asked for, None where none are. Raises ConfigError."""
    if args.fps is None:
        return None
    rate = Fraction(0)
    if re.fullmatch(r"\d{1,6}/0*[1-9]\d{0,5}", args.fps):
        rate = Fraction(args.fps)
    elif re.fullmatch(r"\d{1,6}(\.\d{0,12})?|\.\d{1,12}", args.fps):
        rate = Fraction(args.fps).limit_denominator(1001)  # of few digits: the nearest that videos have
    if not Fraction(1, 1000) <= rate <= 1000:
        expected = "0.001 to 1000, as a decimal or a fraction such as 24000/1001"
        raise ConfigError("--fps", expected=expected, got=repr(args.fps[:40]))
    return rate


def build_scale(args: argparse.Namespace) -> Scale:
    """Return who does the work. Raises ConfigError."""
    from jointformer.evaluation.scale.run import Scale
    from jointformer.evaluation.scale.shards import Shard
    from jointformer.model.device import choose_device

    devices = tuple(name.strip() for name in (args.devices or "").split(",") if name.strip())
    if args.ray is None:
        for name in devices:
            choose_device(name)
    shard = None if args.shard is None else Shard.parse(args.shard)
    return Scale(args.workers, devices, args.threads, args.ray, shard)


def budget_bytes(args: argparse.Namespace) -> int | None:
    """Return the memory budget in bytes, None where none is given. Raises ConfigError."""
    return None if args.memory_budget is None else parse_memory_size(args.memory_budget)


def first_device(args: argparse.Namespace) -> tuple[str, str]:
    """Return (device, precision) to load the network with: on the CPU where other processes will work with it.

    A GPU that is asked for becomes the current one. Raises ConfigError.
    """
    from jointformer.model.device import choose_device, choose_precision, use_device

    if args.devices is None:
        return str(use_device(args.device)), args.precision
    device = args.devices.split(",")[0].strip()
    if args.ray is None:
        return "cpu", choose_precision(choose_device(device), args.precision)
    if device == "cuda" and args.precision == "auto":
        try:
            choose_device(device)
        except ConfigError:
            expected = "bfloat16, float16 or float32: this machine has no GPU like the cluster's to choose it by"
            raise ConfigError("--precision", expected=expected, got="auto") from None
    return "cpu", choose_precision(device, args.precision)


def run_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the flags say of how a run over videos goes, as `evaluate` and `track_many` take it.

    Raises ConfigError.
    """
    budget, scale = budget_bytes(args), build_scale(args)
    if budget is not None:
        scale.refuse_budget()
    return {
        "overwrite": args.overwrite,
        "progress": not args.quiet,
        "on_bad_frame": args.on_bad_frame,
        "memory_budget": budget,
        "scale": scale,
    }


def label_and_report(args: argparse.Namespace, output: Path, label: Callable[[JointFormer], Manifest]) -> int:
    """Return the exit code of labelling with the network that is asked for: 1 where videos failed.

    label: returns what the run took or raises FailedVideos. output: the folder that it writes to. args.json: a file
    for the figures, or True for standard output.
    """
    from jointformer.system.stop import stop_on_signal

    with stop_on_signal():  # an import that is cut off fails in any way it likes
        from jointformer.evaluation.scale.run import FailedVideos
        from jointformer.model.weights import load_model

    device, precision = first_device(args)
    model = load_model(args.model, device=device, precision=precision, progress=not args.quiet)
    failed: dict[str, str] = {}
    try:
        manifest = label(model)
    except FailedVideos as error:
        manifest, failed = error.manifest, error.failed
    report_run(output, manifest, failed, figures_to=args.json)
    return 1 if failed else 0


def report_run(output: Path, manifest: Manifest, failed: dict[str, str], *, figures_to: bool | str | None) -> None:
    """Print what a run took and which videos failed. figures_to: a file for it as JSON, or True: standard output."""
    from jointformer.system.files import write_json

    print(
        f"{output}: {len(manifest.videos)} videos, {manifest.frames} frames in {manifest.seconds:.1f} s, "
        f"{manifest.fps:.2f} frames/s, peak memory {manifest.peak_memory / 2**20:.0f} MiB{_bad_frames(manifest)}",
        file=sys.stderr,
    )
    _list_failed(failed)
    _say_why_no_zip(output, manifest)
    if figures_to is True:
        _print_json(output, manifest.as_data())
    elif figures_to:
        write_json(figures_to, {"output": str(output), **manifest.as_data()})


def merge_command(args: argparse.Namespace) -> int:
    """Return the exit code of putting shards together: 0 where nothing is missing, else 1.

    Raises ConfigError for flags that ask for more than that.
    """
    from jointformer.evaluation.scale.shards import merge

    for name in ("overwrite", "videos", "workers", "devices", "threads", "shard", "ray"):
        if getattr(args, name):
            hint = "track the videos first, then give --merge without this flag"
            raise ConfigError(f"--{name} does not go with --merge, which tracks no video", hint=hint)
    if args.output is not None and args.output.absolute() != args.merge.absolute():
        raise ConfigError("--merge and --output name two folders", expected=args.merge, got=args.output)
    manifest, missing = merge(args.merge)
    print(
        f"{args.merge}: {len(manifest.videos)} of {len(manifest.wanted)} videos are finished{_bad_frames(manifest)}",
        file=sys.stderr,
    )
    _list_failed({name: manifest.failed.get(name, "not begun, or cut off") for name in missing})
    _say_why_no_zip(args.merge, manifest)
    if args.json:
        _print_json(args.merge, manifest.as_data())
    return 1 if missing else 0


def _bad_frames(manifest: Manifest) -> str:
    """Return what to say of frames that were skipped or held."""
    return f", {manifest.bad_frames} frames could not be read (see run.json)" if manifest.bad_frames else ""


def _say_why_no_zip(output: Path, manifest: Manifest) -> None:
    """Print that a finished run has no zip, where skipped frames are the reason, and how to get one."""
    from jointformer.evaluation.scale.shards import lacking_for_zip

    lacking = lacking_for_zip(output, manifest)
    if lacking:
        names = " ".join([*map(shlex.quote, sorted(lacking)[:3]), *["…"] * (len(lacking) > 3)])
        print(
            f"note: there is no zip, as masks of {sum(lacking.values())} frames are lacking; "
            f"--overwrite --videos {names} --on-bad-frame hold writes them",
            file=sys.stderr,
        )


def _list_failed(failed: dict[str, str]) -> None:
    """Print the videos that are not finished, a line each; of many only the first, as run.json has them all."""
    for name, error in list(failed.items())[:20]:
        print(f"not finished: {name}: {error}", file=sys.stderr)
    if len(failed) > 20:
        print(f"not finished: {len(failed) - 20} more, see run.json", file=sys.stderr)


def _print_json(output: Path, data: dict[str, Any]) -> None:
    """Print a run's figures on standard output."""
    json.dump({"output": str(output), **data}, sys.stdout, indent=2)
    print()
