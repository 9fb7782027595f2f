"""What a network has on a GPU: exact products, weights as its convolutions read them. No GPU is needed to see it."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from jointformer.errors import NoMemoryError
from jointformer.evaluation.scale.label import pack_model, unpack_model
from jointformer.model.config import ModelConfig
from jointformer.model.device import _exact_settings, exact_products, move_model
from jointformer.track import engine
from jointformer.track.config import TrackerConfig
from seeded import seeded_model

GPU = torch.device("cuda")
BACKENDS: Any = torch.backends
OWNERS = [(owner, name) for owner, name, _ in _exact_settings()]
EXACT = [False, "none", False, False]


def settings() -> list[Any]:
    return [getattr(owner, name) for owner, name in OWNERS]


@pytest.fixture(autouse=True)
def put_back() -> Iterator[None]:
    before = settings()
    yield
    BACKENDS.fp32_precision = "none"
    for (owner, name), value in zip(OWNERS, before, strict=True):
        setattr(owner, name, value)


@pytest.mark.parametrize("ends_well", [True, False])
def test_a_gpus_products_are_exact_within_the_block_and_as_before_after_it(ends_well: bool) -> None:
    before = settings()
    assert all(old != exact for old, exact in zip(before, EXACT, strict=True))  # as PyTorch comes
    try:
        with exact_products(GPU):
            assert settings() == EXACT
            if not ends_well:
                raise KeyError
    except KeyError:
        pass
    assert settings() == before


def test_what_is_exact_already_stays_so() -> None:
    torch.backends.cudnn.allow_tf32 = False  # as one writes it before PyTorch 2.9
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    before = settings()
    with exact_products(GPU):
        assert settings() == EXACT
    assert settings() == before
    assert not torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = True


@pytest.mark.parametrize("everywhere", [True, False])
def test_tf32_that_a_program_allowed_by_its_newer_names_is_none_within_the_block(everywhere: bool) -> None:
    conv = BACKENDS.cudnn.conv
    owner = BACKENDS if everywhere else conv
    owner.fp32_precision = "ieee"  # else PyTorch as it comes says the same
    owner.fp32_precision = "tf32"
    with exact_products(GPU):
        assert conv.fp32_precision in ("ieee", "none")
    assert (owner.fp32_precision, conv.fp32_precision) == ("tf32", "tf32")


def test_a_program_whose_older_and_newer_names_of_tf32_differ_is_left_with_what_it_set() -> None:
    conv = BACKENDS.cudnn.conv
    conv.fp32_precision = "ieee"
    with exact_products(GPU):
        assert conv.fp32_precision == "ieee"
    assert conv.fp32_precision == "ieee"


def test_products_stay_exact_while_another_thread_leaves_its_block() -> None:
    before, first, second = settings(), exact_products(GPU), exact_products(GPU)
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert settings() == EXACT
    second.__exit__(None, None, None)
    assert settings() == before


def test_a_cpu_changes_no_setting() -> None:
    before = settings()
    with exact_products(torch.device("cpu")):
        assert settings() == before


def test_every_call_of_the_network_in_a_step_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded_model(ModelConfig("mini", (16, 24, 48), (1, 1, 2), heads=2))
    seen = []
    monkeypatch.setattr(engine, "exact_products", lambda device: exact_products(GPU))
    for name in ("patch_embed2", "norm"):
        getattr(model.convmae, name).register_forward_hook(lambda *_: seen.append(settings()))
    model.decoder.register_forward_hook(lambda *_: seen.append(settings()))
    steps = engine.Engine(model, TrackerConfig(size=-1))
    frame, masks = torch.zeros(3, 48, 64), torch.ones(1, 48, 64)
    steps.step(frame, new_masks=masks)
    steps.step(frame)
    steps.add_memory(frame, masks, [0])
    assert len(seen) > 8
    assert seen == [EXACT] * len(seen)
    assert settings() != EXACT


def test_weights_lie_on_a_gpu_as_its_convolutions_read_them() -> None:
    class Network(torch.nn.Module):
        """Says where it is moved to."""

        def to(self, *args: Any, **asked: Any) -> Any:
            self.asked = asked
            return self

    assert move_model(Network(), GPU, torch.float16).asked == {
        "device": GPU, "dtype": torch.float16, "memory_format": torch.channels_last,
    }  # fmt: skip
    assert "memory_format" not in move_model(Network(), torch.device("cpu")).asked


def test_a_gpu_without_room_for_the_weights_is_one_line() -> None:
    class Network(torch.nn.Module):
        """Finds the GPU full."""

        def to(self, *_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    with pytest.raises(NoMemoryError, match=r"^no memory left on the GPU, got CUDA out .*; what else uses it"):
        move_model(Network(), GPU)


def test_weights_laid_out_for_a_gpu_are_the_same_weights() -> None:
    model = seeded_model(ModelConfig("mini", (16, 24, 48), (1, 1, 2), heads=2))
    layout: dict[str, Any] = {"memory_format": torch.channels_last}  # which PyTorch's own types leave out
    other = copy.deepcopy(model).to(**layout)
    assert not other.decoder.up_8_4.out_conv.conv1.weight.is_contiguous()
    frame, mask = torch.randn(1, 3, 48, 64, generator=torch.Generator().manual_seed(0)), torch.zeros(1, 1, 48, 64)
    mask[:, :, 10:30, 10:30] = 1
    probs = []
    for network in (model, other, unpack_model(pack_model(other))):
        memory, tokens = network.memorize(frame, mask, network.initial_tokens(1, 1))
        probs.append(network.segment(network.encode_frame(frame), [memory], tokens).prob)
    torch.testing.assert_close(probs[1], probs[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(probs[2], probs[0], atol=1e-5, rtol=0)
