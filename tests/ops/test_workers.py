"""Kernels entered by several threads: every way gives the same bits."""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from jointformer.ops.kernels import workers
from torch_threads import torch_threads

linear_cpu = pytest.importorskip("jointformer.ops.kernels.linear_cpu", reason="needs numba")
attention_cpu = pytest.importorskip("jointformer.ops.kernels.attention_cpu", reason="needs numba")
needs_tiles = pytest.mark.skipif(not attention_cpu.CAN_MULTIPLY, reason="needs a processor that multiplies bfloat16")


@pytest.fixture(params=["PyTorch's threads", "threads of our own"])
def _team(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "threads of our own":
        monkeypatch.setattr(workers, "_openmp_parallel", lambda: None)
    elif workers._openmp_parallel() is None:
        pytest.skip("this PyTorch has no OpenMP")


@needs_tiles
@pytest.mark.usefixtures("_team")
@pytest.mark.parametrize("threads", [2, 3])
def test_several_threads_give_the_bits_of_one(threads: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = (torch.randn(n, 64, generator=generator).bfloat16() for n in (200, 96))
    bias = torch.zeros(96).bfloat16()
    q, k, v, mk, mv = (torch.randn(1, 3, n, 64, generator=generator).bfloat16() for n in (96, 96, 96, 70, 70))

    def results() -> list[torch.Tensor]:
        out = torch.empty_like(q)
        attention_cpu.attend_tiles(q, k, v, mk, mv, 9, 70, out)
        one = attention_cpu.attend_one_row(q[:, :, :1], mk, mv)
        return [linear_cpu.linear(x, (weight, bias), gelu=True), out, one]

    def same(turn: int) -> bool:
        torch.set_num_threads(threads)  # every thread of Python has a number of its own
        return all(torch.equal(a, b) for a, b in zip(results(), expected, strict=True))

    with torch_threads(1):
        expected = results()
        assert all(same(turn) for turn in range(20))  # whoever comes first may differ
        with ThreadPoolExecutor(2) as callers:  # at the same time
            assert all(callers.map(same, range(20)))


@pytest.mark.usefixtures("_team")
def test_work_is_handed_out_once_and_errors_reach_the_caller() -> None:
    done: list[int] = []

    def work(worker: int, n: int) -> None:
        assert 0 <= worker < 3
        done.append(60 // n)

    with torch_threads(3):
        workers.share_out(work, range(1, 51))
        assert torch.get_num_threads() == 3
        assert sorted(done) == sorted(60 // n for n in range(1, 51))
        with pytest.raises(ZeroDivisionError):
            workers.share_out(work, [1, 2, 0, 3])
        assert torch.get_num_threads() == 3


@pytest.mark.usefixtures("_team")
def test_no_two_threads_have_one_workers_number_at_a_time() -> None:
    busy: set[int] = set()
    seen: set[int] = set()

    def work(worker: int, n: int) -> None:
        assert worker not in busy
        busy.add(worker)
        seen.add(worker)
        time.sleep(0.002)
        busy.remove(worker)

    with torch_threads(3):
        workers.share_out(work, range(60))
    assert len(seen) > 1


@pytest.mark.usefixtures("_team")
@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_the_first_of_several_errors_is_raised(kind: type[BaseException]) -> None:
    def work(worker: int, n: int) -> None:
        time.sleep(0.02 * n)
        raise kind(n)

    with torch_threads(2), pytest.raises(kind, match=r"^0$"):
        workers.share_out(work, range(2))


def test_threads_of_our_own_leave_pytorch_one_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_openmp_parallel", lambda: None)
    seen: list[tuple[int, int]] = []

    def work(worker: int, n: int) -> None:
        seen.append((threading.get_ident(), torch.get_num_threads()))
        time.sleep(0.005)

    with torch_threads(2):
        workers.share_out(work, range(6))
        workers._pool(os.getpid(), 1).submit(torch.set_num_threads, 2).result()  # as something else may have done
        workers.share_out(work, range(6))
    assert len({thread for thread, _ in seen}) == 2
    assert {count for _, count in seen} == {1}


def test_buffers_are_kept_for_the_sizes_last_used() -> None:
    attention_cpu._local.__dict__.clear()
    for own in (32, 40, 48, 32, 56):
        q, memory = torch.ones(1, 1, own, 8), torch.ones(1, 1, 64, 8)
        attention_cpu.attend_rows(q, q, q, memory, memory, 4, 64, torch.empty_like(q))
    assert attention_cpu.MOST_SCRATCH == 3
    assert [sizes.own for sizes in attention_cpu._local.__dict__["_RowScratch"]] == [48, 32, 56]


@pytest.mark.usefixtures("_team")
def test_what_went_wrong_keeps_nothing_once_it_is_dealt_with() -> None:
    def fail() -> weakref.ref[torch.Tensor]:
        large = torch.zeros(3)

        def work(worker: int, n: int) -> None:
            large.add_(n)
            raise ValueError

        with contextlib.suppress(ValueError):
            workers.share_out(work, range(2))
        return weakref.ref(large)

    before = torch.get_num_threads()
    gc.disable()
    try:
        torch.set_num_threads(2)
        assert fail()() is None
    finally:
        gc.enable()
        torch.set_num_threads(before)


@pytest.mark.skipif(workers._openmp_parallel() is None, reason="this PyTorch has no OpenMP")
def test_no_interrupt_is_lost_however_it_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupt(Exception):
        pass

    def interrupt(*_: object) -> None:
        raise Interrupt

    forgotten: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", forgotten.append)
    armed, over = threading.Event(), threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        while not over.is_set():
            if armed.is_set():
                armed.clear()
                _thread.interrupt_main()
                sent += 1

    before, switching = torch.get_num_threads(), sys.getswitchinterval()
    handler = signal.signal(signal.SIGINT, interrupt)
    sender = threading.Thread(target=send)
    gc.disable()  # Hypothesis has Python call it then, where an interrupt is lost, too
    try:
        torch.set_num_threads(2)
        sys.setswitchinterval(1e-5)  # most come while the caller waits for the interpreter, on its way into its part
        sender.start()
        for turn in range(1, 121):
            with pytest.raises(Interrupt):  # noqa: PT012
                armed.set()
                for _ in range(3):
                    workers.share_out(lambda worker, task: None, range(2))
                while sent < turn:
                    pass
                time.sleep(0)
                for _ in range(10):
                    pass
    finally:
        over.set()
        sender.join()
        gc.enable()
        signal.signal(signal.SIGINT, handler)
        sys.setswitchinterval(switching)
        torch.set_num_threads(before)
    assert forgotten == []


@pytest.mark.usefixtures("_team")
def test_work_within_work_and_nothing_to_do() -> None:
    done: list[tuple[int, int]] = []
    with torch_threads(2):
        workers.share_out(lambda worker, task: done.append((worker, task)), [])
        assert done == []
        inner = lambda outer: lambda worker, task: done.append((outer, task))  # noqa: E731
        workers.share_out(lambda worker, task: workers.share_out(inner(task), range(3)), range(4))
    assert sorted(done) == [(outer, task) for outer in range(4) for task in range(3)]
