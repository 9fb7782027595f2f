"""Learning rates over a run, what each parameter gets of them, averaged weights, a checkpoint's generators."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from train_helpers import small_network

from jointformer.errors import DataError
from jointformer.train.optimiser import (
    MovingAverage,
    MultiStep,
    OptimiserConfig,
    WarmupCosine,
    build_optimiser,
    set_learning_rate,
)
from jointformer.train.state import load_checkpoint, random_states, restore_random_states


def test_the_published_learning_rate_falls_tenfold_at_each_step() -> None:
    schedule = MultiStep((160_000, 180_000))
    factors = [schedule.factor(iteration, 0.5) for iteration in (0, 159_999, 160_000, 179_999, 180_000)]
    assert factors == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_a_short_runs_learning_rate_rises_evenly_and_falls_as_a_cosine() -> None:
    schedule = WarmupCosine(warmup=50, floor=0.02)
    assert [schedule.factor(i, 0.0) for i in (0, 24, 49, 500)] == pytest.approx([0.02, 0.5, 1, 1])
    assert [schedule.factor(500, f) for f in (1 / 3, 0.5, 1.0, 1.2)] == pytest.approx([0.755, 0.51, 0.02, 0.02])
    assert WarmupCosine(warmup=0).factor(0, 0.0) == 1


def test_by_default_the_optimiser_is_the_published_one() -> None:
    model, config = small_network(), OptimiserConfig()
    model.decoder.requires_grad_(False)
    optimiser = build_optimiser(model, config)
    assert (type(optimiser), config.clip) == (torch.optim.AdamW, 0.1)
    set_learning_rate(optimiser, config.lr)
    rates = {id(p): group["lr"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        expected = None if name.startswith("decoder.") else 5e-6 if name.startswith("convmae.") else 5e-5
        assert rates.get(id(parameter)) == (None if expected is None else pytest.approx(expected)), name
    assert {group["weight_decay"] for group in optimiser.param_groups} == {0.05}


def test_vectors_keep_their_length_where_only_matrices_decay() -> None:
    model = small_network()
    optimiser = build_optimiser(model, OptimiserConfig(decay_all=False))
    decays = {id(p): group["weight_decay"] for group in optimiser.param_groups for p in group["params"]}
    for name, parameter in model.named_parameters():
        assert decays[id(parameter)] == (0.05 if parameter.ndim > 1 and "cls_token" not in name else 0.0), name


def test_averaged_weights_are_short_sighted_at_first_and_change_places_with_the_live_ones() -> None:
    weight, frozen = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1), requires_grad=False)
    average = MovingAverage([weight, frozen], 0.9)
    with torch.no_grad():
        weight.fill_(1.0)
    average.update(0)
    assert average.average[0].item() == pytest.approx(0.9)  # 1 - 1/10
    average.update(10_000)
    assert average.average[0].item() == pytest.approx(0.91)  # no longer memory than asked for
    average.swap()
    assert (weight.item(), average.average[0].item()) == pytest.approx((0.91, 1.0))
    average.swap()
    assert weight.item() == 1.0
    assert len(average.average) == 1


def test_every_generator_goes_on_where_the_checkpoint_saw_it() -> None:
    def numbers() -> list[float]:
        return [random.random(), random.gauss(0, 1), np.random.rand(), np.random.randn(), float(torch.rand(()))]  # noqa: NPY002

    numbers()
    states = random_states()
    expected = numbers()
    numbers()
    restore_random_states(states)
    assert numbers() == expected


def test_weights_are_no_checkpoint(tmp_path: Path) -> None:
    torch.save(small_network().state_dict(), tmp_path / "weights.pth")
    with pytest.raises(DataError, match=r"not a training checkpoint.*weights go to --init"):
        load_checkpoint(tmp_path / "weights.pth")
    with pytest.raises(DataError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "none.pt")
