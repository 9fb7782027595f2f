"""Label a video or a folder of pictures, given masks of its objects.

VIDEO is a file (mp4, mov, webm, …) or a folder of pictures. --masks is one PNG for the first frame, or a folder of
PNGs named after frames (their names or numbers from 0): masks of later frames bring new objects and correct known
ones. Writes OUT/masks/<frame>.png (palette PNGs of object ids) and OUT/overlay.mp4.

Frames are also labelled as they come, and masks written as they are made:

  jointformer track - --masks first.png -o masks < video.mkv
  jointformer track - --input-format bgr24 --input-size 640x480 --masks first.png -o - --output-format nut | ffplay -
  jointformer track rtsp://camera/stream --masks first.png -o masks
"""

from __future__ import annotations

import argparse
from pathlib import Path

from jointformer.cli import track_stream


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer track`."""
    parser.add_argument("video", help="a video file or a folder of pictures; -, an address or a device: see streams")
    parser.add_argument("--masks", type=Path, required=True, help="a PNG for the first frame, or a folder of PNGs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    parser.add_argument("--model", default="tiny", help="tiny, a published name (s012, …) or a weights file")
    parser.add_argument("--start", type=int, help="first frame, numbered from 0")
    parser.add_argument("--end", type=int, help="last frame")
    parser.add_argument("--size", type=int, help="shorter side the network sees (480; tiny: 240); -1: as it is")
    parser.add_argument("--max-memory-frames", type=int, default=5, help="memory frames per object, 0: no bound")
    parser.add_argument("--topk", type=int, default=60, help="memory keys kept per query, 0: all")
    parser.add_argument("--fps", type=float, help="rate of the overlay of a folder of pictures (default: 25)")
    parser.add_argument("--style", default="fill", help="overlay: fill, contour, spotlight or blur")
    results = parser.add_mutually_exclusive_group()
    results.add_argument("--overlay-only", action="store_true", help="write no mask files")
    results.add_argument("--no-overlay", action="store_true", help="write no overlay video")
    parser.add_argument("--overwrite", action="store_true", help="replace earlier results in the output folder")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps")
    parser.add_argument("--precision", default="auto", help="auto, float32, bfloat16, float16")
    parser.add_argument("--memory-budget", metavar="SIZE", help="such as 2GB: plan for it, or refuse what cannot fit")
    parser.add_argument(
        "--on-bad-frame",
        default="stop",
        metavar="stop|skip|hold",
        help="frames that cannot be read: end there (default), no mask for them, or the mask before",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    track_stream.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer track`."""
    import sys
    from fractions import Fraction

    from jointformer.data.video import DEFAULT_FPS, open_video
    from jointformer.errors import ConfigError, OutputError
    from jointformer.evaluate.anyvideo import MASKS, OVERLAY, find_masks, frame_range, label_any_video
    from jointformer.model.registry import suitable_size
    from jointformer.model.weights import load_model
    from jointformer.ops.drawing import OVERLAY_STYLES
    from jointformer.track import Tracker, TrackerConfig
    from jointformer.track.budget import VideoSize, base_within, fit_budget, parse_size, size_text
    from jointformer.track.loop import BAD_FRAME_POLICIES

    if args.style not in OVERLAY_STYLES:
        raise ConfigError("--style", expected=f"one of {', '.join(OVERLAY_STYLES)}", got=repr(args.style))
    if args.on_bad_frame not in BAD_FRAME_POLICIES:
        expected = f"one of {', '.join(BAD_FRAME_POLICIES)}"
        raise ConfigError("--on-bad-frame", expected=expected, got=repr(args.on_bad_frame))
    if args.fps is not None and not 0 < args.fps <= 1000:
        raise ConfigError("--fps", expected="more than 0, at most 1000", got=args.fps)
    if track_stream.is_wanted(args):
        return track_stream.run(args)
    side = suitable_size(args.model) if args.size is None else args.size
    config = TrackerConfig(size=side, max_memory_frames=args.max_memory_frames, topk=args.topk or None)
    fps = DEFAULT_FPS if args.fps is None else Fraction(args.fps).limit_denominator(1001)
    video = open_video(args.video, fps=fps)
    start, end = frame_range(video, args.start, args.end)
    masks = find_masks(args.masks, video, start, end)
    wanted = [args.output / name for name in (*[MASKS][args.overlay_only :], *[OVERLAY][args.no_overlay :])]
    there = [path for path in wanted if path.exists()]
    if there and not args.overwrite:
        raise OutputError("results are there already", where=there[0], hint="--overwrite replaces them")
    budget = None if args.memory_budget is None else parse_size(args.memory_budget)
    model = load_model(args.model, device=args.device, precision=args.precision)
    if budget is not None:
        known = VideoSize(video.path.name, end - start, video.size, masks.count())
        base, before = base_within(model, config, budget)
        size = model.dtype.itemsize
        plan = fit_budget(
            model.config, config, known, budget, base=base, itemsize=size, before=before, device=model.device.type
        )
        print(f"memory: {plan}, of {size_text(budget)}", file=sys.stderr)
        config = plan.config
    tracker = Tracker(model, config)
    watch = label_any_video(
        tracker,
        video,
        masks,
        args.output,
        end=end,
        write_masks=not args.overlay_only,
        write_overlay=not args.no_overlay,
        style=args.style,
        on_bad_frame=args.on_bad_frame,
        progress=not args.quiet,
    )
    names = " and ".join(str(path) for path in wanted)
    bad = f", {watch.bad_frames} frames could not be read" if watch.bad_frames else ""
    print(f"{names}: {watch.frames} frames, {watch.fps:.2f} frames/s in the model{bad}", file=sys.stderr)
    return 0
