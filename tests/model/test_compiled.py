"""The network through PyTorch's compiler finds the same masks, in whole graphs."""

from __future__ import annotations

import gc
import os
import warnings
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from jointformer.errors import ConfigError
from jointformer.model import compiled as compiled_module
from jointformer.model.compiled import compiled
from jointformer.model.network import JointFormer
from jointformer.ops import attention
from jointformer.track import Tracker, TrackerConfig
from seeded import MINI, seeded_model


def masks_of_a_video(model: JointFormer, compile: bool) -> list[torch.Tensor]:
    """Memory fills up, and a second object comes."""
    tracker = Tracker(model, TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1, compile=compile))
    frames = np.random.default_rng(0).integers(0, 255, (6, 48, 64, 3), dtype=np.uint8)
    first, second = (np.zeros((48, 64), np.uint8) for _ in range(2))
    first[8:40, 4:20] = 1
    second[8:40, 30:50] = 2
    return [tracker.step(frame, {0: first, 3: second}.get(t)).prob for t, frame in enumerate(frames)]


def masks_of_a_crowd(
    model: JointFormer, starts: Sequence[int], size: tuple[int, int] = (48, 64), *, compile: bool
) -> list[torch.Tensor]:
    """Objects that appear at these frames go through the network together, as on a GPU."""
    config = TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1, objects_per_pass=99, compile=compile)
    tracker = Tracker(model, config)
    frames = np.random.default_rng(0).integers(0, 255, (7, *size, 3), dtype=np.uint8)
    masks: dict[int, np.ndarray] = {}
    for number, start in enumerate(starts):
        mask = masks.setdefault(start, np.zeros(size, np.uint8))
        mask[8:40, 2 + 12 * number : 12 + 12 * number] = number + 1
    return [tracker.step(frame, masks.get(t), last=t == 6).prob for t, frame in enumerate(frames)]


def programs() -> int:
    """How many programs the compiler has made."""
    return torch._dynamo.utils.counters["stats"]["unique_graphs"]


@pytest.fixture
def only_traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The compiler's first stage, which makes programs and counts them; PyTorch's operations then run these."""
    monkeypatch.setattr(compiled_module, "BACKEND", "eager")
    torch.compiler.reset()
    yield
    torch.compiler.reset()


@pytest.mark.slow
def test_objects_that_appear_one_after_another_need_no_programs_of_their_own(only_traced: None) -> None:
    model = seeded_model(MINI)

    def same(starts: Sequence[int]) -> None:
        expected = masks_of_a_crowd(model, starts, compile=False)
        for got, wanted in zip(masks_of_a_crowd(model, starts, compile=True), expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)

    for starts in ([0], [0, 0]):
        same(starts)
    made = programs()
    for starts in ([0, 0, 0], [0, 3], [0, 2, 5], [0, 1, 3, 4], [0, 0, 1, 2, 4]):
        same(starts)
    assert programs() == made


@pytest.mark.slow
def test_frames_of_all_sizes_need_a_handful_of_programs(
    only_traced: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    attention_gpu = pytest.importorskip(
        "jointformer.ops.kernels.attention_gpu", reason="needs triton (PyTorch's CUDA builds bring it)"
    )
    plain = attention.plain_attention  # the GPU's own way, but for the kernel's body
    monkeypatch.setattr(attention_gpu, "launch", lambda *tensors: tensors[-1].copy_(plain(*tensors[:-1])))
    monkeypatch.setattr(attention, "GPUS", ("cpu",))
    model = seeded_model(MINI)
    for size in ((48, 112), (64, 96), (96, 96), (96, 64)):
        for starts in ([0], [0, 3], [0, 0, 1, 1, 2]):
            masks_of_a_crowd(model, starts, size, compile=True)
    made = programs()
    for size in ((80, 112), (112, 80)):
        masks_of_a_crowd(model, [0, 2, 2, 5], size, compile=True)
    assert programs() == made
    assert made <= 8 * (len(compiled_module.PARTS) + len(compiled_module.READING_PARTS))
    assert "uncompiled" not in caplog.text


def test_a_part_with_too_many_programs_goes_on_uncompiled(
    only_traced: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(compiled_module, "MOST_PROGRAMS", 1)
    model = seeded_model(MINI)
    expected = masks_of_a_crowd(model, [0, 2], compile=False)
    with torch._dynamo.config.patch(cache_size_limit=1):
        for got, wanted in zip(masks_of_a_crowd(model, [0, 2], compile=True), expected, strict=True):
            torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    said = [record.getMessage() for record in caplog.records if record.name == compiled_module.__name__]
    assert len(said) == len(set(said)) > 1
    assert "_write has 1 compiled programs: it goes on uncompiled" in said


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


def test_the_compiler_does_not_advise_to_round(monkeypatch: pytest.MonkeyPatch) -> None:
    def advise(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        for what in (
            "TensorFloat32 tensor cores for float32 matrix multiplication available but not",
            "something else",
        ):
            warnings.warn(what, stacklevel=1)
        return graph

    monkeypatch.setattr(compiled_module, "BACKEND", advise)
    torch.compiler.reset()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        compiled_module._Part("negative", lambda x: -x)(torch.ones(2))
    assert [str(warning.message) for warning in said] == ["something else"]


def test_a_compiler_that_fails_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(compiled_module, "BACKEND", fail)
    torch.compiler.reset()
    with pytest.raises(ConfigError, match=r"compile.*no C\+\+ compiler"):
        masks_of_a_video(seeded_model(MINI), compile=True)


@pytest.mark.parametrize("whose", ["the cache's", "the user's", "PyTorch's", "root's"])
def test_programs_are_kept_where_nobody_else_can_have_put_any(
    whose: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    monkeypatch.setattr("platformdirs.user_cache_dir", lambda *_, **__: str(cache))
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "own"))
    if whose != "the user's":
        monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR")
    if whose == "PyTorch's":
        cache.touch()  # nothing can be kept there
    if whose == "root's":  # who may have run the program once in this user's name
        (cache / "compiled").mkdir(parents=True)
        monkeypatch.setattr(os, "access", lambda path, mode: False)  # in which the tests' user may be root
    compiled(seeded_model(MINI))
    place = os.environ.get("TORCHINDUCTOR_CACHE_DIR", "")
    assert (place == str(cache / "compiled")) == (whose == "the cache's")
    assert (place == str(tmp_path / "own")) == (whose == "the user's")
    if whose == "the cache's":
        assert (cache / "compiled").stat().st_mode & 0o077 == 0
