"""What processes that share an output folder tell each other: who labels which video, and what each one took."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jointformer.data import writer
from jointformer.errors import OutputError
from jointformer.ops.files import name_key, output_error, remove, write_json

#: The folder of claims and records beside the results while a run is not finished. Hidden: scorers pass it over.
RUN = ".run"
#: Seconds that a process waits for the manifest, or for the folder to stay.
_WAIT = 60.0


class RunFolder:
    """Claims and records of one output folder.

    A claim is a file lock that the operating system takes back when its process dies, however it dies; a record is
    what one finished video took, written before the video's folder gets its name. So a finished video always has its
    record, and no process has to write for another.
    """

    def __init__(self, output: Path) -> None:
        self.output = output
        self.path = output / RUN

    @contextmanager
    def claim(self, video: str) -> Iterator[bool]:
        """Whether this process may label the video while the block runs; False where another one does."""
        with self._locked(f"{name_key(video)}.lock", 0) as mine:
            yield mine

    def claimed(self, temporary: Path) -> bool:
        """Whether a process holds the claim of the video whose folder a temporary folder is to become."""
        for lock in self.path.glob("*.lock"):
            if lock.stem in temporary.name:
                with self._locked(lock.name, 0) as mine:
                    return not mine
        return False

    @contextmanager
    def manifest_lock(self) -> Iterator[None]:
        """A block in which no other process reads or writes the run's manifest. Raises OutputError after a minute."""
        with self._locked("manifest.lock", _WAIT) as mine:
            if not mine:
                raise OutputError("another process holds the run's manifest", where=self.output, hint="try again")
            yield

    @contextmanager
    def _locked(self, name: str, timeout: float) -> Iterator[bool]:
        try:
            lock = self._acquire(name, timeout)
        except Timeout:
            yield False
            return
        except NotImplementedError:
            raise OutputError(
                "this file system has no file locks", where=self.path, hint="choose another output folder"
            ) from None
        except OSError as error:
            raise output_error(error, error.filename or self.path / name) from error
        try:
            yield True
        finally:
            lock.release()

    def _acquire(self, name: str, timeout: float) -> FileLock:
        """Return a lock that is held. Raises Timeout where another process keeps it, OSError, NotImplementedError."""
        begun = time.monotonic()
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = FileLock(self.path / name)
                lock.acquire(timeout=max(0.0, begun + timeout - time.monotonic()))
                return lock
            except (FileNotFoundError, FileExistsError):
                # Whoever completes a run removes the folder from under those that wait, who make it again.
                if self.path.is_file() or time.monotonic() > begun + _WAIT:
                    raise
                time.sleep(0.01)

    def write_record(self, video: str, data: dict[str, Any]) -> None:
        """Write what a video took, or why it failed, in place of an earlier record of it."""
        write_json(self.path / f"{name_key(video)}.json", {"video": video, **data})

    def records(self) -> dict[str, dict[str, Any]]:
        """Return every record by video; files that are none of ours are passed over."""
        found: dict[str, dict[str, Any]] = {}
        for path in sorted(self.path.glob("*.json")):
            try:
                data = json.loads(path.read_text(encoding="utf-8"))
                found[str(data.pop("video"))] = data
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue
        return found

    def clear(self) -> None:
        """Remove the folder: everything in it is in the manifest, and nothing is left to be labelled."""
        remove(self.path)


def clean_up(output: Path) -> int:
    """Return how many half-written files and folders of dead runs were removed; none of a video that is claimed."""
    return writer.clean_up(output, RunFolder(output).claimed)
