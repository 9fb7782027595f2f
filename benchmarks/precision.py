"""Masks in bfloat16 beside those in float32: J&F of both, and how many pixels agree, over DAVIS 2016 val.

    python benchmarks/precision.py DAVIS/2016 [--model tiny] [--size 240] [--out precision.jsonl]

Every video is tracked twice from its first frame; the first and the last frame are not scored, as the benchmark's rules
have it. A line of JSON is added to --out after each video, so that an interrupted run goes on where it stopped. The
last line on standard output is the summary: means over videos, and the difference (aim: 0.1 at most).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from jointformer import Tracker, TrackerConfig, load_model
from jointformer.data.frames import list_pictures
from jointformer.data.masks import read_mask_file
from jointformer.metrics.measures import jf


def truth(path: Path) -> np.ndarray:
    """Return the label map of a mask file, one object."""
    return (read_mask_file(path).ids > 0).astype(np.uint8)


def compare(models: dict[str, Any], config: TrackerConfig, root: Path, name: str) -> dict[str, Any]:
    """Return one video's figures."""
    masks = list_pictures(root / "Annotations" / "480p" / name)
    pictures = list_pictures(root / "JPEGImages" / "480p" / name)
    results: dict[str, list[np.ndarray]] = {}
    for kind, model in models.items():
        tracker = Tracker(model, config)
        results[kind] = []
        for i, path in enumerate(pictures):
            frame = np.asarray(Image.open(path).convert("RGB"))
            given = truth(masks[0]) if i == 0 else None
            results[kind].append(tracker.step(frame, given, last=i == len(pictures) - 1).label_map)
    scored = slice(1, len(masks) - 1)
    found: dict[str, Any] = {"video": name, "frames": len(pictures)}
    for kind, maps in results.items():
        found[kind] = 100 * jf(maps[scored], [truth(path) for path in masks[scored]], [1]).jf
    exact, rounded = results.values()
    found["agreement"] = float(np.mean([np.mean(a == b) for a, b in zip(exact[1:], rounded[1:], strict=True)]))
    return found


def main() -> None:
    """Compare all videos and print the summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder with JPEGImages/480p and Annotations/480p")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--size", type=int, default=240)
    parser.add_argument("--memory", type=int, default=1)
    parser.add_argument("--topk", type=int, default=60)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("precision.jsonl"))
    args = parser.parse_args()
    known = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out.exists() else []
    names = sorted(p.name for p in (args.root / "Annotations" / "480p").iterdir() if p.is_dir())[: args.videos]
    config = TrackerConfig(size=args.size, max_memory_frames=args.memory, topk=args.topk)
    models = {kind: load_model(args.model, precision=kind) for kind in ("float32", "bfloat16")}
    with args.out.open("a") as out:
        for name in tqdm(names, unit="video"):
            if name not in {entry["video"] for entry in known}:
                known.append(compare(models, config, args.root, name))
                out.write(json.dumps(known[-1]) + "\n")
                out.flush()
    mean = {kind: statistics.mean(entry[kind] for entry in known) for kind in (*models, "agreement")}
    mean["difference"] = mean["bfloat16"] - mean["float32"]
    json.dump({"videos": len(known), "model": args.model, "size": args.size, **mean}, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
