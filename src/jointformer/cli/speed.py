"""Measure the time of a step and its parts, and compare it with the machine's own rates (docs/performance.md)."""

from __future__ import annotations

import argparse
import json

from jointformer.cli.flags import (
    add_device_flag,
    add_frame_size_flag,
    add_precision_flag,
    add_topk_flag,
    parse_frame_size,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the flags of `jointformer speed`."""
    parser.add_argument(
        "--model",
        default="tiny",
        help="base, small or tiny (random weights; default: tiny), a published name or a weights file",
    )
    add_frame_size_flag(parser)
    parser.add_argument("--objects", type=int, default=1, help="objects in the frame (default: 1)")
    parser.add_argument("--memory", type=int, default=1, help="memory frames besides the last one (default: 1)")
    add_topk_flag(parser)
    parser.add_argument("--steps", type=int, default=10, help="timed steps, after the memory is full (default: 10)")
    add_device_flag(parser)
    add_precision_flag(parser)
    parser.add_argument(
        "--objects-per-pass", type=int, help="objects that go through the network together; fewer take less memory"
    )
    parser.add_argument(
        "--compile", action="store_true", help="use PyTorch's compiler (for GPUs); takes minutes at the start"
    )
    parser.add_argument("--json", action="store_true", help="print JSON on standard output")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Return the exit code of `jointformer speed`."""
    import torch

    from jointformer.errors import ConfigError
    from jointformer.evaluation.speed import measure_speed
    from jointformer.model.config import PRESETS
    from jointformer.model.device import DTYPES, choose_precision, move_model, use_device
    from jointformer.model.network import JointFormer
    from jointformer.model.weights import load_model
    from jointformer.track import TrackerConfig

    size = parse_frame_size(args.size)
    for name in ("objects", "memory", "steps"):
        if getattr(args, name) < 1:
            raise ConfigError(f"--{name}", expected="1 or more", got=getattr(args, name))
    config = TrackerConfig(
        max_memory_frames=args.memory, topk=args.topk or None, size=-1, objects_per_pass=args.objects_per_pass,
        compile=args.compile,
    )  # fmt: skip
    device = use_device(args.device)
    precision = choose_precision(device, args.precision)
    if args.model in PRESETS:
        torch.manual_seed(0)
        model = move_model(JointFormer(PRESETS[args.model]).eval().requires_grad_(False), device, DTYPES[precision])
    else:
        model = load_model(args.model, device=device, precision=precision, progress=not args.quiet)
    report = measure_speed(model, config, size=size, objects=args.objects, steps=args.steps, progress=not args.quiet)
    if args.json:
        chosen = {"precision": precision, "device": str(device), "threads": torch.get_num_threads()}
        settings = {**vars(args), "network": model.config.name, **chosen}
        print(json.dumps({"settings": settings, **report.as_data()}, indent=2))
        return 0
    median, low, high = report.step
    print(f"{model.config.name}, {args.size}, {args.objects} object(s), {args.memory} memory + last, k {args.topk}")
    print(f"{device}, {precision}, {torch.get_num_threads()} threads, {report.steps} steps")
    beside = "" if report.throughput is None else " with frames sent ahead and label maps fetched behind"
    print(f"step         {median:8.4f} s  (10 % {low:.4f}, 90 % {high:.4f})   {report.fps:.2f} frames/s{beside}")
    parts = {**report.parts, "rest": report.rest}
    whole = sum(parts.values())
    for name, seconds in parts.items():
        print(f"  {name:<13}{seconds:6.4f} s  {seconds / whole:6.1%}")
    print(f"operations   {report.cost.total / 1e12:8.4f} TFLOP per step")
    rates = (report.rates.matrix / 1e12, report.rates.convolution / 1e12)
    print(f"machine      {rates[0]:8.2f} TFLOP/s matrices, {rates[1]:.2f} convolutions")
    print(f"efficiency   {report.efficiency:8.1%}")
    print(f"memory       {report.peak_memory / 2**20:8.0f} MiB peak, bank {report.bank_memory / 2**20:.0f} MiB")
    return 0
