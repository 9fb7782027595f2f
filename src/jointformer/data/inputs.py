"""What is read outlasts what is written, whatever `--overwrite` says."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from jointformer.data.frames import PICTURE_SUFFIXES
from jointformer.errors import OutputError
from jointformer.system.files import check_writable

_Identity = tuple[int, int] | None  # device and inode; None where nothing is there


def refuse_inputs(targets: Iterable[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raise OutputError where a target is an input, holds one, or would be a picture among an input folder's.

    inputs: files and folders; addresses and what is not there are passed over. The file system says what is the same:
    links and other spellings of a name hide nothing. Any other name beside or inside inputs may be written.
    """
    read: dict[_Identity, Path] = {}  # every input and every folder above it
    folders: dict[_Identity, Path] = {}
    seen: set[Path] = set()
    for path in map(Path, inputs):
        if not os.path.exists(path):  # unlike the method, False for names that no file system takes
            continue
        place = path.resolve()
        above = {place, *place.parents} - seen
        read |= {_identity(each): path for each in above}
        seen |= above
        if place.is_dir():
            folders[_identity(place)] = path
    read.pop(None, None)  # where it cannot be looked at
    for target in map(Path, targets):
        found, what = read.get(_identity(target)), "input is read from there"
        if found is None and target.suffix.lower() in PICTURE_SUFFIXES:
            found, what = folders.get(_identity(target.parent)), "the pictures beside it are read"
        if found is not None:
            raise OutputError(f"cannot be written: {what}", where=target, got=found, hint="choose another output")


def check_outputs(files: Sequence[str | Path], inputs: Iterable[str | Path]) -> None:
    """Raise OutputError where a file that is written at the end of long work is an input, or cannot be written now."""
    refuse_inputs(files, inputs)
    for file in files:
        check_writable(file)


def refuse_results(targets: Iterable[Path], overwrite: bool) -> None:
    """Raise OutputError where a target is there already, unless it is to be overwritten."""
    for target in () if overwrite else targets:
        if os.path.lexists(target):
            raise OutputError("the results already exist", where=target, hint="--overwrite replaces them")


def refuse_obstacles(folders: Iterable[Path], files: Iterable[Path]) -> None:
    """Raise OutputError for what could not get its name at the end of long work, for what bears that name now."""
    for folder in folders:
        if os.path.lexists(folder) and (folder.is_symlink() or not folder.is_dir()):
            what = "a link" if folder.is_symlink() else "a file"
            hint = "remove it or choose another --output"
            raise OutputError(f"cannot be written: {what} is in the way", where=folder, hint=hint)
    for file in files:
        check_writable(file)


def is_read(target: Path, inputs: Iterable[str | Path]) -> bool:
    """Whether `refuse_inputs` refuses a target."""
    try:
        refuse_inputs([target], inputs)
    except OutputError:
        return True
    return False


def _identity(path: Path) -> _Identity:
    try:
        status = os.stat(path)
    except (OSError, ValueError):
        return None
    return status.st_dev, status.st_ino
