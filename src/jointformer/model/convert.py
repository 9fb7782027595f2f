"""State dicts from elsewhere made to fit: wrappers, older shapes, the config read off the shapes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jointformer.errors import ConfigError, WeightsError
from jointformer.model.config import PRESETS, ModelConfig
from jointformer.model.network import JointFormer

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

#: Keys under which training programs keep the network's tensors.
WRAPPERS = ("model", "network", "state_dict", "model_state_dict")
MEMORY_PROJECTION = "convmae.patch_embed1_memory.proj.weight"
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
#: Far above any sensible network; shapes of more ask for memory or time that nobody has.
MAX_WIDTH, MAX_DEPTH = 8192, 256
#: Times its file that tensors may take together; more than once where some are one and the same.
MOST_SHARED = 2
#: One head's width by convention, where no config says otherwise.
HEAD_WIDTH = 64


def unwrap(loaded: object, where: str | Path | None) -> State:
    """Return the bare state dict of a loaded file: its wrapper and `module.` prefixes gone.

    Raises WeightsError where there are no named tensors, or something that is no tensor among them.
    """
    for _ in range(3):
        inner = next((loaded[k] for k in WRAPPERS if k in loaded), None) if isinstance(loaded, dict) else None
        if not isinstance(inner, dict):
            break
        loaded = inner
    if not isinstance(loaded, dict) or not loaded:
        got = "an empty dict" if loaded == {} else f"a {type(loaded).__name__}"
        raise WeightsError("no weights in the file", where=where, expected="tensors by name", got=got)
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            # What is no string may be far larger as one, or a number too long to become one.
            shown = repr(name[:80]) if isinstance(name, str) else f"a key of type {type(name).__name__}"
            got = f"{shown}: {type(value).__name__}"
            raise WeightsError("not a state dict", where=where, expected="tensors by name", got=got)
    state: State = dict(loaded)
    while all(name.startswith("module.") for name in state):
        state = {name.removeprefix("module."): value for name, value in state.items()}
    return state


def check_tensors(state: State, where: str | Path | None, file_bytes: int | None = None) -> None:
    """Checks that all are plain floating-point tensors with data of their own at every place.

    A few bytes can describe a tensor of terabytes (repeated by stride 0, sparse, without storage): nothing is
    read, copied or converted before this check. file_bytes: no data can be larger than the file it came from, nor all
    together much larger, however many of the tensors share theirs: converted, each has its own. Raises WeightsError
    naming the first tensor that is not usable.
    """
    for name, tensor in state.items():
        what = _unusable(tensor, file_bytes)
        if what is not None:
            raise WeightsError(
                f"tensor {name[:120]} is not usable",
                where=where,
                expected="plain floating-point data",
                got=what,
            )
    total = sum(tensor.numel() * tensor.element_size() for tensor in state.values())
    if file_bytes is not None and total > MOST_SHARED * file_bytes:
        raise WeightsError(
            "refused: its tensors are the same data again and again",
            where=where,
            expected=f"at most {MOST_SHARED * file_bytes:,} bytes from a file of {file_bytes:,}",
            got=f"{total:,}",
        )


def check_finite(state: State, where: str | Path | None) -> None:
    """Checks every value. Raises WeightsError naming the first tensor with NaN or infinite ones."""
    for name, tensor in state.items():
        # A finite sum has only finite terms, and costs a fraction of asking each; a sum may overflow, though.
        if not tensor.sum(dtype=torch.float32).isfinite() and not tensor.isfinite().all():
            raise WeightsError(
                f"tensor {name[:120]} holds NaN or infinite values",
                where=where,
                hint="the training that wrote it has diverged, or the file is damaged",
            )


def _unusable(tensor: Tensor, file_bytes: int | None) -> str | None:
    """Return what is wrong with a tensor in words, None where nothing is."""
    if tensor.layout != torch.strided or tensor.device.type != "cpu" or tensor.dtype not in FLOATS:
        return f"{tensor.dtype} with layout {tensor.layout} on {tensor.device.type}"
    if tensor.numel() == 0:
        return f"an empty one, {tuple(tensor.shape)}"
    stored = tensor.untyped_storage().nbytes()
    if tensor.numel() * tensor.element_size() > stored:
        return f"{tuple(tensor.shape)} from {stored:,} bytes of data"
    if file_bytes is not None and stored > file_bytes:
        return f"{stored:,} bytes in a file of {file_bytes:,}"
    return None


def pad_single_object(state: State) -> State:
    """Return the state dict with a zero fifth input channel where it has four (stage 0: one object)."""
    weight = state.get(MEMORY_PROJECTION)
    if weight is None or weight.ndim != 4 or weight.shape[1] != 4:
        return state
    return state | {MEMORY_PROJECTION: nn.functional.pad(weight, (0, 0, 0, 0, 0, 1))}


def infer_config(shapes: Shapes, where: str | Path | None = None) -> ModelConfig:
    """Return the config that a network with these state-dict shapes has; a preset where it is one.

    Depths are the numbers of distinct block indices, widths those of the patch embeddings, heads the token
    width / 64. Raises WeightsError naming the first tensor that is missing or not shaped as one.
    """
    stems = ("patch_embed1_query.proj", "patch_embed2.proj", "patch_embed3.proj")
    widths = [_out_channels(shapes, f"convmae.{stem}.weight", where) for stem in stems]
    depths = [count_blocks(shapes, f"convmae.blocks{i}.") for i in range(1, 6)]
    if max(widths) > MAX_WIDTH or max(depths) > MAX_DEPTH:
        raise WeightsError(
            "its shapes make no network",
            where=where,
            expected=f"widths up to {MAX_WIDTH} and depths up to {MAX_DEPTH}",
            got=f"widths {tuple(widths)}, depths {tuple(depths)}",
        )
    heads = max(1, widths[2] // HEAD_WIDTH)
    try:
        config = ModelConfig(
            name="custom",
            widths=(widths[0], widths[1], widths[2]),
            depths=(depths[0], depths[1], depths[2]),
            heads=heads,
            update_depth=depths[3],
            enhance_depth=depths[4],
        )
    except ConfigError as error:
        raise WeightsError(f"its shapes make no network: {error}", where=where) from None
    return named(config)


def named(config: ModelConfig) -> ModelConfig:
    """Return the preset that has this config's shape, else the config itself."""
    for preset in PRESETS.values():
        if same_shape(preset, config):
            return preset
    return config


def same_shape(a: ModelConfig, b: ModelConfig) -> bool:
    """Whether two configs differ in nothing but their name."""
    return {**vars(a), "name": ""} == {**vars(b), "name": ""}


def count_blocks(names: Mapping[str, Any], prefix: str) -> int:
    """Return how many distinct block indices follow the prefix in the names."""
    pattern = re.compile(re.escape(prefix) + r"([0-9]+)\.")
    return len({found[1] for name in names if (found := pattern.match(name))})


def fitting_network(config: ModelConfig, shapes: Shapes, where: str | Path | None) -> JointFormer:
    """Return the network, without memory yet (on `meta`), whose names and shapes are exactly these.

    Raises WeightsError that names the first missing, unexpected and mis-shaped tensors.
    """
    with torch.device("meta"):
        model = JointFormer(config)
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    missing = [name for name in wanted if name not in shapes]
    unexpected = [name for name in shapes if name not in wanted]
    misshaped = [
        f"{name} {shapes[name]} instead of {shape}"
        for name, shape in wanted.items()
        if name in shapes and shapes[name] != shape
    ]
    parts = [
        f"{len(found)} {what} ({', '.join(n[:120] for n in found[:3])}{', …' if len(found) > 3 else ''})"
        for what, found in (("missing", missing), ("unexpected", unexpected), ("mis-shaped", misshaped))
        if found
    ]
    if parts:
        raise WeightsError(
            "the tensors do not fit the network",
            where=where,
            expected=f"the {len(wanted)} tensors of {config.name!r}",
            got="; ".join(parts),
            hint="`jointformer weights info` shows what a file holds",
        )
    return model


def _out_channels(shapes: Shapes, name: str, where: str | Path | None) -> int:
    shape = shapes.get(name)
    if shape is None or len(shape) != 4:
        got = "none such" if shape is None else f"one of shape {shape}"
        first = next(iter(shapes), "nothing")
        raise WeightsError(
            "these are not JointFormer's weights",
            where=where,
            expected=f"a 4-D tensor {name}",
            got=f"{got} among {len(shapes)} (the first is {first[:80]!r})",
        )
    return shape[0]


def mean_of_weights(first: State, second: State, share: float) -> State:
    """Return the first state dict with `share` (0 to 1) of the second in it, in the first's types.

    Of weights that one run began with and those that it ended with, such a mean is often better than either (model
    soups, arXiv 2203.05482). Raises WeightsError where names or shapes differ, ConfigError for no share.
    """
    if not 0 <= share <= 1:
        raise ConfigError("share", expected="0 to 1", got=share)
    for name in sorted({*first, *second}):
        shapes = [tuple(state[name].shape) if name in state else None for state in (first, second)]
        if shapes[0] != shapes[1]:
            raise WeightsError(f"weights of two networks have no mean: {name}", expected=shapes[0], got=shapes[1])
    return {
        name: tensor.double().mul(1 - share).add(second[name].double(), alpha=share).to(tensor)
        for name, tensor in first.items()
    }
