"""From a name or a path to a network that is ready to run."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch

from jointformer.errors import WeightsError
from jointformer.model.cache import published_path, record_path, verify_or_note, weights_dir
from jointformer.model.centring import centre_tokens
from jointformer.model.device import (
    DTYPES,
    choose_device,
    choose_precision,
    exact_products,
    keep_threads_within_quota,
    move_model,
)
from jointformer.model.network import JointFormer
from jointformer.model.registry import EMBEDDED, PublishedWeights, find_published, unknown_name
from jointformer.model.storage import SUFFIXES, StoredWeights, backbone_alone, load_weights_file

logger = logging.getLogger(__name__)


def load_model(
    name_or_path: str | Path = "tiny",
    device: str | torch.device = "auto",
    precision: str = "auto",
    *,
    progress: bool = True,
) -> JointFormer:
    """Return a network with weights, in eval mode and without gradients, on a device in a precision.

    name_or_path: `tiny` (comes with the package), a .safetensors or .pth file, or a published name (`s012`,
    `jointformer_s012`), which is downloaded once. device: `auto`, `cpu`, `cuda`, `cuda:1` or another. precision:
    `float32`, `bfloat16`, `float16`, or `auto`: the fastest one that the device computes in natively. progress: show a
    download's bar on standard error.

    On a CPU, PyTorch gets no more threads than a container's limit leaves processors (`docker run --cpus`), unless
    OMP_NUM_THREADS is set.

    Raises WeightsError when the weights cannot be found, fetched, verified or do not fit, OutputError when what is
    fetched cannot be written, ConfigError for a device or precision that is none or not here.
    """
    target = choose_device(device)
    if target.type == "cpu":
        keep_threads_within_quota()
    dtype = DTYPES[choose_precision(target, precision)]
    return move_model(_centred(build_model(load_whole(name_or_path, progress=progress)), dtype), target, dtype)


def load_for_export(name_or_path: str | Path, dtype: torch.dtype, *, progress: bool = True) -> JointFormer:
    """Return the network that `load_model` returns, on the CPU, of a type that it may not compute in itself.

    Raises WeightsError, OutputError.
    """
    return _centred(build_model(load_whole(name_or_path, progress=progress)), dtype).to(dtype)


def _centred(model: JointFormer, dtype: torch.dtype) -> JointFormer:
    """Return the network, changed in place so that rounding to a 16-bit type costs less."""
    if dtype != torch.float32:
        with exact_products(model.device):
            centre_tokens(model.float(), dtype)
    return model


def build_model(stored: StoredWeights) -> JointFormer:
    """Return a network that holds the file's tensors as they are: CPU, eval mode, without gradients."""
    # Never initialised: every tensor comes from the file.
    model, state = stored.fitted()
    model.load_state_dict(state, strict=True, assign=True)
    model.weights_file = stored.path.absolute()
    assert not any(t.is_meta for t in (*model.parameters(), *model.buffers()))
    return model.eval().requires_grad_(False)


def load_whole(name_or_path: str | Path, *, progress: bool = True) -> StoredWeights:
    """Return the tensors of a whole network, as `load_weights` does. Raises WeightsError, OutputError."""
    check_whole(name_or_path)
    return load_weights(name_or_path, progress=progress)


def check_whole(name_or_path: str | Path) -> None:
    """Checks that a name is none of a backbone alone, before it is fetched for nothing. Raises WeightsError."""
    found = find_weights(name_or_path)
    if isinstance(found, PublishedWeights) and found.backbone:
        raise backbone_alone(found.name)


def load_weights(name_or_path: str | Path, *, progress: bool = True, backbone: bool = False) -> StoredWeights:
    """Return the tensors of a name or file: fetched where needed, verified, checked.

    progress: show the download's. backbone: the backbone alone will do, so that the error for an unknown name lists
    `convmae`, too. Raises WeightsError, OutputError.
    """
    path = locate(name_or_path, progress=progress, backbone=backbone)
    if path.parent == weights_dir() or record_path(path).exists():  # beside a user's own file no note is written
        verify_or_note(path)
    return load_weights_file(path)


def locate(name_or_path: str | Path, *, progress: bool = True, backbone: bool = False) -> Path:
    """Return the file of a name or path; a published one that is not there yet is downloaded first.

    Raises WeightsError, OutputError.
    """
    found = find_weights(name_or_path, backbone=backbone)
    return found if isinstance(found, Path) else download(found, progress=progress)


def find_weights(name_or_path: str | Path, *, backbone: bool = False) -> Path | PublishedWeights:
    """Return the file of a name or path, or the row of a published one; nothing is read or downloaded.

    A bare name means the embedded or published weights even where a file has the same name; write `./tiny`
    for the file. backbone: see `unknown_name`. Raises WeightsError.
    """
    text = str(name_or_path)
    if text in EMBEDDED:
        return _embedded(text)
    row = find_published(text) if "/" not in text and "\\" not in text else None
    path = Path(os.path.expanduser(text))  # which leaves the names of unknown users as they are
    if row is not None and not (path.suffix and path.is_file()):
        return row
    if path.is_dir():
        raise WeightsError("a folder", where=path, expected=f"a file ({', '.join(SUFFIXES)})")
    if path.is_file():
        return path
    same_file = find_published(path.name)
    if same_file is not None:
        raise WeightsError(
            "no such file",
            where=path,
            hint=f"fetch it with `jointformer weights download {same_file.name} --to {path.parent}`",
        )
    raise unknown_name(text, backbone=backbone)


def download(row: PublishedWeights, folder: Path | None = None, *, progress: bool = True) -> Path:
    """Return a published file's path after making sure that it is there. Raises WeightsError, OutputError."""
    path = published_path(row, folder)
    if not path.exists():
        from jointformer.model.download import fetch  # its HTTP library takes longer to import than all else here

        logger.info("%s: fetching %s", row.name, row.url)
        fetch(row.url, path, page=row.page, progress=progress)
    return path


def _embedded(name: str) -> Path:
    path = EMBEDDED[name]
    if not path.is_file():
        raise WeightsError(
            f"the embedded weights {name!r} are missing from this installation",
            where=path,
            hint="install the package from its wheel or a full checkout",
        )
    return path
