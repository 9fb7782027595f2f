"""From objects' values to a benchmark's figures: the averaging each toolkit does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from jointformer.metrics import statistics
from jointformer.metrics.mose_v2 import stretch_mean, stretches
from jointformer.metrics.protocols import Protocol
from jointformer.metrics.results import ObjectScores
from jointformer.metrics.statistics import DecayRule

Figures = dict[str, float]


def object_figures(scores: ObjectScores, protocol: Protocol, strict: bool = False) -> Figures:
    """One object's figures: mean, recall and decay of each measure, and what its benchmark adds."""
    rule: DecayRule = protocol.strict_decay if strict else "plain"
    figures: Figures = {}
    for name in protocol.measures:
        figures |= _statistics(name, scores.values[name], rule)
    if "F" in figures:
        figures = {"J&F": (figures["J"] + figures["F"]) / 2, **figures}
    if protocol.summary == "vost":
        figures |= _statistics("J_tr", statistics.last_quarter(scores.values["J"]), rule)
        figures["delta_tr"] = figures["J_tr"] - figures["J"]
    elif protocol.summary == "lvos":
        figures["V"] = statistics.variability(scores.values["J"], scores.values["F"])
    elif protocol.summary == "mose_v2":
        gone, back = stretches(scores.visible)
        for name in ("J", "F_adaptive"):
            figures[f"disappear_{name}"] = stretch_mean(scores.values[name], gone)
            figures[f"reappear_{name}"] = stretch_mean(scores.values[name], back)
        figures["J&F_adaptive"] = (figures["J"] + figures["F_adaptive"]) / 2
    return figures


def dataset_figures(
    objects: Sequence[tuple[ObjectScores, Figures]], protocol: Protocol, strict: bool = False
) -> Figures:
    """The dataset's figures from all objects' (scores, figures); NaN where there is nothing to average.

    Averages over seen and unseen are NaN if one of them has no object; without `strict` they are then those
    of the other.
    """
    return _SUMMARIES[protocol.summary](objects, strict)


def pooled(figures: Sequence[Figures]) -> Figures:
    """The plain mean of each figure over objects; of disappearances and returns over those objects that have any."""
    means: Figures = {}
    for name in figures[0] if figures else ():
        values = [each[name] for each in figures]
        if name.startswith(("disappear", "reappear")):
            values = [value for value in values if not math.isnan(value)]
        means[name] = statistics.mean(values)
    return means


def _statistics(name: str, values: statistics.Values, rule: DecayRule) -> Figures:
    return {
        name: statistics.mean(values),
        f"{name}_recall": statistics.recall(values),
        f"{name}_decay": statistics.decay(values, rule),
    }


def _davis(objects: Sequence[tuple[ObjectScores, Figures]], strict: bool) -> Figures:
    return pooled([figures for _, figures in objects])


def _visor(objects: Sequence[tuple[ObjectScores, Figures]], strict: bool) -> Figures:
    unseen = pooled([figures for scores, figures in objects if scores.group == "unseen"])
    every = pooled([figures for _, figures in objects])
    return every | {f"{name}_unseen": unseen.get(name, math.nan) for name in every}


def _by_group(objects: Sequence[tuple[ObjectScores, Figures]], group: str, name: str) -> float:
    return statistics.mean([figures[name] for scores, figures in objects if scores.group == group])


def _balanced(parts: Sequence[float], strict: bool) -> float:
    """The mean of seen and unseen; of one of them where the other has no object, unless `strict`."""
    return statistics.mean(parts if strict else [part for part in parts if not math.isnan(part)])


def _lvos(objects: Sequence[tuple[ObjectScores, Figures]], strict: bool) -> Figures:
    figures: Figures = {"J&F": math.nan}
    for name in ("J", "F", "V"):
        seen, unseen = _by_group(objects, "seen", name), _by_group(objects, "unseen", name)
        figures |= {name: _balanced((seen, unseen), strict), f"{name}_seen": seen, f"{name}_unseen": unseen}
        figures[f"{name}_over_objects"] = statistics.mean([each[name] for _, each in objects])
    figures["J&F"] = (figures["J"] + figures["F"]) / 2
    return figures


def _ytvos(objects: Sequence[tuple[ObjectScores, Figures]], strict: bool) -> Figures:
    parts = {
        f"{name}_{letter}": _by_group(objects, group, name)
        for group, letter in (("seen", "S"), ("unseen", "U"))
        for name in ("J", "F")
    }
    return {"G": _balanced(tuple(parts.values()), strict), **parts}


_SUMMARIES: dict[str, Callable[[Sequence[tuple[ObjectScores, Figures]], bool], Figures]] = {
    "davis": _davis,
    "vost": _davis,
    "visor": _visor,
    "lvos": _lvos,
    "ytvos": _ytvos,
    "mose_v2": _davis,
}
