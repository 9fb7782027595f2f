"""What may happen in a clip besides smooth motion: targets that pass each other, a camera that travels and what it
comes upon, growth.

Where a kind of event is switched off, no random number is drawn for it: clips stay what they were before it existed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.layers import BackdropPlan, Cutout
from jointformer.data.clips.motion import F64
from jointformer.data.clips.pack import Still
from jointformer.data.clips.regions import Region

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


def meets(rng: np.random.Generator, config: ClipConfig, journey: F64) -> bool:
    """Draw whether a camera on this journey comes upon things that the first frame does not show."""
    return config.meet_share > 0.0 and bool(journey.any()) and rng.random() < config.meet_share


def wayside(rng: np.random.Generator, config: ClipConfig, journey: F64) -> tuple[float, float]:
    """Where something stands at first that comes through the picture during the journey, in sides from its middle."""
    height, width = config.shape
    place = np.clip(rng.normal(0.0, 0.25, 2), -0.6, 0.6) * np.asarray([width, height]) / config.side
    x, y = place - float(rng.uniform(0.15, 1.1)) * journey
    return float(x), float(y)


def scenery(rng: np.random.Generator, config: ClipConfig, journey: F64, number: int, still: Still) -> Cutout:
    """A whole still that stands beside the backdrop, where the journey leads.

    The backdrop alone would show its mirror image there, in which nothing is new.
    """
    height, width = config.shape
    tall, wide = still.picture.shape[:2]
    ratio = max(float(rng.uniform(1.0, 1.5)) * height / tall, 0.8 * width / wide)
    ahead = -float(np.sign(journey[0]))  # where things come from
    start = ahead * float(rng.uniform(0.2, 0.8)) * width / config.side, float(rng.normal(0.0, 0.04))
    flip = rng.random() < 0.5
    # Its near edge is what moves as its middle: there it is exactly as large as planned, and there it is seen.
    edge = (0.0 if (ahead > 0) != flip else wide - 1.0, 0.5 * tall - 0.5)
    region = Region(0, np.arange(256), tall * wide, (0, 0, wide, tall))
    return Cutout(
        number, region, 0, flip, ratio, edge, ratio * max(wide, tall), start,
        float(rng.normal(0.0, 0.03)), float(rng.uniform(0.5, 1.2)), grounded=True,
    )  # fmt: skip


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
