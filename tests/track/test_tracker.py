"""What a tracker promises beyond the published engine."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.data.frames import read_frame
from jointformer.errors import ConfigError, DataError, UserError
from jointformer.model import convolution, cost
from jointformer.model.config import ModelConfig
from jointformer.model.cost import bank_bytes
from jointformer.model.network import JointFormer, sum_of_others
from jointformer.model.transformer import KeepLayer
from jointformer.model.weights import load_model
from jointformer.ops.padding import pad, padding_to_multiple
from jointformer.ops.resize import network_size, resize_label_map
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.budget import bank_places
from jointformer.track.engine import Engine
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import FrameLike, MasksLike, ScaledLabelMap, _statistics, prepare_frame
from jointformer.track.loop import BadFramePolicy, Stopwatch, iter_segmentations
from jointformer.track.segmentation import Segmentation
from seeded import seeded_model

MINI = ModelConfig("mini", (16, 24, 48), (1, 1, 3), heads=2)
H, W = 40, 56
CONFIG = TrackerConfig(max_memory_frames=3, memory_every=2, topk=6, size=-1)


@pytest.fixture(scope="module")
def model() -> JointFormer:
    return seeded_model(MINI)


def video(frames: int = 8, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    base = rng.integers(0, 255, (H + 96, W + 96, 3), dtype=np.uint8)
    return [base[2 * t : 2 * t + H, t : t + W].copy() for t in range(frames)]


def box(y: int, x: int, size: int = 12) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + size, x : x + size] = True
    return mask


def run(
    model: JointFormer, given: dict[int, dict[int, np.ndarray]], config: TrackerConfig = CONFIG, frames: int = 8
) -> list[Segmentation]:
    tracker = Tracker(model, config)
    return [tracker.step(f, given.get(t)) for t, f in enumerate(video(frames))]


@pytest.mark.parametrize(("size", "row", "told"), [(20, 0, False), (20, 1, True), (-1, 1, False)])
def test_an_object_of_which_the_network_sees_no_pixel_is_told_of(
    model: JointFormer, caplog: pytest.LogCaptureFixture, size: int, row: int, told: bool
) -> None:
    tracker = Tracker(model, replace(CONFIG, size=size))
    line = np.zeros((H, W), bool)
    line[row, 3:20] = True
    first, second = (tracker.step(frame, {4: line, 9: box(10, 10)}) for frame in video(2))  # a new one, a correction
    assert first.ids == second.ids == (4, 9)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2 * told
    for text in said:
        assert text.startswith(
            "object 4: its mask is too small (17 pixels): none is left at the 28×20 that the network"
        )


@pytest.mark.parametrize("given", [7, 2], ids=["new", "corrected"])
def test_nothing_is_left_of_other_objects_under_a_given_mask(model: JointFormer, given: int) -> None:
    covered = box(10, 20)
    last = run(model, {0: {1: box(2, 2), 2: box(20, 30)}, 3: {given: covered}}, frames=4)[-1]
    others = [row for row, i in enumerate((0, *last.ids)) if i != given]
    # Two clamped logits apart, 1e-14, and not one, 1e-7: the others' own probabilities no longer count there.
    assert float(last.prob[others][:, torch.from_numpy(covered)].max()) < 1e-12


def test_objects_do_not_change_each_others_object_probabilities_through_batching(model: JointFormer) -> None:
    """N objects in one pass give what they give one pass at a time."""
    given = {0: {1: box(2, 2), 2: box(20, 30)}, 3: {7: box(5, 40)}}
    together = run(model, given, replace(CONFIG, objects_per_pass=9))
    alone = run(model, given, replace(CONFIG, objects_per_pass=1))
    for a, b in zip(together, alone):
        torch.testing.assert_close(a.prob, b.prob, atol=2e-5, rtol=0)


@pytest.mark.parametrize("at_once", [1, 2])
def test_groups_within_a_pass_and_parts_of_an_mlp_change_no_mask(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Three objects read and write together; their largest maps are computed for one or two at a time."""
    masks = {1: box(2, 2), 2: box(20, 30), 7: box(5, 40)}
    config = replace(CONFIG, objects_per_pass=9)
    expected = run(model, {0: masks}, config, frames=5)
    sizes = []
    model.decoder.register_forward_hook(hook := lambda _, inputs, __: sizes.append(len(inputs[0])))
    monkeypatch.setattr(cost, "GROUP_BYTES", at_once * 4 * (48 * 64 // 16) * 16 * 4)
    monkeypatch.setattr(convolution, "CPU_MLP_BYTES", 5 * 4 * 16 * 4)  # five pixels, which divide no map
    try:
        got = run(model, {0: masks}, config, frames=5)
    finally:
        assert model.decoder._forward_hooks.popitem()[1] is hook
    assert sizes == [1, 1, 1] * 4 if at_once == 1 else [2, 1] * 4
    for a, b in zip(got, expected):
        torch.testing.assert_close(a.prob, b.prob, atol=2e-5, rtol=0)


def test_permuting_objects_permutes_the_results(model: JointFormer) -> None:
    masks = [box(2, 2), box(20, 30), box(5, 40)]
    first = run(model, {0: {i + 1: m for i, m in enumerate(masks)}})
    second = run(model, {0: {i + 1: masks[j] for i, j in enumerate([2, 0, 1])}})
    for a, b in zip(first, second):
        torch.testing.assert_close(a.prob[[0, 3, 1, 2]], b.prob, atol=2e-5, rtol=0)


def test_a_late_object_changes_nothing_before_it(model: JointFormer) -> None:
    early = run(model, {0: {1: box(2, 2)}})
    late = run(model, {0: {1: box(2, 2)}, 5: {9: box(20, 30)}})
    for t in range(5):
        assert torch.equal(early[t].prob, late[t].prob)
    assert late[5].ids == (1, 9)


def test_inputs_are_never_changed(model: JointFormer) -> None:
    frames, masks = video(4), {1: box(2, 2), 4: box(20, 30)}
    before = copy.deepcopy((frames, masks))
    tracker = Tracker(model, CONFIG)
    for t, frame in enumerate(frames):
        tracker.step(frame, masks if t == 0 else None)
    for a, b in zip(frames, before[0]):
        assert np.array_equal(a, b)
    assert all(np.array_equal(masks[i], before[1][i]) for i in masks)


def test_the_bank_holds_what_recomputation_from_stored_frames_gives(model: JointFormer) -> None:
    """Streaming with the cache equals computing every memory frame's keys and values anew at each step."""
    engine = Engine(model, replace(CONFIG, objects_per_pass=2))  # both objects at once: one call is one frame
    stored = []
    original = model.memorize_into

    def spy(
        keep: KeepLayer, frame: torch.Tensor, masks: torch.Tensor, tokens: torch.Tensor, **options: Any
    ) -> torch.Tensor:
        stored.append((frame.clone(), masks.clone(), tokens.clone(), options))
        return original(keep, frame, masks, tokens, **options)

    vars(model)["memorize_into"] = spy
    try:
        for t, frame in enumerate(video(7)):
            x = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
            new = torch.from_numpy(np.stack([box(2, 2), box(20, 30)])) if t == 0 else None
            engine.step(x, new_masks=new)
    finally:
        del vars(model)["memorize_into"]
    # Steps 0, 2, 4, 6 were memory frames, 5 the last temporary one; three fit the bank: the first and the newest two.
    kept = [stored[t] for t in (5, 0, 4, 6)]
    with torch.inference_mode():
        fresh = [model.memorize(f, m, k, **o)[0] for f, m, k, o in kept]
    assert engine.bank is not None
    view = engine.bank.view()
    for layer, (group,) in enumerate(view.layers):
        expected = torch.cat([m.keys[layer] for m in fresh], dim=2)
        got = group.keys.sum(dim=(0, 1, 3)).sort().values
        torch.testing.assert_close(got, expected.sum(dim=(0, 1, 3)).sort().values, atol=1e-4, rtol=1e-4)


def test_a_correction_replaces_the_prediction_and_is_remembered(model: JointFormer) -> None:
    wrong = run(model, {0: {1: box(2, 2)}})
    fixed = run(model, {0: {1: box(2, 2)}, 3: {1: box(25, 35)}})
    assert np.array_equal(fixed[3].label_map == 1, box(25, 35))
    assert torch.equal(wrong[2].prob, fixed[2].prob)
    assert not torch.equal(wrong[4].prob, fixed[4].prob)


@pytest.mark.parametrize("frames", [1, 2, 3, 0])
def test_a_correction_outlasts_later_memory_frames(model: JointFormer, frames: int) -> None:
    config = TrackerConfig(**{**CONFIG.__dict__, "max_memory_frames": frames})
    tracker = Tracker(model, config)
    clip = video(12)
    masks = {0: {1: box(5, 40), 2: box(2, 2)}, 3: {2: box(20, 30)}}  # 3 is not remembered without its mask
    for t, frame in enumerate(clip):
        tracker.step(frame, masks.get(t))
        bank = tracker._engine.bank
        assert bank is not None
        first = bank._keys[0][:, :, bank._tokens : 2 * bank._tokens].clone()
        if t == 0:
            begun = first
        assert torch.equal(first[0], begun[0])
        assert torch.equal(first[1], begun[1]) == (frames != 1 or t < 3)  # of one place, it is in the first's
    assert bank is not None
    row = bank._rows[1]
    assert len(row.pinned) == (0 if frames == 1 else 1)
    assert row.pinned <= set(row.places)
    assert not bank._rows[0].pinned


def test_a_mask_takes_its_pixels_from_whatever_was_there(model: JointFormer) -> None:
    first, middle = {1: box(0, 0, 40)}, box(10, 20)
    results = run(model, {0: first, 3: {2: middle}, 5: {1: middle}})
    assert (results[3].label_map[middle] == 2).all()
    assert results[3].object_prob(1)[middle].max() < 0.01
    assert (results[5].label_map[middle] == 1).all()
    assert results[5].object_prob(2)[middle].max() < 0.01


def test_an_object_can_be_corrected_away(model: JointFormer) -> None:
    results = run(model, {0: {1: box(2, 2), 2: box(20, 30)}, 3: {1: np.zeros((H, W), bool)}})
    assert 1 not in np.unique(results[3].label_map)


def test_a_removed_object_leaves_the_others_as_they_are_whatever_its_place(model: JointFormer) -> None:
    masks = [box(2, 2), box(20, 30), box(5, 40)]
    results = []
    for gone, order in ((1, (0, 1, 2)), (3, (1, 2, 0)), (2, (1, 0, 2))):  # the same object, first, last and between
        tracker = Tracker(model, CONFIG)
        for t, frame in enumerate(video(8)):
            if t == 4:
                tracker.remove_object(gone)
            given = {i: masks[k] for i, k in enumerate(order, 1)} if t == 0 else None
            result = tracker.step(frame, given)
        assert result.ids == tuple(i for i in (1, 2, 3) if i != gone)
        results.append(result.prob)
    for other in results[1:]:
        torch.testing.assert_close(other, results[0], atol=2e-5, rtol=0)


def test_a_removed_id_can_come_back(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(4)
    tracker.step(frames[0], {5: box(2, 2)})
    tracker.remove_object(5)
    assert tracker.step(frames[1]).ids == ()
    assert tracker.step(frames[2], {5: box(8, 8)}).ids == (5,)
    assert tracker.step(frames[3]).ids == (5,)


def test_frames_before_the_first_mask_have_no_objects(model: JointFormer) -> None:
    assert Tracker(model).memory_nbytes == 0
    results = run(model, {2: {4: box(2, 2)}})
    assert [r.ids for r in results[:3]] == [(), (), (4,)]
    assert torch.equal(results[0].prob, torch.ones(1, H, W))  # background, everywhere
    assert not results[0].label_map.any()


def test_frames_may_be_arrays_pictures_or_tensors(model: JointFormer) -> None:
    frame = video(1)[0]
    tensor = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    forms = (frame, Image.fromarray(frame), tensor)
    results = [Tracker(model, CONFIG).step(f, box(2, 2).astype(np.uint8)) for f in forms]
    assert all(torch.equal(results[0].prob, r.prob) for r in results)


def sixteen_bits(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0].astype(np.uint16) * 257)


def half_transparent(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([frame, np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)]))


def palette_with_transparency(frame: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame).quantize(64)
    picture.info["transparency"] = bytes(range(0, 256, 4))
    return picture


@pytest.mark.parametrize("make", [sixteen_bits, half_transparent, palette_with_transparency])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_picture_is_seen_as_its_file_is_read(
    model: JointFormer, tmp_path: Path, make: Callable[[np.ndarray], Image.Image], flipped: bool
) -> None:
    make(video(1)[0]).save(tmp_path / "frame.png")
    seen = []
    with Image.open(tmp_path / "frame.png") as picture:
        for frame in (picture, read_frame(tmp_path / "frame.png")):
            tracker = EnsembleTracker(model, CONFIG, [View(-1, flipped)])
            tracker.step(frame, box(2, 2))
            seen.append(tracker.step(frame).prob)
    assert torch.equal(*seen)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.bfloat16])
def test_masks_may_be_tensors_of_any_type(model: JointFormer, dtype: torch.dtype) -> None:
    given = {1: torch.from_numpy(box(2, 2)).to(dtype)}
    np.testing.assert_array_equal(Tracker(model, CONFIG).step(video(1)[0], given).masks[1], box(2, 2))


def test_ids_may_be_any_numbers(model: JointFormer) -> None:
    label_map = np.zeros((H, W), np.int32)
    label_map[2:14, 2:14], label_map[20:32, 30:42] = 1000, 255
    result = Tracker(model, CONFIG).step(video(1)[0], label_map)
    assert result.ids == (255, 1000)
    assert np.array_equal(result.label_map, label_map)


@pytest.mark.parametrize("as_label_map", [True, False])
def test_ids_of_63_bits_are_followed_and_larger_ones_refused(model: JointFormer, as_label_map: bool) -> None:
    label_map = box(2, 2).astype(np.uint64) * np.uint64(2**63)
    tracker = Tracker(model, CONFIG)
    with pytest.raises(DataError, match=f"object id, expected an integer from 1 to {2**63 - 1}, got {2**63}"):
        tracker.step(video(1)[0], label_map if as_label_map else {2**63: label_map > 0})
    label_map[label_map > 0] -= np.uint64(1)
    result = tracker.step(video(1)[0], label_map if as_label_map else {2**63 - 1: label_map > 0})
    np.testing.assert_array_equal(result.label_map, label_map)


@pytest.mark.parametrize("ids", [[255], [256], [65535], [65536, 3], list(range(1, 301))])
def test_a_label_map_holds_any_ids(ids: list[int]) -> None:
    shape = (len(ids) + 1, 18, 20)
    winners = torch.arange(18 * 20).reshape(18, 20) % shape[0]
    prob = torch.nn.functional.one_hot(winners, shape[0]).permute(2, 0, 1).float()
    label_map = Segmentation(tuple(ids), prob, shape[1:]).label_map
    assert label_map.dtype == (np.uint8 if max(ids) < 256 else np.uint16 if max(ids) < 65536 else np.int64)
    np.testing.assert_array_equal(label_map, np.array([0, *ids])[winners.numpy()])


def test_the_networks_size_has_the_shorter_side_asked_for() -> None:
    assert [network_size(100, 177, 48), network_size(177, 100, 48)] == [(48, 84), (84, 48)]  # of 84.96
    assert [network_size(50, 50, 48), network_size(177, 100, -1)] == [(48, 48), (177, 100)]


def test_results_come_at_the_frames_own_size(model: JointFormer) -> None:
    tracker = Tracker(model, TrackerConfig(size=32))
    result = tracker.step(video(1)[0], box(2, 2))
    assert result.label_map.shape == (H, W)
    assert result.prob.shape[1:] == (32, int(32 * W / H))
    assert result.object_prob(1).shape == (H, W)
    with pytest.raises(KeyError):
        result.object_prob(2)


@pytest.mark.parametrize("size", [-1, 32])
def test_an_objects_probability_is_the_callers_to_change(model: JointFormer, size: int) -> None:
    result = Tracker(model, replace(CONFIG, size=size)).step(video(1)[0], {3: box(2, 2), 8: box(20, 30)})
    before = result.prob.clone()
    result.object_prob(3)[:] = 0
    assert torch.equal(result.prob, before)
    assert (result.label_map == 3).any()


def test_added_memory_changes_later_frames_only_through_reading(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(4)
    tracker.step(frames[0], box(2, 2))
    tracker.add_memory(frames[3], box(20, 30))
    assert tracker._engine.bank is not None
    assert tracker._engine.bank.frames(0) == 2
    with pytest.raises(DataError, match=r"objects \[9\] are not tracked yet"):
        tracker.add_memory(frames[3], {9: box(2, 2)})
    with pytest.raises(DataError, match="frame size differs from the video's"):
        tracker.add_memory(frames[3][:20], box(2, 2)[:20])
    with pytest.raises(DataError, match="object 9 is not tracked, expected one of"):
        tracker.remove_object(9)


def test_added_memory_is_what_the_network_makes_of_that_frame_and_mask(model: JointFormer) -> None:
    frames = [frame[:33] for frame in video(3)]  # 33×56: padded by 15 rows and 8 columns
    masks = {1: box(2, 2)[:33], 2: box(15, 30)[:33]}
    config = replace(CONFIG, max_memory_frames=1)
    with_it, without = Tracker(model, config), Tracker(model, config)
    for tracker in (with_it, without):
        tracker.step(frames[0], masks)
    engine = with_it._engine
    assert engine.bank is not None
    before, tokens = [keys.clone() for keys in engine.bank._keys], engine.tokens.clone()
    with_it.add_memory(frames[2], {2: masks[1]})
    x = pad(prepare_frame(frames[2], -1, model.device), padding := padding_to_multiple(33, 56))
    given = pad(torch.from_numpy(masks[1].astype(np.float32)), padding)
    with torch.inference_mode():
        expected, _ = model.memorize(x[None], given[None, None], tokens[:, 1:], attention=config.attention)
    place = slice(engine.bank._tokens, 2 * engine.bank._tokens)
    for keys, old, new in zip(engine.bank._keys, before, expected.keys, strict=True):
        # The other object's, bit by bit: its temporary memory is not there yet, and what lies there may be NaN.
        assert torch.equal(keys[0].view(torch.int32), old[0].view(torch.int32))
        torch.testing.assert_close(keys[1, :, place], new[0].to(keys), atol=1e-5, rtol=1e-5)
    assert torch.equal(engine.tokens, tokens)
    assert engine.bank.frames(1) == 1  # where there is room for one frame only, it took the first's place
    assert not torch.equal(with_it.step(frames[1]).prob, without.step(frames[1]).prob)


@pytest.mark.parametrize(("per_pass", "passes"), [(None, [1] * 5), (2, [2, 2, 1]), (9, [5])])
def test_added_memory_keeps_to_the_objects_per_pass(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch, per_pass: int | None, passes: list[int]
) -> None:
    frames, masks = video(3), {i: box(5 * i, 8 * i) for i in range(1, 6)}
    trackers = [Tracker(model, replace(CONFIG, objects_per_pass=n)) for n in (per_pass, 9)]
    for tracker in trackers:
        tracker.step(frames[0], masks)
    original, seen = model.memorize_into, []

    def spy(keep: KeepLayer, frame: torch.Tensor, masks: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
        seen.append(masks.shape[1])
        return original(keep, frame, masks, *args, **options)

    with monkeypatch.context() as patch:
        patch.setitem(vars(model), "memorize_into", spy)
        trackers[0].add_memory(frames[2], masks)
    assert seen == passes
    trackers[1].add_memory(frames[2], masks)
    results = [tracker.step(frames[1]).prob for tracker in trackers]
    torch.testing.assert_close(*results, atol=2e-5, rtol=0)


def test_memory_is_allocated_once(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    sizes, addresses = set(), set()
    for t, frame in enumerate(video(30)):
        tracker.step(frame, box(2, 2) if t == 0 else None)
        assert tracker._engine.bank is not None
        sizes.add(tracker.memory_nbytes)
        addresses.add(tracker._engine.bank._keys[0].data_ptr())
    assert len(addresses) == 1
    assert sizes == {bank_bytes(MINI, 48, 64, 1, bank_places(CONFIG, 30), 4)}  # as `info` and the budget say


def test_unbounded_memory_keeps_every_memory_frame(model: JointFormer) -> None:
    tracker = Tracker(model, TrackerConfig(max_memory_frames=0, memory_every=1, size=-1))
    for t, frame in enumerate(video(12)):
        tracker.step(frame, box(2, 2) if t == 0 else None)
    assert tracker._engine.bank is not None
    assert tracker._engine.bank.frames(0) == 12
    assert tracker.memory_nbytes == bank_bytes(MINI, 48, 64, 1, bank_places(tracker.config, 12), 4)


def test_a_frame_of_another_size_is_refused_and_nothing_is_lost(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))
    with pytest.raises(DataError, match="frame size changed within the video, expected 56×40, got 30×40"):
        tracker.step(frames[1][:, :30])
    assert tracker.step(frames[1]).ids == (1,)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((H, W), np.uint8), "names no object"),
        (np.zeros((H, W + 1), np.uint8), "another size than its frame"),
        (np.zeros((H, W), np.float32), "expected a 2-D array of integers"),
        (np.full((H, W), -1, np.int32), "expected ids of 0 and above, got -1"),
        ({0: np.ones((H, W), bool)}, "object id"),
        ({1: np.ones((H, W), bool), "2": np.ones((H, W), bool)}, "object id, expected an integer"),
        ({}, "names no object"),
        ({3: np.zeros((H, W), bool)}, "new object 3 is empty"),
    ],
)
def test_unusable_masks_are_refused_with_one_line(model: JointFormer, masks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        Tracker(model, CONFIG).step(video(1)[0], masks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("masks", [np.zeros((H, W), np.float32), np.full((H, W), -1, np.int32), "first.png"])
def test_a_refused_label_map_is_named_once(model: JointFormer, masks: Any) -> None:
    with pytest.raises(DataError, match=r"^label map: ") as error:
        Tracker(model, CONFIG).step(video(1)[0], masks)
    assert str(error.value).count("label map") == 1


@pytest.mark.parametrize(
    "frame",
    [np.zeros((H, W), np.uint8), np.zeros((H, W, 3)), torch.zeros(H, W, 3), "frame", Image.new("RGB", (0, 0))],
)
def test_things_that_are_no_frames_are_refused(model: JointFormer, frame: Any) -> None:
    with pytest.raises(DataError, match="not a frame"):
        Tracker(model, CONFIG).step(frame, box(2, 2))


@pytest.mark.parametrize(
    ("value", "got"),
    [(float("nan"), "nan to nan"), (float("inf"), "0.5 to inf"), (255.0, "0.5 to 255"), (-9, "-9 to 0.5")],
)
def test_a_tensor_that_is_no_picture_is_refused_before_it_is_remembered(
    model: JointFormer, value: float, got: str
) -> None:
    tracker, frame = Tracker(model, CONFIG), torch.full((3, H, W), 0.5)
    tracker.step(frame, box(2, 2))
    bad = frame.clone()
    bad[1, 3, 4] = value
    with pytest.raises(DataError, match=rf"not a frame, .* in \[0, 1\], got values from {got}"):
        tracker.step(bad)
    with pytest.raises(DataError, match="not a frame"):
        tracker.add_memory(bad, box(2, 2))
    frame[0, 0, :2] = torch.tensor([-0.2, 1.2])  # as a bicubic filter leaves behind
    assert torch.isfinite(tracker.step(frame).prob).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"max_memory_frames": -1},
        {"memory_every": 0},
        {"topk": 0},
        {"topk_range": "some"},
        {"topk_blocks": "all"},
        {"size": 3},
        {"size": 100000},
        {"objects_per_pass": 0},
        {"memory_limit": 0},
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, Any]) -> None:
    name = next(iter(setting)).replace("topk_blocks", "topk blocks").replace("topk_range", "topk range")
    with pytest.raises(ConfigError, match=name):
        TrackerConfig(**setting)


@pytest.mark.parametrize("name", ["size", "topk", "max_memory_frames"])
def test_a_setting_of_another_kind_is_shown_as_what_it_is(name: str) -> None:
    with pytest.raises(ConfigError, match="got '480'"):
        TrackerConfig(**{name: "480"})  # type: ignore[arg-type]


def test_settings_may_be_integers_of_numpy() -> None:
    numbers: dict[str, Any] = {"max_memory_frames": np.int32(1), "topk": np.int64(60), "size": np.uint16(240)}
    config = TrackerConfig(**numbers)
    assert config == TrackerConfig(max_memory_frames=1, topk=60, size=240)
    assert json.dumps(asdict(config)) == json.dumps(asdict(TrackerConfig(max_memory_frames=1, topk=60, size=240)))
    with pytest.raises(ConfigError, match="size, expected 16 to 8192 pixels"):
        TrackerConfig(**{**numbers, "size": np.int64(3)})


@pytest.mark.parametrize(("room", "expected"), [(1, [1, 3, 3, 1]), (10**9, [0, 0, 0, 0])])
def test_freed_memory_is_given_back_near_the_limit_only_and_changes_no_mask(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch, room: int, expected: list[int]
) -> None:
    given_back: list[int] = []
    seen: list[Segmentation] = []
    monkeypatch.setattr("jointformer.track.engine.give_back_freed_memory", lambda: given_back.append(len(seen)))
    monkeypatch.setattr("jointformer.track.engine.resident_size", lambda: 10**9)
    tracker = Tracker(model, replace(CONFIG, memory_limit=10**9 + room))  # the limit itself is not yet broken
    masks = {0: {1: box(2, 2)}, 1: {7: box(20, 30)}}
    for t, frame in enumerate(video(4)):
        seen.append(tracker.step(frame, masks.get(t), last=t == 3))
    # Before a frame is segmented, and before each object is memorised there: the last frame is not.
    assert [given_back.count(t) for t in range(4)] == expected
    for a, b in zip(run(model, masks, frames=4), seen):
        assert torch.equal(a.prob, b.prob)


@pytest.mark.parametrize("error", [KeyboardInterrupt, torch.OutOfMemoryError, RuntimeError])
def test_a_tracker_whose_step_broke_off_says_so_instead_of_going_on_with_half_of_it(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))

    def breaks(*_: object, **__: object) -> None:
        raise error("no more")

    with monkeypatch.context() as patch:
        patch.setattr(model.convmae.blocks3[-1], "write_last", breaks)
        with pytest.raises(error):
            tracker.step(frames[1])
    for call in (
        lambda: tracker.step(frames[1]),
        lambda: tracker.add_memory(frames[1], box(2, 2)),
        lambda: tracker.remove_object(1),
    ):
        with pytest.raises(UserError, match=r"broke off.*use a new Tracker"):
            call()


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


def test_a_tracker_called_from_a_second_thread_within_a_step_says_so(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(2)
    tracker.step(frames[0], box(2, 2))
    said: list[str] = []
    step = tracker._engine.step

    def slow(*args: Any, **kwargs: Any) -> torch.Tensor:
        with pytest.raises(UserError) as error:
            tracker.step(frames[1])
        said.append(str(error.value))
        return step(*args, **kwargs)

    monkeypatch.setattr(tracker._engine, "step", slow)
    tracker.step(frames[1])
    assert "another thread is within one" in said[0]


@pytest.mark.parametrize("masks", [[None, None], [{1: box(2, 2)}, None], [{1: box(2, 2)}, {7: box(20, 30)}]])
def test_a_tracker_whose_video_was_ended_says_so(model: JointFormer, masks: list[dict[int, np.ndarray] | None]) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], masks[0])
    with pytest.raises(DataError):  # what is refused does not end it
        tracker.step(frames[1], {9: np.zeros((H, W), bool)}, last=True)
    tracker.step(frames[1], masks[1], last=True)
    for call in (
        lambda: tracker.step(frames[2]),
        lambda: tracker.step(frames[2], {8: box(20, 2)}),
        lambda: tracker.add_memory(frames[1], box(2, 2)),
        lambda: tracker.remove_object(1),
    ):
        with pytest.raises(UserError, match=r"ended.*last=True.*use a new Tracker"):
            call()


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
    with pytest.raises(DataError, match=f"expected {2 * W}×{2 * H}, got 43×31"):
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


@pytest.mark.parametrize("policy", ["skip", "hold"])
def test_frames_of_another_size_are_bad_frames(model: JointFormer, policy: BadFramePolicy) -> None:
    frames = video(4)
    frames[2] = frames[2][:-3]
    watch = Stopwatch()
    seen = iter_segmentations(
        Tracker(model, CONFIG), enumerate(frames), lambda t, _: {1: box(2, 2)} if t == 0 else None,
        watch=watch, on_bad_frame=policy,
    )  # fmt: skip
    assert [t for t, _ in seen] == ([0, 1, 3] if policy == "skip" else [0, 1, 2, 3])
    assert (watch.frames, watch.bad_frames) == (3, 1)
    assert 0 < watch.seconds < 60
    assert watch.fps == 3 / watch.seconds


@pytest.mark.parametrize("policy", ["skip", "hold"])
@pytest.mark.parametrize(("bad", "masked"), [(0, [1]), (2, [0, 2])])
def test_a_frame_that_cannot_be_read_ends_the_video_where_a_mask_is_given_or_was_none_yet(
    model: JointFormer, policy: BadFramePolicy, bad: int, masked: list[int]
) -> None:
    frames = [frame if t != bad else DataError("damaged") for t, frame in enumerate(video(4))]
    given = {t: {n: box(2 + 9 * n, 2)} for n, t in enumerate(masked, 1)}
    seen = iter_segmentations(Tracker(model, CONFIG), enumerate(frames), lambda t, _: given.get(t), on_bad_frame=policy)
    assert [next(seen)[0] for _ in range(bad)] == list(range(bad))
    with pytest.raises(DataError, match="damaged"):
        next(seen)


def test_the_frame_loop_ends_the_video_at_its_last_frame_and_gives_the_size_asked_for(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    masks = {0: {1: box(2, 2)}}
    seen = iter_segmentations(tracker, enumerate(video(3)), lambda t, _: masks.get(t), last=2, output_size=(20, 28))
    assert [result.label_map.shape for _, result in seen] == [(20, 28)] * 3
    with pytest.raises(UserError, match="the video was ended"):
        tracker.step(video(1)[0])
    with pytest.raises(ConfigError, match="on_bad_frame, expected one of stop, skip, hold, got 'ignore'"):
        next(iter_segmentations(tracker, [], lambda t, _: None, on_bad_frame="ignore"))  # type: ignore[arg-type]


def test_bad_input_leaves_a_tracker_as_it_was(model: JointFormer) -> None:
    expected = run(model, {0: {1: box(2, 2)}}, frames=3)
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))
    for frame, masks in ((frames[1][:-1], None), (frames[1], {2: np.zeros((H, W), bool)}), (frames[1], box(2, 2)[:-1])):
        with pytest.raises(DataError):
            tracker.step(frame, masks)
    damaged = io.BytesIO()
    Image.fromarray(frames[1]).save(damaged, "JPEG")
    with pytest.raises(OSError, match="truncated"):  # Pillow decodes a picture when it is used
        tracker.step(Image.open(io.BytesIO(damaged.getvalue()[:-200])))
    assert torch.equal(tracker.step(frames[1]).prob, expected[1].prob)
    assert torch.equal(tracker.step(frames[2]).prob, expected[2].prob)


def test_layers_handed_out_while_a_frame_is_memorised_are_those_returned_at_once(model: JointFormer) -> None:
    frame = torch.rand(1, 3, H // 16 * 16, W // 16 * 16, generator=torch.Generator().manual_seed(3))
    masks = (torch.rand(1, 2, *frame.shape[2:], generator=torch.Generator().manual_seed(4)) > 0.7).float()
    others, tokens, got = sum_of_others(masks), model.initial_tokens(1, 2), []
    with torch.inference_mode():
        memory, expected = model.memorize(frame, masks, tokens, others=others)
        updated = model.memorize_into(lambda *layer: got.append(layer), frame, masks, tokens, others=others)
    assert torch.equal(updated, expected)
    assert [layer for layer, _, _ in got] == list(range(MINI.layers))
    for (_, keys, values), k, v in zip(got, memory.keys, memory.values, strict=True):
        assert torch.equal(keys, k)
        assert torch.equal(values, v)


def test_a_pixel_goes_to_its_most_probable_row_and_a_tie_to_the_first() -> None:
    prob = torch.rand(40, 6, 8, generator=torch.Generator().manual_seed(0))
    prob[:, 0, 0] = 0.5
    label_map = Segmentation(tuple(range(1, 40)), prob, (6, 8)).label_map
    assert label_map[0, 0] == 0
    assert (label_map.ravel()[1:] == prob.max(dim=0).indices.numpy().ravel()[1:]).all()


def test_results_can_be_compared_and_kept_in_sets() -> None:
    first, second = (Segmentation((1,), torch.ones(2, 6, 8), (6, 8)) for _ in range(2))
    assert first != second
    assert [second, first].index(first) == 1
    assert len({first, second}) == 2


@contextmanager
def default_float64() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def another_default_device() -> AbstractContextManager[object]:
    """As torch.set_default_device("cuda") is, on every machine."""
    return torch.device("meta")


def autocast() -> AbstractContextManager[object]:
    return torch.autocast("cpu", dtype=torch.bfloat16)


def of_the_embedded_weights(precision: str) -> list[Segmentation]:
    """Results before the first mask, at it and behind it, where kernels select keys."""
    frame = np.random.default_rng(0).integers(0, 255, (250, 380, 3), dtype=np.uint8)
    masks = np.zeros(frame.shape[:2], np.uint8)
    masks[10:90, 20:80], masks[100:150, 90:240] = 1, 7
    tracker = Tracker(load_model("tiny", "cpu", precision), TrackerConfig(size=256, memory_every=1))
    return [tracker.step(np.roll(frame, 3 * t, axis=1), masks if t == 1 else None) for t in range(4)]


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])  # its kernels
@pytest.mark.parametrize("settings", [default_float64, another_default_device, autocast])
def test_the_callers_settings_of_pytorch_change_no_result(
    settings: Callable[[], AbstractContextManager[object]], precision: str
) -> None:
    expected = of_the_embedded_weights(precision)
    _statistics.cache_clear()
    with settings():
        got = of_the_embedded_weights(precision)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a.label_map, b.label_map)
            assert a.prob.dtype == torch.float32
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.prob, b.prob)
