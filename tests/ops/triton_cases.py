"""The Triton kernel against the rule: run by test_topk_triton.py in Triton's interpreter, or by hand on a GPU.

    python -m pytest tests/ops/triton_cases.py                      where there is a GPU
    TRITON_INTERPRET=1 python -m pytest tests/ops/triton_cases.py   anywhere

Queries and keys are multiples of 1/64, so that every score is exact and what is selected cannot depend on the order in
which a machine adds.
"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jointformer.ops import attention
from jointformer.ops.attention import plain_attention
from jointformer.ops.kernels import attention_gpu
from jointformer.ops.kernels.attention_gpu import Tiles

DEVICE = "cpu" if attention_gpu.INTERPRETED else "cuda"
SMALL = Tiles(rows=32, columns=32, warps=4, stages=1)


def exact(seed: int, *shape: int, most: int = 100) -> Tensor:
    numbers = torch.randint(-most, most + 1, shape, generator=torch.Generator().manual_seed(seed))
    return (numbers / 64).to(DEVICE)


def inputs(
    objects: int, heads: int, rows: int, own: int, memory: int, width: int, dtype: torch.dtype, shared: bool = False
) -> list[Tensor]:
    """q, k, v and the memory's k, v, laid out as the network's: slices of one linear's output and of a bank."""
    side = exact(0, 1 if shared else objects, max(rows, own), 3, heads, width).permute(2, 0, 3, 1, 4).to(dtype)
    bank = exact(1, 2, objects, heads, memory + 5, width).to(dtype)
    return [side[0][:, :, :rows], side[1][:, :, :own], side[2][:, :, :own], *bank[:, :, :, 3 : memory + 3]]


def by_the_kernel(tensors: list[Tensor], topk: int, group: int, tiles: Tiles | None = SMALL) -> Tensor:
    objects = max(tensor.shape[0] for tensor in tensors)
    shape = (objects, *tensors[0].shape[1:])
    out = torch.full(shape, 7.0, dtype=tensors[0].dtype, device=DEVICE).mT.contiguous().mT  # the odd layout of the two
    q, k, v, mk, mv = tensors
    attention_gpu.launch(q, k, v, mk, mv, topk, group, out, tiles)
    return out


def by_the_rule(tensors: list[Tensor], topk: int, group: int) -> Tensor:
    """The rule in float64: what is selected cannot depend on rounding, see above."""
    objects = max(tensor.shape[0] for tensor in tensors)
    q, k, v, mk, mv = (tensor.expand(objects, -1, -1, -1).double() for tensor in tensors)
    return plain_attention(q, k, v, mk, mv, topk, group)


@pytest.fixture(autouse=True)
def numbers_of_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the interpreter make whole numbers of arrays that hold one: as Triton 3.6 does it, NumPy 2.4 refuses."""
    if attention_gpu.INTERPRETED:
        from triton.runtime import interpreter

        def patch_tensor(tensor: Any, scope: Any, original: Any = interpreter._patch_lang_tensor) -> None:
            original(tensor, scope)
            scope.set_attr(tensor, "__index__", lambda self: self.handle.data.item())

        monkeypatch.setattr(interpreter, "_patch_lang_tensor", patch_tensor)


@pytest.fixture(params=["any", "GPU's"] if attention_gpu.INTERPRETED else ["GPU's"])
def maximum(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The larger of a number and NaN: a GPU takes the number (max.f32 of PTX), which the interpreter is made to do."""
    if attention_gpu.INTERPRETED and request.param == "GPU's":
        from triton.runtime.interpreter import InterpreterBuilder

        for name, rule in (("create_maxnumf", np.fmax), ("create_minnumf", np.fmin)):
            monkeypatch.setattr(InterpreterBuilder, name, lambda self, a, b, rule=rule: self.binary_op(a, b, rule))


NAN_IS_MEANT = pytest.mark.filterwarnings("ignore:invalid value|All-NaN:RuntimeWarning")  # the interpreter's NumPy
CLOSE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def check(tensors: list[Tensor], topk: int, group: int, tiles: Tiles | None = SMALL) -> None:
    """Fails unless the kernel follows the rule."""
    got, near = by_the_kernel(tensors, topk, group, tiles), CLOSE[tensors[0].dtype]
    torch.testing.assert_close(got.double(), by_the_rule(tensors, topk, group), atol=near, rtol=near)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_odd_sizes_follow_the_rule_with_own_keys_shared_by_the_objects(dtype: torch.dtype) -> None:
    check(inputs(2, 1, 21, 35, 70, 24, dtype, shared=True), topk=9, group=70)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_frame_selects_for_itself(dtype: torch.dtype) -> None:
    check(inputs(1, 1, 9, 5, 3 * 37, 16, dtype), topk=5, group=37)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_more_keys_may_be_kept_than_a_tile_has_columns(dtype: torch.dtype) -> None:
    check(inputs(1, 1, 9, 5, 70, 16, dtype), topk=40, group=70)


def test_more_keys_may_be_kept_than_a_pass_leaves_candidates() -> None:
    check(inputs(1, 1, 9, 5, 300, 16, torch.float32), topk=170, group=300)  # four in each of 32 columns


def test_the_largest_scores_may_all_share_a_column() -> None:
    tensors = inputs(1, 1, 9, 5, 32 * 14, 16, torch.float32)
    tiles = torch.arange(14, device=DEVICE)
    first = 32 * tiles + (tiles * (tiles + 1) // 2 * 37) % 32  # what the first column takes, see columns_of
    tensors[3][:, :, first] *= 8
    check(tensors, topk=9, group=32 * 14)


def test_neighbours_that_are_much_alike_are_told_apart() -> None:
    tensors = inputs(1, 1, 9, 5, 300, 16, torch.bfloat16)
    tensors[3] = tensors[3][:, :, torch.arange(300, device=DEVICE) // 30 * 30] + exact(5, 300, 1, most=2).bfloat16()
    check(tensors, topk=50, group=300)


def test_the_tiles_used_on_a_gpu_give_the_same() -> None:
    check(inputs(1, 2, 70, 1, 150, 64, torch.float16), topk=60, group=150, tiles=None)


def test_ties_with_the_last_kept_key_are_all_kept() -> None:
    tensors = [exact(seed, 1, 1, tokens, 16, most=3).bfloat16() for seed, tokens in enumerate((9, 5, 5, 60, 60))]
    tensors[3] = tensors[3][:, :, torch.arange(60, device=DEVICE) % 15]  # every score four times, some more often
    check(tensors, topk=6, group=60)


def test_a_row_of_equal_scores_keeps_every_key_and_zeros_of_either_sign_are_equal() -> None:
    tensors = inputs(1, 1, 9, 5, 40, 16, torch.float32)
    tensors[3] = torch.zeros_like(tensors[3])
    tensors[3][:, :, ::2] *= -1
    check(tensors, topk=3, group=40)
    q, k, v, mk, mv = tensors
    dense = plain_attention(q, k, v, mk, mv, None, 40)
    torch.testing.assert_close(by_the_kernel(tensors, 3, 40), dense, atol=2e-6, rtol=2e-6)


@NAN_IS_MEANT
@pytest.mark.usefixtures("maximum")
@pytest.mark.parametrize("place", [0, 1, 3])  # in a query, an own key, a memory key
def test_nan_spoils_its_own_rows_and_no_other(place: int) -> None:
    tensors = [tensor.clone() for tensor in inputs(1, 2, 9, 5, 40, 16, torch.float16)]
    clean = by_the_kernel(tensors, 5, 40)
    tensors[place][0, 1, 4, 3] = float("nan")
    rows = slice(4, 5) if place == 0 else slice(None)
    got = by_the_kernel(tensors, 5, 40)
    assert got[0, 1, rows].isnan().all()
    got[0, 1, rows] = clean[0, 1, rows]
    assert torch.equal(got, clean)


@NAN_IS_MEANT
@pytest.mark.usefixtures("maximum")
def test_an_infinite_score_spoils_its_row_and_minus_infinity_counts_for_nothing() -> None:
    tensors = [tensor.clone() for tensor in inputs(1, 1, 9, 5, 40, 16, torch.float32)]
    clean = by_the_kernel(tensors, 5, 40)
    tensors[3][0, 0, 17, 3] = float("inf")
    over = tensors[0][0, 0, :, 3] > 0
    got = by_the_kernel(tensors, 5, 40)
    assert got[0, 0, over].isnan().all()
    assert got[0, 0, ~over].isfinite().all()
    assert 0 < over.sum() < len(over)
    assert clean.isfinite().all()


def test_the_operation_fills_what_it_is_given_and_needs_no_gradients() -> None:
    tensors = inputs(1, 1, 9, 5, 40, 16, torch.float32)
    out = torch.empty_like(tensors[0])
    with torch.inference_mode():
        q, k, v, mk, mv = tensors
        torch.ops.jointformer.attend_topk(q, k, v, mk, mv, 3, 40, out)
    torch.testing.assert_close(out.double(), by_the_rule(tensors, 3, 40), atol=2e-6, rtol=2e-6)


def test_a_kernel_that_cannot_be_made_is_reported_once_and_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> None:
        raise RuntimeError("Failed to find C compiler.\nPlease specify via CC")

    q = torch.zeros(1, 1, 40, 16, device=DEVICE)
    attention_gpu.works.cache_clear()
    try:
        with monkeypatch.context() as patch, caplog.at_level(logging.WARNING):
            patch.setattr(attention_gpu, "launch", fail)
            assert [attention_gpu.serves(q.device, q.dtype, 16) for _ in range(3)] == [False] * 3
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert "Failed to find C compiler. Please" in caplog.text
    finally:
        attention_gpu.works.cache_clear()


@pytest.mark.parametrize("dtype", attention_gpu.DTYPES)
def test_a_kernel_that_keeps_a_key_less_is_found_out_and_left_alone(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def forgets(*arguments: Any, launch: Any = attention_gpu.launch) -> None:
        *tensors, topk, group, out = arguments
        launch(*tensors, topk - 1, group, out)

    attention_gpu.works.cache_clear()
    try:
        assert attention_gpu.serves(torch.device(DEVICE), dtype, 64)
        attention_gpu.works.cache_clear()
        monkeypatch.setattr(attention_gpu, "launch", forgets)
        with caplog.at_level(logging.WARNING):
            assert not attention_gpu.serves(torch.device(DEVICE), dtype, 64)
        assert "does not work here (AssertionError: Tensor-likes are not close!" in caplog.text
    finally:
        attention_gpu.works.cache_clear()


def test_a_gpu_whose_tensor_cores_triton_does_not_know_has_no_kernel(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    attention_gpu.works.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert not attention_gpu.serves(torch.device("cuda:0"), torch.float16, 64)
        assert "too old" in caplog.text
    finally:
        attention_gpu.works.cache_clear()


def test_it_serves_what_its_tiles_hold() -> None:
    q = torch.zeros(1, 1, 40, 64, device=DEVICE)
    assert attention._fits_triton(q, q, q)
    assert not attention._fits_triton(q.double(), q, q)
    wide = torch.zeros(1, 1, 40, 129, device=DEVICE)
    assert not attention._fits_triton(wide, wide, wide)
    far = torch.empty_strided((1, 1, 2, 64), (0, 0, 1 << 30, 1), device="meta")
    assert not attention._fits_triton(q, q, far)


def test_the_kernel_is_one_operation_to_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "GPUS", (torch.device(DEVICE).type,))
    torch.compiler.assume_constant_result(attention.triton_serves)  # asked once, while compiling
    tensors = inputs(2, 1, 21, 35, 70, 24, torch.float32, shared=True)
    graphs: list[torch.fx.GraphModule] = []

    def keep(graph: torch.fx.GraphModule, example: object) -> torch.fx.GraphModule:
        graphs.append(graph)
        return graph

    with torch.inference_mode():
        got = torch.compile(attention.joint_attention, backend=keep, fullgraph=True)(*tensors, topk=9)
    assert sum(node.target is torch.ops.jointformer.attend_topk for node in graphs[0].graph.nodes) == 1
    torch.testing.assert_close(got.double(), by_the_rule(tensors, 9, 70), atol=2e-6, rtol=2e-6)
