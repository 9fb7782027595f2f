"""Several trackers on one video, mirrored and at other sizes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.errors import ConfigError, DataError, UserError
from jointformer.model.network import JointFormer
from jointformer.ops.resize import network_size, resize_label_map
from jointformer.track import Tracker
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import FrameLike, MasksLike, ScaledLabelMap
from track.short_videos import CONFIG, H, W, box, video


def test_an_ensemble_that_was_interrupted_between_two_views_says_so(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = EnsembleTracker(model, CONFIG, [View(-1), View(-1, flipped=True)])
    frames = video(3)
    ensemble.step(frames[0], box(2, 2))
    with pytest.raises(DataError):
        ensemble.step(frames[1][1:])  # refused by all: nothing has changed
    ensemble.step(frames[1])

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ensemble.trackers[1], "step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ensemble.step(frames[2])
    with pytest.raises(UserError, match=r"broke off between two views.*use a new EnsembleTracker"):
        ensemble.step(frames[2])


@pytest.mark.parametrize("flipped", [False, True])
def test_a_scaled_label_map_goes_straight_to_the_networks_size(model: JointFormer, flipped: bool) -> None:
    height, width = network_size(2 * H, 2 * W, 48)
    small = np.zeros((31, 43), np.uint8)  # odd: by way of the frame's size other pixels would come out
    small[3:15, 4:21], small[14:29, 18:41] = 5, 9
    expected = resize_label_map(small, height, width)
    assert (expected != resize_label_map(resize_label_map(small, 2 * H, 2 * W), height, width)).any()
    frame = np.kron(video(1)[0], np.ones((2, 2, 1), np.uint8))
    tracker = EnsembleTracker(model, CONFIG, [View(48, flipped)])
    result = tracker.step(frame, ScaledLabelMap(small))
    assert (result.ids, result.size) == ((5, 9), (2 * H, 2 * W))
    if flipped:
        expected = resize_label_map(small[:, ::-1], height, width)[:, ::-1]
    np.testing.assert_array_equal(np.array([0, 5, 9])[result.prob.argmax(0).numpy()], expected)
    with pytest.raises(DataError, match=f"expected {2 * W}x{2 * H}, got 43x31"):
        tracker.step(frame, small)


def test_a_mirrored_view_takes_frames_and_masks_in_any_form(model: JointFormer) -> None:
    frame, mask = video(1)[0], box(2, 2)
    frames: list[FrameLike] = [frame, Image.fromarray(frame), torch.from_numpy(frame).permute(2, 0, 1).float() / 255]
    masks: list[MasksLike] = [
        {1: mask},
        {1: torch.from_numpy(mask)},
        mask.astype(np.uint8),
        torch.from_numpy(mask).to(torch.uint8),
    ]
    for seen, given in zip([*frames, frame], masks, strict=True):
        result = EnsembleTracker(model, CONFIG, [View(-1, True)]).step(seen, given)
        np.testing.assert_array_equal(result.label_map, mask)


@pytest.mark.parametrize("tensors", [False, True])
def test_several_views_give_the_mean_of_what_each_of_them_gives(model: JointFormer, tensors: bool) -> None:
    frames, masks = video(3), {3: box(2, 2), 8: box(20, 30)}
    views = [View(40), View(32, flipped=True), View(48)]
    both = EnsembleTracker(model, CONFIG, views)
    alone = [Tracker(model, replace(CONFIG, size=view.size)) for view in views]
    for t, frame in enumerate(frames):
        given = masks if t == 0 else None
        picture: Any = torch.from_numpy(frame).permute(2, 0, 1).float() / 255 if tensors else frame
        shown: Any = {i: torch.from_numpy(m) for i, m in masks.items()} if given and tensors else given
        found = both.step(picture, shown, last=t == 2)
        mirrored = {i: m[:, ::-1] for i, m in masks.items()} if given else None
        first, second, third = (
            tracker.step(frame[:, ::-1] if view.flipped else frame, mirrored if view.flipped else given)
            for tracker, view in zip(alone, views, strict=True)
        )
        for i in masks:
            mean = (first.object_prob(i) + second.object_prob(i)[:, ::-1] + third.object_prob(i)) / 3
            np.testing.assert_allclose(found.object_prob(i), mean, atol=1e-5)
        assert found.ids == both.object_ids == (3, 8)
    with pytest.raises(UserError, match="the video was ended"):
        both.step(frames[0])
    with pytest.raises(ConfigError, match="views of an ensemble, expected at least one"):
        EnsembleTracker(model, CONFIG, [])


def test_frames_and_masks_that_one_view_cannot_take_change_no_view(model: JointFormer) -> None:
    ensemble = EnsembleTracker(model, CONFIG, [View(16, flipped=True), View(480)])
    narrow = np.zeros((2, 300, 3), np.uint8)
    with pytest.raises(DataError, match="too narrow for size 480"):
        ensemble.step(narrow, np.ones((2, 300), np.uint8))
    wrong: Any
    for wrong in (None, np.zeros(3), torch.zeros(2, 3)):
        with pytest.raises(DataError, match="not a frame"):
            ensemble.step(wrong)
    for wrong in (np.ones(5, int), 3, {1: None}, {1: torch.ones(3)}):
        with pytest.raises(DataError, match=r"mask of object 1|label map"):
            ensemble.step(video(1)[0], wrong)
    assert ensemble.object_ids == ()
