"""What a run was made with, as data: written beside its results, and held against the next run's."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from jointformer import __version__
from jointformer.errors import ConfigError, DataError
from jointformer.model.network import JointFormer
from jointformer.ops.files import write_json
from jointformer.track.config import TrackerConfig
from jointformer.track.ensemble import View

MANIFEST = "run.json"


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides the masks of a run; two runs with equal settings give equal masks.

    weights: SHA-256 of the network's parameters as loaded, before the change of precision would be lost in it.
    """

    dataset: str
    split: str
    weights: str
    precision: str
    tracker: TrackerConfig
    views: tuple[View, ...]
    save_all: bool = False
    save_scores: bool = False

    def as_data(self) -> dict[str, Any]:
        """Return plain data for JSON; objects_per_pass is left out, as it decides memory and not masks."""
        data = asdict(self)
        del data["tracker"]["objects_per_pass"], data["tracker"]["size"]
        return json.loads(json.dumps(data))


@dataclass
class VideoRecord:
    """One finished video: frames and seconds in the model, objects seen."""

    frames: int
    seconds: float
    objects: int


@dataclass
class Manifest:
    """The run's file beside its results: settings, versions, and what each finished video took."""

    settings: dict[str, Any]
    videos: dict[str, VideoRecord] = field(default_factory=dict)
    device: str = ""
    peak_memory: int = 0

    @property
    def frames(self) -> int:
        """Frames that went through the model."""
        return sum(v.frames for v in self.videos.values())

    @property
    def seconds(self) -> float:
        """Seconds that they took there."""
        return sum(v.seconds for v in self.videos.values())

    @property
    def fps(self) -> float:
        """Frames per second over the finished videos; 0 where there are none."""
        return self.frames / self.seconds if self.seconds else 0.0

    def as_data(self) -> dict[str, Any]:
        """Return the whole as plain data."""
        return {
            "format": 1,
            "settings": self.settings,
            "versions": {"jointformer": __version__, "torch": torch.__version__},
            "device": self.device,
            "frames": self.frames,
            "seconds": round(self.seconds, 4),
            "fps": round(self.fps, 4),
            "peak_memory_bytes": self.peak_memory,
            "videos": {name: asdict(record) for name, record in sorted(self.videos.items())},
        }

    def save(self, folder: Path) -> None:
        """Write the manifest into the results' folder, whole or not at all."""
        write_json(folder / MANIFEST, self.as_data())


def open_manifest(folder: Path, settings: RunSettings) -> Manifest:
    """Return the manifest that a run in this folder goes on with: the one there, or a new one.

    Raises ConfigError where the folder holds results of other settings, naming the first that differs, and DataError
    where its manifest cannot be read.
    """
    wanted = settings.as_data()
    path = folder / MANIFEST
    if not path.exists():
        return Manifest(wanted)
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = data["settings"]
        videos = {str(name): VideoRecord(**record) for name, record in data["videos"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            "not a run's manifest", where=path, got=type(error).__name__, hint="--overwrite starts anew"
        ) from None
    difference = _first_difference(found, wanted)
    if difference is not None:
        name, old, new = difference
        raise ConfigError(
            f"this folder holds a run with another {name}",
            where=folder,
            expected=old,
            got=new,
            hint="choose another --output, or --overwrite to start anew",
        )
    return Manifest(wanted, videos, peak_memory=int(data.get("peak_memory_bytes", 0)))


def weights_hash(model: JointFormer) -> str:
    """Return the SHA-256 over the names, shapes and bytes of a network's tensors."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def choose_views(sizes: Sequence[int], *, plain: bool = True, flipped: bool = False) -> tuple[View, ...]:
    """Return the ways of looking at the video: each size, plain and/or mirrored."""
    sides = [mirrored for mirrored, wanted in ((False, plain), (True, flipped)) if wanted]
    return tuple(View(size, mirrored) for size in sizes for mirrored in sides)


def _first_difference(old: Any, new: Any, name: str = "") -> tuple[str, Any, Any] | None:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in {**new, **old}:
            difference = _first_difference(old.get(key), new.get(key), f"{name}.{key}".lstrip("."))
            if difference is not None:
                return difference
        return None
    return None if old == new else (name, old, new)
