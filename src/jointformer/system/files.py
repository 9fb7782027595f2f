"""Whole files or no files: everything is written under a temporary name and renamed when it is complete.

A process that dies at any instant, a full disk or a vanished mount leaves finished work as it was. What it
may leave behind is a temporary name (see `is_temporary`), which the next run removes with
`remove_temporaries`.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from jointformer.errors import OutputError
from jointformer.system.process import is_alive, this_process

_PREFIX = ".jointformer-"
_SUFFIX = ".part"
_DEVICES = "/dev"  # whose names are all the system's
_FOREIGN_AGE = 24 * 3600.0  # seconds after which another machine's temporary is taken for a leftover

#: What renaming a folder says where another is in the way. Windows replaces none, not even an empty one.
_TAKEN = {errno.ENOTEMPTY, errno.EEXIST} | ({errno.EACCES} if os.name == "nt" else set())

_REASONS = {
    errno.ENOENT: ("its folder is gone", "see what removed it and run the same command again"),
    errno.ENOSPC: ("the disk is full", "free some space and run the same command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the same command again"),
    errno.EFBIG: ("the file is too large for this file system or a limit", "choose another output folder"),
    errno.EROFS: ("the file system is read-only", "choose another output folder"),
    errno.EACCES: ("no permission to write", "choose another output folder or change its permissions"),
    errno.EPERM: ("no permission to write", "choose another output folder or change its permissions"),
    errno.ENAMETOOLONG: ("the name is too long for this file system", "choose a shorter name"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "choose another output folder"),
    errno.EISDIR: ("a folder is in the way", "choose another name or remove the folder"),
    errno.EEXIST: ("a file is in the way", "choose another name or remove the file"),
    errno.ELOOP: ("a link is in the way", "remove it or choose another folder"),
    errno.ESTALE: ("the network mount is gone", "mount it and run the same command again"),
    errno.EBADF: ("it is closed", "let it lead to a file, a program or /dev/null"),
    errno.EIO: ("the device reports a failure", "check the disk or mount and run the same command again"),
}


def output_error(error: OSError, path: str | Path) -> OutputError:
    """The one-line `OutputError` for an `OSError` met while writing `path`."""
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error) or "cannot be written", None))
    return OutputError(f"cannot be written: {reason}", where=path, hint=hint)


@contextmanager
def writing(path: str | Path, *temporaries: Path) -> Iterator[None]:
    """A context in which an `OSError` about `path` (or about no named file) becomes an `OutputError`.

    Errors that name another file, such as an input that vanished, pass through unchanged, and so does the end of a
    pipe's reader. An `OutputError` about something in a temporary folder names its place in `path` instead, which
    the user knows.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OutputError as error:
        for temporary in temporaries:
            if error.where is not None and temporary in (Path(error.where), *Path(error.where).parents):
                place = Path(path) / Path(error.where).relative_to(temporary)
                raise OutputError(error.what, **{**error.parts, "where": place}) from error
        raise
    except OSError as error:
        if error.filename is not None:
            # FFmpeg gives a file's address.
            culprit = Path(os.fsdecode(error.filename).removeprefix("file:")).absolute()
            ours = [Path(p).absolute() for p in (path, *temporaries)]
            # The folder above the target counts as ours too: it may be what could not be made.
            inside = any(culprit == p or p in culprit.parents or culprit in p.parents for p in ours)
            if not inside:
                raise
        raise output_error(error, path) from error


def from_anywhere(path: str | Path) -> Path:
    """`path` as processes find it that were started elsewhere: absolute, and not by way of the current folder.

    Where `..` leads from the current folder is the same on another machine, which may lack the folder itself.
    """
    path = Path(path)
    up = next((number for number, part in enumerate(path.parts) if part != ".."), len(path.parts))
    if not up:
        return path.absolute()
    folders = [Path.cwd(), *Path.cwd().parents]
    return folders[min(up, len(folders) - 1)].joinpath(*path.parts[up:])


def make_dir(path: str | Path) -> Path:
    """The folder `path`, made with its parents where missing. Raises `OutputError`.

    Temporary folders are no such parents: one that is missing was removed by somebody, with what was in it.
    """
    path = Path(path)
    with writing(path):
        for folder in (path, *path.parents):
            if is_temporary(folder):
                folder.stat()
        path.mkdir(parents=True, exist_ok=True)
    return path


def check_writable(path: str | Path) -> None:
    """Raises `OutputError` where a file could not be written under this name now; nothing stays of the attempt.

    For what is written at the end of hours. Missing folders are not made: the nearest that is there is tried.
    """
    path = Path(path)
    _refuse_devices(path)
    folder = next((above for above in path.absolute().parents if os.path.lexists(above)), path)
    attempt = temporary_name(folder / path.name)
    with writing(path, attempt):
        try:
            if stat.S_ISDIR(os.stat(path).st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        except FileNotFoundError:
            pass
        try:
            open(attempt, "xb").close()
        finally:
            remove(attempt)


def _refuse_devices(path: Path) -> None:
    """Raises `OutputError` for what a file would take the place of for everybody: a device, a pipe, a socket."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    # What /dev/stdout leads to may be a file, but its own name is the one that would be replaced.
    named_by_system = os.path.realpath(path.parent) == _DEVICES
    if not stat.S_ISDIR(mode) and (named_by_system or not stat.S_ISREG(mode)):
        hint = "name a file, or - where a command can write to standard output"
        raise OutputError("cannot be written: this is a device or a pipe, not a file", where=path, hint=hint)


def is_temporary(path: str | Path) -> bool:
    """Whether the name is one of this module's temporary names."""
    name = Path(path).name
    return name.startswith(_PREFIX) and _SUFFIX in name


def name_key(name: str) -> str:
    """24 hex digits for a name: with more added to the name itself it could pass the file system's limit."""
    return hashlib.sha256(name.encode("utf-8", "surrogateescape")).hexdigest()[:24]


def temporary_name(path: str | Path, suffix: str = "") -> Path:
    """A fresh temporary path beside `path`, with the key of its name in it.

    `suffix` is for libraries that look at the extension.
    """
    path = Path(path)
    return path.parent / f"{_PREFIX}{this_process()}-{name_key(path.name)}-{secrets.token_hex(4)}{_SUFFIX}{suffix}"


def remove_temporaries(folder: str | Path, *, spare: Callable[[Path], bool] = lambda path: False) -> int:
    """The number of temporary files and folders of dead processes removed from `folder`.

    Temporaries whose process still lives on this machine, or that another machine (or this one, before it was started
    anew) wrote to within a day, are left alone: another worker may be writing them. So are those to `spare`.
    """
    removed = 0
    for path in list(Path(folder).glob(f"{_PREFIX}*")):
        if is_temporary(path) and not _owner_lives(path) and not spare(path):
            remove(path)
            removed += 1
    return removed


@contextmanager
def atomic_path(path: str | Path, *, suffix: str = "") -> Iterator[Path]:
    """A temporary path to fill by name; renamed to `path` on success, removed on failure.

    The folder of `path` is made where missing. Raises `OutputError` where writing fails, and for a device or a pipe.
    """
    target = Path(path)
    _refuse_devices(target)
    make_dir(target.parent)
    temporary = temporary_name(target, suffix)
    try:
        with writing(target, temporary):
            yield temporary
            os.replace(temporary, target)
    except BaseException:
        remove(temporary)
        raise


@contextmanager
def atomic_write(path: str | Path, *, durable: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write; it appears as `path` when the block ends well, and not at all otherwise.

    `durable` also waits until the bytes are on the device (for checkpoints that must survive a power cut).
    Raises `OutputError` where writing fails.
    """
    with atomic_path(path) as temporary, open(temporary, "xb") as file:
        yield file
        file.flush()
        if durable:
            os.fsync(file.fileno())


def write_bytes(path: str | Path, data: bytes) -> None:
    """Writes `data`, whole or not at all. Raises `OutputError`."""
    with atomic_write(path) as file:
        file.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Writes `text` as UTF-8, whole or not at all. Raises `OutputError`."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | Path, value: Any) -> None:
    """Writes `value` as indented JSON, whole or not at all. Raises `OutputError`."""
    write_bytes(path, json_bytes(value, indent=2) + b"\n")


def json_bytes(value: Any, *, indent: int | None = None) -> bytes:
    """`value` as JSON in UTF-8.

    Of a file name that is no UTF-8 Python keeps the odd bytes as lone surrogates; JSON has these as escapes.
    """
    return json.dumps(value, indent=indent, ensure_ascii=False).encode("utf-8", "backslashreplace")


def append_line(path: str | Path, text: str) -> None:
    """Adds `text` and a line's end to a UTF-8 file, whole or not at all. Raises `OutputError`."""
    path = Path(path)
    with writing(path):
        before = path.stat().st_size if path.exists() else 0
        try:
            with open(path, "ab") as file:
                file.write(f"{text}\n".encode())
        except OSError:
            with suppress(OSError):
                os.truncate(path, before)  # else the next line would go on where this one broke off
            raise


@contextmanager
def replace_dir(path: str | Path) -> Iterator[Path]:
    """An empty temporary folder to fill; it takes the place of `path` when the block ends well.

    A folder that was there before is removed only after the new one has its name. On failure the temporary
    folder is removed and the old one stays. Raises `OutputError` where writing fails.
    """
    target = Path(path)
    make_dir(target.parent)
    temporary = temporary_name(target)
    try:
        with writing(target, temporary):
            temporary.mkdir()
            yield temporary
            commit_dir(temporary, target)
    except BaseException:
        remove(temporary)
        raise


def commit_dir(temporary: Path, target: Path) -> None:
    """Renames the finished folder to `target`, replacing what was there. Raises `OSError`."""
    try:
        os.replace(temporary, target)
        return
    except OSError as error:
        if error.errno not in _TAKEN or not target.is_dir():
            raise
    old = temporary_name(target)
    os.replace(target, old)
    try:
        os.replace(temporary, target)
    except OSError:
        os.replace(old, target)
        raise
    remove(old)


def _owner_lives(path: Path) -> bool:
    alive = is_alive(path.name[len(_PREFIX) :])
    if alive is not None:
        return alive
    try:
        return time.time() - path.stat().st_mtime < _FOREIGN_AGE
    except OSError:
        return True


def count_files(folder: Path) -> int:
    """How many files a folder and those in it hold, hidden ones (a system's or a killed program's) left out."""
    return sum(not name.startswith(".") for _, _, names in os.walk(folder) for name in names)


def remove(path: Path) -> None:
    """Removes a file or folder if it is there and can be; a leftover must not hide the error being raised."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
