"""A run from its settings to its end: what it is told, what stands in its way, what it notes meanwhile."""

from __future__ import annotations

import dataclasses
import json
import os
import pickle
import signal
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from jointformer import __version__
from jointformer.cli.running import first_device
from jointformer.data.benchmarks import open_benchmark
from jointformer.errors import ConfigError
from jointformer.evaluation.runner import evaluate
from jointformer.evaluation.scale import run as runs_module
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.manifest import MANIFEST, VERSIONS, Manifest, read_manifest
from jointformer.evaluation.scale.run import FailedVideos, Scale
from jointformer.evaluation.scale.shards import Shard, fold
from jointformer.model.weights import load_model
from jointformer.system.files import remove
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import EnsembleTracker
from scale.scale_helpers import Runs, last_line
from torch_threads import torch_threads
from watched import masks


def test_there_are_as_many_processes_as_devices_unless_their_number_is_given() -> None:
    counts = {
        Scale(): 1,
        Scale(devices=("cuda:0", "cuda:1")): 2,
        Scale(3, ("cuda:0", "cuda:1")): 3,
        Scale(1, ("cpu",) * 2): 1,
    }
    assert {scale: scale.count for scale in counts} == counts


@pytest.mark.parametrize(
    ("flags", "workers", "kind"),
    [
        ((), 0, "cpu"),
        (("--workers", "3"), 3, "cpu"),
        (("--devices", "cpu,cpu"), 2, "cpu"),
        (("--devices", "cpu"), 1, "cpu"),
        (("--devices", "cuda:0,cuda:1"), 2, "cuda"),
        (("--ray", "auto", "--workers", "5"), 5, "cpu"),
        (("--ray", "auto", "--workers", "5", "--devices", "cuda"), 5, "cuda"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_budget_is_that_of_all_processes_for_the_videos_that_are_left(
    flags: tuple[str, ...], workers: int, kind: str, two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planned: list[object] = []

    def plan(*args: Any) -> None:
        model, *_, videos, budget, processes, device = args
        assert model.device.type == "cpu"
        planned.extend([[video.name for video in videos], budget, processes, device])
        raise ConfigError("enough is known")

    monkeypatch.setattr(runs_module, "plan_videos", plan)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert two.here(tmp_path / "out", "--videos", "v0") == 0
    assert two.here(tmp_path / "out", "--memory-budget", "3GB", *flags) == 2
    assert planned == [["v1"], 3 * 10**9, workers, kind]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ray", "auto"), "a memory budget with Ray needs workers; give --workers, the number of actors that share"),
        (("--devices", "cpu,cuda:1"), "a memory budget with devices, expected those of one kind, got cpu and cuda"),
    ],
)
def test_a_budget_that_cannot_be_divided_is_refused(
    flags: tuple[str, ...],
    said: str,
    two: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert two.here(tmp_path / "out", "--memory-budget", "3GB", *flags) == 2
    assert said in last_line(capsys)
    assert not (tmp_path / "out").exists()


def loads_on(**flags: str | None) -> tuple[str, str]:
    return first_device(Namespace(**{"device": "auto", "precision": "auto", "devices": None, "ray": "auto", **flags}))


def test_a_networks_precision_is_that_of_the_clusters_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jointformer.model.device.cpu_has_bfloat16", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    for gpus in (1, 0):
        monkeypatch.setattr(torch.cuda, "device_count", lambda gpus=gpus: gpus)
        monkeypatch.setattr(torch.cuda, "is_available", lambda gpus=gpus: bool(gpus))
        assert loads_on() == ("cuda" if gpus else "cpu", "auto")
        assert loads_on(devices="cpu") == ("cpu", "float32")
        assert loads_on(devices="cuda", precision="bfloat16") == ("cpu", "bfloat16")
        if gpus:
            assert loads_on(devices="cuda") == ("cpu", "bfloat16")
    with pytest.raises(ConfigError, match=r"^--precision, expected bfloat16, float16 or float32: .*, got auto$"):
        loads_on(devices="cuda")


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"devices": "cuda"}, """devices, expected a tuple of names, such as ("cuda:0", "cuda:1"), got 'cuda'"""),
        ({"devices": (0, 1)}, 'devices, expected a tuple of names, such as ("cuda:0", "cuda:1"), got (0, 1)'),
        ({"ray": True}, 'ray, expected "auto", the address of a cluster, or None, got True'),
        ({"shard": "1/4"}, "shard, expected a Shard, such as Shard(1, 4), or None, got '1/4'"),
    ],
)
def test_who_does_the_work_is_checked_when_it_is_told(values: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as error:
        Scale(**values)
    assert str(error.value) == said
    names: Any = ["cuda"]
    assert Scale(ray="auto", devices=names) == Scale(ray="auto", devices=("cuda",))


def test_a_part_has_whole_numbers() -> None:
    text: Any = "1"
    with pytest.raises(ConfigError, match=r"^shard, expected whole numbers, such as Shard\(1, 4\), got '1'$"):
        Shard(text, 4)


@pytest.mark.parametrize("devices", ["tpu", "cuda:1", "cuda,cpu", "cuda,cuda"])
def test_a_ray_cluster_is_given_one_kind_of_device(
    devices: str, two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two.here(tmp_path / "out", "--ray", "auto", "--devices", devices) == 2
    assert f": devices with Ray, expected cuda or cpu, got {devices}" in last_line(capsys)
    assert Scale(ray="auto", devices=("cuda",)).devices == ("cuda",)


@pytest.mark.parametrize(
    ("flags", "variable", "devices", "threads"),
    [
        (("--workers", "3"), None, ["cpu"], 2),
        (("--devices", "cpu"), None, ["cpu"], 8),
        (("--devices", "cpu,cpu", "--threads", "5"), None, ["cpu", "cpu"], 5),
        (("--workers", "16"), None, ["cpu"], 1),
        (("--workers", "3"), "1", ["cpu"], 1),
        (("--workers", "3", "--threads", "5"), "1", ["cpu"], 5),
    ],
)
def test_processes_have_the_devices_that_are_given_and_share_the_processors(
    flags: tuple[str, ...],
    variable: str | None,
    devices: list[str],
    threads: int,
    two: Runs,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun: list[object] = []

    def pool(weights: bytes, work: object, *args: object) -> None:
        begun.extend(args)
        raise ConfigError("enough is known")

    monkeypatch.setattr(runs_module, "ProcessPool", pool)
    monkeypatch.setattr(runs_module, "processors", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if variable is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", variable)
    with torch_threads(1):  # as PyTorch begins with this variable
        assert two.here(tmp_path / "out", *flags) == 2
    assert begun == [devices, threads]


def test_the_threads_are_those_that_are_asked_for_while_the_run_lasts(two: Runs, tmp_path: Path) -> None:
    with torch_threads(2):
        assert two.here(tmp_path / "out", "--threads", "1") == 0
        assert torch.get_num_threads() == 2
    manifest = json.loads((tmp_path / "out" / MANIFEST).read_text())
    assert [video["threads"] for video in manifest["videos"].values()] == [1, 1]


def test_every_video_is_tracked_as_it_was_planned(two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = []

    def tracker(model: Any, config: TrackerConfig, views: Any) -> EnsembleTracker:
        limits.append(config.memory_limit)
        return EnsembleTracker(model, config, views)

    monkeypatch.setattr("jointformer.evaluation.scale.label.EnsembleTracker", tracker)
    assert two.here(tmp_path / "out", "--memory-budget", "64GB") == 0
    assert limits == [64 * 10**9] * 2


def test_what_is_sent_to_workers_holds_wherever_they_were_started(
    two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Any] = []

    def send(pool: object, count: int, videos: Any, **options: Any) -> Any:
        sent.extend(videos)
        return iter(())

    monkeypatch.setattr(runs_module, "ProcessPool", lambda weights, work, *args: sent.append(work))
    monkeypatch.setattr(runs_module, "hand_out", send)
    (two.tree.parent / "started here").mkdir()
    monkeypatch.chdir(two.tree.parent / "started here")
    beside = Runs(Path("..") / two.tree.name, two.weights)
    assert beside.here(Path("../out"), "--workers", "2") == 0
    work, *videos = sent
    paths = [work.output, work.folder, *(path for video in videos for path in (*video.frames, *video.masks.values()))]
    assert len(paths) == 2 + 5 + 2
    assert all(path.is_absolute() and not {"started here", ".."} & set(path.parts) for path in paths)
    assert all(path.exists() for path in paths)


def test_frames_behind_the_last_one_to_save_are_not_tracked(two: Runs, tmp_path: Path) -> None:
    dataset = open_benchmark("G", "val", "..", generic_path=two.tree)
    videos = tuple(dataclasses.replace(video, frames_to_save=frozenset({1})) for video in dataset.videos)
    model = load_model(str(two.weights), device="cpu", precision="float32")
    manifest = evaluate(
        model, dataclasses.replace(dataset, videos=videos), tmp_path, config=TrackerConfig(size=24), progress=False
    )
    assert {name: video.frames for name, video in manifest.videos.items()} == {"v0": 2, "v1": 2}
    assert sorted(masks(tmp_path)) == ["v0/00001.png", "v1/00001.png"]


def test_old_results_that_would_go_are_no_input_either(
    two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, frames = tmp_path / "out", two.tree / "JPEGImages"
    output.mkdir()
    (output / "Scores").symlink_to(frames)
    before = sorted(frames.rglob("*"))
    assert two.here(output, "--videos", "v1", "--overwrite") == 2
    assert f"{output}/Scores/v1: cannot be written: input is read from there" in last_line(capsys)
    assert sorted(frames.rglob("*")) == before


def test_an_interrupted_part_counts_its_own_videos(
    two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two.here(tmp_path / "out", "--shard", "1/2") == 0
    original = RunFolder.claim

    def claim(self: RunFolder, video: str) -> Any:
        signal.raise_signal(signal.SIGINT)
        return original(self, video)

    monkeypatch.setattr(RunFolder, "claim", claim)
    assert two.here(tmp_path / "out", "--shard", "2/2") == 130
    assert ": interrupted: 0 of 1 videos are finished; the same command goes on" in last_line(capsys)


@pytest.mark.parametrize("others", [False, True], ids=["alone", "beside others that note it too"])
def test_finished_videos_are_noted_meanwhile_by_one_process_of_many(
    others: bool, two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, seen, clock = tmp_path / "out", [], [0]
    original = RunFolder.claim

    def claim(self: RunFolder, video: str) -> Any:
        manifest = read_manifest(output)
        assert manifest is not None
        seen.append(sorted(manifest.videos))
        if others:
            clock[0] += 1
            os.utime(output / MANIFEST, (clock[0], clock[0]))
        return original(self, video)

    monkeypatch.setattr(runs_module, "_SAVE_EVERY", -1.0)
    monkeypatch.setattr(RunFolder, "claim", claim)
    assert two.here(output) == 0
    assert seen == ([[], []] if others else [[], ["v0"]])
    assert sorted(fold(output).videos) == ["v0", "v1"]


def test_a_file_where_a_videos_folder_would_be_is_said_before_anything_runs(
    two: Runs, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    output.mkdir()
    for make in (lambda path: path.write_text("a file"), lambda path: path.symlink_to(tmp_path / "nowhere")):
        make(output / "v1")
        assert two.here(output) == 2
        said = f"{output / 'v1'}: cannot be written: a file or a link to nothing is in the way; remove it"
        assert said in last_line(capsys)
        assert not list(output.glob("*/*.png"))
        (output / "v1").unlink()
    (output / "v1").write_text("a file")
    assert two.here(output, "--overwrite") == 0


def test_results_that_cannot_be_removed_are_named(
    two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert two.here(tmp_path / "out") == 0
    # Somebody else's folder, or files that are open on a network mount.
    monkeypatch.setattr(
        "jointformer.evaluation.scale.shards.remove", lambda path: None if path.name == "v1" else remove(path)
    )
    assert two.here(tmp_path / "out", "--overwrite") == 2
    assert f": {tmp_path}/out/v1: cannot be removed; " in last_line(capsys)


def test_every_video_says_which_versions_made_it(two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = tmp_path / "out"
    assert two.here(output, "--videos", "v0") == 0
    monkeypatch.setitem(VERSIONS, "torch", "9.8")
    assert two.here(output) == 0
    manifest = json.loads((output / "run.json").read_text())
    made = {name: video["versions"] for name, video in manifest["videos"].items()}
    assert made["v0"] == {"jointformer": __version__, "torch": torch.__version__}
    assert made["v1"] == manifest["versions"] == {"jointformer": __version__, "torch": "9.8"}


def test_the_error_of_failed_videos_comes_whole_from_another_process() -> None:
    error = FailedVideos({"cat": "damaged"}, 3, Path("out"), Manifest({"size": 480}, wanted={"cat", "dog"}))
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is FailedVideos
    assert str(copy) == str(error) == "out: 1 of 3 videos failed (cat: damaged)"
    assert copy.failed == {"cat": "damaged"}
    assert copy.manifest == error.manifest
