"""A fresh model's start: the backbone from ConvMAE's own pre-training file (arXiv 2205.03892)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jointformer.errors import WeightsError
from jointformer.model.config import ModelConfig
from jointformer.model.convert import MEMORY_PROJECTION, State, check_finite, check_tensors, count_blocks
from jointformer.model.network import JointFormer

#: What the pre-training file has nothing for: the fixed position table (its own differs), the memory token.
_FRESH = ("convmae.pos_embed", "convmae.cls_token")


def is_convmae(names: Mapping[str, Any]) -> bool:
    """Whether these are the names of ConvMAE's own pre-training file: the backbone alone."""
    return "patch_embed1.proj.weight" in names


def init_from_convmae(
    model: JointFormer,
    state: State,
    *,
    where: str | Path = "ConvMAE",
    generator: torch.Generator | None = None,
) -> tuple[str, ...]:
    """Return the names left unused after starting a model's backbone from ConvMAE's tensors, in place.

    `pos_embed` is dropped; `patch_embed1` goes to the query's and the memory's embedding, the latter padded
    by two input channels of small noise (trunc-normal, std 0.02, from `generator`); `patch_embed4` goes
    also to the token blocks' input linears; copies of the last joint blocks start the update and the
    enhance blocks. The decoder and the memory token stay as they are.

    Raises WeightsError where the file lacks a part or has other widths or depths; the model is unchanged
    then.
    """
    check_tensors(state, where)
    check_finite(state, where)
    config = model.config
    depths = tuple(count_blocks(state, f"blocks{i}.") for i in (1, 2, 3))
    if depths != config.depths:
        raise _misfit(config, where, f"depths {depths}")
    own = {name: t for name, t in model.state_dict().items() if name.startswith("convmae.")}
    sources = {name: _source(name, config) for name in own if name not in _FRESH}
    start: State = {}
    for name, source in sources.items():
        if source not in state:
            raise _misfit(config, where, f"no tensor {source}")
        tensor = state[source]
        if name == MEMORY_PROJECTION:
            tensor = _with_mask_channels(tensor, generator)
        if tensor.shape != own[name].shape:
            raise _misfit(config, where, f"{source} of shape {tuple(tensor.shape)}")
        start[name] = tensor
    with torch.no_grad():
        for name, tensor in start.items():
            own[name].copy_(tensor)
    used = set(sources.values())
    return tuple(name for name in state if name not in used)


def _source(name: str, config: ModelConfig) -> str:
    """Return the name in ConvMAE's file of the tensor that the network's tensor `name` starts from."""
    name = name.removeprefix("convmae.")
    name = re.sub(r"^patch_embed1_(query|memory)\.", "patch_embed1.", name)
    name = re.sub(r"^patch_embed4_block[45]\.", "patch_embed4.", name)
    found = re.match(r"blocks([45])\.([0-9]+)\.", name)
    if found is None:
        return name
    depth = config.update_depth if found[1] == "4" else config.enhance_depth
    # The last `depth` joint blocks, in their order.
    return f"blocks3.{config.depths[2] - depth + int(found[2])}.{name[found.end() :]}"


def _with_mask_channels(weight: Tensor, generator: torch.Generator | None) -> Tensor:
    if weight.ndim != 4:
        return weight
    noise = torch.empty(weight.shape[0], 2, *weight.shape[2:])
    nn.init.trunc_normal_(noise, std=0.02, generator=generator)
    return torch.cat([weight, noise.to(weight)], dim=1)


def _misfit(config: ModelConfig, where: str | Path | None, got: str) -> WeightsError:
    return WeightsError(
        "this is no pre-training file for the model's backbone",
        where=where,
        expected=f"widths {config.widths} and depths {config.depths}",
        got=got,
    )
