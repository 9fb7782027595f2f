"""Clips from stills in whole batches, as training on a GPU asks for them."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.train.loader import ClipLoader
from jointformer.train.plan import IterationPlan
from jointformer.train.stills import DeviceStillsSource

PLAN = IterationPlan(0, 0.0, 6, 4, 3, 2, 64, 0.5, width=96)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stills")
    rng = np.random.default_rng(0)
    lines = ["set,image,mask,width,height,objects"]
    for number in range(4):
        cv2.imwrite(str(folder / f"{number}.png"), rng.integers(0, 255, (96, 128, 3), dtype=np.uint8))
        mask = np.zeros((96, 128), np.uint8)
        mask[20:60, 20:70], mask[50:90, 60:110] = 1, 2
        Image.fromarray(mask).save(folder / f"{number}_mask.png")
        lines.append(f"coco_small,{number}.png,{number}_mask.png,128,96,2")
    (folder / "manifest.csv").write_text("\n".join(lines), encoding="utf-8")
    return folder


def test_the_loader_takes_whole_batches_where_a_source_makes_them(folder: Path) -> None:
    source = DeviceStillsSource(folder, 1, torch.device("cpu"))
    loader = ClipLoader(source, 1, 2)
    loader.ask(PLAN)
    plan, batch = loader.next()
    loader.close()
    assert plan is PLAN
    assert batch.frames.shape == (2, 3, 64, 96, 3)
    assert batch.slots == 2
    alone = source.sample_batch(range(9, 10), PLAN)  # the second process's second clip
    assert torch.equal(batch.label_maps[1], alone.label_maps[0])
    assert batch.num_objects[1] == alone.num_objects[0]
