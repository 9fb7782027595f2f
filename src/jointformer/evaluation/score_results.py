"""A benchmark's scores: figures of the dataset, of each video and object, a table in percent, JSON in full digits."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from jointformer.evaluation.tables import aligned
from jointformer.metrics.columns import Columns
from jointformer.metrics.results import ObjectScores

Figures = Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """What `score` gives. All figures are fractions; only the table is in percent.

    `figures` are the dataset's, `videos` and `objects` those of each video and object by name (for
    BURST `objects` are its classes). `frames` holds the values of every object and frame. `notes` say
    what a reader of the numbers has to know. `counts` gives videos, objects and object-frames. `options` are those of
    the command line that are part of the rules.
    """

    benchmark: str
    rules: str
    toolkit: str
    columns: Columns
    figures: Figures
    videos: Mapping[str, Figures] = field(default_factory=dict)
    objects: Mapping[str, Figures] = field(default_factory=dict)
    frames: Sequence[ObjectScores] = ()
    notes: Sequence[str] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    unit: str = "object"
    unit_columns: Columns = ()
    options: Mapping[str, str | bool] = field(default_factory=dict)

    def table(self, per_object: bool = False, per_video: bool = False) -> str:
        """The figures in percent with the toolkit's columns; a row per object or video on request."""
        counted = ", ".join(f"{count} {name}" for name, count in self.counts.items())
        lines = [f"{self.benchmark}, rules of {self.toolkit} ({counted}), in percent"]
        lines += _block("", self.columns, [("all", self.figures)])
        # What is split into seen and unseen for the dataset is not for one object.
        if per_video and self.videos:
            lines += ["", *_block("video", self.unit_columns, self.videos.items())]
        if per_object and self.objects:
            lines += ["", *_block(self.unit, self.unit_columns, self.objects.items())]
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_json(self, per_object: bool = True, per_frame: bool = False) -> dict[str, Any]:
        """Everything with full digits, ready for `json.dumps`; figures that do not exist are null."""
        content: dict[str, Any] = {
            "benchmark": self.benchmark,
            "rules": self.rules,
            "toolkit": self.toolkit,
            "options": dict(self.options),
            "unit": "fraction",
            "notes": list(self.notes),
            "counts": dict(self.counts),
            "figures": plain_figures(self.figures),
            "per_video": {name: plain_figures(figures) for name, figures in self.videos.items()},
        }
        if per_object:
            content[f"per_{self.unit}"] = {name: plain_figures(figures) for name, figures in self.objects.items()}
        if per_frame:
            content["per_frame"] = {
                each.name: {"frames": list(each.frames), **{key: list(row) for key, row in each.values.items()}}
                for each in self.frames
            }
        return content


def plain_figures(figures: Figures) -> dict[str, float | None]:
    """The figures for `json.dumps`: null where there is none."""
    return {name: None if math.isnan(value) else float(value) for name, value in figures.items()}


def _percent(value: float | None) -> str:
    return "-" if value is None else "NaN" if math.isnan(value) else f"{100 * value:.2f}"


def _block(title: str, columns: Columns, rows: Iterable[tuple[str, Figures]]) -> list[str]:
    """The lines of one table: names to the left, numbers to the right."""
    table = [[title, *(heading for heading, _ in columns)]]
    table += [[name, *(_percent(figures.get(key)) for _, key in columns)] for name, figures in rows]
    return aligned(table, right=range(1, 1 + len(columns)))
