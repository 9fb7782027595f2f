"""Frames sent ahead and results fetched behind: what happens in which order, with streams that only take notes."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from jointformer.errors import DataError
from jointformer.track import Tracker, TrackerConfig, transfer
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import prepare_frame, stage_frame
from jointformer.track.loop import Steps, Stopwatch, iter_segmentations
from jointformer.track.transfer import one_behind
from seeded import MINI, seeded_model

CONFIG = TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1)
H, W = 40, 56
CPU = torch.device("cpu")


class NotingGpu:
    """Stands for torch.cuda: the work is done at once, on the CPU, and every wait is noted.

    clock: the milliseconds that the GPU takes to be at each of its marks, one after the other.
    """

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.streams = 0
        self.clock = itertools.count(0.0, 40.0)
        gpu = self

        class Event:
            def __init__(self, enable_timing: bool = False) -> None:
                self.time = next(gpu.clock) if enable_timing else None

            def record(self, stream: Any) -> None:
                self.stream = stream

            def synchronize(self) -> None:
                gpu.notes.append(f"host waits for {self.stream.name}")

            def elapsed_time(self, later: Any) -> float:
                return float(later.time - self.time)

        class Stream:
            def __init__(self, device: torch.device) -> None:
                self.name = ("upload", "download")[gpu.streams]
                gpu.streams += 1

            def wait_stream(self, other: Any) -> None:
                gpu.notes.append(f"{self.name} waits for {other.name}")

            def wait_event(self, event: Any) -> None:
                gpu.notes.append(f"{self.name} waits for {event.stream.name}")

        self.Event, self.Stream = Event, Stream
        self.main = Stream.__new__(Stream)
        self.main.name = "main"

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.notes.append(f"on {stream.name}")
        yield

    @contextmanager
    def device(self, device: torch.device) -> Iterator[None]:
        yield

    def current_stream(self, device: torch.device) -> Any:
        return self.main


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[NotingGpu]:
    noting = NotingGpu()
    monkeypatch.setattr(transfer, "gpu", noting)
    monkeypatch.setattr(transfer, "on_gpu", lambda device: True)
    monkeypatch.setattr("jointformer.track.frames.on_gpu", lambda device: True)
    monkeypatch.setattr("jointformer.track.loop.on_gpu", lambda device: True)
    monkeypatch.setattr(transfer, "pinned", lambda x: x)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda self, stream: None)
    transfer._streams.cache_clear()
    yield noting
    transfer._streams.cache_clear()


def video(frames: int = 5) -> list[np.ndarray[Any, Any]]:
    base = np.random.default_rng(0).integers(0, 255, (H + 20, W + 20, 3), dtype=np.uint8)
    return [base[2 * t : 2 * t + H, t : t + W].copy() for t in range(frames)]


def first_mask(index: int, known: tuple[int, ...]) -> np.ndarray[Any, Any] | None:
    mask = np.zeros((H, W), np.uint8)
    mask[4:20, 4:20], mask[22:36, 30:50] = 3, 9
    return mask if index == 0 else None


def label_maps(tracker: Steps, ahead: bool, **settings: Any) -> list[np.ndarray[Any, Any]]:
    results = iter_segmentations(tracker, enumerate(video()), first_mask, last=4, ahead=ahead, **settings)
    return [result.label_map for _, result in results]


def test_frames_go_ahead_and_only_who_reads_a_result_waits_for_it(gpu: NotingGpu) -> None:
    tracker = Tracker(seeded_model(MINI), CONFIG)
    watch = Stopwatch()
    assert len(label_maps(tracker, ahead=True, watch=watch)) == 5
    assert watch.frames == 5
    send, read = ["on upload"], ["main waits for upload"]
    fetch, wait = ["download waits for main", "on download"], ["host waits for download", "host waits for main"]
    step = [*read, *fetch]
    # Two frames are on their way before the first step, two steps before the first wait, and so on.
    middle = [*send, *step, *wait]
    assert gpu.notes == [*send, *send, *step, *middle * 3, *step, *wait, *wait]


def test_a_gpus_own_time_counts_however_little_the_host_waits_for_it(gpu: NotingGpu) -> None:
    watch, slow = Stopwatch(), Stopwatch()
    label_maps(Tracker(seeded_model(MINI), CONFIG), ahead=True, watch=watch)
    assert watch.seconds == pytest.approx(5 * 0.04)  # of each step, not between steps
    frames: list[Any] = [*video(3), DataError("damaged"), *video(2)]
    results = iter_segmentations(
        Tracker(seeded_model(MINI), CONFIG), enumerate(frames), first_mask, watch=slow, on_bad_frame="hold", ahead=True
    )
    assert [index for index, _ in results] == [0, 1, 2, 3, 4, 5]
    assert slow.frames == 5
    assert slow.seconds == pytest.approx(5 * 0.04, abs=0.01)  # a held frame takes the host a moment


def test_sent_ahead_or_not_the_label_maps_are_the_same(gpu: NotingGpu) -> None:
    def both(make: Any) -> None:
        for ahead, behind in zip(label_maps(make(), True), label_maps(make(), False), strict=True):
            assert ahead.dtype == behind.dtype
            assert np.array_equal(ahead, behind)

    model = seeded_model(MINI)
    both(lambda: Tracker(model, CONFIG))
    both(lambda: EnsembleTracker(model, CONFIG, [View(-1), View(32, flipped=True)]))


@pytest.mark.parametrize("read", [False, True])
def test_a_result_can_be_copied_and_pickled_whether_or_not_its_label_map_was_begun(gpu: NotingGpu, read: bool) -> None:
    """The event at the end of a download cannot be pickled, as PyTorch's cannot."""
    result = Tracker(seeded_model(MINI), CONFIG).step(video(1)[0], first_mask(0, ()))
    result.begin_label_map()
    if read:
        _ = result.label_map
    for other in (copy.deepcopy(result), pickle.loads(pickle.dumps(result))):
        assert (other.ids, other.size) == (result.ids, result.size)
        assert torch.equal(other.prob, result.prob)
        np.testing.assert_array_equal(other.label_map, result.label_map)


def test_a_staged_frame_is_prepared_as_the_frame_itself(gpu: NotingGpu) -> None:
    picture = video(1)[0]
    staged = stage_frame(picture, CPU)
    assert isinstance(staged, transfer.StagedFrame)
    for size in (-1, 32):
        assert torch.equal(prepare_frame(staged, size, CPU), prepare_frame(picture, size, CPU))
    flipped = np.ascontiguousarray(picture[:, ::-1])
    assert torch.equal(prepare_frame(staged.flipped(), -1, CPU), prepare_frame(flipped, -1, CPU))


def test_what_is_no_frame_is_left_for_the_tracker_to_refuse(gpu: NotingGpu) -> None:
    bad = np.zeros((4, 5), np.float64)
    assert stage_frame(bad, CPU) is bad


def test_an_error_comes_after_the_results_before_it(gpu: NotingGpu) -> None:
    def frames() -> Iterator[tuple[int, Any]]:
        yield from enumerate(video(2))
        yield 2, DataError("damaged")

    results = iter_segmentations(Tracker(seeded_model(MINI), CONFIG), frames(), first_mask, ahead=True)
    assert [next(results)[0], next(results)[0]] == [0, 1]
    with pytest.raises(DataError, match="damaged"):
        next(results)


def test_on_a_cpu_nothing_is_staged_or_delayed() -> None:
    picture = video(1)[0]
    assert stage_frame(picture, CPU) is picture
    tensor = torch.zeros(3)
    assert transfer.to_device(tensor, CPU) is tensor
    assert transfer.download(tensor).wait() is tensor
    taken = []

    def frames() -> Iterator[tuple[int, Any]]:
        for index, frame in enumerate(video(3)):
            taken.append(index)
            yield index, frame

    results = iter_segmentations(Tracker(seeded_model(MINI), CONFIG), frames(), first_mask, ahead=True)
    assert next(results)[0] == 0
    assert taken == [0]


def test_one_behind_hands_on_all_items_in_order_and_errors_last() -> None:
    assert list(one_behind([])) == []
    assert list(one_behind([1])) == [1]
    assert list(one_behind(range(4))) == [0, 1, 2, 3]

    def broken() -> Iterator[int]:
        yield 1
        yield 2
        raise ValueError("three")

    items = one_behind(broken())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(ValueError, match="three"):
        next(items)
