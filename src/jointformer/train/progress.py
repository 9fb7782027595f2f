"""What a person sees of a run: one line on stderr, figures in a JSON-lines file."""

from __future__ import annotations

import json
import math
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any, TextIO

from jointformer.system.files import append_line, write_text


@dataclass
class Progress:
    """Running figures since the last line; `report` prints and returns them."""

    log_file: Path | None = None
    stream: TextIO = field(default_factory=lambda: sys.stderr)
    _since: float = field(default_factory=time.perf_counter)
    _clips: int = 0
    _values: dict[str, list[float]] = field(default_factory=dict)
    _waited: float = 0.0

    def add(self, clips: int, figures: dict[str, float]) -> None:
        """Count one iteration."""
        self._clips += clips
        for name, value in figures.items():
            self._values.setdefault(name, []).append(value)

    @property
    def has_news(self) -> bool:
        """Whether an iteration was counted since the last report."""
        return self._clips > 0

    def report(self, iteration: int, fraction: float, waited: float, extra: dict[str, Any]) -> dict[str, Any]:
        """The means since the last report; also one line on the stream and one in the log file.

        A figure that some iterations do not have is the mean of the others.
        waited: the loader's total of seconds spent waiting for data.
        """
        now = time.perf_counter()
        seconds = max(now - self._since, 1e-9)
        figures: dict[str, Any] = {
            "iteration": iteration,
            "fraction": round(fraction, 5),
            "clips_per_s": round(self._clips / seconds, 3),
            "waiting": round((waited - self._waited) / seconds, 4),
            **{name: round(fmean(values), 5) for name, values in self._values.items()},
            **extra,
        }
        rest = ""
        if 0 < fraction < 1 and "seconds" in extra:
            left = extra["seconds"] / fraction * (1 - fraction)
            rest = f" | {int(left // 3600)}:{int(left // 60 % 60):02d}:{int(left % 60):02d} left"
        shown = " ".join(f"{k} {v:.4g}" for k, v in figures.items() if isinstance(v, float) and k in self._values)
        with suppress(OSError):  # nobody looks any more: a closed terminal, a `tee` that Ctrl-C has ended
            self.stream.write(
                f"{iteration:6d} {100 * fraction:5.1f}% | {figures['clips_per_s']:.2f} clips/s"
                f" | waiting {100 * figures['waiting']:.1f}% | {shown}{rest}\n"
            )
            self.stream.flush()
        if self.log_file is not None:
            # JSON has no infinities, and a scaled loss overflows in its first iterations.
            finite = {k: v if not isinstance(v, float) or math.isfinite(v) else None for k, v in figures.items()}
            append_line(self.log_file, json.dumps(finite, allow_nan=False))
        self._since, self._clips, self._waited = now, 0, waited
        self._values = {}
        return figures


def rewind_log(path: Path, iteration: int) -> None:
    """Drop a log's entries behind the iteration that a run goes on from: it makes them anew. Raises OutputError."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    kept = [line for line in lines if _iteration(line) <= iteration]
    if len(kept) < len(lines):
        write_text(path, "".join(f"{line}\n" for line in kept))


def last_validated(path: Path, iteration: int) -> int:
    """The iteration of a log's last validation up to one; 0 where there is none."""
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    validated = (_iteration(line) for line in lines if '"validation"' in line)
    return int(max((one for one in validated if one <= iteration), default=0))


def _iteration(line: str) -> float:
    """The iteration of a log's entry; infinity for one that a killed run left incomplete."""
    try:
        return float(json.loads(line)["iteration"])
    except (ValueError, TypeError, KeyError):
        return math.inf
