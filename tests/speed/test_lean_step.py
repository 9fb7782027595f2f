"""A step does no work twice, and a network that computes in bfloat16 finds the same masks: guarded without timing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from jointformer.evaluation import speed
from jointformer.evaluation.speed import PARTS, MachineRates, SpeedReport, measure_speed
from jointformer.model.cost import step_cost
from jointformer.model.fused import conv_relu, fuses, linear
from jointformer.track.config import TrackerConfig
from jointformer.track.loop import iter_segmentations
from jointformer.track.segmentation import Segmentation
from jointformer.track.tracker import Tracker
from seeded import MINI, seeded_model

H, W = 48, 64
PRODUCTS = ("aten.linear", "aten.matmul", "mkldnn._linear_pointwise")
CONVOLUTIONS = ("aten.conv2d", "mkldnn._convolution_pointwise")
#: What the objects of a frame share: the query's three patch convolutions, two depthwise ones and two skips ...
SHARED_CONVOLUTIONS = 3 + 2 + 2
#: ... and four products in either convolutional block, the last embedding, the first joint block's projections.
SHARED_PRODUCTS = 2 * 4 + 2
#: All operator calls of a step with one object, views included.
LEAN_CALLS = 750


class Calls(TorchDispatchMode):
    """Counts operator calls by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.counts[str(func).rsplit(".", 1)[0]] += 1
        return func(*args, **(kwargs or {}))

    def of(self, names: tuple[str, ...]) -> int:
        """Return how often any of these was called."""
        return sum(self.counts[name] for name in names)


def tracker(objects: int, dtype: torch.dtype = torch.float32, **settings: Any) -> Tracker:
    """Return a tracker three steps into a video of so many objects."""
    config = TrackerConfig(max_memory_frames=2, memory_every=2, topk=6, size=-1, **settings)
    tracker = Tracker(seeded_model(MINI).to(dtype), config)
    label_map = np.zeros((H, W), np.uint8)
    for i in range(objects):
        label_map[8:40, 4 + 16 * i : 16 + 16 * i] = i + 1
    for t in range(4):
        tracker.step(frame(t), label_map if t == 0 else None)
    return tracker


def frame(t: int) -> np.ndarray[Any, Any]:
    """Return frame t of a moving pattern."""
    pattern = np.random.default_rng(0).integers(0, 255, (H, W + 16, 3), dtype=np.uint8)
    return pattern[:, t : t + W]


def count_step(objects: int, dtype: torch.dtype = torch.float32, **settings: Any) -> Calls:
    """Return the operator calls of one step."""
    running = tracker(objects, dtype, **settings)
    with Calls() as calls:
        _ = running.step(frame(4)).label_map
    return calls


def test_a_step_computes_what_objects_share_once() -> None:
    one, three = count_step(1), count_step(3)
    for names, shared in ((CONVOLUTIONS, SHARED_CONVOLUTIONS), (PRODUCTS, SHARED_PRODUCTS)):
        per_object = (three.of(names) - one.of(names)) / 2
        assert per_object == one.of(names) - shared


@pytest.mark.parametrize("objects", [1, 3])
@pytest.mark.parametrize("objects_per_pass", [None, 2])
@pytest.mark.usefixtures("counted_products")
def test_grouping_objects_costs_no_operations(objects: int, objects_per_pass: int | None) -> None:
    running = tracker(objects, objects_per_pass=objects_per_pass)
    with FlopCounterMode(display=False) as counter:
        running.step(frame(4))
    assert counter.get_total_flops() == pytest.approx(step_cost(MINI, H, W, objects, 2).total, rel=0.02)


def test_a_step_stays_lean_in_operator_calls() -> None:
    calls = count_step(1)
    total = sum(calls.counts.values())
    assert total <= LEAN_CALLS, calls.counts.most_common(12)


def test_a_step_costs_as_much_late_in_a_video_as_early() -> None:
    running = tracker(1)
    totals = []
    for t in range(4, 12):
        with Calls() as calls:
            _ = running.step(frame(t)).label_map
        totals.append(sum(calls.counts.values()))
    assert totals[:2] == totals[-2:]


def test_fused_operations_agree_with_the_plain_ones() -> None:
    generator = torch.Generator().manual_seed(0)
    x, add = (torch.randn(1, 40, 32, generator=generator).bfloat16() for _ in range(2))
    weight, bias = (torch.randn(*shape, generator=generator).bfloat16() for shape in ((32, 32), (32,)))
    picture = torch.randn(1, 8, 12, 16, generator=generator).bfloat16().contiguous(memory_format=torch.channels_last)
    layer = torch.nn.Conv2d(8, 8, 3, padding=1).bfloat16().requires_grad_(False)

    def results() -> list[torch.Tensor]:
        return [
            linear(x, weight, bias),
            linear(x, weight, bias, gelu=True),
            linear(x, weight, bias, add=add),
            conv_relu(picture, layer),
        ]

    assert not fuses(x, weight)  # gradients are recorded
    plain = results()
    with torch.inference_mode():
        if not fuses(x, weight):
            pytest.skip("this processor or this build of PyTorch has no fused operations")
        fused = results()
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a.float(), b.float(), atol=0.02, rtol=0.02)


def test_bfloat16_finds_float32s_masks_wherever_those_are_no_tie() -> None:
    sure, same = [], []
    exact, rounded = tracker(2), tracker(2, torch.bfloat16)
    for t in range(4, 8):
        a, b = (running.step(frame(t)).prob for running in (exact, rounded))
        assert float((a - b).abs().mean()) < 0.01
        first, second = a.topk(2, dim=0).values
        sure.append(first - second > 0.05)
        same.append(a.argmax(dim=0) == b.argmax(dim=0))
    agreement = torch.cat(same)[torch.cat(sure)].float()
    assert len(agreement) > 1000
    assert float(agreement.mean()) > 0.995


@pytest.mark.parametrize(("per_pass", "most"), [(None, 0.0), (3, 1e-5)])
def test_an_objects_grouping_changes_no_more_than_the_order_of_sums(per_pass: int | None, most: float) -> None:
    results = []
    for each in (per_pass, 1):
        running = tracker(3, objects_per_pass=each)
        results.append(running.step(frame(4)).prob)
    torch.testing.assert_close(*results, atol=most, rtol=0)


def report(**settings: Any) -> SpeedReport:
    """Return the speed report of two steps."""
    config = TrackerConfig(max_memory_frames=1, topk=6, size=-1, **settings)
    return measure_speed(seeded_model(MINI), config, size=(H, W), steps=2, warmup=1, progress=False)


@pytest.fixture(autouse=True)
def rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own rates, which take most of a report's time."""
    monkeypatch.setattr(speed, "measure_rates", lambda device, dtype: MachineRates(1e9, 1e9))


def test_the_speed_report_names_every_part() -> None:
    found = report()
    assert set(found.parts) == set(PARTS)
    assert all(seconds > 0 for seconds in (*found.parts.values(), found.rest))
    data = found.as_data()
    assert data["flop"] == step_cost(MINI, H, W, 1, 2).total
    assert data["efficiency"] > 0
    assert data["fps"] == pytest.approx(1 / data["step"][0])
    assert data["throughput"] is None


def test_a_step_is_timed_without_clocks_in_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    clocks = []
    plain = Tracker.step

    def step(self: Tracker, *args: Any) -> Segmentation:
        clocks.append("read" in vars(self.model.convmae))
        return plain(self, *args)

    monkeypatch.setattr(Tracker, "step", step)
    report()
    assert clocks == [False] * (1 + 1 + 1 + 2) + [True] * speed.PART_STEPS


def test_clocks_wait_for_what_works_beside_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: waited.append(str(device)))
    monkeypatch.setattr(torch.mps, "synchronize", lambda: waited.append("mps"))
    for name in ("cuda:1", "mps", "cpu"):
        speed._synchronise(torch.device(name))
    assert waited == ["cuda:1", "mps"]


def test_a_gpus_frames_per_second_are_those_of_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def steps(*args: Any, **options: Any) -> Iterator[tuple[int, Segmentation]]:
        asked.append(options)
        return iter_segmentations(*args, **options)

    monkeypatch.setattr(speed, "on_gpu", lambda device: True)
    monkeypatch.setattr(speed, "iter_segmentations", steps)
    found = report()
    assert asked == [{"ahead": True}]
    assert found.throughput is not None
    assert found.fps == found.throughput > 0


@pytest.mark.slow
def test_a_compiled_networks_speed_is_measured_around_its_programs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointformer.model.compiled.BACKEND", "eager")
    torch.compiler.reset()
    found = report(compile=True)
    assert set(found.parts) == set(PARTS) - {"enhance"}
    assert all(seconds > 0 for seconds in (*found.parts.values(), found.rest))
