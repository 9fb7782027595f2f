"""Confidence with the embedded weights on real pictures: the least confident frames are the worse ones."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from jointformer import Session, TrackerConfig, load_model
from jointformer.data.frames import list_pictures
from jointformer.data.masks import read_mask_file
from jointformer.metrics.region import region_similarity
from jointformer.model.registry import EMBEDDED

VIDEOS = ("bmx-trees", "breakdance", "cows", "dog", "parkour", "scooter-black")
#: Long enough that masks fail: of the first dozen frames hardly any does.
FRAMES, SIZE = 40, 192


@pytest.mark.slow
@pytest.mark.realdata
@pytest.mark.skipif(not EMBEDDED["tiny"].is_file(), reason="the embedded weights are not in this checkout")
def test_the_least_confident_frames_of_davis_2016_have_lower_j(shared: Path) -> None:
    root, model = shared / "data" / "DAVIS" / "2016", load_model("tiny")
    rows: list[tuple[float, float]] = []
    for name in VIDEOS:
        truths = [read_mask_file(path).ids > 0 for path in list_pictures(root / "Annotations" / "480p" / name)[:FRAMES]]
        frames = root / "JPEGImages" / "480p" / name
        with Session(frames, model=model, config=TrackerConfig(size=SIZE)) as session:
            session.add_masks(0, {1: truths[0]})
            for frame, result in islice(session.propagate(end=FRAMES - 1), FRAMES):
                rows.append((result.confidence[1], region_similarity(result.masks[1], truths[frame])))
    confidence, j = np.asarray(rows).T
    doubtful = confidence <= np.quantile(confidence, 0.3)
    assert j[doubtful].mean() < j[~doubtful].mean() - 0.1
    ranks = [values.argsort().argsort() for values in (confidence, j)]
    assert np.corrcoef(*ranks)[0, 1] > 0.5
