"""Muon: orthogonal steps for the network's matrices, AdamW for the rest."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from jointformer.model.config import PRESETS
from jointformer.model.network import JointFormer
from jointformer.train.muon import RMS, Muon, orthogonalised
from jointformer.train.optimiser import OptimiserConfig, build_optimiser


@pytest.mark.parametrize("shape", [(2, 24, 24), (1, 16, 90), (3, 70, 20)])
def test_singular_values_come_near_one_and_directions_stay(shape: tuple[int, int, int]) -> None:
    x = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    y = orthogonalised(x).float()
    values = torch.linalg.svdvals(y)
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    assert torch.nn.functional.cosine_similarity((u @ vh).flatten(), y.flatten(), dim=0) > 0.95


def test_a_zero_gradient_is_a_step_of_nothing() -> None:
    assert torch.equal(orthogonalised(torch.zeros(1, 8, 8)), torch.zeros(1, 8, 8, dtype=torch.bfloat16))


def test_a_matrix_moves_by_the_learning_rate_and_a_bias_as_adamw_moves_it() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 32)
    other = copy.deepcopy(layer)
    muon = Muon([{"params": [layer.weight], "orthogonal": 1}, {"params": [layer.bias]}], lr=0.01, weight_decay=0.0)
    adamw = torch.optim.AdamW(other.parameters(), lr=0.01, weight_decay=0.0)
    before = layer.weight.detach().clone()
    for model, optimiser in ((layer, muon), (other, adamw)):
        model(torch.randn(256, 64, generator=torch.Generator().manual_seed(2))).square().sum().backward()
        optimiser.step()
    assert torch.equal(layer.bias, other.bias)
    moved = (layer.weight.detach() - before).square().mean().sqrt()
    assert moved == pytest.approx(0.01 * RMS, rel=0.35)
    assert not torch.allclose(layer.weight, other.weight)


def test_a_joint_projection_counts_as_three_matrices() -> None:
    joint = nn.Parameter(torch.zeros(24, 8))
    parts = [nn.Parameter(torch.zeros(8, 8)) for _ in range(3)]
    grad = torch.randn(24, 8, generator=torch.Generator().manual_seed(3))
    joint.grad = grad
    for part, rows in zip(parts, grad.split(8), strict=True):
        part.grad = rows.clone()
    for group in ({"params": [joint], "orthogonal": 3}, {"params": parts, "orthogonal": 1}):
        Muon([group], lr=0.1).step()
    torch.testing.assert_close(joint.detach(), torch.cat([part.detach() for part in parts]))


def test_a_scaler_that_found_infinities_skips_the_step() -> None:
    weight, bias = nn.Parameter(torch.ones(8, 8)), nn.Parameter(torch.ones(8))
    muon = Muon([{"params": [weight], "orthogonal": 1}, {"params": [bias]}], lr=0.1, fused=True)
    scaler = torch.amp.GradScaler("cpu")
    for factor, moves in ((3e38, False), (1.0, True)):
        muon.zero_grad()
        scaler.scale((factor * weight @ bias).sum()).backward()
        scaler.step(muon)
        scaler.update()
        assert weight.isfinite().all()
        assert (not torch.equal(weight, torch.ones(8, 8))) == (not torch.equal(bias, torch.ones(8))) == moves


def test_its_state_travels_through_a_checkpoint() -> None:
    def make() -> tuple[nn.Linear, Muon]:
        torch.manual_seed(4)
        layer = nn.Linear(12, 10)
        groups: list[dict[str, Any]] = [{"params": [layer.weight], "orthogonal": 1}, {"params": [layer.bias]}]
        return layer, Muon(groups, lr=0.02, fused=True)

    def step(layer: nn.Linear, optimiser: Muon, seed: int) -> None:
        optimiser.zero_grad()
        layer(torch.randn(4, 12, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
        optimiser.step()

    straight, optimiser = make()
    for seed in range(4):
        step(straight, optimiser, seed)
    first, optimiser = make()
    for seed in range(2):
        step(first, optimiser, seed)
    second, again = make()
    second.load_state_dict(first.state_dict())
    again.load_state_dict(copy.deepcopy(optimiser.state_dict()))
    for seed in range(2, 4):
        step(second, again, seed)
    assert torch.equal(straight.weight, second.weight)
    assert torch.equal(straight.bias, second.bias)


def test_first_and_last_layers_norms_and_depthwise_kernels_stay_with_adamw() -> None:
    model = JointFormer(PRESETS["tiny"])
    optimiser = build_optimiser(model, OptimiserConfig(muon=True))
    names = {id(p): name for name, p in model.named_parameters()}
    groups = {names[id(p)]: group["orthogonal"] for group in optimiser.param_groups for p in group["params"]}
    assert groups.keys() == set(names.values())
    qkv = [name for name, matrices in groups.items() if matrices == 3]
    assert qkv
    assert all(name.endswith("qkv.weight") for name in qkv)
    adamw = {name for name, matrices in groups.items() if not matrices}
    shapes = dict(model.named_parameters())
    assert {name for name in adamw if shapes[name].ndim > 1} == {
        "convmae.cls_token", "convmae.patch_embed1_query.proj.weight", "convmae.patch_embed1_memory.proj.weight",
        *(f"convmae.blocks{stage}.{k}.attn.weight" for stage in (1, 2) for k in (0, 1)),
        "decoder.fuser_16.attention.ChannelGate.mlp.3.weight",
        "decoder.fuser_16.attention.SpatialGate.spatial.conv.weight",
        "decoder.pred.weight",
    }  # fmt: skip
