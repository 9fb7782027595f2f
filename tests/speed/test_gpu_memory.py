"""What a step takes of a GPU's memory, without one: by the tensors that live, on PyTorch's meta device.

The attention's kernel needs nothing but its result and a few numbers per row, so the result stands for it here. What
cuBLAS and cuDNN take beside their tensors (32 MiB for products on an H100) does not show.
"""

from __future__ import annotations

import functools
import weakref
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jointformer.model import attention, joint_block
from jointformer.model.config import PRESETS
from jointformer.model.cost import bank_bytes
from jointformer.model.network import JointFormer
from jointformer.track.budget import VideoSize, plan_memory
from jointformer.track.config import TrackerConfig
from jointformer.track.engine import Engine

DEVICE = torch.device("meta")
H, W = 480, 864
MIB = 2**20


class Live(TorchDispatchMode):
    """The bytes of all tensors that live, and the most there were; how many GELUs."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = self.gelus = 0
        self._known: set[int] = set()

    def see(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage._cdata not in self._known:
            self._known.add(storage._cdata)
            self.now += storage.nbytes()
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, storage._cdata, storage.nbytes())

    def _forget(self, known: int, nbytes: int) -> None:
        self._known.remove(known)
        self.now -= nbytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.gelus += "gelu" in str(func)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.see(leaf)
        return result


def attended(q: Tensor, *memory: Any, out: Tensor | None = None, **settings: Any) -> Tensor:
    """Stands for the attention's kernel."""
    rows, heads, tokens, width = q.shape
    return q.new_empty(rows, tokens, heads, width).transpose(1, 2) if out is None else out


CONFIG = TrackerConfig(max_memory_frames=3, memory_every=1, topk=120, size=-1)


@functools.cache
def peak_of_a_step(objects: int, per_pass: int | None) -> tuple[float, float, float, int]:
    """Return the MiB of the network, between steps and at the peak of one with full memory, and how many GELUs it has.

    `base`, bfloat16, 480p.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(joint_block, "joint_attention", attended)
        patch.setattr(attention, "joint_attention", attended)
        return _peak_of_a_step(objects, replace(CONFIG, objects_per_pass=per_pass))


def _peak_of_a_step(objects: int, config: TrackerConfig) -> tuple[float, float, float, int]:
    with torch.device(DEVICE):
        model = JointFormer(PRESETS["base"]).eval().to(torch.bfloat16)
        frame, masks = torch.empty(3, H, W), torch.empty(objects, H, W)
    with Live() as live:
        for tensor in (*model.parameters(), *model.buffers()):
            live.see(tensor)
        network = live.now
        live.see(frame)
        live.see(masks)
        engine = Engine(model, config)
        engine.step(frame, new_masks=masks)
        for _ in range(3):
            engine.step(frame)
        between, live.peak, live.gelus = live.now, 0, 0
        engine.step(frame)
    return network / MIB, between / MIB, live.peak / MIB, live.gelus


@pytest.mark.parametrize(("objects", "most"), [(1, 600), (5, 1460)])
def test_a_step_on_a_gpu_stays_within_its_memory(objects: int, most: float) -> None:
    network, between, peak, _ = peak_of_a_step(objects, None)
    bank = bank_bytes(PRESETS["base"], H, W, objects, 4, 2) / MIB
    assert network + bank < between < network + bank + 30
    assert between + 50 < peak < most


@pytest.mark.parametrize("objects", [1, 5])
def test_mlps_go_whole_where_the_memory_allows_it(objects: int) -> None:
    patches_and_blocks = 3 + 4  # before stride 16: of the frame, and of each object's memory frame
    together = 11 + 11 + 2  # read, write and update of all objects; they are enhanced in their groups
    assert peak_of_a_step(objects, None)[3] == patches_and_blocks * (1 + objects) + together + objects


@pytest.mark.parametrize(
    ("objects", "per_pass"),
    [(1, None), (5, None), pytest.param(5, 1, marks=pytest.mark.slow), pytest.param(12, 4, marks=pytest.mark.slow)],
)
def test_a_plan_holds_on_a_gpu(objects: int, per_pass: int | None) -> None:
    config = replace(CONFIG, objects_per_pass=per_pass)
    network, _, peak, _ = peak_of_a_step(objects, per_pass)
    video = VideoSize("video", 50, (H, W), objects)
    plan = plan_memory(PRESETS["base"], config, video, base=int(network * MIB), itemsize=2)
    assert peak < plan.total / MIB < 1.4 * peak
