"""Track the bundled clip with the embedded weights, print J&F of each object, write an overlay and a contact sheet.

The clip is painted by code (a fish and a turtle that cross; the fish leaves the frame and comes back) and its masks
are exact. The first frame's mask is given, all other frames are scored. Writes OUT/overlay.mp4 and
OUT/contact_sheet.png.
"""

from __future__ import annotations

import argparse
import json
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.flags import add_device_flag, add_memory_flags, add_model_flag, add_precision_flag

if TYPE_CHECKING:
    from jointformer.data.demo import DemoClip
    from jointformer.metrics import JF
    from jointformer.types import UInt8Array

OVERLAY, SHEET = "overlay.mp4", "contact_sheet.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer demo`."""
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("demo"), help="folder for the results (default: demo)"
    )
    add_model_flag(parser)
    parser.add_argument(
        "--size", type=int, default=-1, help="shorter side the network sees (default: -1, the clip's 240)"
    )
    add_memory_flags(parser)
    add_device_flag(parser)
    add_precision_flag(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace the pictures of an earlier run")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer demo`."""
    from tqdm import tqdm

    from jointformer.data.demo import demo_clip
    from jointformer.data.inputs import refuse_results
    from jointformer.metrics import jf
    from jointformer.model.device import use_device
    from jointformer.model.weights import load_model
    from jointformer.system.files import make_dir
    from jointformer.track import Tracker, TrackerConfig
    from jointformer.track.loop import Stopwatch, iter_segmentations

    config = TrackerConfig(size=args.size, max_memory_frames=args.max_memory_frames, topk=args.topk or None)
    refuse_results((args.output / name for name in (OVERLAY, SHEET)), args.overwrite)
    model = load_model(args.model, device=use_device(args.device), precision=args.precision, progress=not args.quiet)
    make_dir(args.output)
    clip, watch = demo_clip(), Stopwatch()
    frames = tqdm(enumerate(clip.frames), total=len(clip.frames), unit="frame", disable=args.quiet)
    steps = iter_segmentations(
        Tracker(model, config),
        frames,
        lambda index, known: clip.label_maps[0] if index == 0 else None,
        last=len(clip.frames) - 1,
        watch=watch,
    )
    predictions = [result.label_map.astype("uint8") for _, result in steps]
    score = jf(predictions[1:], clip.label_maps[1:], clip.names)
    _write_pictures(args.output, clip, predictions)
    figures = _figures(clip, score)
    if args.json:
        speed = {"frames": watch.frames, "frames_per_second": watch.fps}
        print(json.dumps({"model": args.model, "objects": figures, **speed, "output": str(args.output)}, indent=2))
        return 0
    print(f"{'object':<12}{'J&F':>7}{'J':>7}{'F':>7}")
    for row in figures:
        print(f"{row['name']:<12}" + "".join(f"{100 * row[measure]:>7.1f}" for measure in ("J&F", "J", "F")))
    print(f"{watch.frames} frames, {watch.fps:.1f} frames/s on {model.device.type}")
    print(f"{args.output / OVERLAY}\n{args.output / SHEET}")
    return 0


def _figures(clip: DemoClip, score: JF) -> list[dict[str, Any]]:
    """J&F, J and F (fractions) of each object, then of their mean."""
    rows = [(f"{i} {clip.names[i]}", *values) for i, values in score.per_object.items()]
    return [{"name": name, "J&F": (j + f) / 2, "J": j, "F": f} for name, j, f in [*rows, ("mean", score.j, score.f)]]


def _write_pictures(output: Path, clip: DemoClip, predictions: list[UInt8Array]) -> None:
    """Write the overlay video and a sheet of eight frames spread over the clip."""
    from PIL import Image

    from jointformer.data.video_writer import VideoWriter
    from jointformer.ops.drawing import contact_sheet, overlay
    from jointformer.system.files import atomic_path

    images = [overlay(frame, ids) for frame, ids in zip(clip.frames, predictions, strict=True)]
    with VideoWriter(output / OVERLAY, Fraction(12), clip.frames.shape[1:3]) as writer:
        for image in images:
            writer.write(image)
    chosen = [round(i * (len(images) - 1) / 7) for i in range(8)]
    captions = ["frame 0: mask given", *(f"frame {i}" for i in chosen[1:])]
    sheet = contact_sheet([images[i] for i in chosen], 4, captions, cell_width=320)
    with atomic_path(output / SHEET, suffix=".png") as path:
        Image.fromarray(sheet).save(path, format="PNG", optimize=True)
