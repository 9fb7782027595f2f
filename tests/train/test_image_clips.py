"""Clips from stills of one object each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_helpers import clip_plan

from jointformer.errors import DataError
from jointformer.train.datasets import (
    STILL_SETS,
    TrainStill,
    open_stills,
)
from jointformer.train.image_clips import ImageClips
from jointformer.train.loader import NoObject


def test_a_still_with_a_mask_becomes_a_clip_of_its_views(tmp_path: Path) -> None:
    folder = tmp_path / "static/fss/apple"
    folder.mkdir(parents=True)
    mask = np.zeros((90, 120), np.uint8)
    mask[20:70, 30:90] = 255
    picture = np.where(mask[..., None] > 0, np.array([200, 30, 30], np.uint8), np.uint8(90))
    Image.fromarray(picture).save(folder / "1.jpg", quality=95)
    Image.fromarray(mask).save(folder / "1.png")
    for name in ("._1.jpg", "._1.png"):  # as macOS leaves them behind
        (folder / name).write_bytes(b"\0\5\x16\7")
    stills = open_stills(STILL_SETS["fss"], tmp_path)
    assert [(still.image.name, still.mask.name) for still in stills] == [("1.jpg", "1.png")]
    clip = ImageClips(stills, 0).sample(3, clip_plan(slots=1))
    assert clip.frames.shape == (3, 64, 64, 3)
    assert set(np.unique(clip.label_maps)) == {0, 1}
    assert not np.array_equal(clip.label_maps[0], clip.label_maps[1])
    with pytest.raises(DataError, match="DUTS-TR"):
        open_stills(STILL_SETS["duts_tr"], tmp_path)


def test_masks_follow_their_stills_and_all_views_of_one_are_flipped_alike(tmp_path: Path) -> None:
    mask = np.zeros((90, 90), np.uint8)
    mask[30:60, 14:36] = 255  # left of the middle
    Image.fromarray(mask).save(tmp_path / "1.png")
    picture = np.where(mask[..., None] > 0, np.array([220, 30, 30], np.uint8), np.array([110, 110, 110], np.uint8))
    Image.fromarray(picture).save(tmp_path / "1.bmp")
    clips, flipped = ImageClips([TrainStill(tmp_path / "1.bmp", tmp_path / "1.png")], 0), set[bool]()
    for index in range(16):
        clip = clips.sample(index, clip_plan(slots=1))
        sides = {bool(np.nonzero(labels)[1].mean() > 31.5) for labels in clip.label_maps}
        assert len(sides) == 1
        flipped |= sides
        coloured = clip.frames.max(axis=3).astype(int) - clip.frames.min(axis=3) > 90
        if coloured.any():  # not a grey clip
            assert (coloured != (clip.label_maps > 0)).mean() < 0.02
    assert flipped == {False, True}


def test_a_still_without_object_or_with_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    still = TrainStill(tmp_path / "1.bmp", tmp_path / "1.png")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(still.image)
    other = "mask of another size than its frame, expected 50x40, got 40x50"
    for size, said in (((40, 50), "no object in the first frame"), ((50, 40), other)):
        Image.fromarray(np.zeros(size, np.uint8)).save(still.mask)
        with pytest.raises(DataError, match=rf"1\.png: {said}") as caught:
            ImageClips([still], 0).sample(0, clip_plan(slots=1))
        assert not isinstance(caught.value, NoObject)


def test_a_still_whose_object_no_view_shows_is_not_broken(tmp_path: Path) -> None:
    still, mask = TrainStill(tmp_path / "1.bmp", tmp_path / "1.png"), np.zeros((40, 240), np.uint8)
    mask[0, 0] = 255  # far from every view
    Image.fromarray(np.zeros((40, 240, 3), np.uint8)).save(still.image)
    Image.fromarray(mask).save(still.mask)
    with pytest.raises(NoObject, match=r"1\.png: no object in the first frame"):
        ImageClips([still], 0).sample(0, clip_plan(slots=1))
