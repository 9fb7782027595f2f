"""Rows of the published tables, run again: evaluated, scored (or packed), ours beside published."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from jointformer.data.benchmarks import Dataset, open_benchmark
from jointformer.data.published import PublishedRow
from jointformer.errors import ConfigError, DataError, UserError
from jointformer.evaluation.published_masks import fetch_masks, masks_path, masks_url
from jointformer.evaluation.reproduce_parts import caught_up, keep
from jointformer.evaluation.reproduce_result import RowResult, Status
from jointformer.evaluation.reproduce_rows import (
    Piece,
    figure_key,
    find_truth,
    row_name,
    truth_is_public,
    truth_piece,
    weights_piece,
)
from jointformer.evaluation.runner import evaluate
from jointformer.evaluation.scale.manifest import Manifest
from jointformer.evaluation.scale.run import Scale
from jointformer.evaluation.scale.shards import zip_path
from jointformer.evaluation.score import Missing, score
from jointformer.evaluation.score_results import Scores
from jointformer.evaluation.submit import check_submission, pack_submission
from jointformer.model.network import JointFormer
from jointformer.model.weights import load_model
from jointformer.track.config import TrackerConfig
from jointformer.track.loop import BadFramePolicy

#: What a reader of the difference has to know, by dataset.
_ABOUT = {
    "LVOS": ("scored by the rules since May 2024; which rules made the published figures is not known",),
    "BURST": ("HOTA as BURST-benchmark ships it (box IoU), which most likely made the published figures",),
}


@dataclass(frozen=True)
class Options:
    """How rows are run. `model` takes the place of the rows' own weights; `size` of the published 480.

    `scale` says who labels videos, `workers` how many processes score; `missing` is `score`'s, the rest `evaluate`'s.
    """

    data_root: Path = Path("..")
    output: Path = Path("output/reproduce")
    model: str | None = None
    device: str = "auto"
    precision: str = "auto"
    size: int = 480
    objects_per_pass: int | None = None
    compile: bool = False
    workers: int = 1
    overwrite: bool = False
    published_masks: bool = False
    progress: bool = False
    scale: Scale = field(default_factory=Scale)
    on_bad_frame: BadFramePolicy = "stop"
    memory_budget: int | None = None
    missing: Missing = "toolkit"

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError("too few processes", where="workers", expected="at least 1", got=self.workers)
        if self.published_masks and self.model is not None:
            raise ConfigError("published masks are not made by a model of yours", where="model")
        if self.published_masks and (self.size != 480 or self.overwrite):
            what = "overwrite" if self.overwrite else "size"
            raise ConfigError("published masks are scored as they are, and nothing is run", where=what)
        if self.overwrite:
            self.scale.refuse_overwriting()


class Reproduction:
    """Runs rows one after the other; opened data and the last network are kept for the next row."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._datasets: dict[tuple[str, str], Dataset | DataError] = {}
        self._model: tuple[str, JointFormer] | None = None

    def pieces(self, row: PublishedRow) -> list[Piece]:
        """Everything the row needs: here, to be fetched, or missing and why."""
        found: list[Piece] = []
        if self.options.published_masks:
            path = masks_path(row)
            here = path.exists()
            found.append(
                Piece("published masks", "here" if here else "to fetch", str(path if here else masks_url(row)))
            )
        else:
            found.append(weights_piece(self.options.model or row.weights))
        if not self.options.published_masks or not truth_is_public(row):
            found.append(self._data_piece(row))
        if truth_is_public(row):
            found.append(truth_piece(row, self.options.data_root))
        return found

    def plan(self, row: PublishedRow) -> RowResult:
        """What running the row would do; nothing is fetched or written."""
        pieces = self.pieces(row)
        missing = any(piece.state == "missing" for piece in pieces)
        return RowResult(row, "missing" if missing else "planned", pieces, where=self._output(row))

    def run(self, row: PublishedRow) -> RowResult:
        """The row's outcome. What a user can mend becomes `missing` or `failed`, with the reason in notes."""
        planned = self.plan(row)
        if not planned.good:
            return planned
        try:
            if self.options.published_masks:
                return self._judge(row, planned.pieces, fetch_masks(row, progress=self.options.progress))
            return self._evaluate(row, planned.pieces)
        except UserError as error:
            return RowResult(row, "failed", planned.pieces, notes=[str(error)], where=planned.where)

    def _evaluate(self, row: PublishedRow, pieces: Sequence[Piece]) -> RowResult:
        options = self.options
        config = TrackerConfig(
            max_memory_frames=row.max_memory_frames,
            topk=row.topk_num,
            size=options.size,
            objects_per_pass=options.objects_per_pass,
            compile=options.compile,
        )
        output = self._output(row)
        manifest = evaluate(
            self._network(options.model or row.weights),
            self._dataset(row),
            output,
            config=config,
            overwrite=options.overwrite,
            progress=options.progress,
            on_bad_frame=options.on_bad_frame,
            memory_budget=options.memory_budget,
            scale=options.scale,
        )
        if manifest.holes:
            done = f"{len(manifest.videos)} of {len(manifest.wanted)} videos are finished"
            note = f"{done}; scored by the part that finishes the last one, or by the same command without --shard"
            return RowResult(row, "open", pieces, notes=[note], where=output)
        try:
            judged = self._judge(row, pieces, output, fps=manifest.fps)
        except UserError as error:
            judged = RowResult(row, "failed", pieces, notes=[str(error)], where=output)
        judged = replace(judged, notes=[*_bad_frames(manifest, options.on_bad_frame), *judged.notes])
        keep(judged, manifest.run)
        return judged

    def _judge(self, row: PublishedRow, pieces: Sequence[Piece], masks: Path, fps: float = 0.0) -> RowResult:
        """Score masks where the truth is public; check them, and pack ours, where a server has it."""
        options, notes = self.options, self._notes()
        if truth_is_public(row):
            truth = find_truth(row, options.data_root)
            scores = score(
                row.dataset,
                truth,
                masks,
                missing="toolkit" if row.dataset == "BURST" else options.missing,  # its own rule counts them as missed
                left_out=() if options.published_masks else _before_first_masks(self._dataset(row)),
                workers=options.workers,
                progress=options.progress,
            )
            notes += [*_ABOUT.get(row.dataset, ()), *scores.notes]
            return RowResult(row, "scored", pieces, _published_figures(row, scores), notes, masks, fps=fps)
        found = check_submission(self._dataset(row), masks, workers=options.workers, progress=options.progress)
        notes += found.lines()
        if options.published_masks:
            status: Status = "checked" if not found.problems.files else "failed"
            notes.append(f"the truth is with {row.scored_by}: nothing to score here")
            return RowResult(row, status, pieces, notes=notes, where=masks)
        target = zip_path(masks, found.dataset.benchmark)  # in place of the run's own, which nobody checked
        assert target is not None, "every benchmark with a server has one"
        archive = pack_submission(found, target, workers=options.workers)
        notes.append(f"upload {archive} to {row.scored_by}, where the truth is")
        return RowResult(row, "packed", pieces, notes=notes, where=masks, archive=archive, fps=fps)

    def _notes(self) -> list[str]:
        """What sets this run apart from the published one."""
        options, notes = self.options, []
        if options.model is not None:
            notes.append(f"weights {options.model} instead of the row's own")
        if options.size != 480:
            notes.append(f"shorter side {options.size} instead of the published 480")
        return notes

    def _output(self, row: PublishedRow) -> Path:
        if self.options.published_masks:
            return masks_path(row)
        own = "" if self.options.model is None else f"@{_short_name(self.options.model)}"
        return self.options.output / f"{row_name(row)}{own}"

    def _data_piece(self, row: PublishedRow) -> Piece:
        try:
            dataset = self._dataset(row)
        except DataError as error:
            return Piece("frames and masks", "missing", str(error))
        return Piece("frames and masks", "here", f"{len(dataset.videos)} videos of {dataset.benchmark.name}")

    def _dataset(self, row: PublishedRow) -> Dataset:
        key = (row.dataset, row.split)
        if key not in self._datasets:
            try:
                self._datasets[key] = open_benchmark(*key, self.options.data_root, size=self.options.size)
            except DataError as error:
                self._datasets[key] = error
        found = self._datasets[key]
        if isinstance(found, DataError):
            raise found
        return found

    def _network(self, name: str) -> JointFormer:
        if self._model is None or self._model[0] != name:
            self._model = None  # the old one goes before the new one comes
            options = self.options
            self._model = (name, load_model(name, options.device, options.precision, progress=options.progress))
        return self._model[1]


def reproduce(
    rows: Sequence[PublishedRow],
    options: Options,
    *,
    dry_run: bool = False,
    after_row: Callable[[list[RowResult]], None] | None = None,
) -> list[RowResult]:
    """The results of all rows, each finished or with the reason why not; earlier finished videos are kept.

    `after_row` is called with all results so far after every row; again, where another part meanwhile judged a row that
    was open.
    """
    reproduction = Reproduction(options)
    results: list[RowResult] = []
    for row in rows:
        results = caught_up([*results, reproduction.plan(row) if dry_run else reproduction.run(row)])
        # Parts may write one report: each keeps its outcomes before it writes, and looks for others' after it has
        # written, so the last one to write knows all.
        while after_row is not None:
            after_row(results)
            before, results = results, caught_up(results)
            if results == before:
                break
    return results


def _short_name(model: str) -> str:
    """Weights in a folder's name: their name, or their file's with its folder's, as all runs call theirs alike."""
    if Path(model).name == model and not Path(model).suffix:
        return model
    path = Path(model).expanduser().absolute()
    return "-".join(part for part in (path.parent.name, path.stem) if part)


def _bad_frames(manifest: Manifest, policy: BadFramePolicy) -> list[str]:
    """What became of frames that could not be read, where there were any."""
    return [f"{manifest.bad_frames} frames could not be read (--on-bad-frame {policy})"] if manifest.bad_frames else []


def _before_first_masks(dataset: Dataset) -> set[str]:
    """The masks that are asked for before anything is given, of which our runs write none (`<video>/<frame>.png`)."""
    return {
        f"{video.name}/{video.frame_names[index]}.png"
        for video in dataset.videos
        for index in video.frames_to_save
        if index < video.first_mask
    }


def _published_figures(row: PublishedRow, scores: Scores) -> dict[str, float]:
    """Our figures in percent under the published names."""
    return {name: 100 * scores.figures[figure_key(name)] for name in row.published}
