"""Convert masks to the formats of other tools.

  jointformer export my-session --format overlay -o overlay.mp4
  jointformer export masks/ --video video.mp4 --format coco -o masks.json
  jointformer export my-session --format prores --objects 1,3 --start 100 --end 250 -o cat.mov

SOURCE is a session's folder, or a folder of mask PNGs (one per frame, as `jointformer track` writes them) together
with --video.

formats:
  palette      palette PNGs of object ids, one per frame (DAVIS, YouTube-VOS)
  binary       black and white PNGs, a folder per object
  soft         16-bit PNGs of probabilities, a folder per object (see --soft)
  coco         COCO json with run lengths, videos and track ids
  youtube-vis  YouTube-VIS json
  burst        BURST json
  yolo         pictures with outlines, to train YOLO
  rgba         transparent PNGs of the cut-out objects
  prores       ProRes 4444 with alpha, for editing
  webm         VP9 with alpha, for browsers
  overlay      mp4 with the objects drawn in, and the video's sound
  sheet        one picture of many frames
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.running import add_rate_flag, parse_rate
from jointformer.errors import ConfigError, DataError

if TYPE_CHECKING:
    from jointformer.data.export_source import MaskSource

_OPTIONS = (
    "start",
    "end",
    "objects",
    "style",
    "opacity",
    "labels",
    "sound",
    "quality",
    "soft",
    "pictures",
    "columns",
    "classes",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `jointformer export`."""
    parser.add_argument("source", type=Path, metavar="SOURCE", help="a session's folder, or a folder of mask PNGs")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT", help="file or new folder to write")
    parser.add_argument("--format", required=True, metavar="FORMAT", help="one of the formats above")
    parser.add_argument("--video", metavar="VIDEO", help="the video or folder of pictures the masks belong to")
    add_rate_flag(parser, "a folder of pictures")
    parser.add_argument("--start", type=int, metavar="N", help="first frame, counted from 0")
    parser.add_argument("--end", type=int, metavar="N", help="last frame")
    parser.add_argument(
        "--objects", type=_ids, metavar="IDS", help="ids of the objects to export, as 1,2,5 (default: all)"
    )
    parser.add_argument(
        "--classes", type=_names, metavar="NAMES",
        help="coco, youtube-vis, burst, yolo: how objects' names are numbered, as cat,dog (default: as they come)",
    )  # fmt: skip
    looks = parser.add_argument_group("overlay and sheet")
    looks.add_argument("--style", metavar="STYLE", help="fill (default), contour, spotlight or blur")
    looks.add_argument("--opacity", type=float, metavar="X", help="opacity of the tint, 0 to 1 (default 0.5)")
    looks.add_argument("--labels", action="store_true", default=None, help="write each object's id on it")
    looks.add_argument("--pictures", type=int, metavar="N", help="sheet: how many frames (default 12)")
    looks.add_argument("--columns", type=int, metavar="N", help="sheet: pictures per row (default 4)")
    videos = parser.add_argument_group("videos and cut-outs")
    videos.add_argument("--no-sound", dest="sound", action="store_false", default=None, help="overlay: without sound")
    videos.add_argument("--quality", type=int, metavar="N", help="overlay, webm: 0 (best) to 51 (default 20)")
    videos.add_argument(
        "--soft",
        action="store_true",
        default=None,
        help="rgba, prores, webm: edges follow the probabilities (of `track --save-scores`, or of a session)",
    )
    parser.add_argument("--json", action="store_true", help="print what was written as JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Return 0 after the masks were written."""
    from tqdm import tqdm

    from jointformer.data.export_formats import export
    from jointformer.data.video import as_pictures

    options: dict[str, Any] = {name: getattr(args, name) for name in _OPTIONS if getattr(args, name) is not None}
    rate = parse_rate(args)
    source, close = _open(args.source, args.video)
    try:
        if rate is not None:
            as_pictures(source.video).fps = rate
        with tqdm(unit="frame", leave=False, disable=args.quiet) as bar:

            def progress(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            path = export(source, args.format, args.output, progress=progress, **options)
    finally:
        close()
    if args.json:
        print(json.dumps({"format": args.format, "path": str(path)}))
    elif not args.quiet:
        print(path)
    return 0


def _open(folder: Path, video: str | None) -> tuple[MaskSource, Any]:
    """The source of masks, and what to call when done with it."""
    from jointformer.session.store import FILE

    if (folder / FILE).is_file():
        from jointformer.session import Session
        from jointformer.session.exporting import SessionSource

        session = Session.load(folder, video=video)
        return SessionSource(session), session.close
    from jointformer.data.export_source import FolderSource
    from jointformer.data.video import open_video

    if not folder.is_dir():
        raise DataError("no such folder", where=folder, expected="a session or a folder of masks")
    if video is None:
        hint = "give --video, the video or folder of pictures that the masks belong to"
        raise ConfigError("masks alone have no frames", where=folder, hint=hint)
    opened = open_video(video)
    return FolderSource(folder, opened), getattr(opened, "close", lambda: None)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def _ids(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of object ids such as 1,2,5") from None
