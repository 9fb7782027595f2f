"""`jointformer speed` says what it measured."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from jointformer.cli.main import main
from jointformer.evaluation.speed import MachineRates, SpeedReport
from jointformer.model.cost import step_cost
from jointformer.model.network import JointFormer
from seeded import MINI


def test_figures_are_given_with_the_network_precision_and_device_that_were_measured(
    mini_weights: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(model: JointFormer, *_: Any, **__: Any) -> SpeedReport:
        dtypes.append(model.dtype)
        cost = step_cost(MINI, 48, 64, 1, 1)
        return SpeedReport((1.0, 1.0, 1.0), {}, 0.0, None, 0, 0, cost, MachineRates(1.0, 1.0), 1)

    dtypes: list[torch.dtype] = []
    monkeypatch.setattr("jointformer.evaluation.speed.measure_speed", measure)
    monkeypatch.setattr("jointformer.model.device.choose_precision", lambda device, name: "bfloat16")
    assert main(["speed", "--model", str(mini_weights), "--device", "auto", "--steps", "1", "--json", "--quiet"]) == 0
    settings = json.loads(capsys.readouterr().out)["settings"]
    assert dtypes == [torch.bfloat16]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    expected = {
        "model": str(mini_weights),
        "network": MINI.name,
        "precision": "bfloat16",
        "device": device,
        "steps": 1,
        "threads": torch.get_num_threads(),
    }
    assert {name: settings[name] for name in expected} == expected
