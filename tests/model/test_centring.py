"""Tokens are centred for rounding: the network computes the same, and 16 bits go further."""

from __future__ import annotations

import copy
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

from jointformer.evaluation.scale.manifest import weights_hash
from jointformer.model.centring import _shared_parts, centre_tokens
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.model.transformer import _joint
from jointformer.model.weights import load_model
from jointformer.track import Tracker, TrackerConfig
from seeded import MINI, seeded_model


def network() -> JointFormer:
    """Its tokens have a large part in common, as trained ones do."""
    model = seeded_model(MINI)
    for block in (*model.convmae.blocks3, *model.convmae.blocks4):
        block.norm1.bias += 8.0
    return model


def centred(dtype: torch.dtype) -> JointFormer:
    model = network()
    centre_tokens(model, dtype)
    return model


def video(model: JointFormer) -> torch.Tensor:
    tracker = Tracker(model, TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1))
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
    label_map = np.zeros((48, 64), np.uint8)
    label_map[8:40, 4:20], label_map[8:40, 30:50] = 1, 2
    return torch.stack([tracker.step(frame, None if t else label_map).prob.float() for t, frame in enumerate(frames)])


def test_a_centred_network_computes_the_same() -> None:
    torch.testing.assert_close(video(centred(torch.bfloat16)), video(network()), atol=2e-4, rtol=1e-4)


def test_rounding_moves_centred_keys_apart_less() -> None:
    exact = load_model("tiny", device="cpu", precision="float32")
    rounded = load_model("tiny", device="cpu", precision="bfloat16")
    plain = load_model("tiny", device="cpu", precision="float32").bfloat16()
    picture = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    tokens = exact.convmae.encode_frame(picture).tokens

    def apart(model: JointFormer) -> torch.Tensor:
        """What tells keys apart in the first joint block: their distances from the mean key."""
        keys = _joint(model.convmae.blocks3)[0].project(tokens.to(model.dtype))[1].float()
        return keys - keys.mean(dim=2, keepdim=True)

    errors = [(apart(model) - apart(exact)).square().mean().sqrt() for model in (rounded, plain)]
    assert errors[0] < errors[1] / 3


def test_weights_are_known_by_what_their_file_holds() -> None:
    plain, changed = network().bfloat16(), centred(torch.bfloat16).bfloat16()
    assert weights_hash(changed) == weights_hash(plain) == weights_hash(copy.deepcopy(changed))


def test_a_loaded_network_is_saved_as_its_file_had_it(tmp_path: Path) -> None:
    save_weights(load_model("tiny", device="cpu", precision="bfloat16"), tmp_path / "again.safetensors")
    again = load_model(tmp_path / "again.safetensors", device="cpu", precision="float32").state_dict()
    for name, tensor in load_model("tiny", device="cpu", precision="float32").state_dict().items():
        assert torch.equal(again[name], tensor.bfloat16().float()), name


def test_a_network_that_is_given_other_tensors_forgets_its_file(tmp_path: Path) -> None:
    model = load_model("tiny", device="cpu", precision="bfloat16")
    other = {name: tensor + 0.25 for name, tensor in model.state_dict().items()}
    model.load_state_dict(other)
    assert all(torch.equal(tensor, other[name]) for name, tensor in model.state_as_loaded().items())


def test_loading_centres_what_is_rounded_and_nothing_else() -> None:
    assert not load_model("tiny", device="cpu", precision="float32").as_loaded
    model = load_model("tiny", device="cpu", precision="bfloat16")
    width = model.config.token_width
    assert all(not block.attn.qkv.bias[width : 2 * width].any() for block in _joint(model.convmae.blocks3))
    assert all(block.attn.qkv.bias[width : 2 * width].any() for block in _joint(model.convmae.blocks5))


def test_what_tokens_share_is_what_a_network_in_float64_says() -> None:
    whole = _shared_parts(network().double())
    parts = _shared_parts(network())
    assert whole.keys() == parts.keys()
    assert all(torch.equal(parts[name], whole[name]) for name in whole)


def digest(precision: str) -> str:
    """Of a loaded network's bits."""
    state = load_model("tiny", device="cpu", precision=precision).state_dict()
    return hashlib.sha256(b"".join(t.view(torch.int16).numpy().tobytes() for t in state.values())).hexdigest()


def test_weights_are_the_same_bits_on_processors_that_round_float32_differently() -> None:
    program = "import test_centring; print(test_centring.digest('bfloat16'), test_centring.digest('float16'))"
    older = subprocess.run(
        [sys.executable, "-c", program], cwd=Path(__file__).parent, capture_output=True, text=True, check=True,
        env={**os.environ, "ATEN_CPU_CAPABILITY": "default", "MKL_CBWR": "COMPATIBLE",
             "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )  # fmt: skip
    assert older.stdout.split() == [digest("bfloat16"), digest("float16")]
