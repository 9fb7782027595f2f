"""How much of the processors a container's limits leave to this process."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

#: Where Linux shows control groups: version 2, version 2 beside version 1, version 1 by its two usual names.
_UNIFIED = ("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
_BY_NAME = ("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct")
_OWN_GROUPS = "/proc/self/cgroup"


def cpu_quota() -> int | None:
    """Return how many processors the time that control groups allow keeps busy: 2 for `docker run --cpus 1.5`.

    None where nothing is limited, or the system is not Linux. Other than an affinity, a quota hides no processors:
    programs begin as many threads as the machine has, which then wait for each other most of the time.
    """
    try:
        groups = Path(_OWN_GROUPS).read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    limits: list[float] = []
    for line in groups:
        _, controllers, group = (*line.split(":", 2), "", "")[:3]
        if not controllers:
            limits += _limits(_UNIFIED, group, _unified_limit)
        elif "cpu" in controllers.split(","):
            limits += _limits(_BY_NAME, group, _named_limit)
    return math.ceil(min(limits)) if limits else None


def _limits(roots: tuple[str, ...], group: str, read: Callable[[Path], float | None]) -> Iterator[float]:
    """The limits of a group and of those that it is in; inside a container these begin with its own."""
    path = PurePosixPath(group.lstrip("/"))
    for root in roots:
        for folder in (path, *path.parents):
            try:
                limit = read(Path(root) / folder)
            except (OSError, ValueError, ZeroDivisionError):  # not there, or of another version
                continue
            if limit is not None and limit > 0:
                yield limit


def _unified_limit(folder: Path) -> float | None:
    quota, period = (folder / "cpu.max").read_text().split()
    return None if quota == "max" else float(quota) / float(period)


def _named_limit(folder: Path) -> float | None:
    quota, period = (float((folder / f"cpu.cfs_{name}_us").read_text()) for name in ("quota", "period"))
    return quota / period  # below 0 without a limit
