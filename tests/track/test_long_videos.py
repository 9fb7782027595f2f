"""Long videos cost per frame what short ones do: in memory and in time."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from time import thread_time

import numpy as np
import pytest
import torch

from jointformer.model.config import ModelConfig
from jointformer.model.weights import load_model
from jointformer.track import Tracker, TrackerConfig
from seeded import seeded_model
from torch_threads import torch_threads

NANO = ModelConfig("nano", (8, 12, 24), (1, 1, 2), heads=1)
H, W = 32, 48

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="reads the resident size from /proc"),
]


def resident_bytes() -> int:
    """Return this process's resident size."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


class Yardstick:
    """What a fixed piece of like work takes beside the steps: the machine itself may be faster or slower late."""

    def __init__(self) -> None:
        self._layer = torch.nn.Conv2d(24, 24, 3, padding=1).eval()
        self._input = torch.zeros(1, 24, H, W)

    def seconds(self) -> float:
        """Return the processor's seconds of one piece."""
        start = thread_time()
        with torch.inference_mode():
            for _ in range(8):
                self._layer(self._input)
        return thread_time() - start


def box(y: int, x: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + 10, x : x + 10] = True
    return mask


@pytest.mark.timeout(3600)
def test_twenty_thousand_steps_with_objects_that_come_and_go_grow_neither_memory_nor_time() -> None:
    tracker = Tracker(seeded_model(NANO), TrackerConfig(max_memory_frames=3, topk=8, size=-1))
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (H, W, 3), dtype=np.uint8) for _ in range(7)]
    settled, times, yardstick, pieces = 0, [], Yardstick(), []
    for t in range(20_000):
        given = {1: box(2, 2)} if t == 0 else None
        if t % 50 == 10:
            given = {2 + (t // 50) % 5: box(12, 20)}
        elif t % 50 == 40:
            tracker.remove_object(2 + (t // 50) % 5)
        elif t % 500 == 333:
            given = {1: box(4, 30)}  # a correction
        start = thread_time()
        tracker.step(frames[t % 7], given)
        times.append(thread_time() - start)
        if t % 10 == 0:
            pieces.append(yardstick.seconds())
        if t == 500:
            settled = resident_bytes()
    growth = resident_bytes() / settled - 1
    assert growth < 0.01, f"resident size grew by {growth:.2%} after the first 500 steps"
    early = np.median(times[500:4500]) / np.median(pieces[50:450])
    late = np.median(times[-4000:]) / np.median(pieces[-400:])
    assert late < 1.3 * early, f"a step took {early:.2f} yardsticks early and {late:.2f} late"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Frames this small gain nothing from more threads, which would wait for each other on a busy machine."""
    with torch_threads(1):
        yield


@pytest.mark.timeout(3600)
def test_ten_thousand_steps_of_the_embedded_model_end_as_fast_as_they_began(one_thread: None) -> None:
    tracker = Tracker(load_model("tiny", device="cpu"), TrackerConfig(max_memory_frames=3, topk=8, size=-1))
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (H, W, 3), dtype=np.uint8) for _ in range(7)]
    times, yardstick, pieces = [], Yardstick(), []
    for t in range(10_000):
        start = thread_time()
        tracker.step(frames[t % 7], {1: box(2, 2)} if t == 0 else None)
        times.append(thread_time() - start)
        pieces.append(yardstick.seconds())
    early, late = (np.median(times[part]) / np.median(pieces[part]) for part in (slice(100, 1100), slice(-1000, None)))
    assert late < 1.3 * early, f"a step took {early:.2f} yardsticks early and {late:.2f} late"
