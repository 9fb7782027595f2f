"""A network small enough to train in a test, and clips made from numbers."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.data.clips.stills import Clip
from jointformer.errors import ConfigError, DataError
from jointformer.model.config import ModelConfig
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.train.config import RunConfig
from jointformer.train.distributed import Processes, join_processes
from jointformer.train.initialise import initialise
from jointformer.train.loop import Trainer
from jointformer.train.optimiser import OptimiserConfig
from jointformer.train.plan import IterationPlan
from jointformer.train.runs import run
from jointformer.train.settings import Settings
from jointformer.train.start import finished_weights
from jointformer.train.unroll import ClipBatch

SMALL = ModelConfig("small-test", (12, 12, 24), (1, 1, 2), heads=2)
ALONE = Processes(0, 1, torch.device("cpu"))
# Validation looks at frames no larger than the videos here, not at the usual 480 pixels.
SHORT = ["--device", "cpu", "--precision", "float32", "--log-every", "1", "--validate-size", "60"]
#: Of bands of background and of objects 1 to 4 and others.
COLOURS = np.array([(20, 20, 20), (220, 40, 40), (40, 220, 40), (40, 40, 220), (220, 220, 40)], np.uint8)


def small_network(seed: int = 0) -> JointFormer:
    model = JointFormer(SMALL)
    initialise(model, seed)
    return model


class MovingSquares:
    """Clips of coloured squares that move over noise; one square per slot."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        self.asked.append(index)
        rng = np.random.default_rng(index)
        height, width = plan.shape
        frames = rng.integers(60, 120, (plan.frames, height, width, 3), np.uint8)
        labels = np.zeros((plan.frames, height, width), np.uint8)
        side = height // 4
        for slot in range(1, plan.slots + 1):
            top, left = rng.integers(0, height - side - 4), rng.integers(0, width - side - 4)
            colour = rng.integers(0, 2, 3) * 200 + 30
            for t in range(plan.frames):
                spot = (t, slice(top + t, top + t + side), slice(left + t, left + t + side))
                frames[spot] = colour
                labels[spot] = slot
        present = [int((labels[0] == slot).sum()) > 0 for slot in range(1, plan.slots + 1)]
        return Clip(frames, labels, plan.slots if all(present) else 1)


class Missing(MovingSquares):
    """The clips of MovingSquares but for some, whose files are gone."""

    def __init__(self, *indices: int) -> None:
        super().__init__()
        self.indices = indices

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        if index in self.indices:
            raise DataError(f"no files of clip {index}")
        return super().sample(index, plan)


class Stopping(MovingSquares):
    """The clips of MovingSquares, for a trainer that hears of a signal when it asks for the fourth."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer = trainer

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        if len(self.asked) == 3:
            self.trainer.end()
        return super().sample(index, plan)


class FixedPlanner:
    """The same work in every iteration."""

    def __init__(self, batch: int = 2, frames: int = 3, slots: int = 1, size: int = 32) -> None:
        self.work = (batch, frames, slots, size)
        self.fewest_frames = frames

    def plan(self, iteration: int, fraction: float, first_clip: int) -> IterationPlan:
        return IterationPlan(iteration, fraction, first_clip, *self.work)


def small_run(**changes: Any) -> RunConfig:
    settings: dict[str, Any] = {
        "iterations": 6,
        "optimiser": OptimiserConfig(lr=1e-3, backbone_scale=1.0, clip=1.0),
        "average": 0.9,
        "log_every": 2,
        "save_every": 2,
    }
    return RunConfig(**{**settings, **changes})


def small_trainer(
    folder: Path, processes: Processes = ALONE, batch: int = 2, frames: int = 3, **changes: Any
) -> Trainer:
    planner = FixedPlanner(batch, frames)
    return Trainer(small_network(), MovingSquares(), planner, small_run(**changes), processes, folder)


def batch_of(*indices: int, frames: int = 3, slots: int = 1, size: int = 32) -> ClipBatch:
    plan = IterationPlan(0, 0.0, 0, len(indices), frames, slots, size)
    clips = [MovingSquares().sample(i, plan) for i in indices]
    return ClipBatch(
        torch.from_numpy(np.stack([c.frames for c in clips])),
        torch.from_numpy(np.stack([c.label_maps for c in clips])),
        torch.tensor([c.num_objects for c in clips]),
        slots,
    )


def clip_plan(**changes: int | bool) -> IterationPlan:
    """What clips of videos are like in tests."""
    return IterationPlan(0, 0.0, 0, 1, **{"frames": 3, "slots": 3, "size": 64, "max_skip": 2, **changes})  # type: ignore[arg-type]


def write_video(
    images: Path, masks: Path, length: int = 6, ids: tuple[int, ...] = (1, 2), size: tuple[int, int] = (60, 80)
) -> None:
    """Objects are vertical bands whose colour says their id."""
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(length):
        labels = np.zeros(size, np.uint8)
        for n, i in enumerate(ids):
            labels[10:50, 8 + 22 * n + t : 24 + 22 * n + t] = i
        Image.fromarray(COLOURS[np.where(labels > 4, 4, labels)]).save(images / f"{t:05d}.png")
        Image.fromarray(labels).save(masks / f"{t:05d}.png")


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A file of very small weights: the network's shape comes from the file."""
    return save_weights(small_network(), tmp_path / "start.safetensors")


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """A folder of two videos of one's own."""
    for name in ("one", "two"):
        write_video(tmp_path / "mine/JPEGImages" / name, tmp_path / "mine/Annotations" / name)
    return tmp_path / "mine"


def rank_environment(rank: int, port: int) -> dict[str, str]:
    """What torchrun tells one of two processes on this machine."""
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", **where}


def work_of_second(index: int, port: int, folder: str) -> None:
    """The second of two processes."""
    torch.set_num_threads(1)
    os.environ.update(rank_environment(1, port))
    work_of_rank(Path(folder, "1"))


def work_of_rank(own: Path) -> None:
    """One process of some runs, in a folder of its own as on a machine of its own; it writes what it saw to `seen.pt`.

    skipped: of the progress line, where the files of one clip of the first process and of two of the second are gone.
    losses: of every iteration, for clips of 3 frames and of 2. begun, resumed: the weights after 2 iterations and after
    4. finished: those that a finished run is taken from. refused: the error of a run without --resume. stopped: whether
    it was finished, and where it ended, of a run that the second process was to stop, and of one that the first was to
    stop when nothing but the end was left.
    """
    with join_processes("cpu") as processes:
        seen: dict[str, Any] = {"losses": {frames: losses(own / f"{frames}", processes, frames) for frames in (3, 2)}}
        skipping = small_trainer(own / "skipping", processes, iterations=2)
        skipping.loader.source = Missing(0, 1, 3)
        skipping.train()
        stopping = small_trainer(own / "stopping", processes, iterations=9, log_every=100, save_every=100)
        if not processes.first:
            stopping.loader.source = Stopping(stopping)
        ending = small_trainer(own / "ending", processes, iterations=2, log_every=100, save_every=100)
        ending.on_save = lambda trainer: trainer.end()
        seen["stopped"] = [(trainer.train(), trainer.iteration) for trainer in (stopping, ending)]
        seen["begun"] = _run_to(own / "run", processes, 2)
        seen["resumed"] = _run_to(own / "run", processes, 4, resume=True)
        seen["finished"] = processes.by_first(finished_weights, own / "run", 4, small_network())
        try:
            _run_to(own / "run", processes, 4)
        except ConfigError as error:
            seen["refused"] = str(error)
        if processes.first:
            seen["skipped"] = json.loads((own / "skipping/log.jsonl").read_text())["skipped"]
        torch.save(seen, own / "seen.pt")


def losses(folder: Path, processes: Processes, frames: int) -> list[float]:
    """The loss of every iteration of a short run."""
    trainer = small_trainer(folder, processes, 4, frames, iterations=4, log_every=100, save_every=100)
    values: list[float] = []
    step = trainer.step

    def recording(plan: IterationPlan, batch: ClipBatch) -> dict[str, float]:
        figures = step(plan, batch)
        values.append(figures["loss"])
        return figures

    trainer.step = recording  # type: ignore[method-assign]
    trainer.train()
    return values


def _run_to(folder: Path, processes: Processes, iterations: int, resume: bool = False) -> dict[str, torch.Tensor]:
    model, settings = small_network(), Settings(folder, resume=resume)
    config = small_run(iterations=iterations)
    run(settings, processes, folder, model, MovingSquares, FixedPlanner(), config, {"stage": "squares"})
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}
