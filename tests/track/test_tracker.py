"""What a tracker promises of objects and results, beyond the published engine."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch

from jointformer.errors import DataError, NoMemoryError
from jointformer.model import convolution, cost
from jointformer.model.network import JointFormer
from jointformer.model.weights import load_model
from jointformer.track import Tracker, TrackerConfig, segmentation
from jointformer.track.frames import _statistics
from jointformer.track.segmentation import Segmentation
from track.short_videos import CONFIG, H, W, box, run, video


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
            "object 4: its mask is too small (17 pixels): none is left at the 28x20 that the network"
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


def test_a_correction_replaces_the_prediction_and_is_remembered(model: JointFormer) -> None:
    wrong = run(model, {0: {1: box(2, 2)}})
    fixed = run(model, {0: {1: box(2, 2)}, 3: {1: box(25, 35)}})
    assert np.array_equal(fixed[3].label_map == 1, box(25, 35))
    assert torch.equal(wrong[2].prob, fixed[2].prob)
    assert not torch.equal(wrong[4].prob, fixed[4].prob)


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


def test_a_pixel_goes_to_its_most_probable_row_and_a_tie_to_the_first() -> None:
    prob = torch.rand(40, 6, 8, generator=torch.Generator().manual_seed(0))
    prob[:, 0, 0] = 0.5
    label_map = Segmentation(tuple(range(1, 40)), prob, (6, 8)).label_map
    assert label_map[0, 0] == 0
    assert (label_map.ravel()[1:] == prob.max(dim=0).indices.numpy().ravel()[1:]).all()


def test_a_gpu_without_memory_for_a_label_map_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(segmentation, "resize_bilinear", fail)
    with pytest.raises(NoMemoryError, match=r"no memory left on the GPU, .*; smaller frames take less"):
        _ = Segmentation((1,), torch.ones(2, 6, 8), (6, 8)).label_map


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


expected_of_the_embedded_weights = functools.cache(of_the_embedded_weights)


@pytest.mark.parametrize("precision", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])  # its kernels
@pytest.mark.parametrize("settings", [default_float64, another_default_device, autocast])
def test_the_callers_settings_of_pytorch_change_no_result(
    settings: Callable[[], AbstractContextManager[object]], precision: str
) -> None:
    expected = expected_of_the_embedded_weights(precision)
    _statistics.cache_clear()
    with settings():
        got = of_the_embedded_weights(precision)
        for a, b in zip(got, expected, strict=True):
            np.testing.assert_array_equal(a.label_map, b.label_map)
            assert a.prob.dtype == torch.float32
    for a, b in zip(got, expected, strict=True):
        assert torch.equal(a.prob, b.prob)
