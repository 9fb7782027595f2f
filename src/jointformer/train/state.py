"""Checkpoints: everything a run needs to go on as if it had never stopped."""

from __future__ import annotations

import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jointformer.errors import DataError, WeightsError
from jointformer.model.storage import load_pickled, save_pickled
from jointformer.system.files import make_dir

NAME = re.compile(r"checkpoint_(\d{8})\.pt")


def random_states() -> dict[str, Any]:
    """The states of Python's, NumPy's and PyTorch's global generators (of GPUs the current one's), as plain data."""
    kind, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002 - libraries draw from it
    version, state, gauss = random.getstate()
    return {
        "python": [version, list(state), gauss],
        "numpy": [kind, torch.from_numpy(np.asarray(keys).astype(np.int64)), position, has_gauss, cached],
        "torch": torch.get_rng_state(),
        # To ask for all GPUs' would begin to work on each of them.
        "cuda": [torch.cuda.get_rng_state()] if torch.cuda.is_initialized() else [],
    }


def restore_random_states(states: dict[str, Any]) -> None:
    """Put the global generators back to where `random_states` saw them."""
    version, state, gauss = states["python"]
    random.setstate((version, tuple(state), gauss))
    kind, keys, position, has_gauss, cached = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"][torch.cuda.current_device() % len(states["cuda"])])


def save_checkpoint(folder: Path, iteration: int, state: dict[str, Any], keep: int) -> Path:
    """The path of the checkpoint just written; of those up to it, all but the last `keep` are removed."""
    make_dir(folder)
    path = checkpoint_path(folder, iteration)
    save_pickled(state, path, durable=True)
    for old in [one for one in checkpoints(folder) if one <= path][:-keep]:
        old.unlink(missing_ok=True)
    return path


def checkpoint_path(folder: Path, iteration: int) -> Path:
    """Where an iteration's checkpoint lies: names sort as iterations do."""
    return folder / f"checkpoint_{iteration:08d}.pt"


def checkpoints(folder: Path) -> list[Path]:
    """The folder's checkpoints, oldest first."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))


def load_checkpoint(path: Path) -> dict[str, Any]:
    """The state that `save_checkpoint` wrote. Raises DataError for other files; only plain data are unpickled."""
    if not path.is_file():
        raise DataError("no such checkpoint", where=path)
    try:
        state = load_pickled(path)
    except WeightsError as error:
        raise DataError("not a readable checkpoint", where=path, got=error.what) from error
    if not isinstance(state, dict) or "format" not in state:
        raise DataError("not a training checkpoint", where=path, hint="weights go to --init / --load_network")
    return state
