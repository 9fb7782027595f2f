"""Spoilt masks: still probabilities, the same in every batch and process, and only where they are wanted."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from train_helpers import batch_of, small_network

from jointformer.track import transfer
from jointformer.train.mask_noise import spoil
from jointformer.train.unroll import ClipUnroller, UnrollConfig


def clips(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the network gives, first label maps and numbers of objects of clips of two."""
    rng = torch.Generator().manual_seed(1)
    labels = torch.randint(0, 3, (count, 4, 6), generator=rng, dtype=torch.uint8)
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)
    prob = torch.nn.functional.one_hot(labels.long(), 3).movedim(-1, 1).float()
    return prob, labels, torch.full((count,), 2)


def test_they_stay_probabilities_and_change_in_blobs() -> None:
    prob, labels, objects = clips(12)
    spoilt = spoil(prob, labels, objects, 1.0, 5)
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
    changed = (spoil(prob, labels, torch.ones(60, dtype=torch.int64), 1.0, 5) - prob).abs().amax(1) > 0.5
    assert changed[:, :, :72].float().mean() > 2 * changed[:, :, 96:].float().mean() > 0
    edges = (changed[:, 1:] != changed[:, :-1]).float().mean()
    assert 0 < edges < changed.float().mean() / 5  # they are more than ten pixels across


def test_the_share_says_how_many_clips() -> None:
    prob, labels, objects = clips(200)
    assert torch.equal(spoil(prob, labels, objects, 0.0, 5), prob)
    touched = ((spoil(prob, labels, objects, 0.3, 5) - prob).abs().flatten(1).amax(1) > 1e-3).float().mean()
    assert 0.15 < touched < 0.45


def test_a_clip_is_spoilt_alike_in_any_batch_and_otherwise_by_another_seed() -> None:
    prob, labels, objects = clips(4)
    whole = spoil(prob, labels, objects, 1.0, 9)
    halves = torch.cat([spoil(prob[k : k + 2], labels[k : k + 2], objects[:2], 1.0, 9) for k in (0, 2)])
    torch.testing.assert_close(whole, halves, rtol=0, atol=1e-6)
    assert not torch.allclose(whole, spoil(prob, labels, objects, 1.0, 10))


def test_blobs_are_given_to_the_background_and_to_objects_that_the_clip_has() -> None:
    prob, labels, _ = clips(60)
    objects = 1 + torch.arange(60) % 2
    spoilt = spoil(prob, labels, objects, 1.0, 5)
    given = (spoilt - prob).clamp(min=0).sum((2, 3)) > 1
    assert given[objects == 1].any(0).tolist() == [True, True, False]
    assert given[objects == 2].any(0).tolist() == [True, True, True]
    wide = torch.cat([prob, torch.zeros(60, 2, 64, 96)], 1)  # a batch with more slots
    assert torch.equal(spoil(wide, labels, objects, 1.0, 5), torch.cat([spoilt, torch.zeros(60, 2, 64, 96)], 1))


class Copies(TorchDispatchMode):
    """Notes which copies between devices let the host go on."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and result.device != args[0].device:
            self.waits.append(not kwargs.get("non_blocking"))
        return result


def test_a_gpu_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "on_gpu", lambda device: device.type == "meta")
    monkeypatch.setattr(transfer, "pinned", lambda x: x)
    prob, labels, objects = clips(4)
    objects = torch.empty_like(objects, device="meta")
    with Copies() as copies:
        spoilt = spoil(prob.to("meta").bfloat16(), labels, objects, 1.0, 5)
    assert (spoilt.shape, spoilt.dtype) == (prob.shape, torch.bfloat16)
    assert copies.waits[1:] == [False] * 3  # the first one is the test's own


def test_a_clip_fetches_its_first_masks_once_and_before_anything_else(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[int] = []
    model, batch = small_network(), batch_of(0, 1, frames=4, slots=2)

    def cpu(x: torch.Tensor) -> torch.Tensor:
        fetched.append(1)
        return x

    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    model.convmae.patch_embed1_query.register_forward_hook(lambda *_: fetched.append(0))
    ClipUnroller(model, UnrollConfig(spoiled=1.0))(batch, 0)
    assert fetched == [1, 0]
