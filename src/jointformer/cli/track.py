"""Track objects through a video, a folder of pictures or many of them, given masks of the objects.

VIDEO is a file (mp4, mov, webm, …) or a folder of pictures. --masks is one PNG for the first frame, or a folder of
PNGs named after frames (their names or numbers from 0): masks of later frames add new objects and correct known ones.
Writes OUT/masks/<frame>.png (palette PNGs of object ids) and OUT/overlay.mp4.

  jointformer track video.mp4 --masks first.png -o out

Live, from a pipe, an address or a camera (docs/streams.md); every mask is written as soon as it is made:

  jointformer track - --masks first.png -o masks < video.mkv
  jointformer track - --input-format bgr24 --input-size 640x480 --masks first.png -o - --output-format nut | ffplay -
  jointformer track rtsp://camera/stream --masks first.png -o masks

Many videos: name them, or give a folder of them, or a list.txt with one per line (and, after a tab, its masks). --masks
is then a folder that holds <name>.png or <name>/ for each. OUT/<name>/ appears when that video is finished; the same
command continues an interrupted run (docs/scaling.md).

  jointformer track videos/ --masks masks/ -o out --workers 4
  jointformer track list.txt -o out --devices cuda:0,cuda:1
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from jointformer.cli import track_many, track_stream
from jointformer.cli.flags import add_memory_flags, add_model_flag
from jointformer.cli.running import add_rate_flag, add_running_flags, add_scale_flags, parse_rate

if TYPE_CHECKING:
    from jointformer.evaluation.manyvideos import Part
    from jointformer.model.network import JointFormer
    from jointformer.track import TrackerConfig
    from jointformer.track.budget import VideoSize


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer track`."""
    parser.add_argument(
        "video", nargs="+", help="a video file or a folder of pictures; -, an address or a device (see streams)"
    )
    parser.add_argument("--masks", type=Path, help="a PNG for the first frame, or a folder of PNGs")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for the results")
    add_model_flag(parser)
    parser.add_argument("--start", type=int, help="first frame, numbered from 0")
    parser.add_argument("--end", type=int, help="last frame")
    parser.add_argument("--size", type=int, help="shorter side the network sees (480; tiny: 240); -1: the frame's own")
    add_memory_flags(parser)
    add_rate_flag(parser, "a folder of pictures, raw frames or a device")
    parser.add_argument("--style", default="fill", help="overlay: fill (default), contour, spotlight or blur")
    results = parser.add_mutually_exclusive_group()
    results.add_argument("--overlay-only", action="store_true", help="write no mask files")
    results.add_argument("--no-overlay", action="store_true", help="write no overlay video")
    parser.add_argument(
        "--save-scores", action="store_true", help="also write each object's probabilities, for soft edges in exports"
    )
    add_running_flags(parser)
    add_scale_flags(parser, merge=False)
    track_stream.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer track`."""
    from jointformer.errors import ConfigError
    from jointformer.system.stop import stop_on_signal

    with stop_on_signal():  # an import that is cut off fails in any way it likes
        from jointformer.data.video_file import DEFAULT_FPS
        from jointformer.evaluation.manyvideos import Part
        from jointformer.model.registry import suitable_size
        from jointformer.ops.drawing import OVERLAY_STYLES
        from jointformer.track import TrackerConfig
        from jointformer.track.loop import BAD_FRAME_POLICIES

    if args.style not in OVERLAY_STYLES:
        raise ConfigError("--style", expected=f"one of {', '.join(OVERLAY_STYLES)}", got=repr(args.style))
    if args.on_bad_frame not in BAD_FRAME_POLICIES:
        expected = f"one of {', '.join(BAD_FRAME_POLICIES)}"
        raise ConfigError("--on-bad-frame", expected=expected, got=repr(args.on_bad_frame))
    if args.save_scores and args.overlay_only:
        raise ConfigError("--save-scores goes with the masks", hint="leave out --overlay-only")
    side = suitable_size(args.model) if args.size is None else args.size
    config = TrackerConfig(
        size=side,
        max_memory_frames=args.max_memory_frames,
        topk=args.topk or None,
        objects_per_pass=args.objects_per_pass,
        compile=args.compile,
    )
    part = Part(args.start, args.end, parse_rate(args) or DEFAULT_FPS)
    if track_many.is_wanted(args):
        _refuse_file(args.output)
        written = {"write_masks": not args.overlay_only, "write_overlay": not args.no_overlay}
        options = {"part": part, **written, "save_scores": args.save_scores, "style": args.style}
        return track_many.run(args, config, options)
    (args.video,) = args.video
    if args.masks is None:
        raise ConfigError("--masks is missing", expected="a PNG for the first frame, or a folder of PNGs")
    return track_stream.run(args, config) if track_stream.is_wanted(args) else _track_one(args, config, part)


def _refuse_file(output: Path) -> None:
    """Raise ConfigError for a name that promises a file: results are a folder, with the overlay in it."""
    from jointformer.data.export_formats import FILE_SUFFIXES
    from jointformer.errors import ConfigError

    if output.suffix.lower() in FILE_SUFFIXES and not output.is_dir():
        hint = "the overlay will be overlay.mp4 in it"
        raise ConfigError("--output names a folder, not a file", expected="a folder's name", got=str(output), hint=hint)


def _track_one(args: argparse.Namespace, config: TrackerConfig, part: Part) -> int:
    """Label one video into OUT/masks and OUT/overlay.mp4, scores into OUT/Scores/masks."""
    from jointformer.cli.running import budget_bytes
    from jointformer.data.given_masks import find_masks
    from jointformer.data.inputs import is_read, refuse_inputs, refuse_obstacles, refuse_results
    from jointformer.data.video import as_pictures, open_video
    from jointformer.data.writer import SCORES, clean_up
    from jointformer.evaluation.anyvideo import MASKS, OVERLAY, frame_range, label_any_video, writing_bytes
    from jointformer.model.device import use_device
    from jointformer.model.weights import load_model
    from jointformer.system.files import remove
    from jointformer.system.stop import say_if_stopped, stop_on_signal
    from jointformer.track import Tracker
    from jointformer.track.budget import VideoSize

    _refuse_file(args.output)
    say_if_stopped("interrupted: nothing of this video was kept; the same command starts anew")
    video = open_video(args.video, fps=part.fps)
    if args.fps is not None:
        as_pictures(video)
    start, end = frame_range(video, part.start, part.end)
    masks = find_masks(args.masks, video, start, end)
    kinds = {MASKS: not args.overlay_only, OVERLAY: not args.no_overlay, f"{SCORES}/{MASKS}": args.save_scores}
    wanted = [args.output / name for name, written in kinds.items() if written]
    refuse_inputs(wanted, [args.video, args.masks])
    overlays = [path for path in wanted if path.name == OVERLAY]
    refuse_obstacles((path for path in wanted if path not in overlays), overlays)
    refuse_results(wanted, args.overwrite)
    clean_up(args.output)
    budget = budget_bytes(args)
    model = load_model(args.model, device=use_device(args.device), precision=args.precision, progress=not args.quiet)
    if budget is not None:
        objects = len(masks.objects)
        writing = writing_bytes(video.size, objects, overlay=kinds[OVERLAY], scores=args.save_scores)
        known = VideoSize(video.path.name, end - start, video.size, objects, writing)
        config = _within(budget, model, config, known)
    with stop_on_signal() as stop:
        watch = label_any_video(
            Tracker(model, config),
            video,
            masks,
            args.output,
            end=end,
            write_masks=kinds[MASKS],
            write_overlay=kinds[OVERLAY],
            save_scores=args.save_scores,
            style=args.style,
            on_bad_frame=args.on_bad_frame,
            progress=not args.quiet,
            stop=stop,
        )
        names = " and ".join(str(path) for path in wanted)
        say_if_stopped(f"interrupted, but {names} were finished before")
        if args.overwrite:  # what is not made anew would be taken for this run's, unless it is what this run was given
            for old in (args.output / name for name in kinds):
                if old not in wanted and not is_read(old, [args.video, args.masks]):
                    remove(old)
    bad = f", {watch.bad_frames} frames could not be read" if watch.bad_frames else ""
    print(f"{names}: {watch.frames} frames, {watch.fps:.2f} frames/s in the model{bad}", file=sys.stderr)
    return 0


def _within(budget: int, model: JointFormer, config: TrackerConfig, video: VideoSize) -> TrackerConfig:
    """Return the settings that keep a video within so many bytes, after saying what it takes. Raises ConfigError."""
    from jointformer.evaluation.scale.budget import plan_videos
    from jointformer.track.budget import size_text
    from jointformer.track.ensemble import View

    plan = plan_videos(model, config, [View(config.size)], [video], budget)[video.name]
    print(f"memory: {plan}, of {size_text(budget)}", file=sys.stderr)
    return plan.config
