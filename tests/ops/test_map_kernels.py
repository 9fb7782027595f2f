"""The decoder's kernels for whole maps against plain operations, at sizes with odd edges."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from jointformer.model import fused
from torch_threads import torch_threads

maps = pytest.importorskip("jointformer.ops.kernels.maps_cpu", reason="needs numba")
pytestmark = pytest.mark.skipif(not maps.CAN_MULTIPLY, reason="needs a processor that multiplies bfloat16")


def a_map(seed: int, *shape: int) -> Tensor:
    """A map (N, C, h, w) as the network has them: bfloat16, channels last."""
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return drawn.bfloat16().contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("skips", [1, 2])
@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 6), (4, 1)])
def test_an_enlargement_plus_a_skip_is_rounded_once(skips: int, size: tuple[int, int]) -> None:
    x, add = a_map(0, 2, 64, *size), a_map(1, skips, 64, 2 * size[0], 2 * size[1])
    got, positive = maps.enlarge_add(x, add)
    exact = F.interpolate(x.float(), scale_factor=2, mode="bilinear", align_corners=False) + add.float()
    assert got.is_contiguous(memory_format=torch.channels_last)
    assert positive.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(got.float(), exact, atol=1e-6, rtol=1 / 256)
    assert torch.equal(positive, F.relu(got))


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 6), (4, 1)])
@pytest.mark.parametrize("channels", [32, 96])
def test_one_map_is_predicted_as_by_relu_and_convolution(channels: int, size: tuple[int, int]) -> None:
    x, layer = a_map(0, 2, channels, *size), nn.Conv2d(channels, 1, 3, padding=1)
    assert layer.bias is not None
    got = maps.predict(x, layer.weight.bfloat16(), layer.bias.bfloat16())
    weight, bias = layer.weight.bfloat16().float(), layer.bias.bfloat16().float()
    exact = F.conv2d(F.relu(x.float()), weight, bias, padding=1)
    assert got.shape == exact.shape
    torch.testing.assert_close(got.float(), exact, atol=1e-5, rtol=1 / 200)


def test_nan_of_either_sign_and_infinity_go_where_plain_operations_send_them() -> None:
    x, add, layer = a_map(0, 1, 32, 6, 6), a_map(1, 1, 32, 12, 12), nn.Conv2d(32, 1, 3, padding=1).bfloat16()
    wrong = torch.tensor([0x7FC0, 0xFFC0 - 0x10000], dtype=torch.int16).view(torch.bfloat16)
    x[0, 3, 0, 0], x[0, 5, 5, 5], x[0, 7, 0, 5], x[0, 9, 5, 0] = wrong[0], wrong[1], float("inf"), float("-inf")
    assert layer.bias is not None
    with torch.inference_mode():
        found = [*maps.enlarge_add(x, add), maps.predict(x, layer.weight, layer.bias)]
        y = F.interpolate(x.float(), scale_factor=2, mode="bilinear", align_corners=False) + add
        expected = [y, F.relu(y), F.conv2d(F.relu(x).float(), layer.weight.float(), layer.bias.float(), padding=1)]
    for one, other in zip(found, expected):
        assert torch.equal(one.isnan(), other.isnan())
        assert torch.equal(one.isinf(), other.isinf())


@pytest.mark.parametrize("threads", [2, 3])
def test_any_number_of_threads_gives_the_same_bits(threads: int) -> None:
    x, add = a_map(0, 2, 64, 9, 7), a_map(1, 1, 64, 18, 14)
    with torch_threads(1):
        alone = maps.enlarge_add(x, add)
        torch.set_num_threads(threads)
        assert all(torch.equal(one, other) for one, other in zip(maps.enlarge_add(x, add), alone))


@pytest.mark.parametrize("changed", ["none", "float32", "channels first", "odd width", "gradients"])
def test_the_network_takes_the_kernels_where_they_serve(changed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def enlarge_add(x: Tensor, add: Tensor) -> tuple[Tensor, Tensor]:
        calls.append("enlarged")
        return x, x

    def predict(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        calls.append("predicted")
        return x

    monkeypatch.setattr(maps, "enlarge_add", enlarge_add)
    monkeypatch.setattr(maps, "predict", predict)
    channels = 24 if changed == "odd width" else 32
    x, add = a_map(0, 1, channels, 4, 4), a_map(1, 1, channels, 8, 8)
    layer = nn.Conv2d(channels, 1, 3, padding=1).bfloat16()
    if changed == "float32":
        x, add, layer = x.float(), add.float(), layer.float()
    if changed == "channels first":
        x = x.contiguous()
    with torch.set_grad_enabled(changed == "gradients"):
        fused.enlarge_add(x, add)
        fused.relu_conv(x, layer)
    assert calls == (["enlarged", "predicted"] if changed == "none" else [])
