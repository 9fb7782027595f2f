"""Several results' scores side by side: figures, differences, and whether these are more than a few videos' luck."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jointformer.data.metas import read_json, short
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_results import Figures, plain_figures
from jointformer.evaluation.tables import aligned

#: Resampled sets of videos that an interval is taken from; their seed is fixed, so that it is the same every time.
_RESAMPLES = 10_000
#: Differences below this are none: both masks are the same, or differ in a pixel of a frame.
_EQUAL = 1e-6

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Result:
    """What `jointformer score --json` wrote: figures of the data set and of each video, as fractions.

    `options`, `classes` and `counts` say what they are of, where the file does.
    """

    name: str
    benchmark: str
    rules: str
    figures: Figures
    videos: Mapping[str, Figures]
    options: Mapping[str, Any] = field(default_factory=dict)
    classes: frozenset[str] = frozenset()
    counts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Difference:
    """How a result differs from the first one in a figure, over `videos`.

    `mean` of the videos' differences, the 95 % interval [`low`, `high`] of that mean when the videos are drawn again
    (paired bootstrap; NaN for a single video), and in how many videos the figure is higher, lower and equal.
    """

    name: str
    mean: float
    low: float
    high: float
    higher: int
    lower: int
    equal: int


@dataclass(frozen=True)
class Comparison:
    """Results of one benchmark under one set of rules; `figure` is the one that videos are compared by."""

    results: tuple[Result, ...]
    figure: str
    differences: tuple[Difference, ...]
    videos: tuple[str, ...]

    def table(self, rows: int | None = 10) -> str:
        """The comparison in percent, with the `rows` videos that differ most (None: with all)."""
        first = self.results[0]
        keys = [key for key in first.figures if all(key in result.figures for result in self.results)]
        counted = f" {len(self.videos)} videos," if self.videos else ""
        lines = [f"{first.benchmark}, rules {first.rules},{counted} in percent"]
        table = [["", *keys]]
        table += [[result.name, *(_percent(result.figures[key]) for key in keys)] for result in self.results]
        table += [
            [f"{other.name} - {first.name}", *(_signed(other.figures[key] - first.figures[key]) for key in keys)]
            for other in self.results[1:]
        ]
        lines += aligned(table, right=range(1, 1 + len(keys)))
        for each in self.differences:
            lines += [
                "",
                f"{each.name} - {first.name}, {self.figure} per video: mean {_signed(each.mean)},"
                f" 95 % interval {_signed(each.low)} to {_signed(each.high)}"
                f" (videos resampled); higher in {each.higher}, lower in {each.lower}, equal in {each.equal}",
            ]
        shown = self.videos if rows is None else self.videos[:rows]
        if shown:
            lines += ["", *aligned(self._video_rows(shown), right=range(1, 2 * len(self.results)))]
        if len(shown) < len(self.videos):
            lines.append(f"and {len(self.videos) - len(shown)} videos that differ less")
        return "\n".join(map(_printable, lines))

    def to_json(self) -> dict[str, Any]:
        """Everything with full digits, ready for `json.dumps`; figures that do not exist are null."""
        return {
            "benchmark": self.results[0].benchmark,
            "rules": self.results[0].rules,
            "unit": "fraction",
            "figure": self.figure,
            "results": {
                result.name: {
                    "figures": plain_figures(result.figures),
                    "per_video": plain_figures({video: self._value(result, video) for video in self.videos}),
                }
                for result in self.results
            },
            "differences": [
                {**vars(each), **plain_figures({"mean": each.mean, "low": each.low, "high": each.high})}
                for each in self.differences
            ],
        }

    def _value(self, result: Result, video: str) -> float:
        return result.videos[video].get(self.figure, math.nan)

    def _video_rows(self, videos: Sequence[str]) -> list[list[str]]:
        first, *others = self.results
        rows = [[f"{self.figure} of", first.name, *(text for other in others for text in (other.name, "difference"))]]
        for video in videos:
            base = self._value(first, video)
            row = [video, _percent(base)]
            for other in others:
                value = self._value(other, video)
                row += [_percent(value), _signed(value - base)]
            rows.append(row)
        return rows


def compare(paths: Sequence[Path], *, figure: str | None = None) -> Comparison:
    """Compare results of one benchmark with the first of them.

    paths: at least two files of `jointformer score --json`. figure: what videos are compared by; the first figure that
    they have unless given. Videos are in the order of how much it differs, the largest difference first.

    Raises DataError for files of other kinds, benchmarks, rules or videos; ConfigError for an unknown figure.
    """
    if len(paths) < 2:
        raise ConfigError("nothing to compare with", expected="two files of `jointformer score --json` or more")
    results = [read_result(path) for path in paths]
    if len({result.name for result in results}) < len(results):
        results = [replace(result, name=str(path)) for path, result in zip(paths, results, strict=True)]
    first = results[0]
    for path, result in zip(paths[1:], results[1:], strict=True):
        _check_alike(result, first, path, paths[0])
    known = list(next(iter(first.videos.values()), {}))
    if figure is not None and figure not in known:
        raise ConfigError("unknown figure", expected=", ".join(known) or "no figure: the videos have none", got=figure)
    chosen = figure or (known[0] if known else "")
    values = {
        result.name: np.array([result.videos[video].get(chosen, math.nan) for video in first.videos])
        for result in results
    }
    gaps = [values[result.name] - values[first.name] for result in results[1:]]
    spread = np.nan_to_num(np.abs(gaps)).max(axis=0) if first.videos else np.empty(0)
    order = sorted(zip(-spread, first.videos, strict=True))
    found = [_difference(result.name, gap) for result, gap in zip(results[1:], gaps, strict=True)] if known else []
    return Comparison(tuple(results), chosen, tuple(found), tuple(video for _, video in order))


def _check_alike(result: Result, first: Result, path: Path, first_path: Path) -> None:
    """Raise DataError where results are not of one benchmark, under one set of rules, over the same videos.

    Of BURST, whose results hold no videos, classes and counts tell one set from another. What a file of an earlier
    version does not say is taken to be alike.
    """
    for what in ("benchmark", "rules"):
        wanted, got = getattr(first, what), getattr(result, what)
        if wanted != got:
            raise DataError(f"other {what} than {first_path}", where=path, expected=wanted, got=got)
    for name in sorted(first.options.keys() & result.options.keys()):
        wanted, got = short(first.options[name]), short(result.options[name])
        if wanted != got:
            raise DataError(f"other --{name.replace('_', '-')} than {first_path}", where=path, expected=wanted, got=got)
    odd = {"videos": result.videos.keys() ^ first.videos.keys()}
    if result.classes and first.classes:
        odd["classes"] = set(result.classes ^ first.classes)
    for what, names in odd.items():
        if names:
            text = f"{len(names)} {what} are not in both this file and {first_path}"
            raise DataError(text, where=path, got=min(names))
    # How many frames an object has may depend on the predictions (vos-benchmark): object-frames are not asked for.
    for name in ("videos", "objects", "classes", "scored frames"):
        if name in first.counts and name in result.counts and first.counts[name] != result.counts[name]:
            wanted, got = short(first.counts[name]), short(result.counts[name])
            raise DataError(f"other number of {name} than {first_path}", where=path, expected=wanted, got=got)


def read_result(path: Path) -> Result:
    """Return the figures in a file of `jointformer score --json`. Raises DataError where it is none."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(content.get(key), str) for key in ("benchmark", "rules")):
        raise DataError("not scores", where=path, expected="a file of `jointformer score --json`")
    videos = content.get("per_video")
    if not isinstance(videos, dict):
        raise DataError("has no 'per_video'", where=path, expected="a file of `jointformer score --json`")
    return Result(
        path.stem,
        content["benchmark"],
        content["rules"],
        _figures(content.get("figures"), path, "figures"),
        {video: _figures(figures, path, f"per_video.{video}") for video, figures in videos.items()},
        options=_object(content, "options", path),
        # By their numbers: not every truth names its classes.
        classes=frozenset(name.partition(" ")[0] for name in _object(content, "per_class", path)),
        counts=_object(content, "counts", path),
    )


def _object(content: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    """A part of the file that may be missing."""
    value = content.get(key, {})
    if not isinstance(value, dict):
        raise DataError(f"'{key}' is no object", where=path, got=short(value))
    return value


def _figures(value: Any, path: Path, at: str) -> dict[str, float]:
    if not isinstance(value, dict):
        raise DataError(f"{at} holds no figures", where=path, expected="an object", got=short(value))
    for number in value.values():
        plain = isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < 1e9
        if number is not None and not plain:
            raise DataError(f"{at} holds something that is no figure", where=path, got=short(number))
    return {name: math.nan if number is None else float(number) for name, number in value.items()}


def _difference(name: str, gaps: Numbers) -> Difference:
    known = gaps[~np.isnan(gaps)]
    if not len(known):
        return Difference(name, math.nan, math.nan, math.nan, 0, 0, 0)
    low = high = math.nan  # of one video drawn again and again there is nothing to be learnt
    if len(known) > 1:
        drawn = np.random.default_rng(0).integers(0, len(known), (_RESAMPLES, len(known)))
        low, high = np.percentile(known[drawn].mean(axis=1), (2.5, 97.5))
    equal = np.abs(known) < _EQUAL
    higher, lower = ((known > 0) & ~equal).sum(), ((known < 0) & ~equal).sum()
    return Difference(name, float(known.mean()), float(low), float(high), int(higher), int(lower), int(equal.sum()))


def _percent(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:.2f}"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.2f}"


def _printable(text: str) -> str:
    """A text without what steers a terminal, and without halves of characters, which no encoding takes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
