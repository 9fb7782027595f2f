"""Mean, recall, decay and variability of one object's values over its frames."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

Values = Sequence[float] | np.ndarray

#: `plain`: whole numbers. `eight_bits`: davis2017-evaluation and its relatives under numpy 2, whose bin
#: edges wrap at 256. `zero`: lvos-evaluation, which takes it along the wrong axis.
DecayRule = Literal["plain", "eight_bits", "zero"]


def mean(values: Values) -> float:
    """The mean; NaN without values."""
    return float(np.mean(values)) if len(values) else math.nan


def recall(values: Values) -> float:
    """The share of values above 0.5, strictly; NaN without values."""
    return float(np.mean(np.asarray(values) > 0.5)) if len(values) else math.nan


def decay(values: Values, rule: DecayRule = "plain") -> float:
    """Mean of the first quarter minus mean of the last; neighbouring quarters share their border value.

    NaN without values. With `eight_bits` it is NaN or meaningless from 256 values on (metrics of the DAVIS
    toolkits), with `zero` always 0.
    """
    count = len(values)
    if not count:
        return math.nan
    if rule == "zero":
        return 0.0
    # The small term makes exact halves round up, where numpy alone would round them to even.
    edges = [int(edge) - 1 for edge in np.round(np.linspace(1, count, 5) + 1e-10)]
    ends = [edge + 1 for edge in edges]
    if rule == "eight_bits":
        edges, ends = [edge % 256 for edge in edges], [(edge % 256 + 1) % 256 for edge in edges]
    array = np.asarray(values, dtype=float)
    first, last = array[edges[0] : ends[1]], array[edges[3] : ends[4]]
    return mean(first) - mean(last)


def decay_wraps(count: int) -> bool:
    """Whether the toolkits' 8-bit bin edges change the decay of this many values."""
    return count >= 256


def variability(region: Values, boundary: Values) -> float:
    """LVOS's V: the standard deviation over frames of (J + F) / 2, its square rounded to 4 decimals first."""
    if not len(region):
        return math.nan
    both = (np.asarray(region, dtype=float) + np.asarray(boundary, dtype=float)) / 2
    return float(np.sqrt(np.round(np.var(both), 4)))


def last_quarter(values: Values) -> Values:
    """The values from index floor(0.75 n) on: VOST's frames "after the transformation"."""
    return values[math.floor(0.75 * len(values)) :]
