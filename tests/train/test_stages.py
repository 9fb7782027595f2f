from __future__ import annotations

import argparse
from dataclasses import replace

import pytest

from jointformer.cli import train, train_published
from jointformer.cli.train_published import STAGE_FLAGS, build_parser
from jointformer.errors import ConfigError
from jointformer.train.config import RunConfig
from jointformer.train.datasets import STILL_SETS, VIDEO_SETS
from jointformer.train.plan import (
    BLIND_COST,
    CALM_FRAMES,
    DEAREST,
    STILLS_CPU,
    STILLS_CPU_FINE,
    STILLS_GPU,
    STILLS_GPU_FINE,
    Curriculum,
    IterationPlan,
    Phase,
)
from jointformer.train.settings import Settings
from jointformer.train.stages import STAGES, overridden, own_stage, parse_stages, with_total


def test_the_stages_are_the_published_ones() -> None:
    rows = {
        n: (s.batch, s.iterations, s.fine_tune, s.steps, s.frames, s.memory_frames, s.warm) for n, s in STAGES.items()
    }
    assert rows == {
        0: (24, 150_000, 0, (100_000,), 3, 2, (20_000, 70_000)),
        1: (12, 300_000, 0, (200_000,), 4, 2, (20_000, 70_000)),
        2: (12, 150_000, 10_000, (100_000,), 4, 2, (20_000, 70_000)),
        3: (12, 50_000, 5_000, (35_000,), 4, 2, (7_000, 23_000)),
        4: (12, 30_000, 10_000, (20_000,), 4, 2, (4_000, 13_000)),
        5: (12, 150_000, 10_000, (100_000,), 4, 2, (20_000, 70_000)),
        6: (12, 5_000, 5_000, (3_000,), 4, 2, (1_000, 2_500)),
        7: (12, 150_000, 10_000, (100_000,), 4, 2, (20_000, 70_000)),
        8: (8, 150_000, 10_000, (120_000,), 8, 3, (20_000, 70_000)),
        9: (8, 200_000, 10_000, (160_000, 180_000), 8, 3, (30_000, 100_000)),
    }
    assert STAGES[0].objects == 1
    assert {s.objects for n, s in STAGES.items() if n} == {3}
    assert {s.size for s in STAGES.values()} == {384}
    assert {s.lr for s in STAGES.values()} == {5e-5}
    assert [n for n, s in STAGES.items() if s.void] == [4]
    assert [n for n, s in STAGES.items() if s.nonempty_start] == [9]


def test_the_stages_take_the_published_data_as_often_as_published() -> None:
    stills = {"fss": 1, "duts_tr": 1, "duts_te": 1, "ecssd": 1, "big_small": 5, "hrsod_small": 5}
    videos = {"davis": 5, "youtube": 1}
    single = {
        n: {key: 1} for n, key in ((1, "bl30k"), (4, "vost"), (5, "mose"), (6, "lvos"), (7, "visor"), (8, "burst"))
    }
    mixed = {"davis": 2, "youtube": 1, "mose": 1, "burst": 1, "ovis": 1}
    assert {n: dict(s.data) for n, s in STAGES.items()} == {0: stills, 2: videos, 3: videos, 9: mixed, **single}
    assert {key: row.every for key, row in VIDEO_SETS.items() if row.every > 1} == {
        "youtube": 5, "vost": 5, "lvos": 5, "ovis": 3
    }  # fmt: skip
    assert {key: row.crop for key, row in VIDEO_SETS.items() if row.crop != (0.36, 1.0)} == {"bl30k": (0.25, 1.0)}
    for rule in ("affine", "drop_small", "void"):
        odd = [key for key, row in VIDEO_SETS.items() if getattr(row, rule) != getattr(VIDEO_SETS["davis"], rule)]
        assert odd == (["vost"] if rule == "void" else ["bl30k"])


def test_every_data_set_of_a_stage_is_known() -> None:
    for stage in STAGES.values():
        for key, times in stage.data:
            assert key in VIDEO_SETS or key in STILL_SETS
            assert times >= 1


def test_frame_distances_grow_along_the_run_and_shrink_at_its_end() -> None:
    stage = STAGES[2]
    skips = [stage.max_skip(round(share * stage.iterations)) for share in (0, 0.05, 0.1, 0.29, 0.3, 0.89, 0.9, 1.0)]
    assert skips == [5, 5, 10, 10, 15, 15, 5, 5]
    shares = (0.0, 0.09, 0.11, 0.29, 0.31, 0.79, 0.81)
    assert [STAGES[1].max_skip(round(share * STAGES[1].iterations)) for share in shares] == [5, 5, 10, 10, 15, 15, 5]


def test_a_stages_plan_follows_the_warm_up_and_the_fine_tune_phase() -> None:
    stage = STAGES[2]
    assert stage.plan(0, 0.0, 0).hardest is None
    assert stage.plan(45_000, 0.3, 0).hardest == pytest.approx(0.575)
    last = stage.plan(155_000, 0.99, 10)
    assert (last.hardest, last.fine_tune, last.first_clip, last.next_clip) == (0.15, True, 10, 22)


def test_stages_are_named_by_their_digits() -> None:
    assert [s.number for s in parse_stages("02")] == [0, 2]
    assert [s.number for s in parse_stages("s012")] == [0, 1, 2]
    for wrong in ("two", "", "s", ",", "0,,2", "0,10", "1\n"):
        with pytest.raises(ConfigError, match="stages"):
            parse_stages(wrong)


def test_a_stage_beyond_the_published_ten_is_named_by_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STAGES, 12, replace(STAGES[2], number=12, title="more videos"))
    assert [s.number for s in parse_stages("0,12,2")] == [0, 12, 2]
    assert [s.number for s in parse_stages("12,")] == [12]
    assert train_published._changes(build_parser().parse_args(["--s2_lr", "1e-4"]), 12, (1, 2)) == {}


def test_a_field_out_of_range_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="stage 2: size"):
        overridden(STAGES[2], {"size": 100})
    with pytest.raises(ConfigError, match="stage 2: objects: too many, expected at most 254"):
        overridden(STAGES[2], {"objects": 300})
    with pytest.raises(ConfigError, match="stage 2: frames"):
        overridden(STAGES[2], {"frames": 1})
    with pytest.raises(ConfigError, match="stage 2: fine_tune"):
        overridden(STAGES[2], {"fine_tune": -1})
    with pytest.raises(ConfigError, match="stage 2: warm"):
        overridden(STAGES[2], {"warm": (500, 500)})
    assert overridden(STAGES[2], {"frames": 2, "fine_tune": 0, "size": 32}).total == 150_000


def test_a_stage_of_fewer_iterations_keeps_its_proportions_and_takes_no_more() -> None:
    stage = with_total(STAGES[6], 1000)
    assert (stage.iterations, stage.fine_tune, stage.steps, stage.warm) == (500, 500, (300,), (100, 250))
    for stage in STAGES.values():
        assert with_total(stage, stage.total) == stage
        assert [with_total(stage, total).total for total in (1, 7, 1001)] == [1, 7, 1001]
    with pytest.raises(ConfigError, match="stage 6: iterations"):
        with_total(STAGES[6], 0)


def test_iterations_on_the_command_line_are_all_that_a_stage_takes() -> None:
    parser = argparse.ArgumentParser()
    train.add_arguments(parser)
    short = train._stages(parser.parse_args(["--stages", "26", "--iterations", "32", "--batch", "4"]))
    assert [(s.total, s.batch, s.steps) for s in short] == [(32, 4, (20,)), (32, 4, (10,))]
    assert train._stages(parser.parse_args(["--stages", "26"])) == [STAGES[2], STAGES[6]]


def test_a_command_line_without_flags_and_settings_without_values_are_the_same() -> None:
    parser = argparse.ArgumentParser()
    train.add_run_arguments(parser)
    args = parser.parse_args([])
    assert train.settings_from(args) == Settings(args.out)
    config = RunConfig(iterations=1)
    assert Settings(args.out).apply(config) == config


def test_the_published_flags_are_understood() -> None:
    args = build_parser().parse_args(
        ["--stages", "02", "--exp_id", "mine", "--load_network", "s0", "--s2_batch_size", "6", "--s2_steps", "10", "20"]
    )
    assert (args.stages, args.exp_id, args.load_network, args.s2_batch_size, args.s2_steps) == (
        "02",
        "mine",
        "s0",
        6,
        [10, 20],
    )
    for digit in range(10):
        for name in STAGE_FLAGS:
            assert hasattr(args, f"s{digit}_{name}")


def test_processes_share_a_batch_however_many_they_are() -> None:
    plan = IterationPlan(3, 0.1, 100, 12, 3, 1, 64)
    for processes in (1, 2, 3, 4):
        assert [i for rank in range(processes) for i in plan.share(rank, processes)] == list(range(100, 112))
    with pytest.raises(ConfigError, match="batch"):
        plan.share(0, 5)


@pytest.mark.parametrize("curriculum", [STILLS_CPU, STILLS_GPU, STILLS_GPU_FINE])
def test_the_curriculum_gives_every_iteration_about_the_same_work(curriculum: Curriculum) -> None:
    for fraction in (0.0, 0.2, 0.5, 0.9, 1.0):
        plans = [curriculum.plan(i, fraction, 0) for i in range(200)]
        assert plans == [curriculum.plan(i, fraction, 0) for i in range(200)]
        work = [p.batch * p.frames * p.slots * p.shape[0] * p.shape[1] / 128**2 for p in plans]
        assert max(work) < 6 * min(work)
        assert all(p.batch % curriculum.multiple == 0 for p in plans)


@pytest.mark.parametrize("curriculum", [STILLS_CPU, STILLS_CPU_FINE, STILLS_GPU, STILLS_GPU_FINE])
def test_objects_and_blind_frames_come_as_often_as_the_last_phase_says(curriculum: Curriculum) -> None:
    phase, plans = curriculum.phases[-1], [curriculum.plan(i, 0.99, 0) for i in range(1000)]
    for wanted, drawn in ((phase.objects, [p.slots for p in plans]), (phase.blind, [p.blind for p in plans])):
        assert {n: drawn.count(n) / 1000 for n in drawn} == {
            n: pytest.approx(wanted.count(n) / len(wanted), abs=0.05) for n in wanted
        }
    assert sum(plan.slots > 1 for plan in plans) > 550
    assert {plan.shape for plan in plans} == set(phase.shapes)
    for p in plans:
        clips = p.batch * p.slots * (p.frames - p.blind + BLIND_COST * p.blind)
        assert clips * p.shape[0] * p.shape[1] / 128**2 <= DEAREST * phase.load


def test_what_no_iteration_can_hold_is_made_of_the_smallest_clips() -> None:
    phase = Phase(1.0, ((64, 64), (32, 32), (64, 96)), (4, 3), (3,), 1, (0.8, 0.8))
    plan = Curriculum((phase,), multiple=64).plan(0, 0.5, 0)
    assert (plan.shape, plan.frames, plan.batch) == ((32, 32), 3, 64)


def test_difficulty_rises_through_the_curriculum() -> None:
    plans = [STILLS_CPU.plan(0, f / 100, 0) for f in range(101)]
    values = [round(plan.difficulty * (1 + plan.blind / CALM_FRAMES), 9) for plan in plans]
    assert values == sorted(values)
    assert values[0] == 0


def test_within_a_phase_difficulty_runs_from_its_first_value_to_its_last() -> None:
    shape = ((64, 64),)
    phases = Phase(0.5, shape, (2,), (1,), 64, (0.0, 0.2)), Phase(1.0, shape, (3,), (2,), 64, (0.4, 0.8), 0.3)
    plans = [Curriculum(phases).plan(0, fraction, 0) for fraction in (0.0, 0.25, 0.4999, 0.5, 0.75, 1.0)]
    assert [plan.difficulty for plan in plans] == pytest.approx([0, 0.1, 0.2, 0.4, 0.6, 0.8], abs=1e-3)
    assert [(plan.frames, plan.slots, plan.hardest) for plan in plans] == 3 * [(2, 1, None)] + 3 * [(3, 2, 0.3)]


def test_clips_with_blind_frames_are_calmer() -> None:
    phase = Phase(1.0, ((64, 64),), (3,), (1,), 64, (0.8, 0.8), blind=(0, CALM_FRAMES))
    found = {plan.blind: plan.difficulty for plan in (Curriculum((phase,)).plan(i, 0.5, 0) for i in range(20))}
    assert found == {0: 0.8, CALM_FRAMES: 0.4}


def test_a_curriculum_that_ends_early_is_refused() -> None:
    phase = Phase(0.5, ((64, 64),), (3,), (1,), 8, (0, 1))
    with pytest.raises(ConfigError, match="until"):
        Curriculum((phase,))
    for shapes in (((60, 64),), ((16, 64),), ()):
        with pytest.raises(ConfigError, match="shapes"):
            Phase(1.0, shapes, (3,), (1,), 8, (0, 1))
    with pytest.raises(ConfigError, match="frames"):
        Phase(1.0, ((64, 64),), (1, 3), (1,), 8, (0, 1))


def test_a_stage_for_own_videos_scales_with_its_length() -> None:
    stage = own_stage(iterations=2000, batch=4, frames=4, objects=3, size=384, lr=1e-5, max_skip=10)
    assert stage.steps == ()  # its learning rate follows a cosine
    assert stage.warm == (400, 1200)
    assert [stage.max_skip(i) for i in (0, 700)] == [5, 10]
    assert [stage.plan(i, 0.0, 0).hardest for i in (399, 1200)] == [None, pytest.approx(0.15)]
    assert [
        own_stage(iterations=n, batch=1, frames=2, objects=1, size=32, lr=1e-5, max_skip=1).total for n in (1, 2)
    ] == [1, 2]
