"""The tracker's way on a GPU, without one: on PyTorch's meta device, whose tensors have shapes and no numbers.

What would make the host wait for a number (item, nonzero, a copy to the CPU) fails there. A look at every operation
finds the rest: tensors of two devices in one, copies to the device that do not let the host go on, masks as indices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from jointformer.model.network import JointFormer
from jointformer.track import Tracker, TrackerConfig, segmentation, transfer
from seeded import MINI

H, W = 72, 104
DEVICE = torch.device("meta")
#: They ask the device how many or which elements there are, or bring an index from the CPU.
WAITING = ("nonzero", "masked_select", "index", "index_put", "_local_scalar_dense", "unique", "bincount", "equal")


class Watch(TorchDispatchMode):
    """Notes what would make the host wait for a GPU."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.sent = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        name = func.overloadpacket.__name__.rstrip("_")
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        there = [x for x in tensors if x.device == DEVICE]
        here = [x for x in tensors if x.device != DEVICE]
        if name in ("_to_copy", "copy") and there and here:
            self.sent += 1
            if not kwargs.get("non_blocking") and args[2:3] != (True,):
                self.found.append(f"{func} waits for a copy")
        elif there and any(x.ndim for x in here):
            self.found.append(f"{func} mixes devices")
        elif there and name in WAITING:
            self.found.append(str(func))
        return result


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "on_gpu", lambda device: device == DEVICE)
    monkeypatch.setattr(transfer, "pinned", lambda x: x)


def meta_tracker(dtype: torch.dtype, **settings: Any) -> Tracker:
    with torch.device(DEVICE):
        model = JointFormer(MINI).eval().to(dtype)
    usual = {"max_memory_frames": 3, "memory_every": 2, "topk": 6, "size": 48}
    return Tracker(model, TrackerConfig(**{**usual, **settings}))


def picture() -> np.ndarray[Any, Any]:
    return np.zeros((H, W, 3), np.uint8)


def box(y: int, x: int) -> np.ndarray[Any, Any]:
    mask = np.zeros((H, W), bool)
    mask[y : y + 20, x : x + 20] = True
    return mask


@pytest.mark.parametrize(
    ("dtype", "settings"),
    [
        (torch.float32, {}),
        (torch.bfloat16, {"topk_range": "every_frame", "token_topk": True}),
        (torch.float16, {"objects_per_pass": 2, "max_memory_frames": 1}),
    ],
)
def test_no_step_waits_for_the_device_or_mixes_devices(
    as_on_a_gpu: None, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, settings: dict[str, Any]
) -> None:
    slots: list[torch.Tensor] = []
    monkeypatch.setattr(segmentation, "download", slots.append)
    tracker = meta_tracker(dtype, **settings)
    given = {0: {1: box(3, 3), 2: box(30, 50)}, 3: {2: box(10, 10)}, 5: {7: box(40, 70)}}
    with Watch() as watch:
        for t in range(6):
            result = tracker.step(picture(), given.get(t))
            result.begin_label_map()
            assert result.prob.device == DEVICE
            assert result.prob.dtype == torch.float32
        tracker.remove_object(2)
        tracker.add_memory(picture(), {7: box(0, 0)})
        tracker.step(picture())
        tracker.step(picture(), last=True)
    assert watch.found == []
    assert watch.sent > 6  # frames and masks: the watch sees copies
    assert tuple(result.prob.shape) == (4, 48, 69)
    assert [(x.dtype, tuple(x.shape)) for x in slots] == [(torch.uint8, (H, W))] * 6
    assert tracker.object_ids == (1, 7)


def test_the_watch_sees_what_makes_the_host_wait() -> None:
    there = torch.empty(4, 4, device=DEVICE)
    with Watch() as watch:
        torch.zeros(3).to(DEVICE)
        there[:, [0, 2]]
    assert len(watch.found) >= 2
    with pytest.raises((NotImplementedError, RuntimeError)):
        there.sum().item()
    with pytest.raises((NotImplementedError, RuntimeError)):
        there.cpu()
