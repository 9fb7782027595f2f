"""What a run begins with: a checkpoint, the weights of a finished stage, or nothing; it never spoils another run."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from jointformer.data.metas import read_json
from jointformer.errors import ConfigError, DataError
from jointformer.model.config import ModelConfig
from jointformer.model.convert import State, infer_config
from jointformer.model.network import JointFormer
from jointformer.model.storage import load_weights_file
from jointformer.train import state as checkpoint
from jointformer.train.settings import Settings

logger = logging.getLogger(__name__)

WEIGHTS = "weights.safetensors"
FINISHED = "finished.json"
CONFIG = "config.json"
#: In a stage's config.json: `finished.json` of the stage whose weights it began with.
AFTER = "after"
#: In config.json: the settings as they were given; runs of earlier versions noted none.
GIVEN = "given"
#: Titles of runs on stills.
STILLS, STILLS_FINE = "stills", "stills, fine-tuning"


def finished_weights(folder: Path, iterations: int, model: JointFormer) -> State | None:
    """The weights of a finished stage; None where it is not finished, or was with fewer iterations than these.

    From its last checkpoint, else from what it exported. Raises DataError where both are gone, ConfigError where they
    are another network's than the model's.
    """
    if not (folder / FINISHED).is_file() or read_json(folder / FINISHED)["iterations"] < iterations:
        return None
    found = checkpoint.checkpoints(folder)
    if not found and not (folder / WEIGHTS).is_file():
        raise DataError(
            "a finished stage without its weights",
            where=folder,
            expected=f"a checkpoint or {WEIGHTS}",
            hint=f"delete {FINISHED} to train it again",
        )
    path = found[-1] if found else folder / WEIGHTS
    state: State = checkpoint.load_checkpoint(path)["model"] if found else load_weights_file(path).state
    _check_network(model, state, path)
    logger.info("finished with %s", path)
    return state


def starting_state(settings: Settings, folder: Path, model: JointFormer, stage: str) -> dict[str, Any] | None:
    """The state of the checkpoint that a run goes on from, None for a fresh run.

    stage: the title of what is trained. Raises ConfigError where the folder or the checkpoint is another run's, or of
    another network, and DataError for a checkpoint that cannot be read.
    """
    found = checkpoint.checkpoints(folder)
    start = found[-1] if settings.resume and found else settings.checkpoint
    if start is None:
        refuse_held(folder, resume=settings.resume)
        return None
    before = _title_beside(start)
    # Fine-tuning had no title of its own in earlier versions.
    may_be = (STILLS, STILLS_FINE) if before == STILLS and _noted(start.parent, GIVEN) is None else (before,)
    if before is not None and stage not in may_be:
        if start in found:
            hint = "choose another folder"
            raise ConfigError("holds another run", where=folder, expected=stage, got=before, hint=hint)
        hint = "--load_network begins a stage with another one's weights"
        raise ConfigError("another stage's checkpoint", where=start, expected=stage, got=before, hint=hint)
    state = checkpoint.load_checkpoint(start)
    _check_network(model, state["model"], start)
    if found and found[-1] > checkpoint.checkpoint_path(folder, state["iteration"]):
        raise ConfigError(
            "holds later checkpoints",
            where=folder,
            expected=f"none after iteration {state['iteration']}",
            got=found[-1].name,
            hint="--resume goes on from that one; or move the later ones away, or choose another folder",
        )
    logger.info("going on from %s, iteration %d", start, state["iteration"])
    return state


def refuse_held(folder: Path, *, resume: bool) -> None:
    """Raise ConfigError where a run that begins in the folder would spoil another."""
    if _holds_run(folder):
        hint = "--resume goes on with it; or choose another folder"
        if resume:
            hint = f"its checkpoints are gone: choose another folder, with --init {folder / WEIGHTS}"
        raise ConfigError("holds a run already", where=folder, hint=hint)


def refuse_outdated(folder: Path, before: Path, iterations: int) -> None:
    """Raise ConfigError where a stage's folder holds a run that did not begin with what the stage before ended with.

    before: that stage's folder. iterations: how many it is to have.
    """
    if not _holds_run(folder):
        return
    end: Any = read_json(before / FINISHED) if (before / FINISHED).is_file() else None
    if end is None or end["iterations"] < iterations:
        got = f"one from before {before.name} is finished"
    elif _noted(folder, AFTER) not in (None, end):  # runs of earlier versions noted nothing
        got = f"one from before {before.name} was trained further or anew"
    else:
        return
    raise ConfigError(
        "holds a run that began with other weights",
        where=folder,
        expected=f"none, or one that began where {before.name} ended",
        got=got,
        hint="move the folder away to train this stage anew, or choose another folder for the whole run",
    )


def stage_title(stage: str | dict[str, Any]) -> str:
    """What is trained, from the `stage` of a run's config.json."""
    return stage if isinstance(stage, str) else stage["title"]


def _title_beside(path: Path) -> str | None:
    """What a checkpoint is of, as its run's config.json says; None where it lies alone, or beside others' files."""
    try:
        title = stage_title(_noted(path.parent, "stage"))
    except (TypeError, KeyError):
        return None
    return title if isinstance(title, str) else None


def _noted(folder: Path, key: str) -> Any:
    """A value of a run's config.json; None where there is none, or the file is another's."""
    about: Any = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else None
    return about.get(key) if isinstance(about, dict) else None


def _holds_run(folder: Path) -> bool:
    return bool(checkpoint.checkpoints(folder)) or (folder / FINISHED).is_file()


def _check_network(model: JointFormer, state: State, where: Path) -> None:
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    if shapes != {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}:
        raise ConfigError(
            "holds another network",
            where=where,
            expected=_described(model.config),
            got=_described(infer_config(shapes, where)),
            hint="give the --model or --init that the run began with",
        )


def _described(config: ModelConfig) -> str:
    return f"{config.name}: widths {config.widths}, depths {config.depths}"
