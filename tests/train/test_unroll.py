from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from train_helpers import batch_of, small_network

from jointformer.errors import ConfigError
from jointformer.ops import products
from jointformer.track.config import TrackerConfig
from jointformer.track.tracker import Tracker
from jointformer.train.losses import frame_loss
from jointformer.train.unroll import ClipUnroller, UnrollConfig, draw_memory_frames, normalise, one_hot


def total_loss(logits: list[torch.Tensor], batch: object) -> torch.Tensor:
    losses = [
        frame_loss(one, batch.label_maps[:, t + 1], batch.num_objects)  # type: ignore[attr-defined]
        for t, one in enumerate(logits)
    ]
    return torch.stack([one.cross_entropy + one.dice for one in losses]).sum()


def test_every_parameter_gets_a_gradient_in_one_clip() -> None:
    model = small_network()
    batch = batch_of(0, 1, frames=3, slots=2)
    total_loss(ClipUnroller(model, UnrollConfig())(batch, 0).logits, batch).backward()
    without = [
        name
        for name, p in model.named_parameters()
        if p.grad is None or not torch.isfinite(p.grad).all() or not p.grad.any()
    ]
    assert without == []


@pytest.mark.parametrize("slots", [1, 2])
def test_the_unroller_and_the_tracker_agree_frame_by_frame(slots: int) -> None:
    model = small_network().eval()
    batch = batch_of(3, frames=5, slots=slots, size=48)
    # The same memory policy: every frame is memorised, all of them are read, every memorised frame updates the token.
    with torch.no_grad():
        unrolled = ClipUnroller(model, UnrollConfig(memory_frames=5, token_update_probability=1.0))(batch, 0).logits
    tracker = Tracker(model, TrackerConfig(max_memory_frames=0, memory_every=1, topk=None, size=-1))
    for t in range(5):
        masks = batch.label_maps[0, 0].numpy() if t == 0 else None
        tracked = tracker.step(batch.frames[0, t].numpy(), masks)
        if t:
            torch.testing.assert_close(unrolled[t - 1][0].softmax(0), tracked.prob, atol=2e-5, rtol=0)


def test_a_frame_reads_all_earlier_ones_or_the_first_and_some_drawn() -> None:
    rng = random.Random(0)
    assert draw_memory_frames(2, 3, rng) == [0, 1]
    assert draw_memory_frames(3, 3, rng) == [0, 1, 2]
    for _ in range(50):
        drawn = draw_memory_frames(6, 3, rng)
        assert drawn[0] == 0
        assert len(set(drawn)) == 3
        assert max(drawn) < 6
    assert draw_memory_frames(6, 1, rng) == [0]


def test_blind_frames_change_no_mask_and_leave_no_gradient() -> None:
    model = small_network().eval()
    batch = batch_of(0, 1, frames=4)
    config = UnrollConfig(memory_frames=4, token_update_probability=1.0)
    every, late = (ClipUnroller(model, config)(replace(batch, blind=blind), 0).logits for blind in (0, 1))
    assert (len(every), len(late)) == (3, 2)
    torch.testing.assert_close(late[0], every[1])  # frame 2 reads frames 0 and 1 either way
    model.zero_grad()
    total_loss(late, replace(batch, label_maps=batch.label_maps[:, 1:])).backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    model.zero_grad()
    total_loss(every[1:], replace(batch, label_maps=batch.label_maps[:, 1:])).backward()
    through = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert torch.isfinite(gradient).all()
    assert not torch.allclose(gradient, through, rtol=1e-3)


@pytest.mark.parametrize("fused", [False, True])
def test_blind_frames_are_of_the_precisions_type_as_the_others(monkeypatch: pytest.MonkeyPatch, fused: bool) -> None:
    # Without gradients float32 may be multiplied by operations that autocast does not know.
    monkeypatch.setattr(products, "onednn_is_faster", lambda: fused)
    model, batch = small_network(), batch_of(0, 1, frames=4)
    unroller = ClipUnroller(model, UnrollConfig(memory_frames=4), "autocast-bfloat16")
    every, late = (unroller(replace(batch, blind=blind), 0).logits for blind in (0, 1))
    torch.testing.assert_close(late[0], every[1], atol=0.02, rtol=0.02)


def test_blind_frames_hold_nothing_for_the_backward_pass() -> None:
    model, held = small_network(), []
    batch = batch_of(0, frames=8)
    for blind in (0, 5):
        saved = 0

        def count(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal saved
            saved += tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            ClipUnroller(model, UnrollConfig())(replace(batch, blind=blind), 0)
        held.append(saved)
    assert held[1] < 0.45 * held[0]


def test_random_choices_of_a_clip_depend_on_the_seed_only() -> None:
    unroller = ClipUnroller(small_network(), UnrollConfig())
    batch = batch_of(0, frames=5)
    first, again, other = (unroller(batch, seed).logits[-1] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_bfloat16_weights_give_float32_gradients_close_to_the_exact_ones() -> None:
    model = small_network()
    batch = batch_of(0, 1)
    grads = {}
    for precision in ("float32", "bfloat16", "autocast-bfloat16"):
        model.zero_grad()
        total_loss(ClipUnroller(model, UnrollConfig(), precision)(batch, 0).logits, batch).backward()
        grads[precision] = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    assert grads["bfloat16"].dtype == torch.float32
    for precision in ("bfloat16", "autocast-bfloat16"):
        similar = torch.cosine_similarity(grads[precision], grads["float32"], dim=0)
        assert similar > 0.98, precision


def test_activation_checkpointing_changes_no_gradient() -> None:
    model = small_network()
    batch = batch_of(0, 1)
    grads = []
    for checkpointing in (False, True):
        model.zero_grad()
        total_loss(ClipUnroller(model, UnrollConfig(checkpointing=checkpointing))(batch, 0).logits, batch).backward()
        grads.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    torch.testing.assert_close(*grads)


def test_checkpointing_with_cast_weights_is_refused() -> None:
    with pytest.raises(ConfigError, match="checkpointing"):
        ClipUnroller(small_network(), UnrollConfig(checkpointing=True), "bfloat16")
    with pytest.raises(ConfigError, match="precision"):
        ClipUnroller(small_network(), UnrollConfig(), "float8")


def test_frames_are_normalised_as_the_tracker_does_and_masks_hold_only_real_ids() -> None:
    frames = torch.tensor([[[[124, 116, 104]]]], dtype=torch.uint8)
    assert normalise(frames).abs().max() < 0.02
    labels = torch.tensor([[[0, 1, 2, 255]]], dtype=torch.uint8)
    assert one_hot(labels, 3)[0].sum(0).tolist() == [[0.0, 1.0, 1.0, 0.0]]
