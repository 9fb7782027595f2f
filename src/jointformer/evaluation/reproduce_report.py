"""Results of published rows as a table, as Markdown and as plain data: ours beside published."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from jointformer.data.published import PublishedRow
from jointformer.evaluation.reproduce_result import RowResult
from jointformer.evaluation.reproduce_rows import row_name
from jointformer.evaluation.tables import aligned

_HEADINGS = ("row", "figure", "published", "ours", "difference")


def list_table(rows: Sequence[PublishedRow]) -> str:
    """The rows with their settings and published figures, one line each."""
    table = [("row", "benchmark", "memory", "top-k", "published")]
    for row in rows:
        figures = ", ".join(f"{name} {value}" for name, value in row.published.items())
        table.append((row_name(row), row.benchmark, str(row.max_memory_frames), str(row.topk_num), figures))
    return "\n".join(aligned(table, right=(2, 3)))


def table(results: Sequence[RowResult]) -> str:
    """A line per figure in percent; below it what became of each row and what it needs."""
    run = [result for result in results if result.status not in ("planned", "missing")]
    lines = [*aligned([_HEADINGS, *_cells(run)], right=(2, 3, 4)), ""] if run else []
    for result in results:
        lines += [f"{result.name}: {result.status}", *(f"  {line}" for line in _details(result)), ""]
    return "\n".join(lines[:-1])


def markdown(results: Sequence[RowResult]) -> str:
    """The same as a Markdown document."""
    lines = [
        "# Published and ours",
        "",
        "In percent; the difference is ours minus published.",
        "",
        f"| {' | '.join(_HEADINGS)} |",
        "| :-- | :-- | --: | --: | --: |",
        *(f"| {' | '.join(cells)} |" for cells in _cells(results, repeat=True)),
    ]
    for result in results:
        lines += ["", f"**{result.name}**: {result.status}", *(f"- {line}" for line in _details(result))]
    return "\n".join(lines) + "\n"


def as_data(results: Sequence[RowResult]) -> list[dict[str, Any]]:
    """Plain data for JSON, figures with full digits."""
    return [
        {
            "row": result.name,
            "benchmark": result.row.benchmark,
            "weights": result.row.weights,
            "status": result.status,
            "max_memory_frames": result.row.max_memory_frames,
            "topk": result.row.topk_num,
            "published": dict(result.row.published),
            "ours": {name: _plain(value) for name, value in result.ours.items()},
            "difference": {name: _plain(result.difference(name)) for name in result.ours},
            "masks": None if result.where is None else str(result.where),
            "archive": None if result.archive is None else str(result.archive),
            "fps": round(result.fps, 4),
            "scored_by": result.row.scored_by,
            "pieces": [{"what": piece.what, "state": piece.state, "text": piece.text} for piece in result.pieces],
            "notes": list(result.notes),
        }
        for result in results
    ]


def _cells(results: Iterable[RowResult], repeat: bool = False) -> list[tuple[str, ...]]:
    cells: list[tuple[str, ...]] = []
    for result in results:
        for k, (figure, published) in enumerate(result.row.published.items()):
            name = result.name if repeat or k == 0 else ""
            ours = result.ours.get(figure, math.nan)
            difference = result.difference(figure)
            cells.append((name, figure, str(float(published)), _number(ours, ".2f"), _number(difference, "+.2f")))
    return cells


def _details(result: RowResult) -> list[str]:
    lines = [str(piece) for piece in result.pieces] if result.status in ("planned", "missing", "failed") else []
    lines += result.notes
    if result.where is not None and result.good:
        lines.append(f"masks: {result.where}")
    if result.fps:
        lines.append(f"{result.fps:.2f} frames/s in the model")
    return lines


def _plain(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else value


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
