"""Settings that the golden runs leave out agree with the rules written down plainly (tests/naive.py)."""

from __future__ import annotations

import random

import pytest
import torch

from jointformer.model.config import ModelConfig
from jointformer.track.config import TrackerConfig
from jointformer.track.engine import Engine
from naive import NaiveLoop
from seeded import seeded_model


@pytest.mark.parametrize(
    ("memory_frames", "every", "include_last", "k", "topk_range", "blocks", "token_topk"),
    [
        (0, 1, True, 3, "every_frame", "all_blocks", True),
        (1, 2, False, 4, "all_frames", "last_block", True),
        (2, 1, True, 1, "all_frames", "half", True),
        (2, 3, True, 1000, "every_frame", "last_block", False),
        (3, 2, False, 2, "every_frame", "all_blocks", True),
        (3, 2, True, 2, "all_frames", "None", True),
    ],
)
def test_every_setting_gives_what_the_rules_give_one_object_at_a_time(
    memory_frames: int, every: int, include_last: bool, k: int, topk_range: str, blocks: str, token_topk: bool
) -> None:
    rng = random.Random(memory_frames + every + k)
    model = seeded_model(ModelConfig("mini", (16, 24, 48), (1, 2, 4), heads=2, update_depth=1, enhance_depth=2))
    config = TrackerConfig(memory_frames, every, include_last, k, topk_range, blocks, token_topk, size=-1)
    loop, engine = NaiveLoop(model, config), Engine(model, config)
    height, width = rng.randint(33, 48), rng.randint(33, 64)
    for t in range(8):
        frame = torch.randn(3, height, width, generator=torch.Generator().manual_seed(t))
        masks = {}
        for i in {0: (1, 2), 3: (3,), 5: (4, 5)}.get(t, ()):
            y, x = rng.randrange(height - 8), rng.randrange(width - 8)
            masks[i] = torch.zeros(height, width)
            masks[i][y : y + 16, x : x + 20] = 1
        new_masks = torch.stack([*masks.values()]) if masks else None
        prob = engine.step(frame, new_masks=new_masks, last=t == 7)
        torch.testing.assert_close(prob, loop.step(frame, masks, last=t == 7), rtol=0, atol=1e-5)
