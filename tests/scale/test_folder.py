"""What lies in a run's folder, and when: records before results, leftovers until they are nobody's, the zip."""

from __future__ import annotations

import json
import os
import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest

from jointformer.cli.main import main
from jointformer.data.masks import write_mask
from jointformer.data.writer import SCORES
from jointformer.errors import ConfigError
from jointformer.evaluation.scale.claims import RunFolder
from jointformer.evaluation.scale.label import BenchmarkWork
from jointformer.evaluation.scale.manifest import Manifest
from jointformer.system import files
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View
from scale.scale_helpers import Runs, leftovers
from trees import draw_ids, make_tree


def half_written(output: Path, *, here: bool) -> list[Path]:
    """Return folders in work of a process that died on this machine, or of one that nothing is known of."""
    mine = files.temporary_name(output / "v9").name
    machine, pid = mine.removeprefix(".jointformer-").split("-")[:2]
    name = mine.replace(f"-{pid}-", "-4194999-") if here else mine.replace(f"-{machine}-", "-00000000-")
    folders = [output / name, output / SCORES / name]
    for folder in folders:
        folder.mkdir(parents=True)
    return folders


def test_what_the_dead_left_goes_at_once_and_what_others_may_write_when_all_is_finished(
    two: Runs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output, original = tmp_path / "out", RunFolder.claim
    dead, unknown = half_written(output, here=True), half_written(output, here=False)

    def claim(self: RunFolder, video: str) -> Any:
        assert not any(path.exists() for path in dead)
        return original(self, video)

    monkeypatch.setattr(RunFolder, "claim", claim)
    assert two.here(output, "--shard", "1/2") == 0
    for path in dead:
        path.mkdir()
    assert main(["evaluate", "--merge", str(output)]) == 1
    assert [path.exists() for path in (*dead, *unknown)] == [False, False, True, True]
    assert two.here(output, "--shard", "2/2") == 0
    assert leftovers(output) == []


def test_a_part_of_the_videos_leaves_nothing_open_behind(two: Runs, tmp_path: Path) -> None:
    assert two.here(tmp_path / "out", "--videos", "v1") == 0
    assert leftovers(tmp_path / "out") == []


@pytest.mark.parametrize("content", [None, "{"])
def test_merging_what_is_no_run_leaves_nothing_there(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "run.json").write_text(content)
    before = sorted(tmp_path.rglob("*"))
    assert main(["evaluate", "--merge", str(tmp_path)]) == 2
    assert sorted(tmp_path.rglob("*")) == before


def test_another_input_is_refused_before_any_other_video_is_made(two: Runs, tmp_path: Path) -> None:
    shutil.copytree(two.tree, tmp_path / "tree")
    runs, output = Runs(tmp_path / "tree", two.weights), tmp_path / "out"
    assert runs.here(output, "--videos", "v1") == 0
    write_mask(tmp_path / "tree/Annotations/v1/00000.png", draw_ids((7, 9), 1))
    assert runs.here(output) == 2
    assert not (output / "v0").exists()


def test_a_record_is_there_before_its_video(
    two: Runs, mini_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorded: list[str] = []

    def commit(temporary: Path, target: Path) -> None:
        if target.name != "masks":
            key = files.name_key(target.name)
            recorded.append(json.loads((target.parent / ".run" / f"{key}.json").read_text())["video"])
        os.replace(temporary, target)

    monkeypatch.setattr("jointformer.data.writer.commit_dir", commit)
    monkeypatch.setattr(files, "commit_dir", commit)
    assert two.here(tmp_path / "evaluated") == 0
    command = ["track", str(two.tree / "JPEGImages"), "--masks", str(two.tree / "Annotations"), "--size", "-1"]
    assert (
        main([*command, "-o", str(tmp_path / "tracked"), "--model", str(mini_weights), "--device", "cpu", "--quiet"])
        == 0
    )
    assert recorded == ["v0", "v1"] * 2


def test_the_zip_has_the_folders_that_its_server_looks_for(mini_weights: Path, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "data", "Y19")
    command = ["evaluate", "--dataset", "Y19", "--data-root", str(tree.root), "--model", str(mini_weights)]
    assert main([*command, "-o", str(tmp_path / "out"), "--sizes", "24", "--device", "cpu", "--quiet"]) == 0
    names = zipfile.ZipFile(tmp_path / "out/Y19_val.zip").namelist()
    assert names
    assert {name.split("/")[0] for name in names} == {"Annotations"}


@pytest.mark.parametrize(("name", "scores"), [("Run.JSON", False), (".RUN", False), ("scores", True)])
def test_names_that_differ_in_capitals_are_the_same_to_some_file_systems(
    name: str, scores: bool, tmp_path: Path
) -> None:
    work = BenchmarkWork(
        output=tmp_path, folder=tmp_path, config=TrackerConfig(), views=(View(480),), save_scores=scores
    )
    with pytest.raises(ConfigError, match=f"no video can be called {name}: a run uses this name itself"):
        work.refuse_names(["a", name])
    if scores:
        BenchmarkWork(output=tmp_path, folder=tmp_path, config=TrackerConfig(), views=(View(480),)).refuse_names([name])


@pytest.mark.parametrize("name", ["a\\b", "..", ""])
def test_names_that_a_manifest_does_not_take_are_refused(name: str, tmp_path: Path) -> None:
    work = BenchmarkWork(output=tmp_path, folder=tmp_path / "masks", config=TrackerConfig(), views=(View(480),))
    with pytest.raises(ConfigError, match=f"no video can be called {re.escape(name)}, expected a name without"):
        work.refuse_names(["a", name])
    with pytest.raises(ValueError, match="not a video's name"):
        Manifest({}).add(name, {})
