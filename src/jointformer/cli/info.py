"""Compute a model's size, the cost of a step and the size of the memory bank for given settings."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from jointformer.cli.flags import add_device_flag, add_frame_size_flag, add_precision_flag, parse_frame_size


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer info`."""
    parser.add_argument(
        "--model", default="tiny", help="base, small, tiny (default), a published name or a weights file"
    )
    add_frame_size_flag(parser)
    parser.add_argument("--objects", type=int, default=1, help="objects in the frame (default: 1)")
    parser.add_argument("--max-memory-frames", type=int, default=5, help="memory frames per object (default: 5)")
    parser.add_argument("--no-last", action="store_true", help="without the last frame as temporary memory")
    add_precision_flag(parser)
    add_device_flag(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer info`."""
    import torch

    from jointformer.errors import ConfigError
    from jointformer.model.config import PRESETS
    from jointformer.model.cost import bank_bytes, step_cost
    from jointformer.model.device import DTYPES, choose_device, choose_precision
    from jointformer.model.network import JointFormer
    from jointformer.model.weights import load_whole
    from jointformer.ops.padding import padded
    from jointformer.track import TrackerConfig

    if args.objects < 1 or args.max_memory_frames < 1:
        got = f"{args.objects}, {args.max_memory_frames}"
        raise ConfigError("--objects, --max-memory-frames", expected="1 or more (no bound has no size)", got=got)
    config = PRESETS[args.model] if args.model in PRESETS else load_whole(args.model).fitted()[0].config
    with torch.device("meta"):
        parameters = sum(p.numel() for p in JointFormer(config).parameters())
    device = choose_device(args.device)
    precision = choose_precision(device, args.precision)
    itemsize = DTYPES[precision].itemsize
    height, width = padded(*parse_frame_size(args.size))
    tracker = TrackerConfig(max_memory_frames=args.max_memory_frames, include_last=not args.no_last)
    places = args.max_memory_frames + int(tracker.keeps_temporary)
    cost = step_cost(config, height, width, args.objects, places)
    bank = bank_bytes(config, height, width, args.objects, places, itemsize)
    figures = {
        "model": asdict(config),
        "parameters": parameters,
        "weights_bytes": parameters * itemsize,
        "device": str(device),
        "precision": precision,
        "padded_size": [height, width],
        "objects": args.objects,
        "memory_places": places,
        "bank_bytes": bank,
        "step_flop": {**asdict(cost), "total": cost.total},
    }
    if args.json:
        print(json.dumps(figures, indent=2))
        return 0
    size = parameters * itemsize / 2**20
    print(f"model        {config.name}: {parameters / 1e6:.2f} M parameters, {size:.1f} MiB in {precision}")
    print(f"frame        {height}x{width} padded, {height * width // 256} tokens, {args.objects} object(s)")
    print(f"memory bank  {bank / 2**20:.1f} MiB: {places} frames per object, allocated once")
    print(f"one step     {cost.total / 1e9:.1f} GFLOP")
    for name, value in asdict(cost).items():
        print(f"  {name:<13}{value / 1e9:8.1f}")
    return 0
