"""The network through PyTorch's compiler finds the same masks, in whole graphs."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch

from jointformer.errors import ConfigError
from jointformer.model import compiled as compiled_module
from jointformer.model.compiled import compiled
from jointformer.model.config import ModelConfig
from jointformer.track import Tracker, TrackerConfig
from seeded import seeded_model

MINI = ModelConfig("mini", (16, 24, 48), (1, 1, 3), heads=2)


def masks_of_a_video(model: torch.nn.Module, compile: bool) -> list[torch.Tensor]:
    """Memory fills up, and a second object comes."""
    tracker = Tracker(model, TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1, compile=compile))
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
    first, second = (np.zeros((48, 64), np.uint8) for _ in range(2))
    first[8:40, 4:20] = 1
    second[8:40, 30:50] = 2
    return [tracker.step(frame, {0: first, 3: second}.get(t)).prob for t, frame in enumerate(frames)]


@pytest.mark.slow
def test_a_compiled_network_finds_the_same_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_module, "BACKEND", "aot_eager")  # all of the compiler but its last stage
    torch.compiler.reset()
    model = seeded_model(MINI)
    expected = masks_of_a_video(model, compile=False)
    for got, wanted in zip(masks_of_a_video(model, compile=True), expected, strict=True):
        torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    assert compiled(model) is compiled(model)
    assert "encode_frame" not in vars(model)  # who does not ask for it has the network as it is
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None  # what is compiled does not keep it


def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled_module, "BACKEND", fail)
    torch.compiler.reset()
    with pytest.raises(ConfigError, match=r"compile.*no C\+\+ compiler"):
        masks_of_a_video(seeded_model(MINI), compile=True)


def test_who_does_not_ask_for_the_compiler_does_not_load_it() -> None:
    asked = """
import sys
import numpy as np
from jointformer import Tracker, load_model

tracker = Tracker(load_model("tiny", device="cpu"))
picture = np.zeros((48, 64, 3), np.uint8)
for masks in (picture[..., 0] + 1, None):
    tracker.step(picture, masks).label_map
sys.exit(" ".join({"torch._dynamo", "torch._inductor", "sympy"} & set(sys.modules)) or 0)
"""
    done = subprocess.run([sys.executable, "-c", asked], timeout=120, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
