"""eval.sh runs what INFERENCE.md lists, row by row."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from jointformer.cli.published import build_parser
from jointformer.data.published import published_rows

SCRIPT = Path(__file__).resolve().parent.parent.parent / "eval.sh"


def commands(*names: str, python: str = "echo") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHON": python, "data_root": "/data", "flags": "--quiet --precision float32"}
    return subprocess.run(["bash", str(SCRIPT), *names], env=environment, capture_output=True, text=True, check=False)


def test_all_published_rows_are_run_with_their_settings() -> None:
    done = commands()
    assert done.returncode == 0
    parsed = [build_parser().parse_args(line.split()[1:]) for line in done.stdout.splitlines()]
    rows = published_rows()
    assert [
        (row.dataset, row.split, row.weights, row.max_memory_frames, row.topk_num) for row in rows
    ] == [
        (args.dataset, args.split, Path(args.model).stem.removeprefix("jointformer_"), args.max_memory_frames,
         args.topk_num)
        for args in parsed
    ]  # fmt: skip
    assert len({args.output for args in parsed}) == len(rows) == 33, "no row writes over another"
    assert all(args.data_root == Path("/data") and args.quiet for args in parsed)


def test_rows_are_chosen_by_name_and_a_wrong_one_is_said() -> None:
    assert len(commands("D17_val", "MOSE_val/s5").stdout.splitlines()) == 4
    done = commands("D17_vla")
    assert done.returncode == 2
    assert "no such row: D17_vla" in done.stderr


def test_a_row_that_fails_does_not_stop_the_others() -> None:
    done = commands("VOST_val", python="false")
    assert done.returncode == 1
    assert "2 of 2 rows failed: VOST_val/s24 VOST_val/s024" in done.stderr


def test_folders_are_those_of_the_caller(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHON": "echo", "data_root": "my data", "output": "out"}
    words = ["bash", str(SCRIPT), "D17_val/s2"]
    said = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert f"--data_root {tmp_path}/my data --output {tmp_path}/out/s2-D17_val " in said
    environment |= {"data_root": "", "output": ""}
    said = subprocess.run(words, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "--data_root .. --output ./output/s2-D17_val " in said
