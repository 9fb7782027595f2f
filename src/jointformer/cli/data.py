"""Convert and prepare data: other tools' annotations, sizes, first masks, BURST's json, VISOR's json.

  jointformer data masks annotations.json masks
  jointformer data resize MOSE/train MOSE/train_480p
  jointformer data first-masks LVOS/valid/Annotations LVOS/valid/Annotations_first_only
  jointformer data burst-frames first_frame_annotations.json frames/val BURST/val/JPEGImages
  jointformer data burst-masks first_frame_annotations.json BURST/val/Annotations_first_only --first-only
  jointformer data burst-json output/BURST_val predictions.json --like all_classes.json
  jointformer data visor-json output/VISOR_val val.json --mapping VISOR/val_data_mapping.json

The same command continues an interrupted conversion: videos that have a folder in the target are finished. `masks`
begins anew, in an empty folder.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jointformer.cli.flags import add_workers_flag, worker_count


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the conversions of `jointformer data`."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def action(name: str, text: str, **names: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text)
        for each, help in names.items():
            sub.add_argument(each, type=Path, help=help)
        add_workers_flag(sub)
        sub.add_argument("--json", action="store_true", help="print the counts as JSON on standard output")
        sub.add_argument("--quiet", action="store_true", help="no progress bar")
        return sub

    masks, tree, file = "folder of <video>/<frame>.png", "folder to write, or to continue", "json to write"
    text = "Convert annotations of COCO, YouTube-VIS, LabelMe or CVAT to palette PNGs, as `track --masks` takes them."
    source = "json, CVAT's XML, or a folder of LabelMe's json files"
    drawn = action("masks", text, source=source, target="folder to write")
    drawn.add_argument(
        "--by-number", action="store_true",
        help="name masks by the number that ends a picture's name, as for pictures taken out of a video file",
    )  # fmt: skip
    resize = action(
        "resize", "Resize frames (bicubic) and masks (nearest) to a shorter side of 480 pixels.",
        source="folder with JPEGImages and Annotations in it", target=tree,
    )  # fmt: skip
    resize.add_argument("--size", type=int, default=480, help="the shorter side in pixels (default: 480)")
    resize.add_argument("--only-shrink", action="store_true", help="leave smaller pictures as they are")
    text = "Keep of each object only the mask of the frame where it first appears."
    action("first-masks", text, source=masks, target=tree)
    draw = action("burst-masks", "Convert BURST's json to palette PNGs.", source="BURST's json", target=tree)
    draw.add_argument("--first-only", action="store_true", help="of each track only the frame where it first appears")
    text = "Put BURST's frames into one folder per sequence."
    frames = action("burst-frames", text, source="BURST's json", frames="folder of <dataset>/<sequence>/", target=tree)
    frames.add_argument("--every", action="store_true", help="all images of the json, not only the annotated ones")
    burst = action("burst-json", "Convert palette PNGs to BURST's json.", source=masks, target=file)
    burst.add_argument(
        "--like",
        type=Path,
        required=True,
        metavar="JSON",
        help="json of the annotations or of the first frames, as a template",
    )
    text = "Convert palette PNGs to the polygons that VISOR's server takes."
    visor = action("visor-json", text, source=masks, target=file)
    visor.add_argument("--mapping", type=Path, required=True, metavar="JSON", help="VISOR's val_data_mapping.json")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer data`."""
    actions: dict[str, Callable[[argparse.Namespace, dict[str, Any]], dict[str, int]]] = {
        "masks": _masks,
        "resize": _resize,
        "first-masks": _first_masks,
        "burst-masks": _burst_masks,
        "burst-frames": _burst_frames,
        "burst-json": _burst_json,
        "visor-json": _visor_json,
    }
    counts = actions[args.action](args, {"workers": worker_count(args.workers), "progress": not args.quiet})
    said = ", ".join(f"{number} {name}" for name, number in counts.items())
    print(f"{args.target}: {said}", file=sys.stderr)
    if args.json:
        print(json.dumps({"target": str(args.target), **counts}))
    return 0


def _masks(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_annotations import annotations_to_masks

    drawn = annotations_to_masks(args.source, args.target, by_number=args.by_number, **options)
    for video, names in drawn.objects.items():
        for number, name in sorted(names.items()):
            print(f"{repr(video) + ': ' if video else ''}object {number}: {name!r}", file=sys.stderr)
    return {"masks": drawn.masks, "objects": sum(map(len, drawn.objects.values()))}


def _resize(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_resize import resize_tree

    return _counts(resize_tree(args.source, args.target, args.size, only_shrink=args.only_shrink, **options))


def _first_masks(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_first import first_masks

    return _counts(first_masks(args.source, args.target, **options))


def _burst_masks(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_burst import burst_to_masks

    return _counts(burst_to_masks(args.source, args.target, first_only=args.first_only, **options))


def _burst_frames(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_burst import burst_frames_tree

    return _counts(burst_frames_tree(args.source, args.frames, args.target, every=args.every, **options))


def _burst_json(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_burst import masks_to_burst

    return masks_to_burst(args.source, args.like, args.target, **options)


def _visor_json(args: argparse.Namespace, options: dict[str, Any]) -> dict[str, int]:
    from jointformer.data.convert_visor import masks_to_visor

    return masks_to_visor(args.source, args.mapping, args.target, **options)


def _counts(converted: Any) -> dict[str, int]:
    return {"folders converted": converted.done, "folders kept from before": converted.kept}
