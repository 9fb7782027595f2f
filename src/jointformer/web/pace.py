"""How long a step takes here, from the last steps."""

from __future__ import annotations

import json
import math
import statistics
import threading
from pathlib import Path

from jointformer.errors import OutputError
from jointformer.system.files import write_json

FILE = "pace.json"
_KEPT = 40


class Pace:
    """Seconds per step by setting, pixels and objects, kept in a file so that the next start knows them too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._steps = _read(path)

    def note(self, setting: str, pixels: int, objects: int, seconds: float) -> None:
        """Remember what one step took."""
        with self._lock:
            steps = self._steps.setdefault(setting, {}).setdefault((pixels, objects), [])
            steps.append(seconds)
            del steps[:-_KEPT]

    def seconds(self, setting: str, pixels: int, objects: int) -> float | None:
        """Return the seconds that a step takes; None where nothing was measured in this setting yet.

        Other sizes and numbers of objects are estimated from the nearest measured ones: a step's time grows with the
        pixels, and half of it is the picture's, half the first object's.
        """
        with self._lock:
            known = self._steps.get(setting, {})
            if not known:
                return None
            near = min(known, key=lambda at: (abs(math.log(at[0] / pixels)), abs(at[1] - objects), at))
            return statistics.median(known[near]) * pixels / near[0] * (1 + objects) / (1 + near[1])

    def save(self) -> None:
        """Write the file; measurements that cannot be kept are no reason to stop."""
        with self._lock:
            rows = {s: {f"{p} {n}": steps for (p, n), steps in known.items()} for s, known in self._steps.items()}
        try:
            write_json(self._path, rows)
        except OutputError:
            return


def _read(path: Path) -> dict[str, dict[tuple[int, int], list[float]]]:
    """A file that is missing or damaged counts as no measurements: they are made again."""
    steps: dict[str, dict[tuple[int, int], list[float]]] = {}
    try:
        for setting, known in json.loads(path.read_text("utf-8")).items():
            for at, seconds in known.items():
                pixels, objects = (int(number) for number in at.split())
                if pixels < 1 or objects < 1 or not seconds:
                    raise ValueError(at)
                steps.setdefault(setting, {})[pixels, objects] = [float(v) for v in seconds][-_KEPT:]
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
    return steps
