"""Weights that any implementation can repeat: the recipe of the golden numbers."""

from __future__ import annotations

import hashlib
from functools import lru_cache

import torch

from jointformer.model.config import PRESETS, ModelConfig
from jointformer.model.network import JointFormer

#: A network small enough to track a video in a test.
MINI = ModelConfig("mini", (16, 24, 48), (1, 1, 3), heads=2)


def seeded_tensor(name: str, shape: torch.Size, seed: int) -> torch.Tensor:
    """Return the tensor that the recipe gives a state-dict name."""
    digest = hashlib.sha256(f"{seed}:{name}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") % 2**63)
    r = torch.randn(shape, generator=generator)
    module, _, kind = name.rpartition(".")
    if ".norm" in name or module.rpartition(".")[2].startswith("norm"):
        return 1 + 0.1 * r if kind == "weight" else 0.1 * r
    if kind == "bias" or name.endswith("cls_token"):
        return 0.02 * r
    fan = r[0].numel() if r.ndim > 1 else r.numel()
    return r / fan**0.5


def seeded_model(preset: str | ModelConfig = "base", seed: int = 0) -> JointFormer:
    """Return a network in eval mode with the recipe's weights."""
    model = JointFormer(PRESETS[preset] if isinstance(preset, str) else preset)
    state = {
        name: tensor if name.endswith("pos_embed") else seeded_tensor(name, tensor.shape, seed)
        for name, tensor in model.state_dict().items()
    }
    model.load_state_dict(state, strict=True)
    return model.eval().requires_grad_(False)


@lru_cache(maxsize=1)
def seeded_base() -> JointFormer:
    """Return the seeded `base` network, built once per test process; nobody may change it."""
    return seeded_model("base")
