from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from train_helpers import ALONE, SMALL, small_network

from jointformer.errors import ConfigError
from jointformer.model.config import PRESETS
from jointformer.train import runs
from jointformer.train.distributed import Processes
from jointformer.train.plan import STILLS_CPU, STILLS_CPU_FINE, Curriculum, IterationPlan
from jointformer.train.runs import run_stills
from jointformer.train.settings import Settings
from jointformer.train.start import stage_title, starting_state
from jointformer.train.state import save_checkpoint
from jointformer.train.stills import StillsSource, stills_run


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six stills of coloured blocks over noise, in the layout of a manifest."""
    folder = tmp_path_factory.mktemp("stills")
    rng = np.random.default_rng(0)
    rows = []
    for n in range(6):
        picture = rng.integers(0, 255, (96, 128, 3), np.uint8)
        mask = np.zeros((96, 128), np.uint8)
        for i in (1, 2):
            y, x = rng.integers(8, 40), rng.integers(8, 60)
            mask[y : y + 36, x : x + 40] = i
            picture[mask == i] = rng.integers(0, 255, 3)
        Image.fromarray(picture).save(folder / f"{n}.png")
        Image.fromarray(mask).save(folder / f"{n}_mask.png")
        rows.append(("some", f"{n}.png", f"{n}_mask.png", 128, 96, 2))
    with open(folder / "manifest.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("set", "image", "mask", "width", "height", "objects"))
        writer.writerows(rows)
    return folder


def test_clips_have_the_plans_shape_and_depend_on_the_index_only(pack: Path) -> None:
    one, two = StillsSource(pack, 0), StillsSource(pack, 0)
    plan = IterationPlan(0, 0.0, 0, 2, 3, 2, 48, 0.5, width=80)
    for index in range(4):
        clip = one.sample(index, plan)
        assert clip.frames.shape == (3, 48, 80, 3)
        assert clip.label_maps.shape == (3, 48, 80)
        assert np.array_equal(clip.frames, two.sample(index, plan).frames)


def test_most_clips_fill_every_slot(pack: Path) -> None:
    source = StillsSource(pack, 0)
    plan = IterationPlan(0, 0.0, 0, 2, 2, 2, 64, 0.3)
    counts = [source.sample(i, plan).num_objects for i in range(12)]
    assert np.mean(counts) > 1.6


def test_a_run_on_stills_ends_with_half_precision_weights(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PRESETS, "small-test", SMALL)
    settings = Settings(tmp_path, model="small-test", precision="float32", log_every=1)
    assert run_stills(settings, ALONE, pack, iterations=2, minutes=None, load=0.3)
    given = json.loads((tmp_path / "config.json").read_text())["given"]
    assert (given["data"], given["load"], given["fine_tune"], given["processes"]) == (str(pack), 0.3, False, 1)
    from safetensors.torch import load_file

    weights = load_file(tmp_path / "weights.safetensors")
    assert all(tensor.dtype == torch.float16 for name, tensor in weights.items() if "pos_embed" not in name)


@pytest.fixture
def planners(monkeypatch: pytest.MonkeyPatch) -> list[Curriculum]:
    """The planners of the runs that are begun; none of them trains."""
    seen: list[Curriculum] = []

    def note(*args: Any) -> bool:
        seen.append(next(arg for arg in args if isinstance(arg, Curriculum)))
        return True

    monkeypatch.setitem(PRESETS, "small-test", SMALL)
    monkeypatch.setattr(runs, "run", note)
    return seen


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_processes_shares_every_iterations_clips(
    pack: Path, tmp_path: Path, planners: list[Curriculum], count: int
) -> None:
    processes = Processes(0, count, torch.device("cpu"))
    run_stills(Settings(tmp_path, model="small-test"), processes, pack, iterations=1, minutes=None)
    plans = [planners[0].plan(i, fraction, 0) for i in range(50) for fraction in (0.0, 0.3, 0.9)]
    assert all(len(plan.share(count - 1, count)) for plan in plans)
    if count <= 2:  # one process trains on the same batches as two
        assert plans == [STILLS_CPU.plan(i, fraction, 0) for i in range(50) for fraction in (0.0, 0.3, 0.9)]


def test_load_makes_every_iteration_larger_or_smaller(pack: Path, tmp_path: Path, planners: list[Curriculum]) -> None:
    for load in (1.0, 3.0):
        run_stills(Settings(tmp_path, model="small-test"), ALONE, pack, iterations=1, minutes=None, load=load)
    usual, threefold = (sum(planner.plan(i, 0.9, 0).batch for i in range(50)) for planner in planners)
    assert 2 < threefold / usual < 4  # one clip too many or too few where few fit


def test_fine_tuning_begins_with_large_pictures_and_needs_weights(
    pack: Path, tmp_path: Path, planners: list[Curriculum]
) -> None:
    with pytest.raises(ConfigError, match=r"^fine-tune: needs weights to begin with; give --init"):
        run_stills(Settings(tmp_path), ALONE, pack, iterations=1, minutes=None, fine_tune=True)
    assert planners == []
    run_stills(Settings(tmp_path, init="tiny"), ALONE, pack, iterations=1, minutes=None, fine_tune=True)
    plans = [planners[0].plan(i, fraction, 0) for i in range(50) for fraction in (0.0, 0.9)]
    assert plans == [STILLS_CPU_FINE.plan(i, fraction, 0) for i in range(50) for fraction in (0.0, 0.9)]
    assert max(plan.shape for plan in plans) == (384, 672)


def test_fine_tuning_and_a_run_from_scratch_do_not_go_on_from_each_other(
    pack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, Any]] = []

    def note(*args: Any) -> bool:
        told.append(args[-1])
        return True

    monkeypatch.setattr(runs, "run", note)
    settings = Settings(tmp_path, init="tiny", resume=True)
    for fine in (False, True):
        run_stills(settings, ALONE, pack, iterations=1, minutes=None, fine_tune=fine)
    model = small_network()
    save_checkpoint(tmp_path, 1, {"format": 1, "iteration": 1, "model": model.state_dict()}, 1)
    titles = [stage_title(about["stage"]) for about in told]
    for about, mine, other in zip(told, titles, titles[::-1], strict=True):
        (tmp_path / "config.json").write_text(json.dumps(about))
        assert starting_state(settings, tmp_path, model, mine) is not None
        with pytest.raises(
            ConfigError, match=f"holds another run, expected {other}, got {mine}; choose another folder"
        ):
            starting_state(settings, tmp_path, model, other)
    (tmp_path / "config.json").write_text('{"stage": "stills"}')  # an earlier version's, of either
    for title in titles:
        assert starting_state(settings, tmp_path, model, title) is not None
    with pytest.raises(ConfigError, match="expected own videos, got stills"):
        starting_state(settings, tmp_path, model, "own videos")


def test_fine_tuning_takes_smaller_steps_and_a_given_rate_is_taken() -> None:
    usual, fine, given = (
        stills_run(
            iterations=5, minutes=None, seed=0, precision="float32", workers=1, checkpointing=False, fine_tune=fine,
            lr=lr,
        )
        for fine, lr in ((False, None), (True, None), (True, 5e-4))
    )  # fmt: skip
    assert (usual.optimiser.lr, fine.optimiser.lr, given.optimiser.lr) == (1e-3, 3e-4, 5e-4)
    assert (usual.average, fine.average) == (0.998, 0.995)
