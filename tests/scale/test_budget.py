"""A memory budget is a promise: planned by formula, kept when measured, refused with the estimate."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jointformer.cli.flags import parse_memory_size
from jointformer.data.benchmarks import open_benchmark
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.anyvideo import overlay_bytes
from jointformer.evaluation.scale.budget import plan_videos, video_size
from jointformer.model.config import PRESETS
from jointformer.model.weights import load_model
from jointformer.ops import products
from jointformer.track.budget import MemoryPlan, VideoSize, bank_places, fit_budget, plan_memory
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View
from memory_plans import SMALL, USUAL, Case, measure
from scale.scale_helpers import Runs, make_videos
from watched import ENV, masks

VIDEO = VideoSize("cat", 100, (480, 854), 10)
BASE = 400 << 20


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("2GB", 2 * 10**9),
        ("1.5 GiB", 3 << 29),
        ("800mb", 800 * 10**6),
        ("123456", 123456),
        ("7KB", 7000),
        ("9B", 9),
        ("1TB", 10**12),
        ("3KiB", 3 << 10),
        ("5 MiB", 5 << 20),
        ("2TiB", 2 << 40),
    ],
)
def test_sizes_are_read_with_their_units(text: str, size: int) -> None:
    assert parse_memory_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "2 apples", "-1GB", "0", "1e9", "2GBGB", "9" * 40])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--memory-budget"):
        parse_memory_size(text)


@pytest.mark.parametrize(
    ("frames", "every", "memory", "places"),
    [(100, 5, 5, 6), (3, 5, 0, 5), (21, 5, 0, 10), (100, 5, 0, 40), (10_000, 5, 1, 2), (26, 5, 0, 10)],
)
def test_the_banks_room_is_that_of_the_bank(frames: int, every: int, memory: int, places: int) -> None:
    assert bank_places(TrackerConfig(max_memory_frames=memory, memory_every=every), frames) == places


def test_a_plan_takes_as_many_objects_per_pass_as_fit() -> None:
    def plan(budget: int) -> int | None:
        fitted = fit_budget(PRESETS["tiny"], TrackerConfig(), VIDEO, budget, base=BASE, itemsize=4)
        assert fitted.total <= budget
        return fitted.config.objects_per_pass

    assert plan(10**11) == VIDEO.objects
    least = plan_memory(PRESETS["tiny"], TrackerConfig(objects_per_pass=1), VIDEO, base=BASE, itemsize=4).total
    assert plan(least) == 1
    chosen = [plan(least + step * 15_000_000) or 10 for step in range(12)]
    assert chosen == sorted(chosen)
    assert 1 < chosen[6] < 10


@pytest.mark.parametrize(("passes", "said"), [(None, "all objects at once"), (3, "3 objects per pass")])
def test_a_plan_says_what_takes_how_much(passes: int | None, said: str) -> None:
    config = TrackerConfig(objects_per_pass=passes)
    plan = MemoryPlan("cat", 400 * 10**6, 1_250 * 10**6, 30 * 10**6, 20 * 10**6, config)
    assert str(plan) == (
        f"1.70 GB for cat: 400 MB program and network, 1.25 GB memory bank, 30 MB a step with {said}, 20 MB pictures"
    )
    assert str(replace(plan, before=10**10)).startswith("10.00 GB for cat: 400 MB program")


def test_pictures_are_resized_only_where_the_network_sees_another_size() -> None:
    def pictures(size: int, objects: int = 1) -> int:
        video = VideoSize("cat", 100, (480, 854), objects)
        return plan_memory(PRESETS["tiny"], TrackerConfig(size=size), video, base=BASE, itemsize=4).pictures

    assert pictures(480) == pictures(-1) == 480 * 854 * (3 * 6 + 24)
    assert pictures(240) - pictures(480) == 2 * 2 * 480 * 854 * 4
    assert pictures(240, objects=40) - pictures(480) == 2 * 16 * 480 * 854 * 4


def test_an_overlays_encoder_counts() -> None:
    def total(writing: int) -> int:
        video = VideoSize("cat", 100, (480, 854), 2, writing)
        return plan_memory(PRESETS["tiny"], TrackerConfig(), video, base=BASE, itemsize=4).total

    assert total(overlay_bytes((480, 854))) - total(0) > 40 * 10**6


def test_what_cannot_fit_is_refused_with_the_estimate_and_what_would() -> None:
    many = VideoSize("crowd", 1000, (480, 854), 200)
    with pytest.raises(
        ConfigError, match=r"expected at least [\d.]+ GB for crowd: .* memory bank, .*got 2.00 GB; "
    ) as e:
        fit_budget(PRESETS["base"], TrackerConfig(), many, 2 * 10**9, base=BASE, itemsize=4)
    assert "\n" not in str(e.value)


def test_a_refusal_names_the_memory_that_would_fit() -> None:
    least = TrackerConfig(max_memory_frames=1, objects_per_pass=1)
    room = plan_memory(PRESETS["base"], least, VIDEO, base=BASE, itemsize=4).total + 10**6
    with pytest.raises(ConfigError, match="--max-memory-frames 1 would fit"):
        fit_budget(PRESETS["base"], TrackerConfig(max_memory_frames=5), VIDEO, room, base=BASE, itemsize=4)


def test_a_video_too_narrow_for_the_size_is_named_and_is_no_advice() -> None:
    line = VideoSize("line", 10, (1, 5000), 1)
    with pytest.raises(DataError, match="line: the frame is too narrow for size 480"):
        fit_budget(PRESETS["tiny"], TrackerConfig(), line, 2 * 10**9, base=BASE, itemsize=4)
    own = TrackerConfig(size=-1, max_memory_frames=1)
    with pytest.raises(ConfigError, match="give more, or track fewer objects at a time"):
        fit_budget(PRESETS["tiny"], own, line, BASE, base=BASE, itemsize=4)


def plans(
    views: list[View], budget: int, video: VideoSize = VIDEO, device: str = "cpu", workers: int = 0
) -> MemoryPlan:
    """The plan of one video in several views, in a process that holds 400 MiB before the first frame."""
    return all_plans(views, budget, [video], device, workers)[video.name]


def all_plans(
    views: list[View], budget: int, videos: list[VideoSize], device: str = "cpu", workers: int = 0, onednn: bool = False
) -> dict[str, MemoryPlan]:
    model: Any = SimpleNamespace(config=PRESETS["tiny"], dtype=torch.float32, device=torch.device(device))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jointformer.evaluation.scale.budget.base_within", lambda *_: (BASE, 0))
        patch.setattr(products, "onednn_is_faster", lambda: onednn)
        return plan_videos(model, TrackerConfig(max_memory_frames=5), views, videos, budget, workers)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    "views", [[View(480), View(240)], [View(240), View(480)], [View(480), View(480, True)]], ids=str
)
def test_no_plan_of_several_views_exceeds_its_budget(views: list[View], device: str) -> None:
    kept = 0
    for budget in range(1_000_000_000, 6_000_000_000, 25_000_000):
        try:
            plan = plans(views, budget, device=device)
        except ConfigError:
            assert not kept  # what fits into less fits into more
            continue
        kept += 1
        assert plan.total <= budget == plan.config.memory_limit
    assert 10 < kept < 190


def test_several_views_have_all_their_banks_and_one_step_at_a_time() -> None:
    budget = 10**10
    large, small, both = (plans(views, budget) for views in ([View(480)], [View(240)], [View(240), View(480)]))
    assert both.bank == large.bank + small.bank
    assert both.base == large.base == BASE
    assert both.work - large.work == 11 * 480 * 854 * 8  # the mean of ten objects' and the background's probabilities
    assert both.total < large.total + small.total - BASE
    assert plans([View(480)], budget, device="cuda").config.objects_per_pass is None  # all ten at once
    assert plans([View(480)], budget, device="cpu").config.objects_per_pass == 1


@pytest.mark.parametrize(("device", "onednn", "kept"), [("cpu", True, 22 << 20), ("cpu", False, 0), ("cuda", True, 0)])
def test_code_that_is_kept_for_other_sizes_of_frames_counts(device: str, onednn: bool, kept: int) -> None:
    one, two = VideoSize("one", 10, (480, 854), 1), VideoSize("two", 10, (480, 640), 1)
    third, larger = VideoSize("third", 10, (480, 640), 1), VideoSize("larger", 10, (960, 1708), 1)  # the same to it
    found = all_plans([View(480)], 10**10, [one, two, third, larger], device, onednn=onednn)
    assert {plan.base for plan in found.values()} == {BASE + kept}
    many = [VideoSize(str(width), 10, (480, width), 1) for width in range(480, 4000, 32)]
    assert all_plans([View(480)], 10**11, many, device, onednn=onednn)["480"].base - BASE == (640 << 20 if kept else 0)


def test_processes_share_what_the_first_one_leaves() -> None:
    alone = plans([View(480)], 10**10, device="cuda")
    shared = plans([View(480)], BASE + 4 * alone.total, device="cuda", workers=4)
    assert shared == replace(alone, config=replace(alone.config, memory_limit=alone.total))
    with pytest.raises(ConfigError, match="the memory budget is too small") as refused:
        plans([View(480)], 4 * BASE, workers=4)
    assert refused.value.parts["got"] == "315 MB for each process besides this one, of 1.68 GB"


def test_a_process_beside_the_first_has_what_that_one_leaves() -> None:
    alone = plans([View(480)], 10**10, device="cuda")
    for budget, limit in ((BASE + alone.total, alone.total), (10**10, 10**10 - BASE)):
        found = plans([View(480)], budget, device="cuda", workers=1)
        assert found == replace(alone, config=replace(alone.config, memory_limit=limit))


@pytest.mark.parametrize("here", ["cpu", "cuda"])
def test_a_plan_is_for_the_device_of_those_that_work(here: str, mini_weights: Path) -> None:
    """A GPU's processes hold the network there and no program; this one holds nothing there, or it does so as well."""
    network = load_model(mini_weights, device="cpu", precision="float32")
    tensors = [*network.parameters(), *network.buffers()]
    on_gpu = sum(tensor.nbytes for tensor in tensors)
    model: Any = SimpleNamespace(
        config=network.config, dtype=network.dtype, device=torch.device(here), parameters=lambda: tensors, buffers=list
    )
    one = VideoSize("cat", 20, (48, 64), 3)
    views, budget = [View(-1)], 4 * 10**10  # whatever the tests before have left in this process
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, "memory_allocated", lambda device: on_gpu)
        patch.setattr(torch.cuda, "max_memory_allocated", lambda device: on_gpu)
        gpu = plan_videos(model, TrackerConfig(), views, [one], budget, 4, "cuda")["cat"]
        cpu = plan_videos(model, TrackerConfig(), views, [one], budget, 4, "cpu")["cat"]
    assert (gpu.base, gpu.config.objects_per_pass) == (on_gpu, None)
    assert gpu.config.memory_limit == (budget // 4 if here == "cpu" else (budget - on_gpu) // 4)
    assert cpu.config.objects_per_pass == 1
    assert cpu.base > on_gpu + (100 << 20), "the program counts where the network is in the same memory"
    assert cpu.config.memory_limit == (budget - cpu.base) // 4


def test_a_budget_changes_no_mask(
    runs: Runs, undisturbed: dict[str, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert runs.here(tmp_path / "out", "--threads", "1", "--memory-budget", "64GB") == 0
    assert masks(tmp_path / "out") == undisturbed


@pytest.mark.slow
@pytest.mark.timeout(2500)
@pytest.mark.parametrize(
    "case",
    [
        Case("tiny", SMALL),
        Case("tiny", SMALL, 8, 8),
        Case("tiny", SMALL, 12, 2),
        Case("tiny", USUAL, 1, 1, 2),
        Case("small", SMALL, 4, 4),
        Case("base", SMALL, 4, 4),
        Case("base", USUAL),
        Case("tiny", USUAL, 10, 4),
        Case("base", USUAL, 3, 1, 1, "bfloat16", 2),
    ],
    ids=str,
)
def test_the_measured_peak_is_within_10_percent_under_the_plan(case: Case) -> None:
    if case.precision == "bfloat16":
        kernels = pytest.importorskip("jointformer.ops.kernels.attention_cpu", reason="needs numba")
        if not kernels.CAN_MULTIPLY:
            pytest.skip("needs a processor that multiplies bfloat16")
    shares = []
    for _ in range(3):  # peaks of one case lie up to 3 % apart from process to process; the plan is for the highest
        found = measure(case)
        shares.append(found["peak"] / found["plan"])
        print(case, {name: f"{value / 1e6:.0f} MB" for name, value in found.items()})
        assert shares[-1] <= 1
        if shares[-1] >= 0.9:
            return
    pytest.fail(f"{case}: peaks are {shares} of the plan")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_hundred_objects_work_within_a_budget_and_the_plan_is_said_first(
    mini_weights: Path, tmp_path: Path
) -> None:
    import numpy as np

    from jointformer.data.masks import write_mask

    runs = Runs(make_videos(tmp_path / "tree", [4]), mini_weights)
    ids = np.zeros((24, 32), np.uint8)
    ids.reshape(-1)[:600] = np.arange(1, 201).repeat(3)
    write_mask(tmp_path / "tree/Annotations/v0/00000.png", ids)
    command = [part for part in runs.command(tmp_path / "out", "--memory-budget", "2GB") if part != "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, env=ENV, timeout=800)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("memory: at most ")
    manifest = json.loads((tmp_path / "out/run.json").read_text())
    assert manifest["videos"]["v0"]["objects"] == 200
    assert manifest["peak_memory_bytes"] < 2 * 10**9


def test_soft_scores_that_wait_to_be_written_count(tmp_path: Path) -> None:
    (video,) = open_benchmark("G", "val", "", generic_path=make_videos(tmp_path, [2])).videos
    plain, scored = video_size(video), video_size(video, save_scores=True)
    assert plain.writing == 0
    # One object: what waits is at least eight frames' scores in float16.
    assert scored.writing > 8 * 2 * video.size[0] * video.size[1]
