"""A fresh model's backbone from ConvMAE's own pre-training file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from jointformer.errors import WeightsError
from jointformer.model.convmae import init_from_convmae
from jointformer.model.network import JointFormer
from jointformer.model.storage import load_weights_file
from jointformer.model.weights import load_model
from weights.conftest_weights import SMALL


@pytest.fixture
def pretrained() -> dict[str, torch.Tensor]:
    """What the pre-training file holds for these widths: the encoder, and a decoder that nobody needs here."""
    torch.manual_seed(1)
    state = {
        name.removeprefix("convmae.").replace("patch_embed1_query", "patch_embed1"): torch.randn_like(tensor)
        for name, tensor in JointFormer(SMALL).state_dict().items()
        if name.startswith("convmae.")
        and not any(p in name for p in ("block4", "block5", "blocks4", "blocks5", "_memory", "cls_token"))
    }
    return state | {
        "pos_embed": torch.randn(1, 196, 48),
        "mask_token": torch.randn(1, 1, 32),
        "decoder_pred.weight": torch.randn(4, 32),
    }


def test_every_part_of_the_backbone_starts_from_its_source(
    network: JointFormer, pretrained: dict[str, torch.Tensor]
) -> None:
    before = {name: t.clone() for name, t in network.state_dict().items()}
    unused = init_from_convmae(network, pretrained)
    after = network.state_dict()
    assert unused == ("pos_embed", "mask_token", "decoder_pred.weight")
    sources = {
        "patch_embed1_query.proj.weight": "patch_embed1.proj.weight",
        "patch_embed1_memory.proj.bias": "patch_embed1.proj.bias",
        "patch_embed1_memory.norm.weight": "patch_embed1.norm.weight",
        "patch_embed3.proj.weight": "patch_embed3.proj.weight",
        "patch_embed4.weight": "patch_embed4.weight",
        "patch_embed4_block4.weight": "patch_embed4.weight",
        "patch_embed4_block5.bias": "patch_embed4.bias",
        "blocks1.0.attn.weight": "blocks1.0.attn.weight",
        "blocks3.2.attn.qkv.weight": "blocks3.2.attn.qkv.weight",
        "blocks4.0.mlp.fc1.weight": "blocks3.1.mlp.fc1.weight",
        "blocks4.1.mlp.fc1.weight": "blocks3.2.mlp.fc1.weight",
        "blocks5.0.norm2.bias": "blocks3.2.norm2.bias",
        "norm.weight": "norm.weight",
    }
    for name, source in sources.items():
        assert torch.equal(after[f"convmae.{name}"], pretrained[source]), name
    for name in after:
        untouched = name.startswith("decoder.") or name in ("convmae.pos_embed", "convmae.cls_token")
        assert torch.equal(after[name], before[name]) == untouched, name


def test_the_mask_channels_start_as_small_noise_that_a_seed_repeats(
    network: JointFormer, pretrained: dict[str, torch.Tensor]
) -> None:
    init_from_convmae(network, pretrained, generator=torch.Generator().manual_seed(3))
    weight = network.state_dict()["convmae.patch_embed1_memory.proj.weight"].clone()
    assert torch.equal(weight[:, :3], pretrained["patch_embed1.proj.weight"])
    assert 0.015 < float(weight[:, 3:].std()) < 0.025
    init_from_convmae(network, pretrained, generator=torch.Generator().manual_seed(3))
    assert torch.equal(network.state_dict()["convmae.patch_embed1_memory.proj.weight"], weight)


def test_the_copies_are_trained_apart_from_their_source(
    network: JointFormer, pretrained: dict[str, torch.Tensor]
) -> None:
    init_from_convmae(network, pretrained)
    convmae = network.convmae
    storages = {p.data_ptr() for p in convmae.parameters()}
    assert len(storages) == len(list(convmae.parameters()))
    assert all(p.requires_grad for p in convmae.parameters())


@pytest.mark.parametrize(
    ("change", "got"),
    [
        (lambda s: s.pop("patch_embed4.bias"), "no tensor patch_embed4.bias"),
        (lambda s: s.pop("norm.weight"), "no tensor norm.weight"),
        (lambda s: s.update({"norm.weight": torch.zeros(768)}), r"norm.weight of shape \(768,\)"),
        (lambda s: s.update({"blocks3.3.norm1.weight": torch.zeros(48)}), r"depths \(1, 2, 4\)"),
        (lambda s: s.update({"patch_embed1.proj.weight": torch.zeros(7)}), r"patch_embed1.proj.weight of shape \(7,\)"),
    ],
)
def test_a_file_of_another_backbone_is_refused_and_changes_nothing(
    network: JointFormer,
    pretrained: dict[str, torch.Tensor],
    change: Callable[[dict[str, torch.Tensor]], object],
    got: str,
) -> None:
    before = {name: t.clone() for name, t in network.state_dict().items()}
    change(pretrained)
    with pytest.raises(WeightsError, match=rf"no pre-training file for the model's backbone.*got {got}"):
        init_from_convmae(network, pretrained)
    assert all(torch.equal(t, before[name]) for name, t in network.state_dict().items())


@pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"model": s}])
def test_the_file_is_read_bare_and_wrapped_but_is_no_network(
    pretrained: dict[str, torch.Tensor],
    network: JointFormer,
    tmp_path: Path,
    wrap: Callable[[dict[str, torch.Tensor]], object],
) -> None:
    torch.save(wrap(pretrained), tmp_path / "convmae_base.pth")
    stored = load_weights_file(tmp_path / "convmae_base.pth")
    assert stored.is_backbone
    init_from_convmae(network, stored.state)
    with pytest.raises(WeightsError, match=r"ConvMAE's pre-training file, the backbone alone.*start for training"):
        load_model(tmp_path / "convmae_base.pth")
