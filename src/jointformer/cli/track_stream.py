"""The part of `jointformer track` that labels frames as they come."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jointformer.cli.running import parse_rate
from jointformer.errors import ConfigError

if TYPE_CHECKING:
    from jointformer.track import TrackerConfig

_ONLY_HERE = ("input_size", "when_late", "queue", "json")
_NOT_HERE = {
    "overlay_only": "choose --output-format overlay",
    "no_overlay": "choose an --output-format",
    "save_scores": "track the recorded video with it",
    "memory_budget": "--max-memory-frames bounds the memory of a stream of any length",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags for streams."""
    group = parser.add_argument_group(
        "streams", "VIDEO may be - (standard input), an address, a device or a named pipe; OUT may be - or a named pipe"
    )
    group.add_argument(
        "--input-format", metavar="F", help="rgb24, bgr24, gray, yuv420p … (raw); v4l2 … (devices); mpegts, mjpeg …"
    )
    group.add_argument(
        "--input-size", type=_size, metavar="WxH", help="size of raw frames, or size to ask a device for"
    )
    group.add_argument(
        "--output-format",
        metavar="F",
        help="raw (default for - and pipes), png, nut, matroska, overlay, overlay-mpegts, folder (default otherwise)",
    )
    group.add_argument(
        "--when-late",
        metavar="wait|drop",
        help="frames arrive too fast: let the source wait (default), or drop the oldest (default for live sources)",
    )
    group.add_argument("--queue", type=int, metavar="N", help="most frames that wait (default: 4; 1 when dropping)")
    group.add_argument("--json", metavar="FILE", help="write number of frames, drops, rate and latency")


def is_wanted(args: argparse.Namespace) -> bool:
    """Return whether the source or the target is a stream. Raises ConfigError for stream flags where neither is."""
    from jointformer.data.stream import is_stream
    from jointformer.data.stream_pipe import STANDARD, is_pipe

    target = str(args.output)
    if args.input_format or args.output_format or target == STANDARD or is_pipe(target) or is_stream(str(args.video)):
        return True
    for name in _ONLY_HERE:
        if getattr(args, name) is not None:
            hint = "give --output-format folder to read a file as a stream"
            raise ConfigError(f"--{name.replace('_', '-')} is for streams", hint=hint)
    return False


def run(args: argparse.Namespace, config: TrackerConfig) -> int:
    """Return the exit code of `jointformer track` on a stream."""
    try:
        return _run(args, config)
    except KeyboardInterrupt:
        raise KeyboardInterrupt("interrupted: the stream was ended by hand") from None


def _run(args: argparse.Namespace, config: TrackerConfig) -> int:
    from jointformer.data.inputs import refuse_inputs, refuse_results
    from jointformer.data.stream import InputSettings, open_stream
    from jointformer.data.stream_pipe import STANDARD, is_pipe
    from jointformer.data.stream_writer import MASKS, OUTPUT_FORMATS
    from jointformer.evaluation.stream import NO_END, QueueSettings, StreamReport, find_stream_masks, label_stream
    from jointformer.model.device import use_device
    from jointformer.model.weights import load_model
    from jointformer.system.files import check_writable, remove, remove_temporaries, write_json
    from jointformer.track import Tracker

    target = str(args.output)
    format = args.output_format or ("raw" if target == STANDARD or is_pipe(target) else "folder")
    if format not in OUTPUT_FORMATS:
        raise ConfigError("--output-format", expected=", ".join(OUTPUT_FORMATS), got=repr(format))
    if format == "folder" and target == STANDARD:
        raise ConfigError("standard output is no folder", expected="--output-format raw, png, nut, …")
    for flag, hint in _NOT_HERE.items():
        if getattr(args, flag):
            raise ConfigError(f"--{flag.replace('_', '-')} is not for streams", hint=hint)
    if not 0 <= (args.start or 0) < (NO_END if args.end is None else args.end + 1) <= NO_END:
        got = f"{args.start}, {args.end}"
        raise ConfigError("--start/--end", expected="frame numbers from 0, start first", got=got)
    settings = InputSettings(args.input_format, args.input_size, parse_rate(args))
    result = Path(target) / MASKS if format == "folder" else Path(target)
    replaces = target != STANDARD and not is_pipe(target)
    written = [result] * replaces + [args.json] * bool(args.json)
    refuse_inputs(written, ["/dev/stdin" if args.video == STANDARD else args.video, args.masks])
    if args.json:
        check_writable(args.json)
    if replaces:
        refuse_results([result], args.overwrite)
        remove_temporaries(result.parent)
    end = NO_END if args.end is None else args.end + 1
    with open_stream(str(args.video), settings) as stream:
        masks = find_stream_masks(args.masks, stream, args.start or 0, end)
        report = StreamReport(QueueSettings.suited(stream, args.when_late, args.queue))
        model = load_model(
            args.model, device=use_device(args.device), precision=args.precision, progress=not args.quiet
        )
        tracker = Tracker(model, config)
        if format == "folder":
            remove(result)
        try:
            label_stream(
                tracker,
                stream,
                masks,
                target,
                format,
                report,
                end=end,
                style=args.style,
                on_bad_frame=args.on_bad_frame,
                progress=not args.quiet,
            )
        finally:
            # Also where a live stream was ended by hand, as most are.
            if report.frames:
                print(report, file=sys.stderr)
                if args.json:
                    write_json(args.json, report.figures())
    return 0


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"([1-9]\d{0,4})[xX×]([1-9]\d{0,4})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text!r} is no size such as 640x480")
    return int(match[2]), int(match[1])
