"""From settings to finished weights: starting network, data, Trainer, checkpoints, exports, stage after stage."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jointformer.data.metas import read_json
from jointformer.errors import ConfigError, DataError
from jointformer.model.config import PRESETS
from jointformer.model.convmae import init_from_convmae
from jointformer.model.device import gpu_memory
from jointformer.model.network import JointFormer
from jointformer.model.storage import save_weights
from jointformer.model.weights import build_model, load_weights
from jointformer.system.files import make_dir, remove_temporaries, write_json
from jointformer.system.heap import keep_all_freed_memory
from jointformer.system.stop import note_signals
from jointformer.train.config import Planner, RunConfig
from jointformer.train.datasets import (
    STILL_SETS,
    TrainStill,
    TrainVideo,
    open_stills,
    open_videos,
    require_set,
    video_set,
)
from jointformer.train.distributed import Processes
from jointformer.train.image_clips import ImageClips
from jointformer.train.initialise import initialise
from jointformer.train.loader import BatchSource, ClipSource
from jointformer.train.loop import LOG, Trainer
from jointformer.train.optimiser import MultiStep, OptimiserConfig, WarmupCosine
from jointformer.train.own_data import check_videos, require_layout
from jointformer.train.plan import STILLS_CPU, STILLS_CPU_FINE, STILLS_GPU, STILLS_GPU_FINE
from jointformer.train.progress import rewind_log
from jointformer.train.settings import Settings
from jointformer.train.stages import Stage
from jointformer.train.start import (
    AFTER,
    CONFIG,
    FINISHED,
    GIVEN,
    STILLS,
    STILLS_FINE,
    WEIGHTS,
    finished_weights,
    refuse_held,
    refuse_outdated,
    stage_title,
    starting_state,
)
from jointformer.train.state import checkpoints
from jointformer.train.stills import DeviceStillsSource, StillsSource, stills_run
from jointformer.train.unroll import UnrollConfig
from jointformer.train.video_clips import VideoClips
from jointformer.train.watch import Watcher

logger = logging.getLogger(__name__)


def build_network(preset: str, init: str | None, seed: int, *, one_object: bool = False) -> JointFormer:
    """The float32 network to train: a preset with fresh weights, or the one that `init` names.

    init: weights of a whole network (a name or a file), or ConvMAE's pre-training file (`convmae`), which
    gives a fresh network its backbone. one_object: its first clips have one object each, which cannot teach what to
    make of the others' masks: a fresh network makes nothing of them, as the published stage 0 (`pad_single_object`).
    Raises ConfigError for a preset that is none, WeightsError for weights that cannot be had.
    """
    if preset not in PRESETS:
        raise ConfigError("unknown", where="model", expected=" | ".join(PRESETS), got=preset)
    stored = None if init is None else load_weights(init, backbone=True)
    if stored is not None and not stored.is_backbone:
        return build_model(stored).float().requires_grad_(True)
    model = JointFormer(PRESETS[preset])
    initialise(model, seed)
    if stored is not None:
        init_from_convmae(model, stored.state, where=stored.path, generator=torch.Generator().manual_seed(seed))
    if one_object:
        with torch.no_grad():
            model.convmae.patch_embed1_memory.proj.weight[:, 4].zero_()
    return model


def run_stills(
    settings: Settings, processes: Processes, folder: Path, *,
    iterations: int | None, minutes: float | None, load: float = 1.0, fine_tune: bool = False, lr: float | None = None,
) -> bool:  # fmt: skip
    """Train on clips from a folder of stills; True when the whole budget was used.

    load: factor on the number of clips of every iteration. fine_tune: no curriculum from small pictures on, but large
    ones and smaller steps, for the good weights that `settings` begin with. lr: the learning rate, instead of the
    recipe's. Raises ConfigError for settings that do not go together, DataError where no still is usable.
    """
    if fine_tune and settings.init is None:
        raise ConfigError("needs weights to begin with", where="fine-tune", hint="give --init, such as --init tiny")
    if not 0 < load < math.inf:
        raise ConfigError("must be positive and finite", where="load", got=load)
    device = processes.device
    on_cpu, on_gpu = (STILLS_CPU_FINE, STILLS_GPU_FINE) if fine_tune else (STILLS_CPU, STILLS_GPU)
    curriculum = on_cpu if device.type == "cpu" else on_gpu
    phases = tuple(dataclasses.replace(p, load=max(1, round(p.load * load))) for p in curriculum.phases)
    multiple = math.lcm(curriculum.multiple, processes.count)  # every process takes as many clips as the others
    planner = dataclasses.replace(curriculum, phases=phases, multiple=multiple, seed=settings.seed)
    config = stills_run(
        iterations=iterations,
        minutes=minutes,
        seed=settings.seed,
        precision=settings.precision_on(device),
        workers=settings.workers_on(device),
        checkpointing=settings.checkpointing,
        fine_tune=fine_tune,
        lr=lr,
    )
    model = build_network(settings.model, settings.init, settings.seed)

    def open_stills_folder() -> ClipSource | BatchSource:
        if device.type == "cuda":
            return DeviceStillsSource(folder, settings.seed, device, strict=settings.refuse_broken)
        return StillsSource(folder, settings.seed, strict=settings.refuse_broken)

    given = {"data": str(folder), "load": load, "fine_tune": fine_tune}
    about = {"stage": STILLS_FINE if fine_tune else STILLS, GIVEN: given}
    return run(settings, processes, settings.out, model, open_stills_folder, planner, config, about)


def run_stages(settings: Settings, processes: Processes, stages: list[Stage], data_root: Path) -> bool:
    """Train stage after stage, each from the weights of the one before; True when all are finished.

    Every stage has a folder `stage_N` in `out`. With `resume`, finished stages are taken from there and the
    one that was under way goes on from its newest checkpoint; a later stage that began with older weights is refused.
    What would end a later stage is said first.
    """
    # A repeated stage gets a folder of its own.
    folders = [
        settings.out / f"stage_{stage.number}{'' if stage not in stages[:number] else f'_{number}'}"
        for number, stage in enumerate(stages)
    ]
    configs = [stage_run(stage, settings, processes) for stage in stages]
    for stage in stages:
        _check_shares(stage, processes, f"stage {stage.number}")
    processes.by_first(_look_ahead, stages, folders, data_root, resume=settings.resume)
    model = build_network(settings.model, settings.init, settings.seed, one_object=stages[0].objects == 1)
    for number, (stage, folder, config) in enumerate(zip(stages, folders, configs, strict=True)):
        done = processes.by_first(finished_weights, folder, stage.total, model) if settings.resume else None
        if done is not None:
            model.load_state_dict(done)
            logger.info("stage %d is finished: %s", stage.number, folder)
            continue
        source = partial(stage_source, stage, data_root, settings.seed)
        mine = settings if number == 0 else dataclasses.replace(settings, checkpoint=None)
        about: dict[str, Any] = {"stage": asdict(stage), GIVEN: {"data": str(data_root)}}
        if number and processes.first:
            about[AFTER] = read_json(folders[number - 1] / FINISHED)
        if not run(mine, processes, folder, model, source, stage, config, about):
            return False
    return True


def _look_ahead(stages: list[Stage], folders: list[Path], data_root: Path, *, resume: bool) -> None:
    """Raise DataError or ConfigError where data of a stage still to be trained is missing, or its folder is taken.

    With `resume` a folder is taken by a run that did not begin where the stage before ended, or will end.
    """
    for number, (stage, folder) in enumerate(zip(stages, folders, strict=True)):
        if number and resume:
            refuse_outdated(folder, folders[number - 1], stages[number - 1].total)
        elif number:
            refuse_held(folder, resume=False)  # the first stage's may be gone on from, with --load_checkpoint
        if not (resume and (folder / FINISHED).is_file()):
            for key, _ in stage.data:
                require_set(key, data_root)


def _check_shares(stage: Stage, processes: Processes, me: str) -> None:
    """Raise ConfigError where the processes cannot take equally many clips of a batch."""
    if stage.batch % processes.count:
        raise ConfigError(
            "cannot be shared equally",
            where=f"{me}: batch",
            expected=f"a multiple of {processes.count}, the number of processes",
            got=stage.batch,
        )


def run_own(settings: Settings, processes: Processes, folder: Path, stage: Stage) -> bool:
    """Train on one's own videos (DAVIS layout) after checking them; True when the whole run was done."""
    _check_shares(stage, processes, stage.title)
    config = stage_run(stage, settings, processes)
    config = dataclasses.replace(config, schedule=WarmupCosine(warmup=min(50, stage.total)))
    model = build_network(settings.model, settings.init, settings.seed)

    def open_folder() -> ClipSource:
        if processes.first and settings.init is None and not (settings.resume and checkpoints(settings.out)):
            logger.warning(
                "no --init: a network with random weights is trained, which a few videos cannot teach; give --init %s",
                "tiny" if settings.model == "tiny" else "s02",
            )
        check = check_videos(folder, stage.frames, progress=processes.first)
        for problem in check.problems if processes.first else []:
            logger.warning("%s", problem)
        if check.problems and settings.refuse_broken:
            raise DataError(f"{len(check.problems)} problems", where=folder, hint="they are listed above")
        logger.info("%s: %s", folder, check.summary())
        return VideoClips(check.videos, settings.seed)

    about = {"stage": asdict(stage), GIVEN: {"data": str(folder)}}
    return run(settings, processes, settings.out, model, open_folder, stage, config, about)


def stage_source(stage: Stage, data_root: Path, seed: int) -> ClipSource:
    """The clips of a stage's data sets, each repeated as its row says."""
    if any(key in STILL_SETS for key, _ in stage.data):
        stills: list[TrainStill] = []
        for key, times in stage.data:
            stills += open_stills(STILL_SETS[key], data_root) * times
        return ImageClips(stills, seed)
    videos: list[TrainVideo] = []
    for key, times in stage.data:
        videos += open_videos(video_set(key), data_root, stage.frames) * times
    return VideoClips(videos, seed, nonempty_start=stage.nonempty_start)


def stage_run(stage: Stage, settings: Settings, processes: Processes) -> RunConfig:
    """The run configuration of a published stage."""
    return RunConfig(
        iterations=stage.total,
        seed=settings.seed,
        precision=settings.precision_on(processes.device),
        optimiser=OptimiserConfig(lr=stage.lr),
        schedule=MultiStep(stage.steps),
        unroll=UnrollConfig(stage.memory_frames, checkpointing=settings.checkpointing),
        void=stage.void,
        workers=settings.workers_on(processes.device),
    )


def export(trainer: Trainer, path: Path) -> None:
    """Write the weights to use as float16 safetensors."""
    with trainer.exported_weights() as model:
        save_weights(model, path, dtype=torch.float16)


@gpu_memory("a smaller batch, smaller or fewer frames, or --checkpointing take less")
def run(
    settings: Settings, processes: Processes, folder: Path, model: JointFormer,
    open_source: Callable[[], ClipSource | BatchSource], planner: Planner, config: RunConfig, about: dict[str, Any],
) -> bool:  # fmt: skip
    """Train in a folder, from where `settings` say, to the exported weights; True when the whole run was done.

    open_source: looks at all the data, which may take minutes; what is wrong with the settings is said before. about:
    what config.json says besides, with `stage`, a title or a row, and `given`, what was given besides the settings.
    """
    state = processes.by_first(starting_state, settings, folder, model, stage_title(about["stage"]))
    if processes.first and settings.validate_on is not None:
        require_layout(settings.validate_on)
    source = open_source()
    make_dir(folder)
    if processes.device.type == "cpu":
        keep_all_freed_memory()
    config = settings.apply(config)
    begun = 0 if state is None else state["iteration"]
    watcher = Watcher(settings, folder, begun) if processes.first else None
    trainer = Trainer(
        model, source, planner, config, processes, folder,
        on_save=lambda trainer: export(trainer, folder / WEIGHTS),
        on_report=watcher,
    )  # fmt: skip
    if state is not None:
        trainer.load_state(state)
    if processes.first:
        remove_temporaries(folder)  # a killed run's, each as large as a checkpoint
        rewind_log(folder / LOG, begun)
        (folder / FINISHED).unlink(missing_ok=True)  # it may be resumed with more iterations
        machine = {"device": processes.device.type, "processes": processes.count}
        given = {**settings.as_given(), **machine, **about.get(GIVEN, {})}
        write_json(folder / CONFIG, {"model": asdict(model.config), **about, GIVEN: given, "run": asdict(config)})
    try:
        finished = trainer.train()
        if finished and watcher is not None:
            with note_signals(trainer.end):
                watcher.finish(trainer)
            finished = not trainer.stopping
    finally:
        trainer.loader.close()
        if watcher is not None:
            watcher.close()
    if finished and processes.first:
        done = {"iterations": trainer.iteration, "clips": trainer.clips, "seconds": round(trainer.seconds, 1)}
        write_json(folder / FINISHED, done)
        logger.info("finished: %s", folder / WEIGHTS)
    elif not finished:
        logger.info("stopped after iteration %d: --resume goes on from there", trainer.iteration)
    return finished
