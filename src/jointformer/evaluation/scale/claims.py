"""What processes that share an output folder tell each other: who labels which video, and what each one took."""

from __future__ import annotations

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from jointformer.data import writer
from jointformer.data.writer import is_finished
from jointformer.errors import OutputError
from jointformer.evaluation.scale.manifest import Manifest, VideoRecord, no_manifest, read_manifest, read_run_id
from jointformer.system.files import name_key, output_error, remove, write_json
from jointformer.system.locks import NoLocksError, hold

#: The folder of claims and records beside the results while a run is not finished. Hidden: scorers pass it over.
RUN = ".run"
_MANIFEST_LOCK = "manifest.lock"
#: Seconds that a process waits for the manifest, or for the folder to stay.
_WAIT = 60.0


class RunFolder:
    """Claims and records of one output folder.

    A claim is a file lock that the operating system takes back when its process dies, however it dies; a record is
    what one finished video took, written before the video's folder gets its name. So a finished video always has its
    record, no process has to write for another, and a folder without a record is somebody else's. Records bear the id
    of their run, as its manifest does: a run that is begun anew in the folder takes nothing from the one before.

    run: the id of the run that this process works for; None for one that only looks at what is there.
    """

    def __init__(self, output: Path, run: str | None = None) -> None:
        self.output = output
        self.run = run
        self.path = output / RUN

    @contextmanager
    def claim(self, video: str) -> Iterator[bool]:
        """Whether this process may label the video while the block runs; False where another one does."""
        with self._locked(f"{name_key(video)}.lock", 0) as mine:
            yield mine

    def claimed(self, temporary: Path) -> bool:
        """Whether a process holds the claim of the video whose folder a temporary folder is to become."""
        return any(self._held(lock.name) for lock in self.path.glob("*.lock") if lock.stem in temporary.name)

    @contextmanager
    def manifest_lock(self) -> Iterator[None]:
        """A block in which no other process reads or writes the run's manifest. Raises OutputError after a minute."""
        with self._locked(_MANIFEST_LOCK, _WAIT) as mine:
            if not mine:
                raise OutputError("another process holds the run's manifest", where=self.output, hint="try again")
            look_anew(self.output, self.path)
            yield

    @contextmanager
    def _locked(self, name: str, timeout: float) -> Iterator[bool]:
        try:
            lock = self._acquire(name, timeout)
        except NoLocksError:
            raise
        except OSError as error:
            raise output_error(error, error.filename or self.path / name) from error
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()

    def _acquire(self, name: str, timeout: float) -> FileLock | None:
        """Return a lock that is held, None where another process keeps it. Raises OSError, NoLocksError."""
        begun = time.monotonic()
        while True:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                return hold(self.path / name, max(0.0, begun + timeout - time.monotonic()))
            except OSError as error:
                # Whoever completes a run removes the folder from under those that wait, who make it again.
                gone = error.errno in (errno.ENOENT, errno.EEXIST, errno.ESTALE)  # the last is what NFS says
                if not gone or self.path.is_file() or time.monotonic() > begun + _WAIT:
                    raise
                time.sleep(0.01)

    def in_use(self) -> bool:
        """Whether a living process, on whatever machine, has a video in work."""
        return any(self._held(lock.name) for lock in self.path.glob("*.lock") if lock.name != _MANIFEST_LOCK)

    def _held(self, name: str) -> bool:
        with self._locked(name, 0) as free:
            return not free

    def manifest(self) -> Manifest:
        """Return the folder's manifest; to be called with its lock.

        Raises as `check`, and DataError where the manifest is damaged or missing.
        """
        self.check()
        manifest = read_manifest(self.output)
        if manifest is None:
            raise no_manifest(self.output)
        return manifest

    def check(self) -> None:
        """Raise OutputError where the folder is another run's by now: nothing more may be written there.

        To be called with the manifest's lock.
        """
        if self.run is not None and read_run_id(self.output) != self.run:
            raise OutputError(
                "this run cannot go on: another one was begun in its folder, or run.json was removed",
                where=self.output,
                hint="choose another --output for one of them",
            )

    def finished(self, folder: Path, video: str) -> VideoRecord | None:
        """Return the record of a video that is finished in `folder`, else None. Raises as `check`."""
        with self.manifest_lock():
            self.check()
            look_anew(folder)
            if not is_finished(folder, video):
                return None
            manifest = self.manifest()
            _enter([self.path / f"{name_key(video)}.json"], manifest, folder)
            return manifest.videos.get(video)

    def take_up(self, manifest: Manifest, folder: Path) -> None:
        """Enter the run's records into its manifest; a video whose folder in `folder` is gone is open again.

        Each is read until it is entered: everybody does this again and again, and the others wait so long.
        """
        look_anew(folder)
        entered = {f"{name_key(video)}.json" for video in manifest.videos}
        _enter(sorted(path for path in self.path.glob("*.json") if path.name not in entered), manifest, folder)
        for video in [name for name in manifest.videos if not is_finished(folder, name)]:
            del manifest.videos[video]

    def write_record(self, video: str, data: dict[str, Any]) -> None:
        """Write what a video took, or why it failed, in place of an earlier such record. Raises as `check`."""
        # A failure has a file of its own: meanwhile another process may have finished the video.
        kind = "" if data.get("state") == "finished" else ".failed"
        with self.manifest_lock():
            self.check()
            write_json(self.path / f"{name_key(video)}{kind}.json", {"video": video, "run": self.run, **data})

    def clear(self) -> None:
        """Remove the folder: everything in it is in the manifest, and nothing is left to be labelled."""
        remove(self.path)


def look_anew(*folders: Path) -> None:
    """Let the system ask a network mount what is in folders now, before anything there is taken for missing.

    NFS keeps for up to a minute that a name was not there; opening the folder makes it compare with the server. A lock
    on another file does not, so a run that began meanwhile would be overlooked.
    """
    for folder in folders:
        with suppress(OSError), os.scandir(folder):
            pass


def clean_up(output: Path) -> int:
    """Return how many half-written files and folders of dead runs were removed; none of a video that is claimed."""
    return writer.clean_up(output, RunFolder(output).claimed)


def _enter(records: Iterable[Path], manifest: Manifest, folder: Path) -> None:
    """Enter those records that are of the manifest's run; other files are passed over."""
    for path in records:
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            video = str(data["video"])
            # A record comes just before its folder: a process may have died between the two.
            if data["run"] == manifest.run and (data["state"] != "finished" or is_finished(folder, video)):
                manifest.add(video, data)
        except (OSError, ValueError, KeyError, TypeError):
            continue
