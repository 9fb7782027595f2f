"""The part of `jointformer track` that labels many videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.running import budget_bytes, build_scale, first_device, report_run
from jointformer.errors import ConfigError

if TYPE_CHECKING:
    from jointformer.track import TrackerConfig

_ONLY_HERE = ("workers", "devices", "threads", "shard", "ray")


def is_wanted(args: argparse.Namespace) -> bool:
    """Return whether several videos are meant. Raises ConfigError for flags that one video has no use for."""
    from jointformer.evaluate.manyvideos import holds_videos

    if len(args.video) > 1 or holds_videos(Path(args.video[0])):
        return True
    for name in _ONLY_HERE:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name} is for several videos", expected="a folder or a list of them", got="one")
    return False


def run(args: argparse.Namespace, config: TrackerConfig, options: dict[str, Any]) -> int:
    """Return the exit code of `jointformer track` over many videos; options: those of `track_many` that are checked."""
    from jointformer.evaluate.manyvideos import find_jobs, track_many
    from jointformer.evaluate.scale.run import FailedVideos
    from jointformer.evaluate.scale.shards import merge
    from jointformer.model.weights import load_model
    from jointformer.ops.files import write_json

    for name in ("input_format", "input_size", "output_format", "when_late", "queue"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for one stream", got="several videos")
    scale, budget = build_scale(args), budget_bytes(args)
    jobs = find_jobs(args.video, args.masks, options["part"])
    for job in jobs:
        if job.error is not None and not args.quiet:
            print(f"cannot be tracked: {job.error}", file=sys.stderr)
    device, precision = first_device(args)
    model = load_model(args.model, device=device, precision=precision)
    failed: dict[str, str] = {}
    try:
        manifest = track_many(
            model,
            jobs,
            args.output,
            config=config,
            overwrite=args.overwrite,
            progress=not args.quiet,
            on_bad_frame=args.on_bad_frame,
            memory_budget=budget,
            scale=scale,
            **options,
        )
    except FailedVideos as error:
        failed = error.failed
        manifest = merge(args.output)[0]
    if args.json:
        write_json(args.json, {"output": str(args.output), **manifest.as_data()})
    return report_run(args.output, manifest, failed)
