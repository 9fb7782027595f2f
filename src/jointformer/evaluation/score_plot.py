"""The picture people look at: J&F of each video as bars, J over time of each object as lines."""

from __future__ import annotations

import io
import math
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jointformer.data.frames import natural_key
from jointformer.errors import ConfigError, missing_extra
from jointformer.evaluation.score_results import Scores
from jointformer.metrics.results import ObjectScores
from jointformer.system.files import write_bytes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: More videos than this make an unreadable picture; the lowest ones are shown.
_MOST_VIDEOS = 40
_PER_ROW = 4


def plot_scores(scores: Scores, path: str | Path) -> None:
    """Write a PNG with a bar per video and, for each video, a line per object over its scored frames.

    Of very many videos the 40 with the lowest scores are shown. Raises ConfigError without Matplotlib and for
    scores that have no J per frame (BURST).
    """
    if not scores.frames:
        raise ConfigError(f"{scores.benchmark} has no J per frame to plot", where="--plot")
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("plots need Matplotlib, which is not installed", "plot", where="--plot") from error
    measure = "J&F" if all("J&F" in figures for figures in scores.videos.values()) else "J"
    ranked = sorted(scores.videos, key=lambda video: scores.videos[video][measure])[:_MOST_VIDEOS]
    rows = math.ceil(len(ranked) / _PER_ROW)
    figure = Figure(figsize=(14, 4 + 2.1 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(rows + 1, _PER_ROW, height_ratios=[2.0, *[1.0] * rows])
    _bars(figure, grid, scores, ranked, measure)
    _lines(figure, grid, scores, ranked)
    # Through memory, so that a failure leaves no half-written picture.
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=110)
    write_bytes(path, picture.getvalue())


def _bars(figure: Figure, grid: Any, scores: Scores, ranked: list[str], measure: str) -> None:
    axis = figure.add_subplot(grid[0, :])
    axis.bar(range(len(ranked)), [100 * scores.videos[video][measure] for video in ranked], color="#4878a8")
    mean = 100 * scores.figures[measure] if measure in scores.figures else math.nan
    if not math.isnan(mean):
        axis.axhline(mean, color="#222222", linewidth=1, linestyle="--", label=f"benchmark {mean:.1f}")
        axis.legend(loc="upper left", frameon=False)
    axis.set_xticks(range(len(ranked)), ranked, rotation=60, ha="right", fontsize=7, parse_math=False)
    axis.set_ylim(0, 100)
    axis.set_ylabel(f"{measure} (%)")
    left_out = len(scores.videos) - len(ranked)
    which = f", the {len(ranked)} lowest of {len(scores.videos)} videos" if left_out else ""
    axis.set_title(f"{scores.benchmark}, rules of {scores.toolkit}{which}", fontsize=10)
    axis.spines[["top", "right"]].set_visible(False)


def _lines(figure: Figure, grid: Any, scores: Scores, ranked: list[str]) -> None:
    objects: dict[str, list[ObjectScores]] = defaultdict(list)
    for each in scores.frames:
        objects[each.video].append(each)
    for index, video in enumerate(ranked):
        axis = figure.add_subplot(grid[1 + index // _PER_ROW, index % _PER_ROW])
        names = sorted({frame for each in objects[video] for frame in each.frames}, key=natural_key)
        place = {frame: position for position, frame in enumerate(names)}
        for each in objects[video]:
            values = [100 * value for value in each.values["J"][: len(each.frames)]]
            axis.plot([place[frame] for frame in each.frames], values, linewidth=1, label=str(each.object_id))
        axis.set_ylim(-3, 103)
        axis.set_title(video, fontsize=8, pad=2, parse_math=False)
        axis.tick_params(labelsize=6)
        axis.spines[["top", "right"]].set_visible(False)
        if index % _PER_ROW == 0:
            axis.set_ylabel("J (%)", fontsize=7)
        if 1 < len(objects[video]) <= 8:
            axis.legend(fontsize=5, ncols=2, frameon=False, loc="lower left")
