"""What may happen in a clip besides smooth motion: targets that pass each other, a camera that travels, growth.

Where a kind of event is switched off, no random number is drawn for it: clips stay what they were before it existed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.layers import BackdropPlan, Cutout
from jointformer.data.clips.motion import F64

#: How far a travelling camera gets in a clip, in picture sides.
TRAVEL = (0.5, 1.6)
#: How many times larger a growing target becomes, and its largest and smallest span, in picture sides.
GROWTH, LARGEST, SMALLEST = (1.5, 4.0), 1.4, 0.12
#: Events take time.
FEWEST_FRAMES = 5


def face(
    rng: np.random.Generator, config: ClipConfig, backdrop: BackdropPlan, cutouts: list[Cutout]
) -> tuple[int, int] | None:
    """Put two pasted targets on both sides of the middle; their places among the cut-outs, None in other clips."""
    targets = [number for number, cutout in enumerate(cutouts) if cutout.label]
    if len(targets) < 2 or backdrop.hole is not None or not _happens(rng, config, config.cross_share):
        return None
    one, other = (int(number) for number in rng.choice(targets, 2, replace=False))
    height, width = config.shape
    angle, reach = float(rng.normal(0.0, 0.5)), float(rng.uniform(0.15, 0.32))
    x, y = reach * np.cos(angle) * width / config.side, reach * np.sin(angle) * height / config.side
    cutouts[one] = replace(cutouts[one], start=(float(-x), float(-y)))
    cutouts[other] = replace(cutouts[other], start=(float(x), float(y)))
    return one, other


def journey_of(rng: np.random.Generator, config: ClipConfig, backdrop: BackdropPlan) -> F64:
    """(2,) how far the backdrop passes by from the first frame to the last, in picture sides; 0 in most clips.

    Beyond its border a still is mirrored, which would repeat targets of its own.
    """
    if backdrop.labels is not None or not _happens(rng, config, config.travel_share):
        return np.zeros(2)
    angle = float(rng.normal(0.0, 0.35)) + np.pi * int(rng.integers(2))  # mostly to a side
    height, width = config.shape
    shape = np.asarray([width, height]) / config.side
    return float(rng.uniform(*TRAVEL)) * shape * np.asarray([np.cos(angle), np.sin(angle)])


def growth_of(rng: np.random.Generator, config: ClipConfig, cutouts: list[Cutout]) -> F64:
    """(1+L,) how many times larger each layer is in the last frame than in the first, the backdrop's first.

    What grows is cut out at the scale of the clip's middle, so that it is not blurred at one end.
    """
    growth = np.ones(1 + len(cutouts))
    for number, cutout in enumerate(cutouts):
        if not cutout.label or not _happens(rng, config, config.grow_share):
            continue
        factor = float(np.exp(rng.uniform(*np.log(GROWTH))))
        span = cutout.span / config.side
        if rng.random() < 0.6:
            factor = max(1.0, min(factor, LARGEST / span))
        else:
            factor = min(1.0, max(1.0 / factor, SMALLEST / span))
        middle = float(np.sqrt(factor))
        cutouts[number] = replace(cutout, ratio=middle * cutout.ratio, span=middle * cutout.span)
        growth[1 + number] = factor
    return growth


def _happens(rng: np.random.Generator, config: ClipConfig, share: float) -> bool:
    """Draw whether an event of this share (at difficulty 1) is in the clip."""
    odds = share * config.difficulty
    return odds > 0.0 and config.frames >= FEWEST_FRAMES and rng.random() < odds
