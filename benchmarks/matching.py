"""Does attention find the same points again? Its share on the right memory tokens, per joint block and head.

    python benchmarks/matching.py STILLS [--model tiny] [--clips 24] [--difficulty 0.8]

Clips are drawn from stills (192x336, one object, 6 frames), so it is known which tokens of a memory frame show what a
token of a later frame shows. Frame 3 reads frame 2, frame 5 reads frame 0. Per block: the share of each head's
attention to memory that falls on the right tokens, and how often the first head's best memory token is a right one;
means over all tokens whose point memory has seen.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from jointformer import load_model
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.stills import StillsClips
from jointformer.train.matching import HEAD, matching_targets
from jointformer.train.unroll import normalise, one_hot

RIGHT = 0.1
"""A memory token with at least this weight is a right one: a point between tokens has up to four."""


@torch.inference_mode()
def main() -> None:
    """Print a line per joint block."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stills", type=Path, help="the folder with manifest.csv")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--difficulty", type=float, default=0.8)
    args = parser.parse_args()
    model = load_model(args.model, device="cpu", precision="float32")
    config = ClipConfig(size=192, width=336, frames=6, max_objects=1, difficulty=args.difficulty, full_share=1.0)
    clips = StillsClips(StillsPack(args.stills), config, seed=5)
    shares, best = torch.zeros(model.config.depths[2], model.config.heads), torch.zeros(model.config.depths[2])
    pairs = 0
    for index in range(args.clips):
        clip = clips.sample(index)
        assert clip.points is not None
        frames, labels = normalise(torch.from_numpy(clip.frames)), torch.from_numpy(clip.label_maps)
        points = torch.from_numpy(clip.points).flatten(1, 2)
        for now, before in ((3, 2), (5, 0)):
            weights = matching_targets(points[None, now], points[None, before])[0][0]
            right, seen = weights > RIGHT, weights.any(1)
            memory, tokens = model.memorize(
                frames[None, before], one_hot(labels[None, before], 1), model.initial_tokens(1, 1)
            )
            out = model.segment(model.encode_frame(frames[None, now]), [memory], tokens, keep_projected=True)
            assert out.projected is not None
            for block, ((q, _, _), keys) in enumerate(zip(out.projected, memory.keys, strict=True)):
                attention = (q @ keys.mT * q.shape[3] ** -0.5).softmax(3)[0]
                shares[block] += (attention * right).sum(2)[:, seen].mean(1)
                top = attention[HEAD].argmax(1, keepdim=True)
                best[block] += right.gather(1, top)[seen].float().mean()
            pairs += 1
    for block, (heads, top) in enumerate(zip(shares / pairs, best / pairs, strict=True)):
        shown = "  ".join(f"{100 * share:5.1f} %" for share in heads.tolist())
        print(f"block {block}: on the right tokens, by head  {shown}   best token right {100 * top:5.1f} %")


if __name__ == "__main__":
    main()
