"""Spoilt masks: still probabilities, the same in every batch and process, and only where they are wanted."""

from __future__ import annotations

import torch

from jointformer.train.mask_noise import spoil


def clips(count: int, slots: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(0, slots, (count, 4, 6), generator=rng, dtype=torch.uint8)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    prob = torch.nn.functional.one_hot(labels.long(), slots).movedim(-1, 1).float()
    return prob, labels


def test_they_stay_probabilities_and_change_in_blobs() -> None:
    prob, labels = clips(12)
    spoilt = spoil(prob, labels, 1.0, 5)
    assert spoilt.min() >= 0
    torch.testing.assert_close(spoilt.sum(1), torch.ones(12, 64, 96))
    changed = ((spoilt - prob).abs().amax(1) > 0.5).flatten(1).float().mean(1)
    assert changed.max() < 0.5
    assert 0.01 < changed.mean() < 0.3


def test_what_changes_are_blobs_and_rather_near_the_objects_than_far_from_them() -> None:
    prob = torch.zeros(60, 2, 96, 144)
    prob[:, 1, :, :72] = 1
    prob[:, 0] = 1 - prob[:, 1]
    labels = torch.arange(60, dtype=torch.uint8)[:, None, None].expand(60, 96, 144)
    changed = (spoil(prob, labels, 1.0, 5) - prob).abs().amax(1) > 0.5
    assert changed[:, :, :72].float().mean() > 2 * changed[:, :, 96:].float().mean() > 0
    edges = (changed[:, 1:] != changed[:, :-1]).float().mean()
    assert 0 < edges < changed.float().mean() / 5  # they are more than ten pixels across


def test_the_share_says_how_many_clips() -> None:
    prob, labels = clips(200)
    assert torch.equal(spoil(prob, labels, 0.0, 5), prob)
    touched = ((spoil(prob, labels, 0.3, 5) - prob).abs().flatten(1).amax(1) > 1e-3).float().mean()
    assert 0.15 < touched < 0.45


def test_a_clip_is_spoilt_alike_in_any_batch_and_otherwise_by_another_seed() -> None:
    prob, labels = clips(4)
    whole = spoil(prob, labels, 1.0, 9)
    halves = torch.cat([spoil(prob[k : k + 2], labels[k : k + 2], 1.0, 9) for k in (0, 2)])
    torch.testing.assert_close(whole, halves, rtol=0, atol=1e-6)
    assert not torch.allclose(whole, spoil(prob, labels, 1.0, 10))
