"""Processors that a container may use."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from jointformer.model.device import keep_threads_within_quota
from jointformer.system import parallel, quota
from jointformer.system.parallel import processors
from jointformer.system.quota import cpu_quota
from torch_threads import torch_threads


@pytest.fixture
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system's control groups, in a folder; nothing is limited yet."""
    monkeypatch.setattr(quota, "_UNIFIED", (str(tmp_path / "v2"), str(tmp_path / "both")))
    monkeypatch.setattr(quota, "_BY_NAME", (str(tmp_path / "cpu"), str(tmp_path / "cpu,cpuacct")))
    monkeypatch.setattr(quota, "_OWN_GROUPS", str(tmp_path / "own"))
    (tmp_path / "own").write_text("0::/\n")
    return tmp_path


def _write(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("_", ".", 1)).write_text(text + "\n")


def test_without_limits_or_groups_there_is_no_quota(groups: Path) -> None:
    assert cpu_quota() is None
    _write(groups / "v2", cpu_max="max 100000")
    _write(groups / "cpu", cpu_cfs_quota_us="-1", cpu_cfs_period_us="100000")
    (groups / "own").write_text("12:cpu,cpuacct:/\n0::/\n")
    assert cpu_quota() is None
    (groups / "own").unlink()
    assert cpu_quota() is None


def test_a_containers_own_limit_is_found(groups: Path) -> None:
    _write(groups / "v2", cpu_max="150000 100000")
    assert cpu_quota() == 2  # of which the second is busy half of the time


def test_the_narrowest_of_the_groups_around_counts(groups: Path) -> None:
    (groups / "own").write_text("0::/slice/pod/task\n")
    _write(groups / "v2/slice", cpu_max="800000 100000")
    _write(groups / "v2/slice/pod", cpu_max="300000 100000")
    _write(groups / "v2/slice/pod/task", cpu_max="max 100000")
    assert cpu_quota() == 3


@pytest.mark.parametrize("name", ["cpu", "cpu,cpuacct"])
def test_groups_of_version_1_are_read_whether_or_not_their_path_is_the_hosts(groups: Path, name: str) -> None:
    (groups / "own").write_text(f"3:memory:/docker/abc\n2:{name}:/docker/abc\n0::/\n")
    _write(groups / name, cpu_cfs_quota_us="250000", cpu_cfs_period_us="100000")
    assert cpu_quota() == 3
    _write(groups / name / "docker/abc", cpu_cfs_quota_us="50000", cpu_cfs_period_us="100000")
    assert cpu_quota() == 1


@pytest.mark.parametrize("text", ["", "100000", "a b", "100000 0"])
def test_what_cannot_be_read_limits_nothing(groups: Path, text: str) -> None:
    _write(groups / "v2", cpu_max=text)
    (groups / "own").write_text("nonsense\n0::/\n")
    assert cpu_quota() is None


@pytest.mark.parametrize(("limit", "expected"), [(None, 8), (20, 8), (3, 3)])
def test_processors_are_those_that_the_quota_can_keep_busy(
    limit: int | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(parallel, "cpu_quota", lambda: limit)
    assert processors() == expected


@pytest.fixture
def four_threads() -> Iterator[None]:
    with torch_threads(4):
        yield


@pytest.mark.parametrize(
    ("limit", "chosen", "threads"),
    [(2, False, 2), (2, True, 4), (9, False, 4), (None, False, 4)],
)
@pytest.mark.usefixtures("four_threads")
def test_threads_are_no_more_than_processors_unless_somebody_chose_them(
    limit: int | None, chosen: bool, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.model.device.cpu_quota", lambda: limit)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", "4")
    keep_threads_within_quota()
    assert torch.get_num_threads() == threads


def test_loading_a_network_keeps_to_the_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    from jointformer.model import weights

    asked: list[str] = []
    monkeypatch.setattr(weights, "keep_threads_within_quota", lambda: asked.append("yes"))
    weights.load_model("tiny", "cpu", "float32")
    assert asked == ["yes"]
