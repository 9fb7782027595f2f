from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from train_helpers import batch_of, small_network

from jointformer.train import unroll
from jointformer.train.matching import matching_loss, matching_targets
from jointformer.train.unroll import ClipBatch, ClipUnroller, UnrollConfig


def grid_points(rows: int = 3, columns: int = 4, layer: float = 0, shift: float = 0) -> torch.Tensor:
    """(1, P, 3) the points that tokens show of a layer moved to the left by `shift` pixels."""
    y, x = torch.meshgrid(torch.arange(rows) * 16.0 + 8, torch.arange(columns) * 16.0 + 8, indexing="ij")
    return torch.stack([torch.full_like(x, layer), x + shift, y], -1).flatten(0, 1)[None]


def test_points_are_found_where_they_have_moved_to() -> None:
    weights, unseen = matching_targets(grid_points(shift=16), grid_points())
    assert weights.shape == (1, 12, 12)
    assert weights[0, 0].argmax() == 1
    right = torch.arange(3, 12, 4)
    assert weights[0, right].sum() == 0  # 16 pixels beyond what memory saw: neither asked for nor asked away
    assert not unseen.any()
    rest = [i for i in range(12) if i not in right.tolist()]
    torch.testing.assert_close(weights[0, rest].sum(1), torch.ones(9))


def test_points_far_from_all_that_memory_saw_are_unseen() -> None:
    weights, unseen = matching_targets(grid_points(shift=32), grid_points())
    assert unseen[0].view(3, 4).tolist() == [[False, False, False, True]] * 3
    assert weights[0, 3].sum() == 0


def test_points_of_another_layer_are_not_the_same() -> None:
    weights, unseen = matching_targets(grid_points(layer=1), grid_points(layer=0))
    assert unseen.all()
    assert not weights.any()


def test_a_point_between_tokens_belongs_to_both() -> None:
    weights, _ = matching_targets(grid_points(shift=8), grid_points())
    torch.testing.assert_close(weights[0, 0, 0], weights[0, 0, 1])
    assert weights[0, 0, 0] > 0.4


def one_hot_features(tokens: int) -> torch.Tensor:
    return 30 * torch.eye(tokens)[None, None]


def test_attention_to_the_right_tokens_costs_nothing() -> None:
    # Every query is like one key: of memory, in its own place or in the wrong one, or of the frame itself.
    own, memory = torch.zeros(1, 1, 4, 4), one_hot_features(4)
    right, unseen = torch.eye(4)[None], torch.zeros(1, 4, dtype=torch.bool)
    q = one_hot_features(4)
    # One block or several alike: a product of 30 · 30, over the root of the head's width, lies between right and wrong.
    for blocks in (1, 3):
        kept = [(memory,) * blocks]
        assert matching_loss([(q, own, own)] * blocks, kept, right, unseen).abs() < 1e-3
        wrong = matching_loss([(q, own, own)] * blocks, [(memory.flip(2),) * blocks], right, unseen)
        assert wrong.item() == pytest.approx(30 * 30 / 4**0.5)
    nowhere = torch.ones(1, 4, dtype=torch.bool)
    assert matching_loss([(q, memory, own)], [(own,)], 0 * right, nowhere).abs() < 1e-3
    assert matching_loss([(q, own, own)], [(memory,)], 0 * right, nowhere) > 10
    assert matching_loss([(q, own, own)], [(memory,)], 0 * right, unseen) == 0  # nothing is known, nothing is asked


def test_every_point_of_which_something_is_known_counts_the_same() -> None:
    even = torch.zeros(1, 1, 4, 4)  # attention to four tokens of the frame and four of memory alike
    right = torch.diag(torch.tensor([1.0, 1.0, 0.0, 0.0]))[None]
    unseen = torch.tensor([[False, False, True, False]])
    loss = matching_loss([(even, even, even)], [(even,)], right, unseen)
    assert loss.item() == pytest.approx((2 * math.log(8) + math.log(2)) / 3)


def test_only_one_head_is_asked_and_every_object_counts_the_same() -> None:
    generator = torch.Generator().manual_seed(0)
    q, k, memory = (torch.randn(2, 3, 4, 8, generator=generator) for _ in range(3))
    right, unseen = torch.eye(4).expand(2, 4, 4), torch.zeros(2, 4, dtype=torch.bool)
    loss = matching_loss([(q, k, k)], [(memory,)], right, unseen)
    other_heads = [x.clone() for x in (q, k, memory)]
    for x in other_heads:
        x[:, 1:] = 0
    torch.testing.assert_close(
        loss, matching_loss([(other_heads[0], other_heads[1], k)], [(other_heads[2],)], right, unseen)
    )
    doubled = [x.repeat_interleave(2, 0) for x in (q, k, memory)]
    torch.testing.assert_close(
        loss, matching_loss([(doubled[0], doubled[1], doubled[1])], [(doubled[2],)], right, unseen)
    )


def drawn_batch(slots: int = 1) -> ClipBatch:
    """Clips of a picture that stands still, and what is known of it."""
    batch = batch_of(0, 1, frames=4, slots=slots, size=64)
    points = grid_points(4, 4)[None].expand(2, 4, -1, -1)
    return replace(batch, frames=batch.frames[:, :1].expand_as(batch.frames), points=points)


@pytest.mark.parametrize("blind", [0, 1])
def test_learning_to_match_reduces_the_loss(blind: int) -> None:
    model, batch = small_network(), replace(drawn_batch(2), blind=blind)
    unroller = ClipUnroller(model, UnrollConfig(matching=0.5))
    optimiser = torch.optim.AdamW(model.parameters(), 3e-3)
    losses: list[float] = []
    while len(losses) < 40 and not (losses and losses[-1] < 0.6 * losses[0]):
        optimiser.zero_grad()
        matching = unroller(batch, len(losses)).matching
        matching.backward()
        optimiser.step()
        losses.append(float(matching.detach()))
    assert losses[-1] < 0.6 * losses[0], len(losses)


def test_frames_that_are_lived_through_blindly_are_not_matched(monkeypatch: pytest.MonkeyPatch) -> None:
    matched: list[torch.Tensor] = []

    def note(*_: object) -> torch.Tensor:
        matched.append(torch.zeros(()))
        return matched[-1]

    monkeypatch.setattr(unroll, "matching_loss", note)
    for blind, frames in ((0, 3), (1, 2)):
        matched.clear()
        ClipUnroller(small_network(), UnrollConfig(matching=0.5))(replace(drawn_batch(), blind=blind), 0)
        assert len(matched) == frames


def test_clips_that_were_not_drawn_have_no_matching_loss() -> None:
    model, batch = small_network(), drawn_batch()
    assert ClipUnroller(model, UnrollConfig(matching=0.5))(replace(batch, points=None), 0).matching is None
    assert ClipUnroller(model, UnrollConfig())(batch, 0).matching is None
    with_it, without = (ClipUnroller(model, UnrollConfig(matching=m))(batch, 0).logits for m in (0.5, 0.0))
    for one, other in zip(with_it, without, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "autocast-bfloat16"])
def test_every_precision_and_checkpointing_give_the_same_matching_loss(precision: str) -> None:
    model, batch = small_network(), drawn_batch()
    exact = ClipUnroller(model, UnrollConfig(matching=0.5))(batch, 0).matching
    for checkpointing in (False, True) if precision != "bfloat16" else (False,):
        config = UnrollConfig(matching=0.5, checkpointing=checkpointing)
        matching = ClipUnroller(model, config, precision)(batch, 0).matching
        torch.testing.assert_close(matching, exact, rtol=0.03, atol=0)
        matching.backward()
