"""The published rows by name (`d17-val/s012`), and what each needs on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from jointformer.data.benchmark_rows import burst_places
from jointformer.data.burst import read_burst
from jointformer.data.published import PublishedRow, published_rows
from jointformer.errors import ConfigError, DataError, WeightsError
from jointformer.evaluation.score_check import check_truth
from jointformer.evaluation.score_plans import build_plan
from jointformer.evaluation.score_sources import MaskTree
from jointformer.metrics.protocols import find_protocol
from jointformer.model.cache import published_path
from jointformer.model.registry import EMBEDDED

State = Literal["here", "to fetch", "missing"]

#: Where the truth lies below the data root, alternatives in order; other rows' truth is with a server.
_TRUTH = {
    ("D17", "val"): ("DAVIS/2017/trainval",),
    ("VOST", "val"): ("VOST",),
    ("VISOR", "val"): ("VISOR",),
    ("LVOS", "val"): ("LVOS/valid/Annotations",),
    **{
        ("BURST", split): tuple(f"BURST/{place}/all_classes.json" for place in burst_places(split))
        for split in ("val", "test")
    },
}

#: Published names of figures that our scorer names otherwise.
_FIGURES = {"Delta_tr": "delta_tr", "J&Funseen": "J&F_unseen"}


@dataclass(frozen=True)
class Piece:
    """One thing a row needs: its name, whether it is here, and its path, address or what is wrong."""

    what: str
    state: State
    text: str

    def __str__(self) -> str:
        return f"{self.what}: {self.state}, {self.text}"


def row_name(row: PublishedRow) -> str:
    """A row's name on the command line."""
    return f"{row.dataset.lower()}-{row.split}/{row.weights}"


def select_rows(patterns: Sequence[str] = ()) -> list[PublishedRow]:
    """The rows that names or patterns mean, in the tables' order; all where none are given.

    `d17-val/s012` is one row, `d17-val` a benchmark, `s012` weights, `lvos-*/s02*` a pattern.
    Raises ConfigError for what means no row.
    """
    rows = published_rows()
    chosen: set[str] = set()
    for pattern in patterns:
        found = [row_name(row) for row in rows if _means(pattern.lower(), row)]
        if not found:
            known = [name for row in rows for name in (row_name(row), row_name(row).split("/")[0], row.weights)]
            near = get_close_matches(pattern.lower(), known, 1, 0.4)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ConfigError(f"no published row {pattern!r}", hint=f"{hint}`jointformer reproduce --list` shows all")
        chosen.update(found)
    return [row for row in rows if not patterns or row_name(row) in chosen]


def _means(pattern: str, row: PublishedRow) -> bool:
    name = row_name(row)
    benchmark, weights = name.split("/")
    return any(fnmatchcase(text, pattern) for text in (name, benchmark, weights, benchmark.split("-")[0]))


def figure_key(published: str) -> str:
    """The scorer's name of a published figure."""
    return _FIGURES.get(published, published.replace("HOTA-", "HOTA_"))


def truth_is_public(row: PublishedRow) -> bool:
    """Whether the row can be scored here; otherwise its truth is with a submission server."""
    return (row.dataset, row.split) in _TRUTH


def find_truth(row: PublishedRow, data_root: Path) -> Path:
    """The annotations to score a row with, checked to be whole. Raises DataError naming what is missing."""
    choices = [data_root / place for place in _TRUTH[row.dataset, row.split]]
    path = next((choice for choice in choices if choice.exists()), None)
    if path is None:
        raise DataError("no annotations to score with", expected=" or ".join(map(str, choices)))
    if row.dataset == "BURST":
        read_burst(path)
        return path
    plan = build_plan(find_protocol(row.dataset), path)
    check_truth(plan, MaskTree(str(plan.truth)))
    if not any(video.frames for video in plan.videos):
        raise DataError(
            "only first masks, nothing to score", where=plan.truth, expected="the annotations of every frame"
        )
    return path


def truth_piece(row: PublishedRow, data_root: Path) -> Piece:
    """Whether the truth of a row is here."""
    try:
        return Piece("truth", "here", str(find_truth(row, data_root)))
    except DataError as error:
        return Piece("truth", "missing", str(error))


def weights_piece(name: str) -> Piece:
    """Whether weights are here or can be fetched; names a file or what `load_model` knows."""
    from jointformer.model.weights import find_weights  # it imports PyTorch, and listing rows needs none

    what = f"weights {name}"
    if name in EMBEDDED:
        return Piece(what, "here", "embedded")
    try:
        found = find_weights(name)
    except WeightsError:
        return Piece(what, "missing", "no such file")
    if isinstance(found, Path):
        return Piece(what, "here", name)
    path = published_path(found)
    return Piece(what, "here", str(path)) if path.exists() else Piece(what, "to fetch", found.url)
