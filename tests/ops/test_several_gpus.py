"""On a machine with several GPUs each tensor's own one does the work: with GPUs that only exist by name."""

from __future__ import annotations

import io
import signal
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from jointformer.evaluation.scale import processes
from jointformer.model.device import choose_device, use_device
from jointformer.track import transfer


class Gpus:
    """Stands for PyTorch's current GPU."""

    def __init__(self) -> None:
        self.current = 0

    def exchange(self, index: int) -> int:
        """Make another one the current one, unless the index is negative, and return the one before."""
        before = self.current
        if index >= 0:
            self.current = index
        return before


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> Gpus:
    two = Gpus()
    for name in ("_exchange_device", "_maybe_exchange_device"):
        monkeypatch.setattr(torch.cuda, name, two.exchange)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: two.exchange(torch.device(device).index))
    return two


@pytest.mark.slow  # not long, but where Triton is at hand in CI
@pytest.mark.parametrize("device", ["cuda:1", "cpu"])
def test_triton_launches_where_its_tensors_are(gpus: Gpus, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    pytest.importorskip("triton", reason="needs triton (PyTorch's CUDA builds bring it)")
    from jointformer.ops.kernels import attention_gpu, topk_triton

    launched: list[int] = []

    class Kernel:
        def __getitem__(self, grid: Any) -> Any:
            return lambda *arguments, **options: launched.append(gpus.current)

    for name, kind in list(vars(topk_triton).items()):
        if hasattr(kind, "arg_names"):  # a kernel: its launch is what counts here
            monkeypatch.setattr(topk_triton, name, Kernel())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: attention_gpu.OLDEST)
    monkeypatch.setattr(torch.testing, "assert_close", lambda *results, **limits: None)  # there is none
    attention_gpu.works.cache_clear()
    try:
        with FakeTensorMode():
            q, memory = (torch.empty(1, 2, tokens, 32, device=device) for tokens in (40, 80))
            attention_gpu.launch(q, q, q, memory, memory, 6, 80, torch.empty_like(q))
            assert attention_gpu.serves(torch.device(device), torch.float32, 32)
    finally:
        attention_gpu.works.cache_clear()
    assert set(launched) == {1 if device == "cuda:1" else 0}
    assert len(launched) >= 2
    assert gpus.current == 0  # as before


class Stream:
    """Stands for a GPU's stream, and for an event on one."""

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        assert other.device == self.device

    def record(self, stream: Stream) -> None:
        assert stream.device == self.device


def test_copies_beside_the_work_of_a_gpu_leave_the_others_alone(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    touched: list[int] = []

    def set_stream(stream: Stream) -> None:
        """Make its GPU the current one as well, as PyTorch does, which begins to work on it."""
        gpus.exchange(stream.device.index)
        touched.append(gpus.current)

    def current(device: torch.device | None = None) -> Stream:
        return Stream(torch.device("cuda", gpus.current) if device is None else device)

    def index(device: torch.device | None, optional: bool = False) -> int:
        return gpus.current if device is None else device.index

    monkeypatch.setattr(torch.cuda, "_get_device_index", index)
    monkeypatch.setattr(torch.cuda, "current_stream", current)
    monkeypatch.setattr(torch.cuda, "set_stream", set_stream)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "Event", current)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    monkeypatch.setattr(transfer, "pinned", lambda x: x)
    transfer._streams.cache_clear()
    try:
        with FakeTensorMode():
            staged = transfer.stage(torch.empty(4, 5, 3, dtype=torch.uint8), torch.device("cuda:1"))
            assert transfer.download(staged.pixels).host.device.type == "cpu"
    finally:
        transfer._streams.cache_clear()
    assert set(touched) == {1}
    assert gpus.current == 0  # as before


@pytest.mark.parametrize(("asked", "current"), [("cuda:1", 1), ("cuda", 0), ("cpu", 0), ("auto", 0)])
def test_a_program_makes_the_gpu_that_it_is_told_the_current_one(gpus: Gpus, asked: str, current: int) -> None:
    assert use_device(asked) == choose_device(asked)
    assert gpus.current == current


def test_a_worker_process_works_on_its_own_gpu(gpus: Gpus, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.device, int]] = []

    class Pipe:
        """Weights, then the end."""

        def send(self, message: Any) -> None:
            assert message in (("weights", None), ("ready", None))

        def recv(self) -> Any:
            return None if seen else b"weights"

    def unpack(weights: bytes, device: torch.device) -> io.BytesIO:
        seen.append((device, gpus.current))
        return io.BytesIO(weights)

    monkeypatch.setattr(processes, "unpack_model", unpack)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    threads = torch.get_num_threads()
    processes._serve(Pipe(), None, "cuda:1", threads)  # type: ignore[arg-type]
    assert seen == [(torch.device("cuda:1"), 1)]
