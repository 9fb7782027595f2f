"""The published results: which weights and settings gave which scores on which benchmark."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


@dataclass(frozen=True)
class PublishedRow:
    """One row of the published tables (INFERENCE.md): settings and scores of weights on a benchmark."""

    benchmark: str
    dataset: str
    split: str
    weights: str
    masks_url: str
    max_memory_frames: int
    topk_num: int
    published: Mapping[str, float]
    scored_by: str


@cache
def published_rows() -> tuple[PublishedRow, ...]:
    """All published rows in the tables' order."""
    text = files("jointformer.data").joinpath("published_rows.json").read_text(encoding="utf-8")
    return tuple(PublishedRow(**row) for row in json.loads(text))


def published_on(dataset: str, split: str) -> tuple[PublishedRow, ...]:
    """The published rows of a benchmark; empty where nothing was published."""
    return tuple(row for row in published_rows() if (row.dataset, row.split) == (dataset, split))
