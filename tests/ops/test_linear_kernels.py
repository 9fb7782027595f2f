"""Linear layers on AMX tiles against plain operations, at sizes with odd edges."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.model import fused
from torch_threads import torch_threads

linear_cpu = pytest.importorskip("jointformer.ops.kernels.linear_cpu", reason="needs numba")
attention_cpu = pytest.importorskip("jointformer.ops.kernels.attention_cpu", reason="needs numba")
pytestmark = pytest.mark.skipif(not attention_cpu.CAN_MULTIPLY, reason="needs a processor that multiplies bfloat16")

ROWS, WIDTH, HIDDEN = 75, 64, 96


def tensor(seed: int, *shape: int, scale: float = 1.0) -> Tensor:
    return (scale * torch.randn(shape, generator=torch.Generator().manual_seed(seed))).bfloat16()


def layer(seed: int, outer: int, inner: int) -> tuple[Tensor, Tensor]:
    return tensor(seed, outer, inner, scale=inner**-0.5), tensor(seed + 1, outer)


def norm() -> tuple[Tensor, Tensor, float]:
    return tensor(7, WIDTH), tensor(8, WIDTH), 1e-6


def exact_norm(x: Tensor) -> Tensor:
    weight, bias, eps = norm()
    return F.layer_norm(x.float(), (WIDTH,), weight.float(), bias.float(), eps)


@pytest.fixture(params=["whole", "in chunks"])
def _sizes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Weights packed at once, and in chunks of columns and parts of rows."""
    plans = linear_cpu._plan_linear, linear_cpu._plan_mlp
    for plan in plans:
        plan.cache_clear()
    if request.param == "in chunks":
        monkeypatch.setattr(linear_cpu, "WHOLE_BYTES", 0)
        monkeypatch.setattr(linear_cpu, "CHUNK_BYTES", 1)
        monkeypatch.setattr(linear_cpu, "PART", 48)
    monkeypatch.setattr(linear_cpu, "SMALL_PART", 32)
    yield
    for plan in plans:
        plan.cache_clear()


@pytest.mark.usefixtures("_sizes")
@pytest.mark.parametrize("kind", ["plain", "gelu", "add"])
@pytest.mark.parametrize("normed", [False, True])
def test_a_layer_agrees_with_plain_operations(kind: str, normed: bool) -> None:
    wide = tensor(0, ROWS, 2 * WIDTH)
    x, add = wide[:, WIDTH:], tensor(1, ROWS, HIDDEN)  # rows that do not lie side by side
    weight, bias = layer(2, HIDDEN, WIDTH)
    expected = F.linear(exact_norm(x) if normed else x.float(), weight.float(), bias.float())
    expected = F.gelu(expected) if kind == "gelu" else expected + add.float() if kind == "add" else expected
    got = linear_cpu.linear(
        x, (weight, bias), norm=norm() if normed else None, gelu=kind == "gelu", add=add if kind == "add" else None
    )
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), expected, atol=0.04, rtol=0.01)


@pytest.mark.usefixtures("_sizes")
def test_an_mlp_agrees_with_plain_operations() -> None:
    x, first, second = tensor(0, 3, 25, WIDTH), layer(2, HIDDEN, WIDTH), layer(4, WIDTH, HIDDEN)
    hidden = F.gelu(F.linear(exact_norm(x), first[0].float(), first[1].float()))
    expected = x.float() + F.linear(hidden, second[0].float(), second[1].float())
    got = linear_cpu.mlp(x, norm(), first, second, add=x)
    assert got.shape == x.shape
    torch.testing.assert_close(got.float(), expected, atol=0.05, rtol=0.01)


@pytest.mark.usefixtures("_sizes")
def test_a_layer_and_an_mlp_in_one_call_are_the_two_calls() -> None:
    x, add = tensor(0, 3, 25, HIDDEN), tensor(1, 1, 25, WIDTH)
    before, first, second = layer(6, WIDTH, HIDDEN), layer(2, HIDDEN, WIDTH), layer(4, WIDTH, HIDDEN)
    between = linear_cpu.linear(x, before, add=add)
    expected = linear_cpu.mlp(between, norm(), first, second, add=between)
    assert torch.equal(linear_cpu.linear_mlp(x, before, add, norm(), first, second), expected)


def test_norm_and_gelu_in_place_agree_with_plain_operations() -> None:
    x = tensor(0, 3, 25, WIDTH)
    expected = F.gelu(exact_norm(x))
    got = linear_cpu.norm_gelu_(x, norm())
    assert got.data_ptr() == x.data_ptr()
    torch.testing.assert_close(got.float(), expected, atol=0.01, rtol=0.01)


def test_the_gelu_is_within_a_rounding_of_the_exact_one_everywhere() -> None:
    x = torch.linspace(-30, 30, 64 * 32).reshape(64, 32).bfloat16()
    got = linear_cpu.linear(x, (torch.eye(32).bfloat16(), torch.zeros(32).bfloat16()), gelu=True)
    exact = F.gelu(x.double())
    assert ((got.double() - exact).abs() <= 1e-4 + exact.abs() / 256).all()


def test_nan_stays_in_its_row() -> None:
    x, one = tensor(0, 64, WIDTH), layer(2, WIDTH, WIDTH)
    clean = linear_cpu.mlp(x, norm(), one, one, add=x)
    spoilt = x.clone()
    spoilt[40, 3] = float("nan")
    got = linear_cpu.mlp(spoilt, norm(), one, one, add=spoilt)
    assert got[40].isnan().all()
    rest = torch.arange(64) != 40
    assert torch.equal(got[rest], clean[rest])


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    x, first, second = tensor(0, 130, WIDTH), layer(2, HIDDEN, WIDTH), layer(4, WIDTH, HIDDEN)
    with torch_threads(1):
        alone = linear_cpu.mlp(x, norm(), first, second, add=x)
        torch.set_num_threads(threads)
        assert torch.equal(linear_cpu.mlp(x, norm(), first, second, add=x), alone)


def test_objects_that_are_computed_together_take_the_kernels_that_one_takes() -> None:
    weight = tensor(0, WIDTH, WIDTH)
    with torch_threads(1):
        for objects in (1, 5):
            assert linear_cpu.fits(tensor(1, objects, linear_cpu.LEAST_ROWS, WIDTH), weight)
            assert not linear_cpu.fits(tensor(1, objects, linear_cpu.LEAST_ROWS - 1, WIDTH), weight)


def test_parts_of_several_objects_take_no_kernel_that_one_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> Tensor:
        raise AssertionError

    for name in ("linear", "mlp", "linear_mlp"):
        monkeypatch.setattr(linear_cpu, name, refused)
    x, before, first, second = (
        tensor(0, 4, 120, WIDTH),
        layer(6, WIDTH, WIDTH),
        layer(2, HIDDEN, WIDTH),
        layer(4, WIDTH, HIDDEN),
    )
    norm = torch.nn.LayerNorm(WIDTH).bfloat16()
    with torch_threads(1), torch.inference_mode():
        whole, parts = (
            fused.linear_mlp(x, before, x, norm, first, second, cpu_bytes=n) for n in (None, 2 * 240 * HIDDEN)
        )
    torch.testing.assert_close(parts, whole, atol=0.05, rtol=0.01)


def test_scratch_memory_whose_making_breaks_off_is_made_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C at that moment may not leave addresses of memory that was given back."""
    scratch = linear_cpu._Scratch()
    scratch.make_room(1, (64,) * len(scratch.sizes))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    larger = (128,) * len(scratch.sizes)
    with monkeypatch.context() as patch:
        patch.setattr(linear_cpu, "aligned", interrupted)
        with pytest.raises(KeyboardInterrupt):
            scratch.make_room(1, larger)
    for sizes in ((64,) * len(larger), larger):
        scratch.make_room(1, sizes)
        assert all(len(buffer) >= size for buffer, size in zip(scratch.buffers[0], sizes, strict=True))
        assert scratch.address == scratch.addresses.ctypes.data
