"""Files over https: resumed after a break, checked, and visible under their name only when they are whole."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
from filelock import FileLock
from tqdm import tqdm

from jointformer.errors import OutputError, UserError, WeightsError
from jointformer.model.cache import (
    WEIGHTS,
    Kind,
    file_sha256,
    not_weights,
    record_path,
    recorded_sha256,
    verify_or_note,
    write_record,
)
from jointformer.model.transport import TIMEOUT, BrokenAttemptError, open_answer, reason, start_and_total, validator
from jointformer.system.files import (
    is_temporary,
    make_dir,
    remove,
    remove_temporaries,
    temporary_name,
    write_json,
    writing,
)
from jointformer.system.locks import NoLocksError, hold

logger = logging.getLogger(__name__)

#: Attempts in a row that bring no new byte before the download is given up (what has arrived stays).
ATTEMPTS = 5
#: Seconds before the second attempt; doubled with each further one.
FIRST_WAIT = 1.0
#: Far above any published file (0.5 GB); a server that announces more is refused before a byte is written.
MAX_BYTES = 8 << 30
LOCK_WAIT = 3600.0


@dataclass(frozen=True)
class _PartialState:
    """What must still hold for the rest of a file to be fetched: its address, version mark and size."""

    url: str
    validator: str | None
    total: int | None


def fetch(url: str, target: Path, *, kind: Kind = WEIGHTS, page: str | None = None, progress: bool = True) -> str:
    """Return the SHA-256 of `target` after making sure that it is there, fetched from `url` where it was not.

    The file grows as `<target>.partial` and is renamed when its size and SHA-256 agree; a later call
    resumes it. Its SHA-256 must be the one noted beside `target` earlier; where none is, it is noted now. Of two
    processes that want the same file one fetches and the other waits; where the file system has no locks each fetches
    for itself, in a folder of its own that is not resumed. kind: what errors call the file. page: where a person finds
    the file, for the hint when it cannot be fetched.

    Raises WeightsError (not there, not reachable, not the file expected) and OutputError (cannot be written).
    """
    make_dir(target.parent)
    with writing(target), _partial(target) as partial, writing(target, partial):
        if target.exists():
            return verify_or_note(target, kind)
        expected = recorded_sha256(target, kind)
        try:
            with _client(url) as client:
                _fetch_partial(client, url, partial, kind, progress)
        except WeightsError as error:
            raise _with_way_out(error, target, page) from None
        got = file_sha256(partial)
        if expected is not None and got != expected:
            _discard(partial)
            raise WeightsError(
                "what was downloaded is not the file expected (SHA-256)",
                where=url,
                expected=expected,
                got=got,
                hint=f"nothing was kept; try again; if the file was replaced on purpose, delete {record_path(target)}",
            )
        partial.replace(target)
        _state_path(partial).unlink(missing_ok=True)
        write_record(target, got, url)
        return got


def _client(url: str) -> httpx.Client:
    """Return what asks for `url`, through the proxy that the environment names, if any."""
    try:
        return httpx.Client(timeout=TIMEOUT, follow_redirects=False)
    except (ImportError, ValueError, httpx.InvalidURL, OSError) as error:  # the last: of certificates
        what = "cannot be reached with the proxy and certificates that the environment names"
        raise WeightsError(what, where=url, got=str(error)[:200]) from None


@contextmanager
def _partial(target: Path) -> Iterator[Path]:
    """The name under which the file grows, which no other process writes to while the block runs."""
    partial = target.with_name(target.name + ".partial")
    lock = _hold(target)
    if lock is not None:
        try:
            yield partial
        finally:
            lock.release()
        return
    remove_temporaries(target.parent)  # of processes that were killed
    folder = temporary_name(target)
    try:
        folder.mkdir()
        yield folder / partial.name
    finally:
        remove(folder)


def _hold(target: Path) -> FileLock | None:
    """The lock of a file that is to be fetched, held; None where the file system has no locks."""
    path = target.with_name(f".{target.name}.lock")
    try:
        lock = hold(path)
        if lock is None:
            logger.info("%s is being downloaded by another process; waiting for it", target.name)
            lock = hold(path, LOCK_WAIT)
    except NoLocksError:
        return None
    if lock is None:
        raise WeightsError(
            f"another process has been downloading this for {LOCK_WAIT / 60:.0f} minutes",
            where=target,
            hint="end that process, or wait for it",
        )
    return lock


def _fetch_partial(client: httpx.Client, url: str, partial: Path, kind: Kind, progress: bool) -> None:
    """Makes `partial` whole, over as many attempts as bring it forward."""
    failures, best = 0, _size(partial)
    while True:
        try:
            _attempt(client, url, partial, kind, progress)
            return
        except BrokenAttemptError as error:
            arrived = _size(partial)
            failures = 0 if arrived > best else failures + 1
            best = max(best, arrived)
            if failures >= ATTEMPTS:
                stays = arrived and not is_temporary(partial.parent)
                kept = f"; {arrived:,} bytes have arrived and are kept: the same command resumes" if stays else ""
                raise WeightsError("cannot be downloaded", where=url, got=f"{error}{kept}") from None
            logger.info("%s: %s; trying again", partial.stem, error)
            time.sleep(FIRST_WAIT * 2 ** max(0, failures - 1))


def _attempt(client: httpx.Client, url: str, partial: Path, kind: Kind, progress: bool) -> None:
    """Adds what one answer of the server brings; BrokenAttemptError when the file is not whole after it."""
    state = _read_state(partial)
    have = _size(partial)
    headers = {"Accept-Encoding": "identity"}
    if have and state is not None and state.url == url and state.validator:
        if have == state.total:  # ended between the last byte and the new name
            return
        headers |= {"Range": f"bytes={have}-", "If-Range": state.validator}
    try:
        with open_answer(client, url, headers, kind) as response:
            if response.status_code == 416:
                _discard(partial)
                raise BrokenAttemptError("what had arrived does not fit the file on the server")
            have, total = start_and_total(response, url, have, kind)
            _check_room(total, have, partial, url, kind)
            # A log file or notebook gets a line now and then, a terminal a moving bar.
            interval = 0.2 if sys.stderr.isatty() else 10.0
            bar = tqdm(
                desc=partial.stem,
                total=total,
                initial=have,
                unit="B",
                unit_scale=True,
                mininterval=interval,
                disable=not progress,
            )
            with open(partial, "ab" if have else "wb", opener=_no_link) as file, bar:
                # Once nothing is there of another file, which a note of this one would make a part of it.
                write_json(_state_path(partial), asdict(_PartialState(url, validator(response), total)))
                # No block size: a buffer would lose what had arrived when the connection broke.
                for block in response.iter_raw():
                    have += len(block)
                    if have > MAX_BYTES:
                        raise _too_large(url, kind, f"more than {MAX_BYTES:,} bytes")
                    file.write(block)
                    bar.update(len(block))
    except httpx.ConnectError as error:
        # A host that cannot be reached at all is rarely there a second later; a broken download may be.
        if have:
            raise BrokenAttemptError(reason(error)) from None
        raise WeightsError("cannot be reached", where=url, got=reason(error)) from None
    except httpx.TransportError as error:
        raise BrokenAttemptError(reason(error)) from None
    if total is not None and have != total:
        _discard(partial)
        raise WeightsError("wrong size", where=url, expected=f"{total:,} bytes", got=f"{have:,}")
    with open(partial, "rb") as file:
        other = not_weights(file.read(512))
    if other is not None:
        _discard(partial)
        raise WeightsError("the server sent something else", where=url, expected=kind.file, got=other)


def _no_link(path: str, flags: int) -> int:
    """Open a file; of a link, which others may have put into a shared folder of weights, OSError where systems can."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)


def _check_room(total: int | None, have: int, partial: Path, url: str, kind: Kind) -> None:
    if total is None:
        return
    if total > MAX_BYTES:
        raise _too_large(url, kind, f"{total:,} bytes")
    free = shutil.disk_usage(partial.parent).free
    if total - have > free:
        raise OutputError(
            "not enough room on the disk",
            where=partial.parent,
            expected=f"{total - have:,} bytes free",
            got=f"{free:,}",
            hint="set JOINTFORMER_HOME to a folder with more room",
        )


def _too_large(url: str, kind: Kind, got: str) -> WeightsError:
    return WeightsError(f"too large for {kind.things}", where=url, expected=f"at most {MAX_BYTES:,} bytes", got=got)


def _with_way_out(error: WeightsError, target: Path, page: str | None) -> UserError:
    source = f" (it is linked on {page})" if page else ""
    hint = f"without a network put the file by hand at {target}{source}"
    return WeightsError(error.what, **{**error.parts, "hint": hint})


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _state_path(partial: Path) -> Path:
    return partial.with_name(partial.name + ".json")


def _read_state(partial: Path) -> _PartialState | None:
    """Return the state noted for a partial file; None where it is missing or damaged: then it starts anew."""
    try:
        data = json.loads(_state_path(partial).read_text(encoding="utf-8"))
        state = _PartialState(**data)
    except (OSError, ValueError, TypeError, RecursionError):
        return None
    return state if isinstance(state.validator, str) else None


def _discard(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _state_path(partial).unlink(missing_ok=True)
