"""J, region similarity: intersection over union of two masks (DAVIS 2016, section 5.1)."""

from __future__ import annotations

import numpy as np

from jointformer.types import Mask


def region_similarity(prediction: Mask, truth: Mask, void: Mask | None = None) -> float:
    """Intersection over union in [0, 1] of two (H, W) bool masks; 1 where both are empty.

    Pixels of `void` are taken out of both masks first.
    """
    if void is not None:
        prediction, truth = prediction & ~void, truth & ~void
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else 1.0
