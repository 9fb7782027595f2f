"""The compiled CPU kernels against the rule in plain operations, at sizes with odd edges."""

from __future__ import annotations

import errno
import functools
import importlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import module_from_spec, spec_from_file_location
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from jointformer.ops import attention, kernels
from jointformer.ops.attention import joint_attention, plain_attention
from torch_threads import torch_threads

attention_cpu = pytest.importorskip("jointformer.ops.kernels.attention_cpu", reason="needs numba")
compiling = pytest.importorskip("jointformer.ops.kernels.compiling", reason="needs numba")
needs_tiles = pytest.mark.skipif(not attention_cpu.CAN_MULTIPLY, reason="needs a processor that multiplies bfloat16")


def tokens(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def joint_inputs(objects: int, heads: int, rows: int, own: int, memory: int, width: int = 64) -> list[Tensor]:
    """q, k, v and the memory's k, v, laid out as the network's: slices of one linear's output and of a bank."""
    side = tokens(0, objects, max(rows, own), 3, heads, width).permute(2, 0, 3, 1, 4)
    bank = tokens(1, 2, objects, heads, memory + 5, width)
    return [side[0][:, :, :rows], side[1][:, :, :own], side[2][:, :, :own], *bank[:, :, :, 3 : memory + 3]]


def attend(way: Callable[..., None], inputs: list[Tensor], topk: int | None, group: int) -> Tensor:
    objects = max(tensor.shape[0] for tensor in inputs)
    out = torch.full((objects, *inputs[0].shape[1:]), 7.0, dtype=inputs[0].dtype)
    way(*inputs, topk, group, out)
    return out


def by_the_rule(inputs: list[Tensor], topk: int, group: int) -> Tensor:
    """The rule on the inputs' values, all of it in float32."""
    q, k, v, mk, mv = (tensor.float() for tensor in inputs)
    return plain_attention(q, k, v, mk, mv, topk, group)


SIZES = [(1, 2, 70, 45, 96, 96, 5), (2, 1, 33, 16, 130, 65, 12), (1, 3, 64, 33, 300, 300, 120), (1, 1, 40, 1, 40, 8, 7)]


@pytest.mark.parametrize(("objects", "heads", "rows", "own", "memory", "group", "topk"), SIZES)
def test_rows_agree_with_plain_operations_in_float32(
    objects: int, heads: int, rows: int, own: int, memory: int, group: int, topk: int
) -> None:
    inputs = joint_inputs(objects, heads, rows, own, memory, width=24)
    got = attend(attention_cpu.attend_rows, inputs, topk, group)
    q, k, v, mk, mv = inputs
    torch.testing.assert_close(got, plain_attention(q, k, v, mk, mv, topk, group), atol=2e-6, rtol=1e-5)


@needs_tiles
@pytest.mark.parametrize(("objects", "heads", "rows", "own", "memory", "group", "topk"), SIZES)
def test_tiles_agree_with_the_rule_in_float32(
    objects: int, heads: int, rows: int, own: int, memory: int, group: int, topk: int
) -> None:
    inputs = [tensor.bfloat16() for tensor in joint_inputs(objects, heads, rows, own, memory)]
    error = (attend(attention_cpu.attend_tiles, inputs, topk, group) - by_the_rule(inputs, topk, group)).abs()
    # Scores within a thousandth of the threshold's may be taken for ties: rare, and small.
    assert error.quantile(0.99) < 6e-3
    assert error.mean() < 1e-3


@needs_tiles
def test_scores_are_not_rounded_to_bfloat16_before_keys_are_chosen_and_weighed() -> None:
    # Large scores, as of trained networks that match: rounded to 8 bits they would be off by a third of their unit.
    inputs = [tensor.bfloat16() for tensor in joint_inputs(1, 2, 64, 33, 300)]
    inputs[0], inputs[3] = inputs[0] * 4, inputs[3] * 2
    error = (attend(attention_cpu.attend_tiles, inputs, 60, 300) - by_the_rule(inputs, 60, 300)).abs()
    assert error.quantile(0.99) < 8e-3
    assert error.mean() < 1.5e-3


@needs_tiles
@pytest.mark.parametrize("common", [3.0, 12.0])
def test_keys_with_much_in_common_are_told_apart(common: float) -> None:
    # As a trained network's first block: the bound on scores is far above any of them, and so are all of them.
    inputs = [tensor.bfloat16() for tensor in joint_inputs(1, 2, 70, 75, 130)]
    for keys in (inputs[1], inputs[3]):
        keys += common * tokens(2, 1, 2, 1, 64)
    error = (attend(attention_cpu.attend_tiles, inputs, 12, 65) - by_the_rule(inputs, 12, 65)).abs()
    assert error.quantile(0.99) < 2e-2  # memory's keys are whole numbers of a unit that grows with their length
    assert error.mean() < 1.5e-3


def ways() -> list[object]:
    rows = pytest.param(attention_cpu.attend_rows, torch.float32, id="rows-float32")
    narrow = pytest.param(attention_cpu.attend_rows, torch.bfloat16, id="rows-bfloat16")
    return [rows, narrow, pytest.param(attention_cpu.attend_tiles, torch.bfloat16, id="tiles", marks=needs_tiles)]


@pytest.mark.parametrize(("way", "dtype"), ways())
def test_ties_at_the_threshold_are_all_kept(way: Callable[..., None], dtype: torch.dtype) -> None:
    inputs = [tensor.to(dtype) for tensor in joint_inputs(1, 1, 40, 40, 200)]
    inputs[3] = inputs[3][:, :, torch.arange(200) % 20].contiguous()  # every score ten times
    got = attend(way, inputs, 15, 200)
    q, k, v, mk, mv = (tensor.float() for tensor in inputs)
    torch.testing.assert_close(got.float(), plain_attention(q, k, v, mk, mv, 20, 200), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize(("way", "dtype"), ways())
def test_rows_of_equal_scores_keep_every_key_and_zeros_of_either_sign_are_equal(
    way: Callable[..., None], dtype: torch.dtype
) -> None:
    inputs = [tensor.to(dtype) for tensor in joint_inputs(1, 1, 40, 40, 100)]
    inputs[3] = torch.zeros_like(inputs[3])
    inputs[3][:, :, ::2] *= -1
    got = attend(way, inputs, 3, 100)
    q, k, v, mk, mv = (tensor.float() for tensor in inputs)
    torch.testing.assert_close(got.float(), plain_attention(q, k, v, mk, mv, None, 100), atol=1e-2, rtol=1e-2)


@pytest.mark.parametrize("where", ["q", "own key", "memory key", "infinite memory key"])
@pytest.mark.parametrize(("way", "dtype"), ways())
def test_nan_and_infinite_scores_spoil_their_own_rows_only(
    way: Callable[..., None], dtype: torch.dtype, where: str
) -> None:
    inputs = [tensor.to(dtype) for tensor in joint_inputs(1, 2, 40, 40, 100)]
    clean = attend(way, inputs, 9, 100)
    inputs = [tensor.clone() for tensor in inputs]
    number = float("inf") if where.startswith("infinite") else float("nan")
    rows: slice | Tensor = slice(None)
    if where == "q":
        inputs[0][0, 1, 7, 5], rows = number, slice(7, 8)
    elif where == "own key":
        inputs[1][0, 1, 39, 5] = number
    else:
        inputs[3][0, 1, 77, 5] = number
        rows = inputs[0][0, 1, :, 5] > 0 if where.startswith("infinite") else rows
    got = attend(way, inputs, 9, 100)
    assert got[0, 1, rows].isnan().all()
    assert torch.equal(got[0, 0], clean[0, 0])
    got[0, 1, rows] = clean[0, 1, rows]
    assert not got.isnan().any()


@pytest.mark.parametrize(("way", "dtype"), ways())
def test_wide_ranges_of_scores_neither_overflow_nor_vanish(way: Callable[..., None], dtype: torch.dtype) -> None:
    inputs = [tensor.to(dtype) for tensor in joint_inputs(1, 1, 40, 40, 100)]
    inputs[0] = inputs[0] * 300
    got = attend(way, inputs, 9, 100)
    q, k, v, mk, mv = (tensor.float() for tensor in inputs)
    error = (got.float() - plain_attention(q, k, v, mk, mv, 9, 100)).abs().amax(-1)
    assert (error < 0.05).float().mean() > 0.8  # one key takes all: a rounded near-tie may pick the other
    assert got.isfinite().all()


@needs_tiles
@pytest.mark.parametrize("memory", [0, 100])
def test_a_blocks_rows_do_not_depend_on_the_blocks_before_and_behind_them(memory: int) -> None:
    # Several blocks read the memory before their own keys. Three kinds of blocks in turn: as usual, with a row that is
    # not finite, and with scores so far below their bound that weights relative to it vanish.
    inputs = [tensor.bfloat16() for tensor in joint_inputs(1, 2, 600, 70, memory)]
    topk, group = (9, 50) if memory else (1, 1)
    q = inputs[0] = inputs[0].clone()
    spoilt, wide = (torch.arange(600) // 32 % 3 == kind for kind in (1, 2))
    broken = spoilt & (torch.arange(600) % 32 == 5)
    q[:, :, wide] *= 300
    q[:, :, broken, 3] = torch.nan
    together = attend(attention_cpu.attend_tiles, inputs, topk, group)
    starts = [*range(0, 568, 32), 568, 600]  # the last block ends with the last row
    for start, end in pairwise(starts):
        alone = attend(attention_cpu.attend_tiles, [q[:, :, start : start + 32], *inputs[1:]], topk, group)
        same = alone[:, :, : end - start]
        torch.testing.assert_close(together[:, :, start:end], same, atol=0, rtol=0, equal_nan=True)
    assert together[:, :, broken].isnan().all()
    error = (together - by_the_rule(inputs, topk, group)).abs()
    assert error[:, :, ~wide & ~spoilt].quantile(0.99) < 6e-3
    assert error[:, :, spoilt & ~broken].quantile(0.99) < 3e-2  # memory scores are rounded to bfloat16 there
    assert (error[:, :, wide] < 0.05).float().mean() > 0.8  # one key takes all: a rounded near-tie may pick the other


@pytest.mark.parametrize("kind", [np.int16, np.int32])
def test_a_rows_extremes_are_found_at_every_place(kind: type[np.signedinteger]) -> None:
    from numba import njit

    vectors = pytest.importorskip("jointformer.ops.kernels.topk_vectors")
    n, limits = 4 * vectors.VECTOR_BYTES // np.dtype(kind).itemsize, np.iinfo(kind)
    found = njit(lambda keys, n: vectors.extremes(keys, n))
    matrix = np.full((2, n + 7), limits.max, kind)  # what lies behind a row's part counts for nothing
    for place in range(n):
        keys = matrix[1:, 3:]
        keys[0, :n] = 5
        keys[0, place], keys[0, n - 1 - place] = limits.min, 9
        assert found(keys[0], n) == (keys[0, :n].min(), keys[0, :n].max())
        keys[0, place], keys[0, n - 1 - place] = limits.max, -9
        assert found(keys[0], n) == (keys[0, :n].min(), keys[0, :n].max())


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize(("way", "dtype"), ways())
def test_any_number_of_threads_gives_the_same_bits(way: Callable[..., None], dtype: torch.dtype, threads: int) -> None:
    inputs = [tensor.to(dtype) for tensor in joint_inputs(1, 2, 300, 40, 100)]
    with torch_threads(1):
        alone = attend(way, inputs, 9, 100)
        torch.set_num_threads(threads)
        assert torch.equal(attend(way, inputs, 9, 100), alone)
        assert torch.get_num_threads() == threads


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_large_inputs_take_the_kernels_and_small_ones_do_not(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    q, k, v, mk, mv = (tensor.to(dtype) for tensor in joint_inputs(1, 2, 40, 40, 100))
    asked = []
    kernels = attention._kernels

    def ask() -> object:
        asked.append(1)
        return kernels()

    monkeypatch.setattr(attention, "_kernels", ask)
    small = joint_attention(q, k, v, mk, mv, topk=9)
    assert not asked
    monkeypatch.setattr(attention, "FAST_FROM", 1)
    large = joint_attention(q, k, v, mk, mv, topk=9)
    assert asked
    assert not torch.equal(small, torch.zeros_like(small))
    torch.testing.assert_close(large, small, atol=3e-2 if dtype is torch.bfloat16 else 1e-5, rtol=0)


def test_objects_that_are_computed_together_take_the_way_that_one_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    def way(objects: int) -> object:
        q, k, _, mk, _ = joint_inputs(objects, 2, 40, 40, 100)
        return attention._way(q, k, mk, 9, 100)

    scores = 2 * 40 * 140
    for fast_from, expected in ((scores, attention_cpu.attend_rows), (scores + 1, attention._plain_in_parts)):
        monkeypatch.setattr(attention, "FAST_FROM", fast_from)
        assert way(1) is way(5) is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kernels_write_into_strided_buffers_and_under_inference_mode(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    monkeypatch.setattr(attention, "FAST_FROM", 1)
    q, k, v, mk, mv = (tensor.to(dtype) for tensor in joint_inputs(1, 2, 40, 40, 100))
    expected = joint_attention(q, k, v, mk, mv, topk=9)
    joined = torch.zeros(1, 40, 2, 64, dtype=dtype)
    joint_attention(q, k, v, mk, mv, topk=9, out=joined.transpose(1, 2))
    torch.testing.assert_close(joined.transpose(1, 2), expected, atol=0, rtol=0)
    odd = torch.zeros(1, 2, 64, 40, dtype=dtype).mT
    joint_attention(q, k, v, mk, mv, topk=9, out=odd)
    torch.testing.assert_close(odd, expected, atol=0, rtol=0)
    with torch.inference_mode():
        torch.testing.assert_close(joint_attention(q, k, v, mk, mv, topk=9), expected, atol=0, rtol=0)


@needs_tiles
def test_one_row_a_head_agrees_with_plain_operations_and_keeps_nan_to_its_head() -> None:
    q, k, v, _, _ = (tensor.bfloat16() for tensor in joint_inputs(2, 3, 1, 75, 1))
    kv = torch.cat([k, v], dim=3)  # rows that do not lie side by side
    k, v = kv[..., :64], kv[..., 64:]
    expected = plain_attention(q.float(), k.float(), v.float(), k[:, :, :0].float(), v[:, :, :0].float(), None, 1)
    with torch.no_grad():
        got = attention.attend_one_row(q, k, v)
    assert got is not None
    torch.testing.assert_close(got.float(), expected, atol=0.01, rtol=0.01)
    k[1, 2, 70] = torch.nan
    with torch.no_grad():
        spoilt = attention.attend_one_row(q, k, v)
    assert spoilt is not None
    assert spoilt[1, 2].isnan().all()
    spoilt[1, 2] = got[1, 2]
    assert torch.equal(spoilt, got)


@needs_tiles
def test_the_kernels_leave_pytorchs_own_use_of_the_tiles_alone() -> None:
    a, b = tokens(0, 96, 80).bfloat16(), tokens(1, 80, 64).bfloat16()
    inputs = [tensor.bfloat16() for tensor in joint_inputs(1, 1, 40, 40, 100)]
    before = a @ b
    with torch_threads(1):  # both in this thread
        attend(attention_cpu.attend_tiles, inputs, 9, 100)
        assert torch.equal(a @ b, before)


def test_a_function_that_cannot_be_cached_is_compiled_all_the_same() -> None:
    names: dict[str, Callable[..., None]] = {}
    exec("def fill(array): array[:] = 3", names)  # belongs to no file: Numba finds no folder for it
    array = np.zeros(2)
    compiling.compiled(names["fill"])(array)
    assert array.tolist() == [3, 3]


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Two functions of a file, beside which Numba keeps what it makes of them."""
    monkeypatch.setattr("numba.core.config.CACHE_DIR", "")
    path = tmp_path / "filling.py"
    path.write_text("def fill(array):\n    array[:] = 3\n\n\ndef enter(numbers):\n    pass\n")
    spec = spec_from_file_location("filling", path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "filling", module)  # where a pickle finds the functions
    spec.loader.exec_module(module)
    return vars(module)


def fill_and_enter(kept: dict[str, Any]) -> list[int]:
    """As a process does that has just been started; returns how often what is kept was used."""
    entry, array = compiling.compiled(kept["fill"]), np.zeros(2)
    entry(array)
    assert array.tolist() == [3, 3]
    kernel = compiling.TeamKernel(kept["enter"], entry)
    assert kernel.address
    return [sum(entry.stats.cache_hits.values()), kernel._code._cache_hits]


def test_threads_that_meet_a_new_kernel_together_enter_the_same_code(
    kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    both, made, compile_ = threading.Barrier(2), [], compiling.CFunc.compile

    def slowly(code: Any) -> None:
        made.append(code)
        time.sleep(0.05)
        compile_(code)

    monkeypatch.setattr(compiling.CFunc, "compile", slowly)
    kernel = compiling.TeamKernel(kept["enter"], None)

    def address(_: int) -> int:
        both.wait(10)
        return int(kernel.address)

    with ThreadPoolExecutor(2) as threads:
        first, second = threads.map(address, range(2))
    assert first == second == made[0].address
    assert len(made) == 1


@pytest.mark.parametrize("suffix", ["nbi", "nbc"])
@pytest.mark.parametrize("left", [0, 100])
def test_a_damaged_file_among_those_kept_is_made_anew(
    kept: dict[str, Any], tmp_path: Path, suffix: str, left: int
) -> None:
    assert [fill_and_enter(kept) for _ in range(2)] == [[0, 0], [1, 1]]
    files = list(tmp_path.glob(f"__pycache__/*.{suffix}"))
    assert len(files) == 2
    for file in files:
        file.write_bytes(file.read_bytes()[:left])
    assert [fill_and_enter(kept) for _ in range(2)] == [[0, 0], [1, 1]]


def test_on_a_full_disk_kernels_are_compiled_and_not_kept(
    kept: dict[str, Any], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("numba.core.caching.os.replace", full)
        assert [fill_and_enter(kept) for _ in range(2)] == [[0, 0], [0, 0]]
    said = [record.getMessage() for record in caplog.records if "cannot be kept" in record.getMessage()]
    assert len(said) == 4
    assert said[0].endswith("__pycache__: No space left on device")
    assert [fill_and_enter(kept) for _ in range(2)] == [[0, 0], [1, 1]]


ROWS_TWICE = """
import torch
from jointformer.ops.kernels import attention_cpu
torch.set_num_threads(1)
inputs = torch.randn(4, 1, 1, 300, 64, generator=torch.Generator().manual_seed(0))
out = torch.empty(1, 1, 100, 64)
with torch.inference_mode():
    attention_cpu.attend_rows(inputs[0][:, :, :100], *inputs, 60, 300, out)
print(out.numpy().tobytes().hex())
"""


@pytest.mark.slow
def test_the_process_that_compiles_the_rows_kernel_computes_what_later_ones_do(tmp_path: Path) -> None:
    alone = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    first, second = (
        subprocess.run(
            [sys.executable, "-c", ROWS_TWICE], env=alone, check=True, capture_output=True, text=True, timeout=280
        )
        for _ in range(2)
    )
    assert "compiling" in first.stderr
    assert "compiling" not in second.stderr
    assert first.stdout == second.stdout


def test_without_numba_the_plain_path_serves_every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "FAST_FROM", 1)
    monkeypatch.setattr(attention, "_kernels", lambda: None)
    q, k, v, mk, mv = joint_inputs(1, 2, 40, 40, 100)
    expected = plain_attention(q, k, v, mk, mv, 9, 100)
    torch.testing.assert_close(joint_attention(q, k, v, mk, mv, topk=9), expected)


@pytest.mark.parametrize(
    ("package", "error"),
    [
        ("numba", ImportError("Numba needs NumPy 2.4 or less")),
        ("numba", OSError("Could not find/load shared object file")),
        ("triton", ImportError("libtriton.so: undefined symbol")),
        ("triton", ModuleNotFoundError("No module named 'triton'", name="triton")),
    ],
)
def test_a_package_that_cannot_be_imported_is_said_once_and_done_without(
    package: str, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(name: str) -> object:
        assert name == package  # no module of ours, which would import it
        raise error

    asked, importing = kernels.kernel_module.__wrapped__, kernels._can_import.__wrapped__
    monkeypatch.setattr(kernels, "_can_import", functools.cache(importing))
    monkeypatch.setattr(importlib, "import_module", failing)
    assert asked("attention_cpu", package) is asked("maps_cpu", package) is None
    said = f"no kernels by {package} ({error}): PyTorch's operations serve instead, more slowly"
    assert [record.getMessage() for record in caplog.records] == [said]
