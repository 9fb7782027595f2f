"""What the parts of a reproduction (`--shard`) know of each other: a row's outcome, kept beside its masks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from jointformer.data.metas import read_json
from jointformer.errors import DataError
from jointformer.evaluation.reproduce_report import as_data
from jointformer.evaluation.reproduce_result import RowResult
from jointformer.evaluation.scale.manifest import read_manifest
from jointformer.system.files import write_json

OUTCOME = "reproduced.json"


def keep(result: RowResult, run: str) -> None:
    """Write the outcome of a row into its output folder. run: the id of the run that made the masks."""
    assert result.where is not None, "what was run has a folder"
    write_json(result.where / OUTCOME, {"run": run, **as_data([result])[0]})


def caught_up(results: Sequence[RowResult]) -> list[RowResult]:
    """The results; a row that was left open has what another part made of it, once all its videos are finished."""
    return [_caught_up(result) if result.status == "open" else result for result in results]


def _caught_up(result: RowResult) -> RowResult:
    assert result.where is not None, "what was run has a folder"
    try:
        manifest, data = read_manifest(result.where), read_json(result.where / OUTCOME)
        # An outcome may be of an earlier run in the folder, or of masks that were removed since.
        if manifest is None or manifest.holes or data["run"] != manifest.run:
            return result
        return replace(
            result,
            status=data["status"],
            ours={name: float("nan") if value is None else value for name, value in data["ours"].items()},
            notes=data["notes"],
            archive=None if data["archive"] is None else Path(data["archive"]),
            fps=data["fps"],
        )
    except (DataError, KeyError, TypeError, AttributeError):  # nobody has judged the row yet
        return result
