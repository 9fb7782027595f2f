"""The network as two ONNX files for programs without PyTorch, checked by ONNX Runtime before they are kept."""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jointformer.errors import ConfigError, OutputError, UserError, missing_extra, require
from jointformer.model.network import JointFormer, require_network
from jointformer.model.onnx_graphs import Graph, GraphConfig, Memorize, Segment
from jointformer.system.files import (
    check_writable,
    remove,
    remove_temporaries,
    replace_dir,
    temporary_name,
    write_json,
    writing,
)

FORMAT_VERSION = 1
#: What the extra `onnx` installs.
PACKAGES = ("onnxscript", "onnxruntime")
#: What `export_onnx` does, in this order.
STEPS = ("convert segment", "check segment", "convert memorize", "check memorize")
#: One file holds the tensors of both graphs, which are nearly the same. Smaller ones stay in the graphs.
WEIGHTS = "weights.bin"
SMALLEST_OUTSIDE = 4096
#: Where a tensor may begin in it: a page, so that a runtime can map it.
ALIGNMENT = 4096
#: How far ONNX Runtime's results may lie from PyTorch's, as a share of the largest number: by type.
TOLERANCES = {torch.float32: 5e-3, torch.float16: 5e-2}
#: Objects and memory frames of the inputs that both compute, all free axes with one and with several.
CHECKED = ((1, 1), (3, 2))


def export_onnx(
    model: JointFormer,
    folder: str | Path,
    config: GraphConfig,
    *,
    progress: Callable[[str], None] = lambda doing: None,
) -> dict[str, float]:
    """Return how far the new folder's `segment.onnx` and `memorize.onnx` are from the network.

    model: on the CPU, in float32 or float16, which memory and tokens have in the files, too. config: what is fixed in
    them. progress: told of each of `STEPS` when it begins. The result: by graph the largest difference between ONNX
    Runtime's and PyTorch's results on made-up frames, as a share of the largest number. The folder also holds the
    weights of both and `model.json`; docs/onnx.md says how to use it.

    Raises ConfigError where the extra `onnx` is not installed or for another type, OutputError for a folder that is not
    empty or cannot be written, UserError where the files do not compute what the network does (nothing is kept then).
    """
    require_network(model)
    require("config", config, GraphConfig, "a GraphConfig, such as GraphConfig(480, 854)")
    if model.dtype not in TOLERANCES:
        hint = 'load it with load_model(name, device="cpu", precision="float32")'
        raise ConfigError("type of an ONNX file", expected="float32 or float16", got=str(model.dtype), hint=hint)
    folder = check_export(folder)
    differences = {}
    with _filled(folder) as temporary:
        weights = _Weights(temporary / WEIGHTS)
        for graph in (Segment(model, config).eval(), Memorize(model, config).eval()):
            path = temporary / f"{graph.name}.onnx"
            progress(f"convert {graph.name}")
            _save(_convert(graph), path, weights)
            progress(f"check {graph.name}")
            differences[graph.name] = _check(graph, path)
        write_json(temporary / "model.json", _description(model, config))
    return differences


def check_export(folder: str | Path) -> Path:
    """Return the folder to export to, in which and beside which nothing of killed exports is left.

    Raises OutputError where something is in it or it cannot be written, ConfigError without the extra.
    """
    folder = Path(folder)
    try:
        str(folder.absolute()).encode()
    except UnicodeEncodeError as error:
        raise OutputError("ONNX Runtime opens no file of this path", where=folder, expected="UTF-8") from error
    remove_temporaries(folder if folder.is_dir() else folder.parent)  # half a gigabyte each
    _refuse_full(folder)
    check_writable(folder / WEIGHTS)
    if any(importlib.util.find_spec(name) is None for name in PACKAGES):
        raise missing_extra(f"ONNX files need {' and '.join(PACKAGES)}, which are not installed", "onnx")
    return folder


def _refuse_full(folder: Path) -> None:
    if os.path.lexists(folder) and not (folder.is_dir() and not any(folder.iterdir())):
        hint = "choose another, or remove it"
        raise OutputError("there is something already", where=folder, expected="a new or an empty folder", hint=hint)


@contextmanager
def _filled(folder: Path) -> Iterator[Path]:
    """Give a temporary folder, whose files are in `folder` when the block ends well; else nothing is kept of it."""
    if not folder.is_dir():
        with replace_dir(folder) as temporary:
            yield temporary
            _refuse_full(folder)  # exports take minutes, and somebody else may have put something there
        return
    # A folder that is there stays the same one: it may be a mount, the end of a link, or where the user's shell is.
    temporary = temporary_name(folder / WEIGHTS)
    places: list[Path] = []
    try:
        with writing(folder, temporary):
            temporary.mkdir()
            yield temporary
            for path in list(temporary.iterdir()):
                places.append(folder / path.name)
                os.replace(path, places[-1])
    except BaseException:
        for place in places:
            with suppress(OSError):
                place.unlink()
        raise
    finally:
        remove(temporary)


def _description(model: JointFormer, config: GraphConfig) -> dict[str, Any]:
    """Return what a program has to know beside the files themselves."""
    weights = model.weights_file
    network = model.config
    return {
        "format_version": FORMAT_VERSION,
        "network": network.name,
        "weights": None if weights is None else weights.name,
        **asdict(config),
        "padding": dict(zip(("left", "right", "top", "bottom"), config.padding)),
        "type": str(model.dtype).removeprefix("torch."),
        "memory_frame": [network.layers, 2, "objects", network.heads, config.tokens, network.head_width],
        "initial_token": model.initial_tokens(1, 1).flatten().tolist(),
    }


def _convert(graph: Graph) -> Any:
    """Return the graph as ONNX's intermediate representation."""
    inputs = graph.example(2, 3)
    dims = {name: torch.export.Dim(name, min=1, max=4096) for axes in graph.free.values() for name in axes.values()}
    shapes = {name: {axis: dims[dim] for axis, dim in axes.items()} for name, axes in graph.free.items()}
    with _quiet():
        # With gradients, as if for training: nothing is computed in place, nor does anything depend on sizes.
        with torch.enable_grad():
            program = torch.export.export(graph, (), inputs, dynamic_shapes=shapes)
        exported = torch.onnx.export(
            program, (), dynamo=True, verbose=False, input_names=list(inputs), output_names=list(graph.outputs),
            dynamic_shapes=graph.free,
        )  # fmt: skip
    assert exported is not None
    return exported.model


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what the exporter says of packages that are not needed, and of its own old ways."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


class _Weights:
    """A file of tensors, each of which is there once however many graphs have it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._places: dict[str, int] = {}
        path.touch()

    def place(self, data: bytes) -> int:
        """Return where the file has these bytes, which are added where it had not."""
        key = hashlib.sha256(data).hexdigest()
        if key not in self._places:
            with open(self.path, "ab") as file:
                file.write(bytes(-file.tell() % ALIGNMENT))
                self._places[key] = file.tell()
                file.write(data)
        return self._places[key]


def _save(converted: Any, path: Path, weights: _Weights) -> None:
    """Write a graph whose larger tensors are in the file of weights."""
    import onnx_ir

    for node in converted.graph:  # where the exporter was in which file of this computer
        for thing in (node, *node.outputs):
            thing.metadata_props.clear()
    for value in converted.graph.initializers.values():
        tensor = value.const_value
        if tensor.nbytes >= SMALLEST_OUTSIDE:
            offset = weights.place(tensor.tobytes())
            value.const_value = onnx_ir.ExternalTensor(
                WEIGHTS, offset, tensor.nbytes, tensor.dtype, shape=tensor.shape, name=tensor.name, base_dir=path.parent
            )
    onnx_ir.save(converted, path)


def _check(graph: Graph, path: Path) -> float:
    """Return the largest difference of the file's results and the network's, as a share of the largest number.

    Raises UserError where it is too large.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for objects, frames in CHECKED:
        inputs = graph.example(objects, frames)
        with torch.inference_mode():
            expected = graph(**inputs)
        got = session.run(list(graph.outputs), {name: tensor.numpy() for name, tensor in inputs.items()})
        worst = max(worst, *(_difference(torch.from_numpy(a), b) for a, b in zip(got, expected)))
    limit = TOLERANCES[graph.model.dtype]
    if not worst <= limit:
        raise UserError(
            f"ONNX Runtime computes something else than the network from {path.name}",
            expected=f"differences up to {limit}", got=f"{worst:.3g}",
            hint="try other versions of onnxscript and onnxruntime",
        )  # fmt: skip
    return worst


def _difference(got: Tensor, expected: Tensor) -> float:
    """Return the largest difference as a share of the largest number expected; infinity for what is no number, too."""
    if got.shape != expected.shape:
        return math.inf
    share = float((got.float() - expected.float()).abs().max() / expected.float().abs().max())
    return math.inf if math.isnan(share) else share  # `max` would pass over it
