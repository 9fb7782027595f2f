"""The network agrees with the published implementation on seeded weights, computation by computation."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from jointformer.model.attention import AttentionConfig
from jointformer.model.transformer import MemoryFrame, MemoryView, _joint
from seeded import seeded_base

GOLDEN = Path(__file__).parent.parent / "golden" / "model"
CASES = {
    "dense": AttentionConfig(),
    "topk_all": AttentionConfig(5),
    "topk_every": AttentionConfig(5, range="every_frame"),
    "topk_last": AttentionConfig(7, blocks="last_block"),
    "topk_half": AttentionConfig(7, blocks="half"),
    "topk_cls": AttentionConfig(5, token_topk=True),
}


def test_the_state_dict_is_the_published_one() -> None:
    published = json.loads((GOLDEN / "state_dict_base.json").read_text())
    ours = {name: list(tensor.shape) for name, tensor in seeded_base().state_dict().items()}
    assert ours == published
    assert len(ours) == 288
    assert round(sum(t.numel() for t in seeded_base().state_dict().values()) / 1e6, 2) == 127.67


def test_the_seeded_weights_are_the_recipes() -> None:
    sums = json.loads((GOLDEN / "seed0_weight_sums.json").read_text())
    state = seeded_base().state_dict()
    for name, (total, squares) in sums.items():
        tensor = state[name].double()
        assert float(tensor.sum()) == pytest.approx(total, rel=1e-6, abs=1e-6), name
        assert float((tensor**2).sum()) == pytest.approx(squares, rel=1e-6), name


@pytest.mark.parametrize("case", CASES)
@torch.inference_mode()
def test_every_computation_agrees_with_the_published_numbers(case: str) -> None:
    golden = {k: torch.from_numpy(v) for k, v in np.load(GOLDEN / f"stages_seed0_{case}.npz").items()}
    model, attention = seeded_base(), CASES[case]
    frames, masks = golden["frames"], golden["masks"]
    frames, masks = frames[None], masks[None]
    got: dict[str, torch.Tensor] = {}
    blocks = _joint(model.convmae.blocks3)

    def memorize(
        name: str, frame: torch.Tensor, tokens: torch.Tensor, update: bool = True
    ) -> tuple[MemoryFrame, torch.Tensor]:
        inputs: dict[int, torch.Tensor] = {}
        hooks = [
            blocks[i].norm1.register_forward_pre_hook(lambda _, args, i=i: inputs.__setitem__(i, args[0]))
            for i in (0, len(blocks) - 1)
        ]
        memory, tokens = model.memorize(frame, masks, tokens, attention=attention, update_token=update)
        for hook in hooks:
            hook.remove()
        skip = 1 if update else 0
        for i, x in inputs.items():
            got[f"{name}_block{i}"] = x[:, skip:]
        last = blocks[-1].write(inputs[len(blocks) - 1], has_token=update)
        got[f"{name}_f16"] = model.convmae.norm(last[:, skip:])
        got[f"{name}_cls"] = tokens
        return memory, tokens

    mem0, tokens0 = memorize("mem0", frames[:, 0], model.initial_tokens(1, 2))
    mem1, tokens1 = memorize("mem1", frames[:, 1], tokens0)
    memorize("mem_noupdate", frames[:, 1], tokens0, update=False)
    features = model.encode_frame(frames[:, 2])
    f16 = model.convmae.read(features, MemoryView.of_frames([mem0, mem1]), attention)
    got["query_f16"] = f16
    got["query_f8_mean"] = features.f8.mean(1)
    got["query_f4_mean"] = features.f4.mean(1)
    token = tokens1.flatten(0, 1)[:, None]
    got["enhanced_f16"] = enhanced = model.convmae.enhance(f16, token, features.grid)

    def as_map(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, features.grid).permute(0, 3, 1, 2)

    got["fusion"] = model.decoder.fuse(
        model.decoder(as_map(f16), as_map(enhanced), *model.decoder.skips(features.f8, features.f4))
    )
    out = model.segment(features, [mem0, mem1], tokens1, attention=attention)
    got.update(logits=out.logits, prob=out.prob, cls_after_decoder=out.tokens)

    for name, expected in golden.items():
        if name in ("frames", "masks"):
            continue
        compare(name, got[name], expected, 1e-5)


def compare(name: str, ours: torch.Tensor, golden: torch.Tensor, tolerance: float) -> None:
    """Assert agreement within a share of the golden maximum, whatever the arrangement of tokens."""
    if name.endswith("_mean"):  # ours is computed once per frame, the published one once per object
        ours = ours.expand(2, -1, -1)
    if name.endswith("_f16"):  # the published features are channels first
        ours = ours.transpose(1, 2)
    ours = ours.reshape(golden.shape)
    error = float((ours - golden).abs().max() / golden.abs().max())
    assert error <= tolerance, f"{name}: off by {error:.2e} of the maximum"
