"""What a clip consists of: a backdrop and cut-outs over it, in numbers, before any pixel is touched."""

from __future__ import annotations

from dataclasses import dataclass

from jointformer.data.clips.motion import F64, Motions
from jointformer.data.clips.regions import Region
from jointformer.types import UInt8Array

BLOB_WAVES = 6


@dataclass(frozen=True, eq=False)
class Cutout:
    """Something that moves over the backdrop: a region of a still, or a blob of its texture.

    `label` 1.. for targets, 0 for distractors; `ratio`: pixels of the picture per pixel of the still at
    frame 0 (where it grows, in the middle of the clip); `middle`: the point of the still that moves as the layer's
    middle; `span`: larger side in picture pixels at that `ratio`; `outline` (2,BLOB_WAVES) cosine and sine parts of a
    blob's radius, None for regions; `grounded`: it passes by with the backdrop.
    """

    still: int
    region: Region
    label: int
    flip: bool
    ratio: float
    middle: tuple[float, float]
    span: float
    start: tuple[float, float]
    turn: float
    feather: float
    outline: F64 | None = None
    grounded: bool = False


@dataclass(frozen=True, eq=False)
class BackdropPlan:
    """The backdrop to be: which still, flipped or not, at which scale, and the point seen in the middle.

    `labels` (256,): the label of each id of mask `mask` (own targets), or None; `hole`: the region that
    was lifted off and has to be filled.
    """

    still: int
    flip: bool
    ratio: float
    middle: tuple[float, float]
    mask: int = 0
    labels: UInt8Array | None = None
    hole: Region | None = None


@dataclass(frozen=True, eq=False)
class ClipPlan:
    """A whole clip: the backdrop, then cut-outs from the farthest to the nearest, and their warps.

    `motions` and `spans` (1+L,) are what `local_grids` takes, the backdrop's first; `smear` (1+L,T,2):
    pixels moved while a frame is exposed; `targets`: the number of labels.
    """

    backdrop: BackdropPlan
    cutouts: tuple[Cutout, ...]
    targets: int
    motions: Motions
    spans: F64
    smear: F64
