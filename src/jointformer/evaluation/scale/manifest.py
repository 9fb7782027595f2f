"""What a run was made with, as data: written beside its results, and held against the next run's."""

from __future__ import annotations

import errno
import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from jointformer import __version__
from jointformer.data.metas import is_plain_name
from jointformer.errors import ConfigError, DataError
from jointformer.model.network import JointFormer
from jointformer.system.files import write_json
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View

MANIFEST = "run.json"
#: What the settings of `jointformer track` over many videos say they are; a benchmark's name their dataset.
TRACK = "track"
#: How often a manifest is read that another machine keeps replacing meanwhile, and the seconds between.
_READINGS, _BETWEEN = 5, 0.05
#: What makes the masks of this process, beside the network.
VERSIONS = {"jointformer": __version__, "torch": str(torch.__version__)}


def made_with(model: JointFormer, config: TrackerConfig, views: Sequence[View]) -> dict[str, Any]:
    """Return what of a run's settings decides its masks, whatever the videos are, as JSON gives it back.

    weights: SHA-256 of the network's parameters as loaded, before the change of precision would be lost in it.
    What decides memory and time but no masks is left out; the size is the views'.
    """
    tracker = asdict(config)
    del tracker["objects_per_pass"], tracker["compile"], tracker["memory_limit"], tracker["size"]
    data = {
        "weights": weights_hash(model),
        "precision": str(model.dtype).removeprefix("torch."),
        "tracker": tracker,
        "views": [asdict(view) for view in views],
    }
    return json.loads(json.dumps(data))


@dataclass(frozen=True)
class VideoRecord:
    """One finished video: frames and seconds in the model, objects seen, frames that could not be read; and where.

    input: what its frames and masks are known by. files: how many its folder was given (0: not noted). lacking: how
    many that the benchmark wants it was not given, as their frames were skipped. versions: what made it, as in
    `VERSIONS`.
    """

    frames: int = 0
    seconds: float = 0.0
    objects: int = 0
    bad_frames: int = 0
    files: int = 0
    lacking: int = 0
    device: str = ""
    threads: int = 0
    peak_memory: int = 0
    input: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)

    def as_data(self) -> dict[str, Any]:
        """Return the record as plain data."""
        return {"state": "finished", **asdict(self)}

    @classmethod
    def from_data(cls, data: dict[str, Any]) -> VideoRecord:
        """Return the record of plain data; what is missing is 0. Raises TypeError or ValueError for other kinds."""
        return cls(**{name: _KINDS[name](value) for name, value in data.items() if name in _KINDS})


_KINDS: dict[str, type] = {name: type(value) for name, value in asdict(VideoRecord()).items()}


@dataclass
class Manifest:
    """The run's file beside its results: settings, versions, and what became of each video.

    videos: the finished ones. failed: the error of those that could not be finished. wanted: all that this folder is
    to hold; dataset_videos: how many the dataset has. run: what tells this run from one that is begun anew in the same
    folder; every record has it too. weights_file: where the network's tensors came from when the run began, for people
    to read; what counts is their hash in the settings.
    """

    settings: dict[str, Any]
    videos: dict[str, VideoRecord] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    wanted: set[str] = field(default_factory=set)
    dataset_videos: int = 0
    run: str = ""
    weights_file: str = ""

    @property
    def holes(self) -> list[str]:
        """The videos that are wanted and not finished, by name."""
        return sorted(self.wanted - self.videos.keys())

    @property
    def is_whole(self) -> bool:
        """Whether every video of the dataset is wanted and finished."""
        return len(self.wanted) >= self.dataset_videos and not self.holes

    @property
    def fills_a_zip(self) -> bool:
        """Whether it has all that a server wants of the dataset: servers refuse results that lack a mask."""
        return self.is_whole and not self.lacking

    @property
    def frames(self) -> int:
        """Frames that went through the model."""
        return sum(v.frames for v in self.videos.values())

    @property
    def bad_frames(self) -> int:
        """Frames that could not be read, and were skipped or held."""
        return sum(v.bad_frames for v in self.videos.values())

    @property
    def lacking(self) -> dict[str, int]:
        """Per finished video that has not all of them the number of masks that it lacks, as frames were skipped."""
        return {name: record.lacking for name, record in self.videos.items() if record.lacking}

    @property
    def seconds(self) -> float:
        """Seconds that they took there, of all processes together."""
        return sum(v.seconds for v in self.videos.values())

    @property
    def fps(self) -> float:
        """Frames per second of one process over the finished videos; 0 where there are none."""
        return self.frames / self.seconds if self.seconds else 0.0

    @property
    def peak_memory(self) -> int:
        """The largest peak memory of a process, in bytes."""
        return max((v.peak_memory for v in self.videos.values()), default=0)

    @property
    def device(self) -> str:
        """The devices that worked, joined by commas."""
        return ",".join(sorted({v.device for v in self.videos.values() if v.device}))

    def as_data(self) -> dict[str, Any]:
        """Return the whole as plain data."""
        videos = {name: record.as_data() for name, record in self.videos.items()}
        videos.update({name: {"state": "failed", "error": error} for name, error in self.failed.items()})
        videos.update({name: {"state": "open"} for name in self.wanted - videos.keys()})
        return {
            "format": 3,
            "run": self.run,
            "settings": self.settings,
            "weights_file": self.weights_file,
            "versions": VERSIONS,
            "dataset_videos": self.dataset_videos,
            "device": self.device,
            "frames": self.frames,
            "seconds": round(self.seconds, 4),
            "fps": round(self.fps, 4),
            "peak_memory_bytes": self.peak_memory,
            "videos": dict(sorted(videos.items())),
        }

    def save(self, folder: Path) -> None:
        """Write the manifest into the results' folder, whole or not at all."""
        write_json(folder / MANIFEST, self.as_data())

    def add(self, video: str, data: dict[str, Any]) -> None:
        """Take up what became of a video; a finished one stays finished. Raises TypeError or ValueError."""
        if not is_plain_name(video):  # its folder is packed, and others are not
            raise ValueError(f"not a video's name: {video!r}")
        self.wanted.add(video)
        if data.get("state") == "finished":
            self.videos[video] = VideoRecord.from_data(data)
            self.failed.pop(video, None)
        elif data.get("state") == "failed" and video not in self.videos:
            self.failed[video] = str(data.get("error", ""))


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of an output folder, None where there is none. Raises DataError where it cannot be read."""
    data = _read(folder / MANIFEST)
    if data is None:
        return None
    try:
        manifest = Manifest(dict(data["settings"]), run=str(data.get("run", "")))
        manifest.weights_file = str(data.get("weights_file", ""))
        manifest.dataset_videos = int(data.get("dataset_videos", 0))
        for name, video in data["videos"].items():
            manifest.add(str(name), dict(video))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise _not_a_manifest(folder / MANIFEST, error) from None
    return manifest


def read_run_id(folder: Path) -> str | None:
    """Return the id of the run that has an output folder, None where there is none. Raises DataError.

    For many videos that takes a fraction of what `read_manifest` takes.
    """
    data = _read(folder / MANIFEST)
    return None if data is None else str(data.get("run", ""))


def manifest_stamp(folder: Path) -> int:
    """Return what changes whenever the manifest of an output folder is written; 0 where it cannot be seen."""
    try:
        return (folder / MANIFEST).stat().st_mtime_ns
    except OSError:
        return 0


def _read(path: Path) -> dict[str, Any] | None:
    try:
        data = json.loads(_read_text(path))
        if not isinstance(data, dict):
            raise TypeError
    except FileNotFoundError:
        return None
    except OSError as error:  # nothing is known against what is in it: no advice to replace it
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise _not_a_manifest(path, error) from None
    return data


def _read_text(path: Path) -> str:
    for _ in range(_READINGS - 1):
        try:
            return path.read_text(encoding="utf-8")
        except OSError as error:
            if error.errno != errno.ESTALE:  # NFS: the file that was opened has been replaced, the new one is there
                raise
        time.sleep(_BETWEEN)
    return path.read_text(encoding="utf-8")


def check_settings(folder: Path, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Raise ConfigError where a folder's results were made with other settings, naming the first that differs."""
    difference = _first_difference(found, wanted)
    if difference is not None:
        name, old, new = difference
        if name == "views":
            name, old, new = "size or view", _views_text(old), _views_text(new)
        raise ConfigError(
            f"this folder holds a run with another {name}",
            where=folder,
            expected=old,
            got=new,
            hint="choose another --output, or --overwrite to start anew",
        )


def _views_text(views: Any) -> str:
    """Return a manifest's views for people, as far as they are such."""
    try:
        return ", ".join(f"{view['size']}{' mirrored' * bool(view['flipped'])}" for view in views)
    except (TypeError, KeyError):
        return str(views)


def check_input(folder: Path, video: str, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Raise ConfigError where a finished video's results were made of other frames or masks than are wanted now.

    found, wanted: fingerprints; an empty one wanted is of a video that cannot be read, so nothing is known against it.
    """
    difference = _first_difference(found, wanted) if wanted else None
    if difference is not None:
        name, old, new = difference
        raise ConfigError(
            f"the results of {video} were made with another input ({name.replace('_', ' ')})",
            where=folder,
            expected=old,
            got=new,
            hint="choose another --output, remove this video's folder to make it anew, or --overwrite to start anew",
        )


def check_unchanged(place: Path, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Raise DataError where a video's frames or masks are not those that its run began with; both are fingerprints."""
    difference = _first_difference(wanted, found)
    if difference is not None:
        name, old, new = difference
        raise DataError(
            f"its input has changed since the run began ({name.replace('_', ' ')})",
            where=place,
            expected=old,
            got=new,
            hint="run the same command again",
        )


def no_manifest(folder: Path) -> DataError:
    """Return the error of a folder that holds no run."""
    return DataError("no run's manifest", where=folder / MANIFEST, hint="name the --output folder of a run")


def _not_a_manifest(path: Path, error: Exception) -> DataError:
    return DataError("not a run's manifest", where=path, got=type(error).__name__, hint="--overwrite starts anew")


def weights_hash(model: JointFormer) -> str:
    """Return the SHA-256 over the names, shapes and bytes of a network's tensors, as they came from their file."""
    digest = hashlib.sha256()
    for name, tensor in model.state_as_loaded().items():
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:
            difference = _first_difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
            if difference is not None:
                return difference
        return None
    return None if old == new else (name, old, new)
