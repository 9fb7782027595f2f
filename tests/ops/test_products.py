"""Products in float32: the same numbers by oneDNN as by the library PyTorch takes for them, and who takes which."""

from __future__ import annotations

import io
import platform
from typing import Any

import pytest
import torch

from jointformer.model import fused
from jointformer.ops import attention, products
from jointformer.ops.attention import plain_attention

has_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"),
    reason="this build of PyTorch has no oneDNN",
)


@pytest.fixture(params=[False, pytest.param(True, marks=has_onednn)], ids=["library", "onednn"])
def by_onednn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """Which of the two multiplies, whatever the processor."""
    monkeypatch.setattr(products, "onednn_is_faster", lambda: request.param)
    return bool(request.param)


def numbers(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("at_once", [None, 77, 30])
def test_a_product_is_the_same(by_onednn: bool, turned: bool, at_once: int | None) -> None:
    x, rows = numbers(130, 40), numbers(40, 77).mT if turned else numbers(77, 40)
    with torch.inference_mode():
        found = products.times_transposed(x, rows, torch.empty(130, 77), at_once=at_once)
    torch.testing.assert_close(found, (x.double() @ rows.double().mT).float(), atol=2e-5, rtol=1e-5)
    assert found.is_contiguous()  # a kernel reads its rows


def test_layers_are_the_same(by_onednn: bool) -> None:
    x, add, weight, bias = numbers(2, 50, 32), numbers(1, 50, 48), numbers(48, 32), numbers(48)
    norm = torch.nn.LayerNorm(32).requires_grad_(False)

    def results() -> list[torch.Tensor]:
        return [
            fused.linear(x, weight, bias),
            fused.linear(x, weight, bias, norm=norm, gelu=True),
            fused.linear(x, weight, bias, add=add),
        ]

    with torch.inference_mode():
        found = results()
    for a, b in zip(found, results(), strict=True):  # with gradients recorded: plain operations
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-5)


@pytest.mark.parametrize("memory", [0, 300])
def test_attention_is_the_same(by_onednn: bool, monkeypatch: pytest.MonkeyPatch, memory: int) -> None:
    monkeypatch.setattr(attention, "FAST_FROM", 0)
    monkeypatch.setattr(pytest.importorskip("jointformer.ops.kernels.attention_cpu"), "OWN_ROWS", 100)
    q, k, v = numbers(2, 190, 3, 2, 24).permute(2, 0, 3, 1, 4)
    memory_k, memory_v = numbers(2, 2, 2, 300, 24)[:, :, :, :memory]
    topk = 40 if memory else None
    with torch.inference_mode():
        found = attention.joint_attention(q, k, v, memory_k, memory_v, topk=topk)
    wanted = plain_attention(q, k, v, memory_k, memory_v, topk, max(1, memory))
    torch.testing.assert_close(found, wanted, atol=2e-6, rtol=1e-5)


@has_onednn
def test_a_memory_that_grows_leaves_code_for_few_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    kernels = pytest.importorskip("jointformer.ops.kernels.attention_cpu")
    monkeypatch.setattr(products, "onednn_is_faster", lambda: True)
    met, multiplied = set(), products._by_onednn

    def noted(x: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        met.add((*x.shape, len(rows)))
        return multiplied(x, rows)

    monkeypatch.setattr(products, "_by_onednn", noted)
    q, k, v = numbers(1, 20, 3, 2, 16).permute(2, 0, 3, 1, 4)
    for frames in range(1, 31):
        memory_k, memory_v = numbers(2, 1, 2, 20 * frames, 16)
        out = torch.empty_like(q)
        with torch.inference_mode():
            kernels.attend_rows(q, k, v, memory_k, memory_v, 9, 20 * frames, out)
        wanted = plain_attention(q, k, v, memory_k, memory_v, 9, 20 * frames)
        torch.testing.assert_close(out, wanted, atol=2e-6, rtol=1e-5)
    assert len(met) == kernels.MOST_FRAMES + 1  # and own weights times values


def test_own_keys_alone_take_the_rows_kernel_only_where_that_pays(
    by_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = pytest.importorskip("jointformer.ops.kernels.attention_cpu")
    monkeypatch.setattr(attention, "FAST_FROM", 0)
    q = numbers(1, 1, kernels.OWN_ROWS, 8)
    way = attention._way(q, q, q[:, :, :0], None, 0)
    assert way is (kernels.attend_own_rows if by_onednn else None)
    assert attention._way(q[:, :, 1:], q, q[:, :, :0], None, 0) is None  # too few rows
    assert not kernels.fits_own_rows(q.bfloat16())


def test_gradients_and_autocast_take_plain_operations(by_onednn: bool) -> None:
    x, weight, bias = numbers(50, 32), numbers(48, 32).requires_grad_(), numbers(48)
    fused.linear(x, weight, bias).sum().backward()
    assert weight.grad is not None
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert fused.linear(x, weight, bias).dtype == torch.bfloat16


def test_layers_take_onednn_where_it_is_faster_and_nothing_is_being_compiled(
    by_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, weight = numbers(50, 32), numbers(48, 32)
    with torch.inference_mode():
        assert fused._fuses_layer(x, weight) == by_onednn
        assert not fused._fuses_layer(x, weight.double())
        monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
        assert not fused._fuses_layer(x, weight)


def test_a_sum_leaves_both_of_its_parts_as_they_were(by_onednn: bool) -> None:
    x, add, weight, bias = numbers(2, 50, 32), numbers(2, 50, 48), numbers(48, 32), numbers(48)
    before = x.clone(), add.clone()
    with torch.inference_mode():
        fused.linear(x, weight, bias, add=add)
    assert torch.equal(x, before[0])
    assert torch.equal(add, before[1])


@has_onednn
@pytest.mark.parametrize(
    ("vendor", "capability", "faster"),
    [("AuthenticAMD", "AVX512", True), ("AuthenticAMD", "AVX2", False), ("GenuineIntel", "AVX512", False)],
)
def test_it_is_chosen_on_amd_processors_with_avx512(
    monkeypatch: pytest.MonkeyPatch, vendor: str, capability: str, faster: bool
) -> None:
    monkeypatch.setattr(products, "_vendor", lambda: vendor)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: True)
    assert products.onednn_is_faster.__wrapped__() == faster


@has_onednn
@pytest.mark.parametrize("lacks", ["mkl", "mkldnn", "operation"])
def test_it_is_not_chosen_where_pytorch_was_built_without_one_of_the_two(
    monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    monkeypatch.setattr(products, "_vendor", lambda: "AuthenticAMD")
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    for library in ("mkl", "mkldnn"):
        monkeypatch.setattr(getattr(torch.backends, library), "is_available", lambda here=library != lacks: here)
    if lacks == "operation":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    assert not products.onednn_is_faster.__wrapped__()


@pytest.mark.parametrize(
    ("text", "name", "vendor"),
    [
        ("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t: 2\n", "", "AuthenticAMD"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "aarch64", "aarch64"),
        (None, "AMD64 Family 25 Model 97 Stepping 2, AuthenticAMD", "AuthenticAMD"),
    ],
    ids=["linux", "arm", "windows"],
)
def test_the_maker_is_the_systems_word(
    monkeypatch: pytest.MonkeyPatch, text: str | None, name: str, vendor: str
) -> None:
    def opened(*args: Any, **options: Any) -> io.StringIO:
        if text is None:
            raise FileNotFoundError
        return io.StringIO(text)

    monkeypatch.setattr(products, "open", opened, raising=False)
    monkeypatch.setattr(platform, "processor", lambda: name)
    assert products._vendor() == vendor
