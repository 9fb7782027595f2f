"""The benchmarks' scoring rules as rows of a table: facts about the toolkits, not our choices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from jointformer.errors import ConfigError
from jointformer.metrics import columns
from jointformer.metrics.boundary import ContourRule
from jointformer.metrics.columns import Columns
from jointformer.metrics.statistics import DecayRule

#: Which labels are objects: `first_max` 1..largest label of the first truth frame (gaps included);
#: `first_labels` the labels that occur there; `listed` those of the meta file; `seen` every label met
#: so far in truth or prediction, kept if the truth ever has it; `merged` everything that is not background,
#: as object 1.
ObjectRule = Literal["first_max", "first_labels", "listed", "seen", "merged"]
#: A predicted label that is no object: `stop` the run, or `drop` it with a message.
ExtraRule = Literal["stop", "drop"]
#: A video without a scored frame: the toolkit's `crash`, no object (`drop`), or the listed ones with J = F = 0.
ShortRule = Literal["crash", "drop", "zero"]
SummaryRule = Literal["davis", "vost", "lvos", "ytvos", "visor", "mose_v2", "hota"]
Layout = Literal["list", "folders", "lvos", "ytvos", "mose", "burst"]


@dataclass(frozen=True)
class Protocol:
    """One toolkit's rules.

    `toolkit` names the program whose numbers these are. `score_first`/`score_last` say whether a
    video's first and last truth frames count. Where all labels are merged, predictions above
    `threshold` are the object. `columns` are (heading, figure) pairs of the printed table,
    `unit_columns` those of a single object.
    """

    benchmark: str
    rules: str
    toolkit: str
    layout: Layout
    objects: ObjectRule
    summary: SummaryRule
    columns: Columns
    unit_columns: Columns
    extra_labels: ExtraRule = "drop"
    short_videos: ShortRule = "drop"
    score_first: bool = False
    score_last: bool = False
    contour: ContourRule = "plain"
    threshold: int = 0
    strict_decay: DecayRule = "eight_bits"
    lists: tuple[str, ...] = ()
    note: str = ""
    measures: tuple[str, ...] = ("J", "F")


_D16_LISTS = ("ImageSets/2016", "2017/trainval/ImageSets/2016")
_D16 = Protocol(
    benchmark="davis16",
    rules="davis",
    toolkit="DAVIS 2016 (one foreground, any non-zero pixel)",
    layout="list",
    objects="merged",
    summary="davis",
    columns=columns.DAVIS,
    unit_columns=columns.DAVIS,
    short_videos="crash",
    lists=_D16_LISTS,
)
_D17 = Protocol(
    benchmark="davis17",
    rules="davis",
    toolkit="davis2017-evaluation",
    layout="list",
    objects="first_max",
    summary="davis",
    columns=columns.DAVIS,
    unit_columns=columns.DAVIS,
    extra_labels="stop",
    short_videos="crash",
    lists=("ImageSets/2017", "ImageSets"),
)
_VOS_BENCHMARK = Protocol(
    benchmark="generic",
    rules="vos-benchmark",
    toolkit="vos-benchmark",
    layout="folders",
    objects="seen",
    summary="davis",
    columns=columns.JF,
    unit_columns=columns.JF,
    strict_decay="plain",
)
_YTVOS = Protocol(
    benchmark="ytvos19",
    rules="after_first",
    toolkit="the published description of YouTube-VOS",
    layout="ytvos",
    objects="listed",
    summary="ytvos",
    columns=columns.YTVOS,
    unit_columns=columns.JF,
    strict_decay="plain",
    note="not the server's number: its program and its treatment of first and last frames are not public",
)
_VOST = Protocol(
    benchmark="vost",
    rules="davis",
    toolkit="VOST",
    layout="list",
    objects="first_max",
    summary="vost",
    columns=columns.VOST,
    unit_columns=columns.VOST,
    short_videos="crash",
    lists=("ImageSets",),
    measures=("J",),
)
_MOSE = Protocol(
    benchmark="mose",
    rules="davis",
    toolkit="the DAVIS rule (MOSE V1's server program is not public)",
    layout="mose",
    objects="first_labels",
    summary="davis",
    columns=columns.JF,
    unit_columns=columns.JF,
    strict_decay="plain",
)
_LVOS = Protocol(
    benchmark="lvos",
    rules="2024",
    toolkit="lvos-evaluation since May 2024",
    layout="lvos",
    objects="listed",
    summary="lvos",
    columns=columns.LVOS,
    unit_columns=columns.LVOS_OBJECT,
    strict_decay="zero",
)
_VISOR = Protocol(
    benchmark="visor",
    rules="davis",
    toolkit="VISOR-VOS since August 2023",
    layout="list",
    objects="first_max",
    summary="visor",
    columns=columns.VISOR,
    unit_columns=columns.DAVIS,
    extra_labels="stop",
    short_videos="crash",
    score_last=True,
    lists=("ImageSets/2022", "ImageSets/2017"),
)
_BURST = Protocol(
    benchmark="burst",
    rules="exemplar",
    toolkit="BURST-benchmark run.py --task exemplar_guided, as shipped",
    layout="burst",
    objects="listed",
    summary="hota",
    columns=columns.BURST,
    unit_columns=columns.BURST_CLASS,
    measures=("HOTA",),
)


def _ytvos_rows(benchmark: str) -> tuple[Protocol, ...]:
    readings = ("after_first", "all_listed", "after_first_without_last")
    return tuple(replace(_YTVOS, benchmark=benchmark, rules=reading) for reading in readings)


#: Every benchmark's rules; a benchmark's first row is its default.
PROTOCOLS: tuple[Protocol, ...] = (
    _D16,
    replace(_D16, rules="soft", toolkit="davis2016-evaluation (predictions above 128)", threshold=128),
    replace(_VOS_BENCHMARK, benchmark="davis16", layout="list", lists=_D16_LISTS),
    _D17,
    replace(_VOS_BENCHMARK, benchmark="davis17", layout="list", lists=_D17.lists),
    *_ytvos_rows("ytvos18"),
    *_ytvos_rows("ytvos19"),
    _VOST,
    _MOSE,
    replace(_VOS_BENCHMARK, benchmark="mose"),
    replace(
        _MOSE,
        rules="v2",
        toolkit="MOSE-api (MOSE V2)",
        objects="listed",
        summary="mose_v2",
        columns=columns.MOSE_V2,
        unit_columns=columns.MOSE_V2_OBJECT,
        short_videos="zero",
        measures=("J", "F", "F_adaptive"),
    ),
    _LVOS,
    replace(_LVOS, rules="2024-compiled", toolkit=_LVOS.toolkit + ", extension compiled", contour="compiled"),
    replace(_LVOS, rules="2022", toolkit="lvos-evaluation of 2022"),
    replace(_LVOS, rules="2022-compiled", toolkit="lvos-evaluation of 2022, compiled", contour="compiled"),
    _VISOR,
    _BURST,
    replace(_BURST, rules="class-guided", toolkit="BURST-benchmark run.py --task class_guided"),
    _VOS_BENCHMARK,
    replace(_VOS_BENCHMARK, rules="all-frames", score_first=True, score_last=True),
    replace(_D17, benchmark="generic", layout="folders", lists=()),
)

#: What `find_protocol` knows; what can be run is `jointformer.BENCHMARKS`.
SCORED_BENCHMARKS: tuple[str, ...] = tuple(dict.fromkeys(row.benchmark for row in PROTOCOLS))

#: The dataset keys of eval.py for the same benchmarks.
ALIASES = {"d16": "davis16", "d17": "davis17", "y18": "ytvos18", "y19": "ytvos19", "g": "generic"}


def find_protocol(benchmark: str, rules: str | None = None) -> Protocol:
    """The row of a benchmark (`davis17` or `D17`); its default rules unless others are named.

    Raises ConfigError for an unknown name, with those there are.
    """
    key = ALIASES.get(benchmark.lower(), benchmark.lower())
    rows = [row for row in PROTOCOLS if row.benchmark == key]
    if not rows:
        raise ConfigError("unknown benchmark", expected=" | ".join(SCORED_BENCHMARKS), got=repr(benchmark))
    if rules is None:
        return rows[0]
    for row in rows:
        if row.rules == rules:
            return row
    known = " | ".join(row.rules for row in rows)
    raise ConfigError(f"unknown rules for {key}", where="--rules", expected=known, got=repr(rules))
