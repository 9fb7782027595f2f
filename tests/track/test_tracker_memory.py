"""What a tracker remembers: its memory bank, corrections and frames from elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from jointformer.errors import DataError
from jointformer.model.cost import bank_bytes
from jointformer.model.network import JointFormer, sum_of_others
from jointformer.model.transformer import KeepLayer
from jointformer.ops.padding import pad, padding_to_multiple
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.budget import bank_places
from jointformer.track.engine import Engine
from jointformer.track.frames import prepare_frame
from jointformer.track.segmentation import Segmentation
from seeded import MINI
from track.short_videos import CONFIG, H, W, box, run, video


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


@pytest.mark.parametrize("frames", [1, 2, 3, 0])
def test_an_earlier_result_given_as_a_mask_displaces_nothing_that_a_user_gave(model: JointFormer, frames: int) -> None:
    """What a stopped run goes on from is given like a correction, and is forgotten like what is tracked."""
    tracker = Tracker(model, replace(CONFIG, max_memory_frames=frames))
    clip = video(6)
    tracker.step(clip[0], {1: box(5, 40), 2: box(2, 2)})
    bank = tracker._engine.bank
    assert bank is not None
    first = bank._keys[0][:, :, bank._tokens : 2 * bank._tokens].clone()
    seen = tracker.step(clip[1], {1: box(6, 40), 2: box(3, 2)}, pinned=[2])
    assert seen.masks[1].sum() == box(6, 40).sum()  # it is taken as it is given
    now = bank._keys[0][:, :, bank._tokens : 2 * bank._tokens]
    assert torch.equal(now[0], first[0])
    assert torch.equal(now[1], first[1]) == (frames != 1)
    assert [len(row.pinned) for row in bank._rows] == [0, 0 if frames == 1 else 1]


def test_added_memory_changes_later_frames_only_through_reading(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(4)
    tracker.step(frames[0], box(2, 2))
    tracker.add_memory(frames[3], box(20, 30))
    assert tracker._engine.bank is not None
    assert tracker._engine.bank.frames(0) == 2
    with pytest.raises(DataError, match=r"objects \[9\] are not tracked yet"):
        tracker.add_memory(frames[3], {9: box(2, 2)})
    with pytest.raises(DataError, match=r"frame size changed within the video, expected 56x40, got 56x20; .*resize"):
        tracker.add_memory(frames[3][:20], box(2, 2)[:20])
    with pytest.raises(DataError, match="object 9 is not tracked, expected one of"):
        tracker.remove_object(9)


def test_memory_before_the_first_mask_is_refused(model: JointFormer) -> None:
    tracker, (frame,) = Tracker(model, CONFIG), video(1)
    tracker.step(frame)
    with pytest.raises(DataError, match="nothing is tracked yet; step once with masks before add_memory"):
        tracker.add_memory(frame, box(2, 2))
    assert tracker.step(frame, box(2, 2)).ids == (1,)


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


def test_added_memory_of_several_objects_tells_each_where_the_others_are(model: JointFormer) -> None:
    frames, masks = video(3), {1: box(2, 2), 2: box(15, 30)}
    tracker = Tracker(model, replace(CONFIG, max_memory_frames=1))
    tracker.step(frames[0], masks)
    tokens = tracker._engine.tokens.clone()
    tracker.add_memory(frames[2], {1: box(8, 4), 2: box(20, 28)})
    x = pad(prepare_frame(frames[2], -1, model.device), padding := padding_to_multiple(H, W))
    given = pad(torch.from_numpy(np.stack([box(8, 4), box(20, 28)]).astype(np.float32)), padding)
    with torch.inference_mode():
        expected, _ = model.memorize(x[None], given[None], tokens, attention=CONFIG.attention)
    bank = tracker._engine.bank
    assert bank is not None
    for keys, new in zip(bank._keys, expected.keys, strict=True):
        torch.testing.assert_close(keys[:, :, bank._tokens : 2 * bank._tokens], new.to(keys), atol=1e-5, rtol=1e-5)


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
