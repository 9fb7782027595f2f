"""Whether a session's confidence finds the frames that went wrong, on DAVIS 2016 val.

    python benchmarks/confidence_ranks.py DAVIS/2016 --model tiny

Tracks every video from its first frame and compares each frame's confidence with its true J. Prints JSON: mean J of the
least confident fifth of all frames and of the others, the rank correlation, and how often the frame that
`next_frame_to_fix` names is among its video's worst fifth.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from tqdm import tqdm

from jointformer import Session, TrackerConfig, load_model
from jointformer.data.frames import list_pictures
from jointformer.data.masks import read_mask_file


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path, help="the folder with JPEGImages/480p and Annotations/480p")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--videos", type=int, default=20)
    parser.add_argument("--frames", type=int, help="of each video at most")
    args = parser.parse_args()
    model = load_model(args.model)
    folders = sorted(p for p in (args.root / "Annotations" / "480p").iterdir() if p.is_dir())[: args.videos]
    every_j, every_confidence, hits = [], [], 0
    for folder in tqdm(folders, unit="video"):
        files = list_pictures(folder)[: args.frames]
        frames = args.root / "JPEGImages" / "480p" / folder.name
        with Session(frames, model=model, config=TrackerConfig(size=args.size)) as session:
            session.add_masks(0, {1: truth(files[0])})
            j = {}
            for frame, result in session.propagate(end=len(files) - 1):
                j[frame] = overlap(result.masks[1], truth(files[frame]))
                every_j.append(j[frame])
                every_confidence.append(result.confidence[1])
            worst = sorted(j, key=lambda frame: j[frame])[: max(1, len(j) // 5)]
            hits += session.next_frame_to_fix() in worst
    j_all, confidence = np.asarray(every_j), np.asarray(every_confidence)
    doubtful = confidence <= np.quantile(confidence, 0.2)
    figures = {
        "videos": len(folders),
        "frames": len(j_all),
        "j": j_all.mean(),
        "j_least_confident_fifth": j_all[doubtful].mean(),
        "j_others": j_all[~doubtful].mean(),
        "rank_correlation": spearmanr(j_all, confidence).statistic,
        "frame_to_fix_in_worst_fifth": hits / len(folders),
    }
    json.dump({name: round(float(value), 4) for name, value in figures.items()}, sys.stdout, indent=2)
    print()


def truth(path: Path) -> np.ndarray:
    """The object's (H, W) mask in an annotation."""
    return read_mask_file(path).ids > 0


def overlap(mask: np.ndarray, other: np.ndarray) -> float:
    """J, 1 where both are empty."""
    union = np.count_nonzero(mask | other)
    return np.count_nonzero(mask & other) / union if union else 1.0


if __name__ == "__main__":
    main()
