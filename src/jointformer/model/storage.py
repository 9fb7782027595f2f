"""Tensors in files: .safetensors with their config, .pth as untrusted input; sizes are checked before use."""

from __future__ import annotations

import re
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import safetensors
import safetensors.torch
import torch

from jointformer.errors import ConfigError, WeightsError
from jointformer.model.cache import not_weights
from jointformer.model.config import ModelConfig
from jointformer.model.convert import (
    State,
    check_finite,
    check_tensors,
    fitting_network,
    infer_config,
    pad_single_object,
    unwrap,
)
from jointformer.model.convmae import is_convmae
from jointformer.model.network import JointFormer
from jointformer.model.pickles import more_than_plain
from jointformer.system.files import atomic_write, write_bytes

FORMAT_VERSION = "1"
SUFFIXES = (".safetensors", ".pth", ".pt")


@dataclass(frozen=True)
class StoredWeights:
    """The tensors of one file by their bare names, CPU, as stored; metadata as safetensors keeps it."""

    path: Path
    state: State
    metadata: dict[str, str] = field(default_factory=dict)

    @property
    def is_backbone(self) -> bool:
        """Whether this is ConvMAE's pre-training file rather than a whole network."""
        return is_convmae(self.state)

    def fitted(self) -> tuple[JointFormer, State]:
        """Return (network still without memory, on `meta`; the state dict that fits it to the last name).

        The config is the one in the metadata where that agrees with the shapes, else read off the shapes.
        Raises WeightsError.
        """
        state = pad_single_object(self.state)
        shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
        if self.is_backbone:
            raise backbone_alone(self.path)
        config = infer_config(shapes, self.path)
        if "config" in self.metadata:
            config = self._stated_config(config)
        model = fitting_network(config, shapes, self.path)
        check_finite(state, self.path)
        return model, state

    def _stated_config(self, inferred: ModelConfig) -> ModelConfig:
        """Return the metadata's config: name and heads are its own, the rest must agree with the shapes."""
        try:
            stated = ModelConfig.from_json(self.metadata["config"])
        except ConfigError as error:
            raise WeightsError(f"its metadata hold no config: {error}", where=self.path) from None
        if {**vars(stated), "name": 0, "heads": 0} != {**vars(inferred), "name": 0, "heads": 0}:
            raise WeightsError(
                "its config and its tensors do not agree", where=self.path, expected=inferred, got=stated
            )
        return stated


def backbone_alone(where: str | Path) -> WeightsError:
    """Return the error for ConvMAE's pre-training file where a whole network is needed."""
    return WeightsError(
        "this is ConvMAE's pre-training file, the backbone alone",
        where=where,
        expected="weights of a whole network",
        hint="use it as a start for training",
    )


def load_weights_file(path: Path) -> StoredWeights:
    """Return the tensors of a .safetensors file or a .pth file (bare or wrapped), on the CPU.

    Pickles may call for tensors and plain containers only: nothing that could run or take more memory than the file.
    Raises WeightsError for every file that is none of these, whatever is in it.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(512)
        size = path.stat().st_size
    except OSError as error:
        raise WeightsError("cannot be read", where=path, got=error.strerror) from None
    kind = not_weights(head)
    if kind is not None:
        raise WeightsError("not a weights file", where=path, got=kind, hint="download it again")
    if path.suffix == ".safetensors":
        stored = _read_safetensors(path)
    else:
        stored = StoredWeights(path, unwrap(load_pickled(path), path))
    check_tensors(stored.state, path, size)
    return stored


def save_weights(
    weights: JointFormer | State,
    path: str | Path,
    config: ModelConfig | None = None,
    dtype: torch.dtype | None = None,
) -> Path:
    """Return the path after writing a network's tensors there, whole or not at all.

    .safetensors: with the config (a network's own, or read off the shapes) and its name in the metadata.
    .pth: the bare state dict in the published form, of networks with as many heads as `infer_config` would read off it.
    dtype: float32, float16 or bfloat16 to convert to; None keeps theirs.

    Raises WeightsError when tensors and config do not fit or the suffix is another, OutputError where
    writing fails.
    """
    path = Path(path)
    check_suffix(path)
    state = weights.state_as_loaded() if isinstance(weights, JointFormer) else weights
    if isinstance(weights, JointFormer):
        config = config or weights.config
    shapes = {name: tuple(tensor.shape) for name, tensor in state.items()}
    config = config or infer_config(shapes, path)
    fitting_network(config, shapes, path)
    if path.suffix != ".safetensors" and config.heads != (told := infer_config(shapes, path).heads):
        raise WeightsError(
            "this kind of file cannot say how many heads there are",
            where=path,
            expected=f"{told}, of 64 channels each",
            got=config.heads,
            hint="save it as .safetensors",
        )
    state = _apart({n: t.detach().to("cpu", dtype or t.dtype).contiguous() for n, t in state.items()})
    check_finite(state, path)
    metadata = {
        "format_version": FORMAT_VERSION,
        "name": config.name,
        "config": config.to_json(),
        "format": "pt",
    }
    if path.suffix == ".safetensors":
        write_bytes(path, safetensors.torch.save(state, metadata))
    else:
        save_pickled(state, path)
    return path


def _apart(state: State) -> State:
    """Return tensors none of which is a part of another's memory, which safetensors refuses; others are not copied."""
    taken: set[int] = set()
    apart = {}
    for name, tensor in state.items():
        storage = tensor.untyped_storage()
        alone = storage.nbytes() == tensor.nbytes and storage.data_ptr() not in taken
        taken.add(storage.data_ptr())
        apart[name] = tensor if alone else tensor.clone()
    return apart


def save_pickled(data: object, path: Path, *, durable: bool = False) -> None:
    """Writes tensors and plain containers as torch.save does, whole or not at all. Raises OutputError."""
    with atomic_write(path, durable=durable) as file:
        try:
            torch.save(data, file)
        except RuntimeError as error:
            # Its archive is closed even where nothing can be written, and complains of that instead.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def check_suffix(path: Path) -> None:
    """Checks that `save_weights` knows the kind of file. Raises WeightsError."""
    if path.suffix not in SUFFIXES:
        raise WeightsError(
            "unknown kind of file", where=path, expected=" or ".join(SUFFIXES), got=path.suffix or path.name
        )


def _read_safetensors(path: Path) -> StoredWeights:
    try:
        with safetensors.safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            # Cloned: what the reader gives is a window on the file, and a file may change.
            state = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
    except Exception as error:  # a damaged or hostile file may fail in any way the library knows
        raise _damaged(path, "safetensors", error) from None
    if not state:
        raise WeightsError("no weights in the file", where=path, expected="tensors by name", got="none")
    return StoredWeights(path, state, metadata)


def load_pickled(path: Path) -> object:
    """Return what torch.save wrote of tensors and plain containers, on the CPU. Raises WeightsError for the rest."""
    _check_archive(path)
    try:
        # The reader that torch.load takes: what it sees of a doctored archive is what is checked.
        pickled = torch._C.PyTorchFileReader(str(path)).get_record("data.pkl")
        more = more_than_plain(pickled)
        if more is not None:
            raise _refused(path, more)
        return torch.load(path, map_location="cpu", weights_only=True)
    except WeightsError:
        raise
    except Exception as error:  # as above
        refused = re.search(r"(?:GLOBAL|Unsupported class|Unsupported operand) ([\w.]+)", str(error))
        raise (_refused(path, refused[1]) if refused else _damaged(path, "PyTorch", error)) from None


def _check_archive(path: Path) -> None:
    """Checks that the file is a zip as PyTorch writes it: nothing packed, so nothing grows when read."""
    try:
        with open(path, "rb") as file:
            if file.read(4) != b"PK\3\4":
                raise zipfile.BadZipFile("something else in front")  # torch.load would read that
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except Exception as error:  # zipfile raises much more than BadZipFile for a damaged directory
        raise WeightsError(
            "not a file of PyTorch, or damaged",
            where=path,
            expected="a zip archive as torch.save writes it",
            got=str(error)[:100] or type(error).__name__,
            hint="download it again; a file of PyTorch before 1.6 must be saved again with a newer one",
        ) from None
    size = path.stat().st_size
    total = sum(entry.file_size for entry in entries)
    if total > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise WeightsError(
            "refused: a packed archive",
            where=path,
            expected=f"at most {size:,} bytes in it",
            got=f"{total:,}",
        )
    # The reader does not tell capitals from small letters: a file in data/ would be read once for each way to write it.
    for entry in entries:
        _, found, name = entry.filename.lower().partition("/data/")
        if found and not re.fullmatch("[0-9]+", name):
            raise WeightsError(
                "refused: not as torch.save names what is in it",
                where=path,
                expected="data by numbers",
                got=entry.filename[:100],
            )


def _refused(path: Path, got: str) -> WeightsError:
    return WeightsError(
        "refused: it holds more than plain tensors, and a pickle can run any program",
        where=path,
        got=got[:200],
        hint="ask its author for the bare state dict",
    )


def _damaged(path: Path, kind: str, error: Exception) -> WeightsError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return WeightsError(
        f"damaged or not a {kind} file", where=path, got=lines[0][:200], hint="download or copy it again"
    )
