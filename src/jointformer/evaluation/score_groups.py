"""Which videos and categories count as seen or unseen."""

from __future__ import annotations

from pathlib import Path

from jointformer.data.metas import read_json, read_list
from jointformer.errors import DataError

_LVOS_2024 = """
058oeZ2p 3bvEjhOT 49TNsJzk 6mNj04tC 711gAS21 8lxxCA5h 9NA8c5C3 9RoNInYO 9oLyy7aJ FiQUhyRi FiRTBMg2 FmzvB44A
IlvtT6D6 JGG6MrhF K3OUeINk LWVlKBlK LY2zehlH N6CONZUW Oj1z5fO0 PQfn7XV2 QE1wMR58 Qf9YVXOW R3UJGYwy SRRojucs
YfoFnMgm ZFqAoImI afoR2rH6 beR0WT11 bwcKqVSN cdzAjcuN dtHbJvYy eEcUJVBZ gdqCcvs2 gw84JOqH m37l7ti1 nfcT3owb
nwflTTf1 o36i3YWC p9RjdKoh pMntJwSQ q2HE4zaM rvwT3piq tAyQIobn v3uNUctx vJ8W2TO5 wrrX6bxv xQZlxhxV xpI7xRWN
yWnanBID yfzVCnvU yxCvN6OJ
"""

_VISOR_UNSEEN = (
    "P07_101 P07_103 P07_110 P09_02 P09_07 P09_103 P09_104 P09_106 P21_01 P29_04".split()  # noqa: SIM905
)


def lvos_unseen(year: int) -> set[str]:
    """The unseen videos of lvos-evaluation since May 2024; DataError for 2022, whose list is not fully known."""
    if year < 2024:
        raise DataError(
            "the list of unseen videos of 2022 is not part of this project",
            hint="give the toolkit's unseen_videos.txt as --groups",
        )
    return set(_LVOS_2024.split())


def visor_is_unseen(sequence: str) -> bool:
    """Whether a VISOR sequence comes from an unseen kitchen: the first two parts of its name say."""
    return "_".join(sequence.split("_")[:2]) in _VISOR_UNSEEN


def read_words(path: Path) -> set[str]:
    """The names in a text file. Raises DataError where it cannot be read."""
    return set(read_list(path).split())


def ytvos_seen_categories(path: Path | None, annotations: Path) -> set[str]:
    """The categories that occur in training: from train/meta.json, a JSON with `seen`, or a text list."""
    if path is None:
        raise DataError(
            "nothing says which categories are seen",
            where=annotations,
            expected="train/meta.json beside the annotations",
            hint="name it, or a text file of the seen categories, with --groups",
        )
    if path.suffix != ".json":
        return read_words(path)
    content = read_json(path)
    try:
        if "seen" in content:
            return set(content["seen"])
        objects = (entry for video in content["videos"].values() for entry in video["objects"].values())
        return {entry["category"] for entry in objects}
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"no list of seen categories ({error!r})", where=path) from error
