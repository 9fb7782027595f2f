"""Saving and loading: formats, wrappers, configs, and files that do not fit."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors
import safetensors.torch
import torch

from jointformer.errors import OutputError, WeightsError
from jointformer.model.config import PRESETS, ModelConfig
from jointformer.model.convert import MEMORY_PROJECTION, fitting_network, infer_config
from jointformer.model.network import JointFormer
from jointformer.model.storage import load_weights_file, save_weights
from jointformer.model.weights import build_model, load_model
from weights.conftest_weights import SMALL

CPU: dict[str, Any] = {"device": "cpu", "precision": "float32"}


def shapes_of(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(t.shape) for name, t in JointFormer(config).state_dict().items()}


def assert_same(model: JointFormer, other: JointFormer) -> None:
    theirs = other.state_dict()
    assert model.state_dict().keys() == theirs.keys()
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=0, atol=0)


def test_a_saved_network_comes_back_bit_for_bit_ready_to_run(network: JointFormer, tmp_path: Path) -> None:
    path = save_weights(network, tmp_path / "a.safetensors")
    model = load_model(path, **CPU)
    assert_same(model, network)
    assert model.config == SMALL
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())
    frame = torch.rand(1, 3, 32, 48)
    torch.testing.assert_close(model.encode_frame(frame).tokens, network.encode_frame(frame).tokens)


def test_tensors_that_share_memory_are_saved_apart(network: JointFormer, tmp_path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    first, second, *_ = (name for name in state if name.endswith("attn.qkv.weight"))
    both = torch.cat([state[first], state[second]])
    state[first], state[second] = both.split([len(state[first]), len(state[second])])
    twin = next(n for n in state if n != first and n != second and state[n].shape == state[first].shape)
    state[twin] = state[first]
    saved = load_weights_file(save_weights(state, tmp_path / "a.safetensors", SMALL)).state
    for name, tensor in state.items():
        torch.testing.assert_close(saved[name], tensor, rtol=0, atol=0)
    in_file = (tmp_path / "a.safetensors").stat().st_size
    assert (save_weights(state, tmp_path / "a.pth")).stat().st_size > in_file * 0.9  # no tensor twice in either
    assert (tmp_path / "a.pth").stat().st_size < in_file * 1.2


def test_the_config_travels_in_the_metadata(network: JointFormer, tmp_path: Path) -> None:
    path = save_weights(network, tmp_path / "a.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    assert ModelConfig.from_json(metadata["config"]) == SMALL
    assert metadata["format_version"] == "1"
    assert metadata["name"] == "custom"


def test_a_pth_file_would_forget_the_number_of_heads(network: JointFormer, tmp_path: Path) -> None:
    said = r"a\.pth: .* how many heads there are, expected 1, of 64 channels each, got 3; save it as \.safetensors"
    with pytest.raises(WeightsError, match=said):
        save_weights(network, tmp_path / "a.pth")
    assert list(tmp_path.iterdir()) == []


def test_saving_in_half_precision_halves_the_file_and_loads_into_any(network: JointFormer, tmp_path: Path) -> None:
    full = save_weights(network, tmp_path / "a.safetensors")
    half = save_weights(network.state_dict(), tmp_path / "b.safetensors", SMALL, torch.float16)
    assert half.stat().st_size < 0.7 * full.stat().st_size
    model = load_model(half, **CPU)
    assert model.dtype == torch.float32
    assert load_model(half, device="cpu", precision="bfloat16").dtype == torch.bfloat16
    torch.testing.assert_close(model.decoder.pred.weight, network.decoder.pred.weight, rtol=1e-3, atol=1e-6)


@pytest.mark.usefixtures("small_disk")
@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_weights_that_the_disk_does_not_take_are_one_line_and_leave_nothing(
    plain_network: JointFormer, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"a{suffix}"
    with pytest.raises(OutputError, match=f"^{re.escape(str(path))}: cannot be written: the file is too large for "):
        save_weights(plain_network, path)
    assert list(tmp_path.iterdir()) == []


def test_saving_does_not_touch_the_network(network: JointFormer, tmp_path: Path) -> None:
    network.train()
    before = {name: t.clone() for name, t in network.state_dict().items()}
    save_weights(network, tmp_path / "a.safetensors", dtype=torch.float16)
    assert network.training
    assert all(p.requires_grad for p in network.parameters())
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize("wrapper", ["model", "network", "state_dict"])
def test_a_training_checkpoint_is_unwrapped(network: JointFormer, tmp_path: Path, wrapper: str) -> None:
    path = tmp_path / "a.pth"
    prefixed = {f"module.{name}": t for name, t in network.state_dict().items()}
    torch.save({wrapper: prefixed, "it": 7, "optimizer": {"state": {}, "param_groups": [{"lr": 1.0}]}}, path)
    # Where no config says otherwise there is one head for every 64 channels.
    model = load_model(path, **CPU)
    assert_same(model, network)
    assert model.config == replace(SMALL, heads=1)


def test_a_bare_state_dict_loads(network: JointFormer, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "a.pth")
    assert_same(load_model(tmp_path / "a.pth", **CPU), network)


def test_what_is_saved_as_pth_is_the_published_form(plain_network: JointFormer, tmp_path: Path) -> None:
    path = save_weights(plain_network, tmp_path / "a.pth")
    state = torch.load(path, weights_only=True)
    assert list(state) == list(plain_network.state_dict())


def test_weights_of_stage_0_get_a_fifth_input_channel_of_zeros(network: JointFormer, tmp_path: Path) -> None:
    state = network.state_dict()
    full = state[MEMORY_PROJECTION].clone()
    state[MEMORY_PROJECTION] = full[:, :4].contiguous()
    torch.save(state, tmp_path / "s0.pth")
    weight = load_model(tmp_path / "s0.pth", **CPU).state_dict()[MEMORY_PROJECTION]
    assert torch.equal(weight[:, :4], full[:, :4])
    assert weight.shape[1] == 5
    assert not weight[:, 4].any()


@pytest.mark.parametrize("preset", PRESETS)
def test_each_preset_is_recognised_by_its_shapes(preset: str) -> None:
    assert infer_config(shapes_of(PRESETS[preset])) == PRESETS[preset]


def test_the_depths_of_the_token_blocks_are_counted_from_the_names() -> None:
    config = replace(PRESETS["tiny"], name="custom", update_depth=3, enhance_depth=2)
    assert infer_config(shapes_of(config)) == config


def test_official_weights_would_fit_base_to_the_last_name(shared: Path) -> None:
    import json

    published = json.loads((shared / "spec" / "state_dict_base.json").read_text())
    shapes = {name: tuple(shape) for name, shape in published.items()}
    assert infer_config(shapes) == PRESETS["base"]
    fitting_network(PRESETS["base"], shapes, None)


def test_what_does_not_fit_is_named_in_one_line(network: JointFormer, tmp_path: Path) -> None:
    state = network.state_dict()
    del state["decoder.pred.bias"]
    state["head.weight"] = torch.zeros(3)
    state["convmae.norm.weight"] = torch.zeros(49)
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError) as caught:
        load_model(tmp_path / "a.pth", **CPU)
    text = str(caught.value)
    assert "1 missing (decoder.pred.bias)" in text
    assert "1 unexpected (head.weight)" in text
    assert "1 mis-shaped (convmae.norm.weight (49,) instead of (48,))" in text
    assert "\n" not in text


def test_a_gap_in_the_block_indices_is_a_misfit(network: JointFormer, tmp_path: Path) -> None:
    state = {name.replace("blocks3.2.", "blocks3.9."): t for name, t in network.state_dict().items()}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"missing \(convmae.blocks3.2.norm1.weight"):
        load_model(tmp_path / "a.pth", **CPU)


def test_weights_of_another_network_are_called_that(tmp_path: Path) -> None:
    torch.save({"conv1.weight": torch.zeros(3, 3)}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"not JointFormer's weights.*the first is 'conv1.weight'"):
        load_model(tmp_path / "a.pth", **CPU)


def test_a_config_that_contradicts_the_tensors_is_refused(network: JointFormer, tmp_path: Path) -> None:
    wrong = replace(SMALL, depths=(1, 2, 10**9))
    metadata = {"config": wrong.to_json()}
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save(dict(network.state_dict()), metadata))
    with pytest.raises(WeightsError, match=r"its config and its tensors do not agree"):
        load_model(tmp_path / "a.safetensors", **CPU)


@pytest.mark.parametrize("config", ["", "{", "[]", "[" * 50_000, '{"widths": 7}', '{"surprise": 1}', '{"heads": 1e99}'])
def test_rubbish_in_the_place_of_the_config_is_one_line(network: JointFormer, tmp_path: Path, config: str) -> None:
    state = dict(network.state_dict())
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save(state, {"config": config}))
    with pytest.raises(WeightsError, match=r"metadata hold no config"):
        load_model(tmp_path / "a.safetensors", **CPU)


def test_without_metadata_the_shapes_say_what_it_is(network: JointFormer, tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(safetensors.torch.save(dict(network.state_dict())))
    assert load_model(tmp_path / "a.safetensors", **CPU).config == replace(SMALL, heads=1)


def test_tensors_alone_are_saved_with_the_config_that_their_shapes_say(network: JointFormer, tmp_path: Path) -> None:
    path = save_weights(network.state_dict(), tmp_path / "a.safetensors")
    with safetensors.safe_open(path, framework="pt") as file:
        assert ModelConfig.from_json(file.metadata()["config"]) == replace(SMALL, heads=1)
    assert_same(load_model(path, **CPU), network)


def test_a_file_without_tensors_is_called_that(tmp_path: Path) -> None:
    safetensors.torch.save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(WeightsError, match=r"a\.safetensors: no weights in the file, expected tensors by name"):
        load_weights_file(tmp_path / "a.safetensors")


def test_an_unknown_suffix_is_refused_before_anything_is_written(network: JointFormer, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"expected .safetensors or .pth or .pt, got .onnx"):
        save_weights(network, tmp_path / "a.onnx")


def test_a_state_dict_that_is_no_network_is_not_saved(network: JointFormer, tmp_path: Path) -> None:
    state = network.state_dict()
    del state["decoder.pred.bias"]
    with pytest.raises(WeightsError, match=r"missing"):
        save_weights(state, tmp_path / "a.safetensors", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_a_diverged_network_is_not_saved(network: JointFormer, tmp_path: Path) -> None:
    network.decoder.pred.weight.data[0, 0, 0, 0] = float("nan")
    with pytest.raises(WeightsError, match=r"decoder.pred.weight holds NaN"):
        save_weights(network, tmp_path / "a.safetensors")


def test_float16_that_overflows_is_not_saved(network: JointFormer, tmp_path: Path) -> None:
    network.decoder.pred.weight.data[0, 0, 0, 0] = 1e6
    with pytest.raises(WeightsError, match=r"decoder.pred.weight holds NaN or infinite"):
        save_weights(network, tmp_path / "a.safetensors", dtype=torch.float16)


def test_a_place_that_cannot_be_written_is_one_line(network: JointFormer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written"):
        save_weights(network, tmp_path / "file" / "a.safetensors")


def test_the_loaded_tensors_do_not_hang_on_the_file(network: JointFormer, tmp_path: Path) -> None:
    path: Path = save_weights(network, tmp_path / "a.safetensors")
    model = build_model(load_weights_file(path))
    path.write_bytes(b"")
    assert_same(model, network)
