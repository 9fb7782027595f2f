"""Run a benchmark: every video through a tracker, results written whole, interrupted runs continued."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from jointformer.data.benchmarks import Dataset
from jointformer.data.prefetch import prefetch
from jointformer.data.sources import VideoSource
from jointformer.data.writer import SCORES, ResultWriter, clean_up, is_finished, make_zip
from jointformer.errors import ConfigError
from jointformer.evaluate.settings import MANIFEST, Manifest, RunSettings, VideoRecord, open_manifest, weights_hash
from jointformer.model.network import JointFormer
from jointformer.ops.files import make_dir, remove
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import MasksLike
from jointformer.track.loop import Stopwatch, iter_segmentations, peak_memory, reset_peak_memory
from jointformer.types import UInt8Array

#: Frames decoded ahead of the model.
AHEAD = 4


def evaluate(
    model: JointFormer,
    dataset: Dataset,
    output: str | Path,
    *,
    config: TrackerConfig | None = None,
    views: Sequence[View] | None = None,
    videos: Sequence[str] | None = None,
    save_all: bool = False,
    save_scores: bool = False,
    overwrite: bool = False,
    progress: bool = True,
) -> Manifest:
    """Label a benchmark's videos and return what the run took.

    Results lie in output/<video>/<frame>.png (or below output/Annotations, as the benchmark wants it), the settings
    and figures in output/run.json; a zip for the submission server is made where there is one and all videos are
    finished. A video is finished when its folder is there: an interrupted run goes on with the others. views: sizes
    and mirrored views whose probabilities are averaged (default: config.size, plain). videos: only these.

    Raises ConfigError for unknown videos and for a folder with results of other settings, DataError for damaged
    frames, OutputError where nothing can be written.
    """
    config = config or TrackerConfig()
    views = tuple(views or (View(config.size),))
    output = make_dir(output)
    chosen = _choose(dataset, videos)
    settings = RunSettings(
        dataset=dataset.benchmark.key,
        split=dataset.benchmark.split,
        weights=weights_hash(model),
        precision=str(model.dtype).removeprefix("torch."),
        tracker=config,
        views=views,
        save_all=save_all,
        save_scores=save_scores,
    )
    folder = output / dataset.benchmark.output_folder
    if overwrite:
        _clear(output, folder, dataset)
    manifest = open_manifest(output, settings)
    manifest.device = str(model.device)
    manifest.save(output)
    clean_up(output)
    open_videos = [video for video in chosen if not is_finished(folder, video.name)]
    reset_peak_memory(model.device)
    with tqdm(total=sum(len(v) - v.first_mask for v in open_videos), unit="frame", disable=not progress) as bar:
        for number, video in enumerate(open_videos, len(chosen) - len(open_videos) + 1):
            bar.set_description(f"{video.name} ({number}/{len(chosen)})")
            tracker = EnsembleTracker(model, config, views)
            scores = output / SCORES if save_scores else None
            manifest.videos[video.name] = label_video(tracker, video, folder, scores_folder=scores, bar=bar)
            manifest.peak_memory = max(manifest.peak_memory, peak_memory(model.device))
            manifest.save(output)
            bar.set_postfix_str(f"{manifest.fps:.2f} frames/s in the model")
    _zip_if_finished(dataset, output, folder)
    return manifest


def label_video(
    tracker: EnsembleTracker,
    video: VideoSource,
    folder: Path,
    *,
    scores_folder: Path | None = None,
    bar: tqdm | None = None,
) -> VideoRecord:
    """Track one video and write folder/<video>/<frame>.png; return what it took.

    The folder appears under its name when all its files are written.
    """
    last = max(video.frames_to_save)
    watch = Stopwatch()

    def given(index: int, known: tuple[int, ...]) -> MasksLike | None:
        if index not in video.masks:
            return None
        label_map = video.read_mask(index, known)
        return label_map if label_map.any() else None

    def frames() -> Iterator[tuple[int, UInt8Array]]:
        for index in range(video.first_mask, last + 1):
            yield index, video.frame(index)

    with ResultWriter(folder, video.name, video.palette, scores_root=scores_folder) as writer:
        results = iter_segmentations(
            tracker, prefetch(frames(), AHEAD), given, last=last, watch=watch, output_size=video.output_size
        )
        for index, result in results:
            if index in video.frames_to_save:
                writer.write(video.frame_names[index], result.label_map)
                if scores_folder is not None:
                    prob = np.stack([result.object_prob(i) for i in result.ids])
                    writer.write_scores(video.frame_names[index], prob, result.ids)
            if bar is not None:
                bar.update()
    return VideoRecord(watch.frames, round(watch.seconds, 4), len(tracker.object_ids))


def _choose(dataset: Dataset, names: Sequence[str] | None) -> list[VideoSource]:
    """Return the videos named, in the benchmark's order; all where none are named."""
    known = {video.name: video for video in dataset.videos}
    for name in names or ():
        if name not in known:
            raise ConfigError(f"no video {name!r} in {dataset.benchmark.name}", expected=f"one of {', '.join(known)}")
    return [video for video in dataset.videos if names is None or video.name in names]


def _clear(output: Path, folder: Path, dataset: Dataset) -> None:
    """Remove an earlier run's manifest and the results of this benchmark's videos; nothing else is touched."""
    remove(output / MANIFEST)
    for video in dataset.videos:
        remove(folder / video.name)
        remove(output / SCORES / video.name)


def _zip_if_finished(dataset: Dataset, output: Path, folder: Path) -> None:
    """Make the submission server's zip beside the results once every video of the benchmark is finished."""
    row = dataset.benchmark
    names = [video.name for video in dataset.videos]
    if row.zip_holds and all(is_finished(folder, name) for name in names):
        inside = "Annotations" if row.zip_holds == "Annotations" else ""
        make_zip(output / f"{row.key}_{row.split}.zip", folder, names, inside=inside)
