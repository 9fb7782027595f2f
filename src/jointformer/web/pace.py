"""How long a step takes here, from the last steps."""

from __future__ import annotations

import json
import statistics
import threading
from pathlib import Path

from jointformer.errors import OutputError
from jointformer.ops.files import write_json

FILE = "pace.json"
_KEPT = 40


class Pace:
    """Seconds per step by setting and number of objects, kept in a file so that the next start knows them too."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._steps: dict[str, dict[int, list[float]]] = _read(path)

    def note(self, setting: str, objects: int, seconds: float) -> None:
        """Remember what one step took."""
        with self._lock:
            steps = self._steps.setdefault(setting, {}).setdefault(objects, [])
            steps.append(seconds)
            del steps[:-_KEPT]

    def seconds(self, setting: str, objects: int) -> float | None:
        """Return the seconds that a step with some objects takes; None where nothing was measured yet.

        Another number of objects is estimated from the nearest measured one: half a step is the picture's, half is
        the first object's.
        """
        with self._lock:
            known = self._steps.get(setting, {})
            if not known:
                return None
            near = min(known, key=lambda count: (abs(count - objects), count))
            return statistics.median(known[near]) * (1 + objects) / (1 + near)

    def save(self) -> None:
        """Write the file; measurements that cannot be kept are no reason to stop."""
        with self._lock:
            rows = {s: {str(n): steps for n, steps in counts.items()} for s, counts in self._steps.items()}
        try:
            write_json(self._path, rows)
        except OutputError:
            return


def _read(path: Path) -> dict[str, dict[int, list[float]]]:
    """A file that is missing or damaged counts as no measurements: they are made again."""
    try:
        rows = json.loads(path.read_text("utf-8"))
        return {
            str(s): {int(n): [float(v) for v in steps][-_KEPT:] for n, steps in counts.items() if steps}
            for s, counts in rows.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}
