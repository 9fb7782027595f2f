"""The part of `jointformer track` that labels many videos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.cli.running import label_and_report, run_options
from jointformer.errors import ConfigError

if TYPE_CHECKING:
    from jointformer.track import TrackerConfig

_ONLY_HERE = ("workers", "devices", "threads", "shard", "ray")


def is_wanted(args: argparse.Namespace) -> bool:
    """Return whether several videos are meant. Raises ConfigError for flags that one video has no use for."""
    from jointformer.evaluation.manyvideos import holds_videos

    if len(args.video) > 1 or holds_videos(Path(args.video[0])):
        return True
    for name in _ONLY_HERE:
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name} is for several videos", expected="a folder or a list of them", got="one")
    return False


def run(args: argparse.Namespace, config: TrackerConfig, options: dict[str, Any]) -> int:
    """Return the exit code of `jointformer track` over many videos; options: those of `track_many` that are checked."""
    from jointformer.data.inputs import check_outputs
    from jointformer.evaluation.manyvideos import find_jobs, track_many

    for name in ("input_format", "input_size", "output_format", "when_late", "queue"):
        if getattr(args, name) is not None:
            raise ConfigError(f"--{name.replace('_', '-')} is for one stream", got="several videos")
    options = {**options, **run_options(args)}
    jobs = find_jobs(args.video, args.masks, options["part"])
    if args.fps is not None:
        _say_whose_rate([job.name for job in jobs if not job.video.is_dir()], len(jobs), quiet=args.quiet)
    if args.json:
        check_outputs([args.json], (path for job in jobs for path in job.inputs))
    for job in jobs:
        if job.error is not None and not args.quiet:
            print(f"cannot be tracked: {job.error}", file=sys.stderr)
    return label_and_report(
        args, args.output, lambda model: track_many(model, jobs, args.output, config=config, **options)
    )


def _say_whose_rate(films: list[str], count: int, *, quiet: bool) -> None:
    """Say which of `count` videos keep their own rate whatever --fps says: the files. Raises ConfigError for all."""
    if len(films) == count:
        raise ConfigError("--fps is for folders of pictures", got="video files alone")
    if films and not quiet:
        names = ", ".join(films[:5]) + " …" * (len(films) > 5)
        print(
            f"--fps is for {count - len(films)} of {count} videos; files keep their own rate: {names}", file=sys.stderr
        )
