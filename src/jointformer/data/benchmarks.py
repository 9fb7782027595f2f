"""A benchmark's data on this machine, checked as a whole before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jointformer.data.benchmark_rows import Benchmark, find_benchmark, full_resolution
from jointformer.data.layouts import open_tree
from jointformer.data.sources import VideoSource
from jointformer.errors import ConfigError, DataError


@dataclass(frozen=True)
class Dataset:
    """A benchmark opened on this machine: its row, the folder it was found in, its checked videos."""

    benchmark: Benchmark
    root: Path
    videos: tuple[VideoSource, ...]


def open_benchmark(
    key: str,
    split: str,
    data_root: str | Path,
    *,
    generic_path: str | Path | None = None,
    size: int = 480,
    save_all: bool = False,
) -> Dataset:
    """A benchmark's videos, after its whole tree was checked; nothing is decoded but first masks.

    `size` is the shorter side the model will work at: DAVIS's frames are read in full resolution where it
    is not 480; its masks are those of 480p all the same, and results are saved at their size. `save_all`
    saves every frame instead of those the benchmark scores. `generic_path` is the folder of `JPEGImages`
    and `Annotations` for G: each video's first mask is read, and the log names objects that only later ones
    name, where these are few. Raises `ConfigError` for a dataset, split or setting that does not exist and
    `DataError` for what is missing or wrong in the tree.
    """
    row = find_benchmark(key, split)
    if key == "G":
        if generic_path is None:
            raise ConfigError("dataset G needs generic_path", hint="the folder that holds JPEGImages and Annotations")
        root = Path(generic_path)
    else:
        root = Path(data_root)
    if not root.is_dir():
        what = "not a folder" if root.exists() else "no such folder"
        flag = "generic_path" if key == "G" else "data_root"
        raise DataError(what, where=root, hint=f"{flag} must be the folder that holds {row.images[0].split('/')[0]}/")
    if key in ("D16", "D17") and size != 480:
        row = full_resolution(row)
    return Dataset(row, root, open_tree(row, root, save_all=save_all))
