"""Whole videos agree with the published engine on seeded weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jointformer.track.config import TrackerConfig
from jointformer.track.engine import Engine
from seeded import seeded_base

GOLDEN = Path(__file__).parent.parent / "golden" / "model"
RUNS = sorted(GOLDEN.glob("run_seed0_*.npz"))
#: With all keys and with the best of all frames or of each; with and without the last frame.
ONE_PER_PASS = [
    f"run_seed0_{name}_48x64" for name in ("mmf2_overlap", "mmf3_nolast_every2_overlap", "mmf3_top9", "mmf4_nolast")
]


def config_of(published: dict, at_once: int | None) -> TrackerConfig:
    """Return our settings for the published engine's."""
    return TrackerConfig(
        objects_per_pass=at_once,
        max_memory_frames=published["max_memory_frames"],
        memory_every=published["mem_every"],
        include_last=published["include_last"],
        topk=published["topk_num"],
        topk_range=published["topk_range"],
        topk_blocks=str(published["topk_block"]),
        token_topk=published["topk_clstoken"] == "Y",
        size=-1,
    )


def synthetic_frame(t: int, height: int, width: int) -> torch.Tensor:
    """Return frame t of the recipe's video (3, H, W)."""
    base = torch.randn(3, height + 36, width + 36, generator=torch.Generator().manual_seed(500))
    noise = torch.randn(3, height, width, generator=torch.Generator().manual_seed(501 + t))
    return base[:, 2 * t : 2 * t + height, 3 * t : 3 * t + width] + 0.1 * noise


def given_masks(t: int, height: int, width: int, overlap: bool) -> torch.Tensor | None:
    """Return the new objects' masks (n, H, W) of frame t."""
    masks = torch.zeros(3, height, width)
    for band in (0, 1):
        masks[band, height // 4 : 3 * height // 4, (2 * band + 1) * width // 7 : (2 * band + 2) * width // 7] = 1
    if overlap:
        masks[2] = masks[0]
    else:
        masks[2, : height // 3, : width // 3] = 1
    return {0: masks[:2], 4: masks[2:]}.get(t)


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.stem[10:])
def test_a_video_gives_the_published_probabilities(path: Path) -> None:
    golden = np.load(path)
    height, width = golden["prob0"].shape[1:]
    # One object per pass, as on a CPU, in some of the runs; in the others all at once, as on a GPU (and faster).
    config = config_of(json.loads(str(golden["config"])), None if path.stem in ONE_PER_PASS else 3)
    engine = Engine(seeded_base(), config)
    tolerance = 1e-5 if config.topk is None or config.topk_blocks == "None" else 5e-3
    for t in range(9):
        prob = engine.step(
            synthetic_frame(t, height, width),
            new_masks=given_masks(t, height, width, "overlap" in path.stem),
            last=t == 8,
        )
        error = float((prob - torch.from_numpy(golden[f"prob{t}"])).abs().max())
        assert error <= tolerance, f"frame {t} is off by {error:.1e}"
