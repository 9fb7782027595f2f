"""What a moving backdrop shows beyond its still's border, where it is mirrored: not its own targets a second time."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from jointformer.data.clips.layers import BackdropPlan
from jointformer.data.clips.motion import CELLS, Motions, local_grids
from jointformer.data.clips.pack import Still
from jointformer.data.clips.render import dense_map

#: What is tried in turn: a share of the drawn motion, and how many times larger the still is shown.
_TRIES = ((1.0, 1.0), (0.8, 1.1), (0.6, 1.2), (0.4, 1.3), (0.2, 1.4), (0.0, 1.0))
#: The largest share of a picture that may be a target's mirror image.
MIRRORED = 0.005
#: Places along a cell that are looked at.
_FINE = 4


def show_targets_once(motions: Motions, still: Still, backdrop: BackdropPlan, shape: tuple[int, int]) -> BackdropPlan:
    """The backdrop, so much larger that no mirror image of targets of its own is seen; it moves less by `motions`.

    The image would be labelled as the target; but what only looks like a target is none, as clips teach otherwise.
    motions: of all layers; that of the first, the backdrop, is changed in place. shape: the pictures' height and width.
    """
    if backdrop.labels is None:
        return backdrop
    for share, zoom in _TRIES:
        part, larger = _part(motions, share), replace(backdrop, ratio=zoom * backdrop.ratio)
        if mirrored(part, still, larger, shape) <= MIRRORED:
            break
    for name in ("centre", "linear", "waves", "tilt"):
        getattr(motions, name)[:1] = getattr(part, name)
    return larger


def mirrored(motions: Motions, still: Still, backdrop: BackdropPlan, shape: tuple[int, int]) -> float:
    """The largest share of a picture that shows targets of a backdrop mirrored, where it is the only layer."""
    assert backdrop.labels is not None
    own = np.asarray(cv2.LUT(still.masks[backdrop.mask], backdrop.labels))
    end = np.asarray(own.shape[::-1]) - 0.5
    scale = np.asarray([-1.0 if backdrop.flip else 1.0, 1.0]) / backdrop.ratio
    most = 0.0
    for grid in local_grids(motions, *shape, np.sqrt([shape[0] * shape[1]]))[0]:
        where = dense_map(grid * scale + backdrop.middle, (0, CELLS, 0, CELLS), (_FINE, _FINE))
        outside = ((where < -0.5) | (where > end)).any(-1)
        if outside.any():
            seen = np.asarray(cv2.remap(own, where, None, cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101))
            most = max(most, np.count_nonzero(seen[outside]) / outside.size)
    return most


def _part(motions: Motions, share: float) -> Motions:
    """A share of the first layer's motion, alone."""
    still = np.eye(2)
    return Motions(
        share * motions.centre[:1], still + share * (motions.linear[:1] - still), share * motions.waves[:1],
        motions.frequency[:1], motions.phase[:1], share * motions.tilt[:1],
    )  # fmt: skip
