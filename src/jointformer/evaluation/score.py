"""Scoring a benchmark's predictions: what to score, by which rules, and what to say about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from jointformer.data.inputs import refuse_inputs
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.score_check import Problems, check_predictions, check_truth, describe, other_layout
from jointformer.evaluation.score_plans import Plan, VideoPlan, build_plan, check_options
from jointformer.evaluation.score_results import Figures, Scores
from jointformer.evaluation.score_run import ScoreJob, VideoResult, score_videos
from jointformer.evaluation.score_sources import MaskTree, open_masks
from jointformer.metrics import statistics, summary
from jointformer.metrics.protocols import Protocol, find_protocol
from jointformer.metrics.results import ObjectScores
from jointformer.ops.png import STRETCHED

Missing = Literal["toolkit", "empty"]


def score(
    benchmark: str,
    annotations: str | Path,
    predictions: str | Path,
    *,
    rules: str | None = None,
    set_name: str | None = None,
    meta: str | Path | None = None,
    groups: str | Path | None = None,
    missing: Missing = "toolkit",
    left_out: Collection[str] = (),
    strict_toolkit: bool = False,
    similarity: Literal["box", "mask"] = "box",
    filter_tracks: bool = False,
    outputs: Sequence[str | Path] = (),
    workers: int = 1,
    progress: bool = False,
) -> Scores:
    """The scores of predicted masks under a benchmark's own rules.

    `benchmark` is a row of `metrics.PROTOCOLS` (`davis17` or `D17`), `rules` one of its variants.
    `annotations` is the dataset's folder or its folder of masks; `predictions` a folder or zip of
    `<video>/<frame>.png`, read in place. `set_name` names the list of videos (default `val`) or is a
    text file of them, `meta` the benchmark's meta file, `groups` the file that tells seen from unseen.
    `missing="empty"` scores missing predictions as empty masks; `left_out` names those (`<video>/<frame>.png`) of which
    that is right, because an object is asked for before it is given. With `strict_toolkit` numbers in which
    the toolkit goes wrong (NaN, wrapped decay) are given as it gives them. BURST has neither option; `similarity` and
    `filter_tracks` are its own. `outputs` are the files that the scores will be written to. Raises DataError
    for predictions the toolkit stops at, naming the first files and the count, OutputError for outputs that are read.
    """
    protocol = find_protocol(benchmark, rules)
    if missing not in ("toolkit", "empty"):
        raise ConfigError("unknown value", where="missing", expected="toolkit | empty", got=repr(missing))
    if workers < 1:
        raise ConfigError("too few processes", where="workers", expected="at least 1", got=workers)
    paths = [None if path is None else Path(path) for path in (meta, groups)]
    check_options(protocol, *paths, missing=missing, strict_toolkit=strict_toolkit)
    if protocol.layout == "burst":
        from jointformer.evaluation.score_burst import score_burst

        return score_burst(
            protocol,
            Path(annotations),
            Path(predictions),
            similarity=similarity,
            filter_tracks=filter_tracks,
            set_name=set_name,
            outputs=outputs,
            workers=workers,
            progress=progress,
        )
    if similarity != "box" or filter_tracks:
        raise ConfigError(f"{protocol.benchmark} has no similarity or track filter", where="--similarity")
    plan = build_plan(protocol, Path(annotations), set_name=set_name, meta=paths[0], groups=paths[1])
    masks = open_masks(Path(predictions), [video.video for video in plan.videos])
    truth = MaskTree(str(plan.truth))
    if outputs:
        folders = [Path(tree.folder) for tree in (truth, masks) if tree.archive is None]
        refuse_inputs(outputs, [*plan.read, *(folder / video.video for folder in folders for video in plan.videos)])
    _settle_short_videos(plan, protocol, strict_toolkit)
    if protocol.objects == "seen" and missing == "toolkit":
        _leave_out_unpredicted(plan, masks)
    check_truth(plan, truth)
    _stop_at_bad_files(plan, truth, masks, missing, left_out, values=protocol.objects == "merged")
    jobs = [ScoreJob(video, protocol, truth, masks) for video in plan.videos]
    results = score_videos(jobs, workers)
    bar = tqdm(results, total=len(jobs), unit="video", disable=not progress)
    return summarise(protocol, list(bar), plan, strict_toolkit, where=str(predictions))


def summarise(protocol: Protocol, results: Sequence[VideoResult], plan: Plan, strict: bool, where: str) -> Scores:
    """The scores of all videos; DataError for damaged files and, where the toolkit stops, for foreign labels."""
    notes = [*([protocol.note] if protocol.note else []), *plan.notes]
    if protocol.objects.startswith("first") and not any(result.scores.objects for result in results):
        raise DataError(
            "no video has an object in its first annotation (255 is void by these rules)",
            where=str(plan.truth),
            hint="davis16 scores masks of 0 and 255",
        )
    stretched = next((note for note in plan.notes if note.startswith(STRETCHED)), None)
    notes += _check_contents(protocol, results, where, hint=stretched)
    objects = _with_frames([each for result in results for each in result.scores.objects], notes, strict)
    if not objects:
        raise DataError("nothing to score: no object has a scored frame", where=str(plan.truth))
    scored = [(each, summary.object_figures(each, protocol, strict)) for each in objects]
    notes += _notes_on_numbers(protocol, objects, strict)
    videos: dict[str, list[Figures]] = {}
    for each, figures in scored:
        videos.setdefault(each.video, []).append(figures)
    return Scores(
        benchmark=protocol.benchmark,
        rules=protocol.rules,
        toolkit=protocol.toolkit,
        columns=protocol.columns,
        unit_columns=protocol.unit_columns,
        figures=summary.dataset_figures(scored, protocol, strict),
        videos={video: summary.pooled([dict(each) for each in rows]) for video, rows in videos.items()},
        objects={each.name: figures for each, figures in scored},
        frames=objects,
        notes=notes,
        counts={
            "videos": len(videos),
            "objects": len(objects),
            "object-frames": sum(len(each.frames) for each in objects),
        },
    )


def _settle_short_videos(plan: Plan, protocol: Protocol, strict: bool) -> None:
    """Videos whose every frame is left out by the rules, and without LVOS's zeros: they count as by the toolkit.

    Where the toolkit crashes they are left out, unless `strict`.
    """
    short = [video.video for video in plan.videos if not video.frames and not any(o.unfilled for o in video.objects)]
    if not short:
        return
    if strict and protocol.short_videos == "crash":
        raise DataError(describe("videos without a frame to score, at which the toolkit crashes", short))
    if not any(video.frames for video in plan.videos):
        raise DataError(
            "nothing to score: the rules leave out every annotated frame",
            where=str(plan.truth),
            expected="the annotations of all frames",
            hint="are these the given masks alone?",
        )
    if protocol.short_videos == "zero":
        plan.videos = [_of_zeros(video) if video.video in short else video for video in plan.videos]
        plan.notes.append(describe("videos without a scored frame, whose objects the toolkit counts as 0", short))
    else:
        plan.videos = [video for video in plan.videos if video.video not in short]
        plan.notes.append(describe("videos left out because no frame of theirs is scored", short))


def _of_zeros(video: VideoPlan) -> VideoPlan:
    """The video with one value per object, which no frame fills."""
    return replace(video, objects=tuple(replace(each, length=1) for each in video.objects))


def _leave_out_unpredicted(plan: Plan, masks: MaskTree) -> None:
    there = set(masks.videos())
    absent = [video.video for video in plan.videos if video.video not in there]
    if absent:
        plan.notes.append(describe("videos left out because they have no predictions, as the toolkit does", absent))
        plan.videos = [video for video in plan.videos if video.video in there]


def _stop_at_bad_files(
    plan: Plan, truth: MaskTree, masks: MaskTree, missing: Missing, left_out: Collection[str], *, values: bool
) -> None:
    """Raise DataError for files that cannot be scored, with notes on those that can. values: grey is no label."""
    problems = check_predictions(plan, truth, masks)
    hint = None
    if (grey := problems.files.pop(STRETCHED, [])) and not values:
        plan.notes.append(describe(STRETCHED, grey))
    gone = problems.files.pop("predictions missing", [])
    early = [file for file in gone if file in left_out]
    others = [file for file in gone if file not in left_out]
    if early:
        plan.notes.append(describe("frames before the first given mask, scored as empty masks", early))
    if others and missing == "empty":
        plan.notes.append(describe("missing predictions scored as empty masks", others))
    elif others:
        problems.files["predictions missing"] = others
        # Masks that lie otherwise are not missing: scored as empty they would only look like a bad result.
        hint = other_layout(plan, masks) or "; ".join(
            filter(None, (plan.hint, "--missing empty scores them as empty masks"))
        )
    problems.stop(str(masks.archive or masks.folder), hint)


def _check_contents(protocol: Protocol, results: Sequence[VideoResult], where: str, hint: str | None) -> list[str]:
    """Notes on labels without a meaning; DataError where the toolkit stops at them or files are damaged."""
    problems, notes = Problems(), []
    extra = [
        f"{result.scores.video}/{frame}.png ({', '.join(map(str, labels))})"
        for result in results
        for frame, labels in result.scores.extra_labels.items()
    ]
    for result in results:
        for file in result.damaged:
            problems.add("predictions that cannot be decoded", file)
    if extra and protocol.extra_labels == "stop":
        problems.files["predictions with labels above the number of objects"] = extra
    elif extra:
        notes.append(describe("predictions with labels that are no object here, which are dropped", extra))
    problems.stop(where, hint)
    late = [
        f"{result.scores.video} label {label} (from {frame})"
        for result in results
        for label, frame in result.scores.unscored_labels.items()
    ]
    if late:
        notes.append(describe("annotated labels that these rules do not score", late))
    return notes


def _with_frames(objects: list[ObjectScores], notes: list[str], strict: bool) -> list[ObjectScores]:
    """The objects that have values; the others are NaN for the toolkits and left out unless `strict`."""
    empty = [each.name for each in objects if not len(each)]
    if strict or not empty:
        return objects
    notes.append(describe("objects left out because no frame of theirs is scored", empty))
    return [each for each in objects if len(each)]


def _notes_on_numbers(protocol: Protocol, objects: Sequence[ObjectScores], strict: bool) -> list[str]:
    """What in the figures is a toolkit's accident, or would have been."""
    notes = []
    phantoms = [each.name for each in objects if each.phantom]
    if phantoms:
        notes.append(describe("objects that are only gaps in the labels, counted as the toolkit does", phantoms))
    shown = any(key == "J_decay" for _, key in protocol.columns)
    long = [each.name for each in objects if statistics.decay_wraps(len(each))]
    if long and shown and protocol.strict_decay == "eight_bits":
        kind = "objects with 256 or more scored frames, whose decay is "
        kind += "the toolkit's (wrapped)" if strict else "computed soundly (the toolkit's wraps: --strict-toolkit)"
        notes.append(describe(kind, long))
    if protocol.summary in ("lvos", "ytvos", "visor"):
        groups = {each.group for each in objects}
        for group in ("seen", "unseen"):
            if group not in groups and not (protocol.summary == "visor" and group == "seen"):
                rest = "" if strict or protocol.summary == "visor" else "; the mean is over the others (toolkit: NaN)"
                notes.append(f"no {group} object{rest}")
    return notes
