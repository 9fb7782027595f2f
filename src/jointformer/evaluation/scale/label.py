"""One video from frames to a finished folder: the work that every process, shard and actor does alike."""

from __future__ import annotations

import io
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np
import safetensors.torch
import torch

from jointformer.data.metas import is_plain_name
from jointformer.data.prefetch import prefetch
from jointformer.data.sources import VideoSource
from jointformer.data.writer import SCORES, ResultWriter
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.scale.claims import RUN, RunFolder
from jointformer.evaluation.scale.manifest import MANIFEST, VERSIONS, VideoRecord, check_input
from jointformer.model.config import ModelConfig
from jointformer.model.device import move_model, peak_memory
from jointformer.model.network import JointFormer
from jointformer.system.stop import Interrupted, Stop, never
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import MasksLike, ScaledLabelMap
from jointformer.track.loop import BAD_FRAME_POLICIES, BadFramePolicy, Stopwatch, iter_segmentations
from jointformer.track.segmentation import Segmentation
from jointformer.types import UInt8Array

#: Frames decoded ahead of the model.
AHEAD = 4

#: Called with the number of frames that were finished since the last call.
OnFrames = Callable[[int], object]


class Job(Protocol):
    """A video to be labelled, small enough to send to any process."""

    @property
    def name(self) -> str:
        """The name of its folder of results."""

    @property
    def tracked_frames(self) -> int:
        """How many frames its tracking takes."""

    @property
    def fingerprint(self) -> dict[str, str]:
        """What its frames and masks are known by, without paths; empty where they cannot be read."""

    @property
    def inputs(self) -> Collection[Path]:
        """The files and folders that it is read from."""


J = TypeVar("J", bound=Job)


@dataclass(frozen=True, kw_only=True)
class Work(ABC, Generic[J]):
    """What is to be done with a video: the same for all videos of a run, small enough to send to any process.

    output: the folder of run.json. folder: where the videos' folders are. run: the id in run.json, once the run has
    begun. configs: {video: settings} where a memory budget changes them (not its masks).
    """

    output: Path
    folder: Path
    config: TrackerConfig
    views: tuple[View, ...]
    on_bad_frame: BadFramePolicy = "stop"
    run: str = ""
    configs: Mapping[str, TrackerConfig] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.on_bad_frame not in BAD_FRAME_POLICIES:
            expected = f"one of {', '.join(BAD_FRAME_POLICIES)}"
            raise ConfigError("on_bad_frame", expected=expected, got=repr(self.on_bad_frame))

    @property
    def beside(self) -> frozenset[str]:
        """What lies in `output` besides videos' folders, which no video may be called."""
        return frozenset({MANIFEST, RUN})

    def refuse_names(self, names: Iterable[str]) -> None:
        """Raise ConfigError for a video whose folder would take the place of what a run writes itself, and for a name
        that run.json does not take."""
        taken = {name.casefold() for name in self.beside} if self.folder == self.output else set()
        for name in names:
            if not is_plain_name(name):
                raise ConfigError(
                    f"no video can be called {name}",
                    where=self.output / name,
                    expected="a name without / and \\, which separate folders",
                    hint="rename the video",
                )
            if name.casefold() in taken:  # on some file systems capitals are the same
                raise ConfigError(
                    f"no video can be called {name}: a run uses this name itself",
                    where=self.output / name,
                    hint="rename the video",
                )

    def label(
        self, model: JointFormer, job: J, *, on_frames: OnFrames = lambda n: None, stop: Stop = never
    ) -> VideoRecord | None:
        """Label a video, unless another process does (None) or it is finished already, and return what it took."""
        run = RunFolder(self.output, self.run)
        with run.claim(job.name) as mine:
            if not mine:
                return None
            record = run.finished(self.folder, job.name)
            if record is not None:
                check_input(self.output, job.name, record.input, job.fingerprint)
                return record
            config = self.configs.get(job.name, self.config)
            return self.label_claimed(model, job, config, run, on_frames=on_frames, stop=stop)

    @abstractmethod
    def label_claimed(
        self, model: JointFormer, job: J, config: TrackerConfig, run: RunFolder, *, on_frames: OnFrames, stop: Stop
    ) -> VideoRecord:
        """Write the video's folder, its record in `run` just before, and return what it took."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkWork(Work[VideoSource]):
    """A benchmark's videos: masks of the frames that its scorer or server wants, and soft scores where asked for."""

    save_scores: bool = False

    @property
    def beside(self) -> frozenset[str]:
        """See `Work.beside`."""
        return super().beside | ({SCORES} if self.save_scores else set())

    def label_claimed(
        self,
        model: JointFormer,
        job: VideoSource,
        config: TrackerConfig,
        run: RunFolder,
        *,
        on_frames: OnFrames,
        stop: Stop,
    ) -> VideoRecord:
        """Write the video's folder of masks, which appears when all are in it; a frame that is skipped has no file."""
        last = max(job.frames_to_save)
        fingerprint = job.fingerprint  # of what is there now, not of what may be there when all is tracked
        tracker, watch = EnsembleTracker(model, config, self.views), Stopwatch()
        scores = self.output / SCORES if self.save_scores else None

        def given(index: int, known: tuple[int, ...]) -> MasksLike | None:
            if index not in job.masks:
                return None
            label_map = job.read_mask(index, known)
            # Opening the benchmark checked the size, which is not always the frame's.
            return ScaledLabelMap(label_map) if label_map.any() else None

        def frames() -> Iterator[tuple[int, UInt8Array | DataError]]:
            for index in range(job.first_mask, last + 1):
                try:
                    yield index, job.frame(index)
                except DataError as error:
                    yield index, error

        with ResultWriter(self.folder, job.name, job.palette, scores_root=scores) as writer:
            results = iter_segmentations(
                tracker,
                prefetch(frames(), AHEAD),
                given,
                last=last,
                watch=watch,
                output_size=job.output_size,
                on_bad_frame=self.on_bad_frame,
                ahead=True,
            )
            files = 0
            for index, result in results:
                if index in job.frames_to_save:
                    files += 1
                    write_result(writer, job.frame_names[index], result)
                on_frames(1)
                if stop():
                    raise Interrupted
            lacking = sum(index >= job.first_mask for index in job.frames_to_save) - files
            record = make_record(watch, len(tracker.object_ids), files, model.device, fingerprint, lacking=lacking)
            run.write_record(job.name, record.as_data())
        return record


def write_result(writer: ResultWriter, name: str, result: Segmentation) -> None:
    """Queue a frame's masks, and its objects' probabilities if the writer keeps them."""
    writer.write(name, result.label_map)
    if writer.keeps_scores:
        writer.write_scores(name, np.stack([result.object_prob(i) for i in result.ids]), result.ids)


def make_record(
    watch: Stopwatch,
    objects: int,
    files: int,
    device: torch.device,
    fingerprint: dict[str, str],
    *,
    lacking: int = 0,
) -> VideoRecord:
    """Return the record of a video that this process has just finished. fingerprint: the `Job`'s."""
    return VideoRecord(
        frames=watch.frames,
        seconds=round(watch.seconds, 4),
        objects=objects,
        bad_frames=watch.bad_frames,
        files=files,
        lacking=lacking,
        device=str(device),
        threads=torch.get_num_threads(),
        peak_memory=peak_memory(device),
        input=fingerprint,
        versions=dict(VERSIONS),
    )


def longest_first(jobs: Sequence[J]) -> list[J]:
    """Return the videos by falling number of frames to track: the last to end is then a short one."""
    return sorted(jobs, key=lambda job: -job.tracked_frames)


#: Before the names of what a network keeps as its file had it.
_AS_LOADED = "as_loaded:"


def pack_model(model: JointFormer) -> bytes:
    """Return a network as bytes (safetensors and its config), for another process; exact to the bit."""
    tensors = {**model.state_dict(), **{_AS_LOADED + name: tensor for name, tensor in model.as_loaded.items()}}
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    return safetensors.torch.save(state, {"config": model.config.to_json()})


def unpack_model(data: bytes, device: str | torch.device = "cpu") -> JointFormer:
    """Return the network of `pack_model` on a device, in eval mode and without gradients."""
    length = int.from_bytes(data[:8], "little")
    metadata = json.load(io.BytesIO(data[8 : 8 + length]))["__metadata__"]
    with torch.device("meta"):
        model = JointFormer(ModelConfig.from_json(metadata["config"]))
    state = safetensors.torch.load(data)
    as_loaded = {name: state.pop(name) for name in list(state) if name.startswith(_AS_LOADED)}
    model.load_state_dict(state, strict=True, assign=True)
    model.as_loaded.update((name.removeprefix(_AS_LOADED), tensor) for name, tensor in as_loaded.items())
    return move_model(model.eval().requires_grad_(False), torch.device(device))
