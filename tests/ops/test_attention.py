"""Joint attention by plain operations: the rule itself, its edges, gradients and views."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from jointformer.ops import attention
from jointformer.ops.attention import joint_attention


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def by_the_letter(
    q: Tensor, k: Tensor, v: Tensor, mk: Tensor, mv: Tensor, topk: int | None, group: int | None = None
) -> Tensor:
    """The rule row by row, in float64."""
    objects = max(tensor.shape[0] for tensor in (q, k, mk))
    q, k, v, mk, mv = (tensor.double().expand(objects, -1, -1, -1) for tensor in (q, k, v, mk, mv))
    out = torch.empty(q.shape, dtype=torch.float64)
    for n, a, p in torch.cartesian_prod(*(torch.arange(size) for size in q.shape[:3])).tolist():
        own = k[n, a] @ q[n, a, p] / math.sqrt(q.shape[-1])
        memory = mk[n, a] @ q[n, a, p] / math.sqrt(q.shape[-1])
        kept = torch.zeros_like(memory, dtype=torch.bool)
        for start in range(0, len(memory), group or len(memory)):
            part = memory[start : start + (group or len(memory))]
            best = part.sort(descending=True).values
            kept[start : start + len(part)] = part >= best[min(topk or len(part), len(part)) - 1]
        weights = torch.cat((own, memory[kept])).softmax(0)
        out[n, a, p] = weights @ torch.cat((v[n, a], mv[n, a][kept]))
    return out


@pytest.mark.parametrize("topk", [None, 1, 4, 11, 12, 50])
@pytest.mark.parametrize("group", [None, 4])
@pytest.mark.parametrize("rows", [1, 7, 20])
def test_attention_follows_the_rule_row_by_row(topk: int | None, group: int | None, rows: int) -> None:
    q, k, v = tokens(0, 2, 3, rows, 8), tokens(1, 2, 3, 5, 8), tokens(2, 2, 3, 5, 8)
    mk, mv = tokens(3, 2, 3, 12, 8), tokens(4, 2, 3, 12, 8)
    got = joint_attention(q, k, v, mk, mv, topk=topk, frame_tokens=group)
    expected = by_the_letter(q, k, v, mk, mv, topk, group)
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)


def test_without_memory_it_is_plain_attention() -> None:
    q, k, v = (tokens(seed, 2, 3, 9, 8) for seed in range(3))
    expected = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(joint_attention(q, k, v, topk=3), expected)
    empty = tokens(0, 2, 3, 0, 8)
    torch.testing.assert_close(joint_attention(q, k, v, empty, empty, topk=3), expected)


def test_own_keys_may_be_shared_by_all_objects() -> None:
    q, k, v = (tokens(seed, 1, 3, 9, 8) for seed in range(3))
    mk, mv = tokens(3, 4, 3, 12, 8), tokens(4, 4, 3, 12, 8)
    for topk in (None, 3):
        got = joint_attention(q, k, v, mk, mv, topk=topk)
        expected = by_the_letter(q, k, v, mk, mv, topk)
        torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)


def test_keys_that_tie_with_the_last_kept_one_are_all_kept() -> None:
    q, k, v = tokens(0, 1, 1, 1, 4), tokens(1, 1, 1, 2, 4), tokens(2, 1, 1, 2, 4)
    best, tied = q[0, 0, 0] * 2, q[0, 0, 0]
    mk = torch.stack((tied, -tied, best, tied, -best))[None, None]
    mv = tokens(3, 1, 1, 5, 4)
    got = joint_attention(q, k, v, mk, mv, topk=2)
    expected = joint_attention(q, k, v, mk[:, :, [0, 2, 3]], mv[:, :, [0, 2, 3]])
    torch.testing.assert_close(got, expected)


def test_a_row_of_equal_scores_keeps_every_key() -> None:
    q, k, v = tokens(0, 1, 2, 5, 4), tokens(1, 1, 2, 3, 4), tokens(2, 1, 2, 3, 4)
    mk, mv = torch.ones(1, 2, 6, 4), tokens(3, 1, 2, 6, 4)
    torch.testing.assert_close(joint_attention(q, k, v, mk, mv, topk=2), joint_attention(q, k, v, mk, mv))


def test_a_nan_spoils_its_own_rows_and_no_other() -> None:
    q, k, v = tokens(0, 1, 2, 5, 4), tokens(1, 1, 2, 3, 4), tokens(2, 1, 2, 3, 4)
    mk, mv = tokens(3, 1, 2, 9, 4), tokens(4, 1, 2, 9, 4)
    clean = joint_attention(q, k, v, mk, mv, topk=2)
    q[0, 1, 3, 0] = float("nan")
    got = joint_attention(q, k, v, mk, mv, topk=2)
    assert got[0, 1, 3].isnan().all()
    got[0, 1, 3] = clean[0, 1, 3]
    torch.testing.assert_close(got, clean)
    mk[0, 0, 7] = float("nan")
    got = joint_attention(q, k, v, mk, mv, topk=2)
    assert got[0, 0].isnan().all()
    assert not got[0, 1, :3].isnan().any()


def test_gradients_flow_through_kept_keys_only() -> None:
    q, k, v, mk, mv = (tokens(seed, 1, 2, 6, 4).double().requires_grad_() for seed in range(5))

    def attend(*args: Tensor) -> Tensor:
        return joint_attention(*args, topk=2)

    assert torch.autograd.gradcheck(attend, (q, k, v, mk, mv))
    joint_attention(q[:, :, :1], k, v, mk, mv, topk=2).sum().backward()
    assert mv.grad is not None
    assert (mv.grad.abs().sum(-1) > 0).sum(-1).tolist() == [[2, 2]]


def test_views_give_the_same_numbers_and_nothing_is_changed() -> None:
    qkv = tokens(0, 2, 9, 3 * 3 * 8)
    q, k, v = qkv.view(2, 9, 3, 3, 8).permute(2, 0, 3, 1, 4)
    bank_k, bank_v = tokens(1, 2, 3, 40, 8), tokens(2, 2, 3, 40, 8)
    before = [tensor.clone() for tensor in (qkv, bank_k, bank_v)]
    mk, mv = bank_k[:, :, 5:23], bank_v[:, :, 5:23]
    got = joint_attention(q, k, v, mk, mv, topk=4)
    expected = joint_attention(*(tensor.contiguous() for tensor in (q, k, v, mk, mv)), topk=4)
    torch.testing.assert_close(got, expected)
    assert all(torch.equal(a, b) for a, b in zip(before, (qkv, bank_k, bank_v), strict=True))


def test_the_result_can_be_written_into_a_given_buffer() -> None:
    q, k, v = (tokens(seed, 2, 3, 9, 8) for seed in range(3))
    mk, mv = tokens(3, 2, 3, 12, 8), tokens(4, 2, 3, 12, 8)
    for topk in (None, 3):
        buffer = torch.full((2, 3, 9, 8), 7.0)
        assert joint_attention(q, k, v, mk, mv, topk=topk, out=buffer) is buffer
        torch.testing.assert_close(buffer, joint_attention(q, k, v, mk, mv, topk=topk))


def test_joining_the_heads_of_a_result_copies_nothing() -> None:
    q, k, v, mk, mv = (tokens(seed, 2, 3, 9, 8) for seed in range(5))
    got = joint_attention(q, k, v, mk, mv, topk=3).transpose(1, 2)
    assert got.is_contiguous()


def test_taking_heads_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v, mk, mv = (tokens(seed, 2, 5, 9, 8) for seed in range(5))
    whole = joint_attention(q, k, v, mk, mv, topk=3)
    monkeypatch.setattr(attention, "SCORE_BYTES", 2 * 9 * 18 * 4)
    torch.testing.assert_close(joint_attention(q, k, v, mk, mv, topk=3), whole)


def test_wrong_arguments_are_refused() -> None:
    q, k, v, mk, mv = (tokens(seed, 2, 3, 6, 8) for seed in range(5))
    with pytest.raises(ValueError, match="memory_k and memory_v"):
        joint_attention(q, k, v, mk)
    with pytest.raises(ValueError, match="same A and D"):
        joint_attention(q, k[:, :2], v[:, :2])
    with pytest.raises(ValueError, match="object counts"):
        joint_attention(q, tokens(1, 3, 3, 6, 8), tokens(2, 3, 3, 6, 8))
    with pytest.raises(ValueError, match="as many values as keys"):
        joint_attention(q, k, v[:, :, :5])
    with pytest.raises(ValueError, match="topk of 1 or more"):
        joint_attention(q, k, v, mk, mv, topk=0)
    with pytest.raises(ValueError, match="no multiple of frame_tokens 4"):
        joint_attention(q, k, v, mk, mv, topk=2, frame_tokens=4)
    with pytest.raises(ValueError, match="gradients"):
        joint_attention(q.requires_grad_(), k, v, mk, mv, topk=2, out=torch.empty(2, 3, 6, 8))
