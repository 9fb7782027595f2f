"""A project's exports: written in the background, kept in its folder, downloaded from there."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import zipfile
from pathlib import Path
from typing import Any

from jointformer.data.export_formats import FORMATS, build_options
from jointformer.errors import DataError, UserError
from jointformer.session import Session
from jointformer.system.files import atomic_path, make_dir, remove, temporary_name, writing
from jointformer.web.events import Publish
from jointformer.web.record import slug

logger = logging.getLogger(__name__)
_LEAVING = 10.0  # seconds that an export gets to end when its project is closed
_NAME = re.compile(r"[a-z0-9][a-z0-9.-]{0,120}")


class _Stopped(Exception):
    """A person has stopped the export."""


class Exports:
    """The files in a folder, and the one that is being written. publish: tells the pages how it goes."""

    def __init__(self, folder: Path, session: Session, publish: Publish) -> None:
        self._folder, self._session, self._publish = folder, session, publish
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._running: str | None = None
        self._stop = threading.Event()
        self._failure: str | None = None
        self._done, self._total, self._told = 0, 0, 0.0

    @property
    def running(self) -> bool:
        """Whether a file is being written."""
        return self._thread is not None and self._thread.is_alive()

    def status(self) -> dict[str, Any]:
        """Return the finished files, newest first, the one being written and how far, and why the last one failed."""
        # First, so that a file which is finished meanwhile is told as running, not as none at all.
        running, failure = self._running, self._failure
        files = []
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if path.is_file() and _NAME.fullmatch(path.name):
                    try:
                        stat = path.stat()
                    except FileNotFoundError:  # deleted meanwhile
                        continue
                    files.append({"name": path.name, "bytes": stat.st_size, "created": stat.st_mtime})
        files.sort(key=lambda row: (-float(str(row["created"])), str(row["name"])))
        far = {"done": self._done, "total": self._total}
        return {"files": files, "running": running, **far, "failure": failure}

    def path(self, name: str) -> Path:
        """Return a finished file. Raises DataError for names that are none."""
        path = self._folder / name
        if not _NAME.fullmatch(name) or not path.is_file() or path.is_symlink():
            raise DataError("no such export", got=name[:120])
        return path

    def find(self, name: str) -> tuple[Path, os.stat_result]:
        """Return a finished file's path and what the system knows of it. Raises DataError for names that are none."""
        path = self.path(name)
        try:
            return path, path.stat()
        except FileNotFoundError as error:  # deleted since it was looked for
            raise DataError("no such export", got=name) from error

    def remove(self, name: str) -> None:
        """Delete a finished file, or stop the writing of one, of which nothing stays. Raises DataError."""
        if name == self._running:
            self._stop.set()
            return
        remove(self.path(name))
        self._publish("exports", self.status)

    def start(self, title: str, format: str, options: dict[str, Any]) -> str:
        """Begin to write a file and return its name. Raises DataError, ConfigError."""
        build_options(format, options)  # so that mistakes are told now, not by the thread
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                if self._running is not None:
                    raise DataError("an export is being written already", hint="wait until it is done")
                self._thread.join()  # pages may know its end before the thread has ended
            name = self._free_name(f"{slug(title)}-{format}", FORMATS[format].suffix or ".zip")
            self._stop.clear()
            self._running, self._failure, self._done, self._total = name, None, 0, 0
            arguments = (format, name, options)
            self._thread = threading.Thread(target=self._run, args=arguments, name="export", daemon=True)
            self._thread.start()
        self._publish("exports", self.status)
        return name

    def wait(self, seconds: float) -> None:
        """Wait for the file that is being written."""
        with self._lock:  # a thread that is not started yet cannot be waited for
            thread = self._thread
        if thread is not None:
            thread.join(seconds)

    def close(self) -> None:
        """Stop the writing of a file, of which nothing stays."""
        self._stop.set()
        self.wait(_LEAVING)

    def _run(self, format: str, name: str, options: dict[str, Any]) -> None:
        failure = None
        try:
            make_dir(self._folder)
            if FORMATS[format].suffix:
                self._session.export(format, self._folder / name, progress=self._progress, **options)
            else:
                self._zip(format, name, options)
        except _Stopped:
            pass
        except UserError as error:
            failure = str(error)
        except Exception as error:  # the page must learn of it, whatever it is
            logger.exception("export failed")
            failure = f"the export failed: {type(error).__name__}: {error}"
        self._failure = failure
        self._running = None  # last: who sees it finds the rest
        self._publish("exports", self.status)

    def _progress(self, done: int, total: int) -> None:
        self._go_on()
        self._done, self._total = done, total
        if time.monotonic() - self._told > 0.5:  # pages need not hear of every frame
            self._told = time.monotonic()
            self._publish("exports", self.status)

    def _go_on(self) -> None:
        if self._stop.is_set():
            raise _Stopped

    def _zip(self, format: str, name: str, options: dict[str, Any]) -> None:
        """Formats that are folders become one file to download; PNGs are compressed already."""
        target = self._folder / name
        work = temporary_name(target)
        try:
            with writing(target, work):
                self._session.export(format, work, progress=self._progress, **options)
            with atomic_path(target) as path, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
                for file in sorted(work.rglob("*")):
                    self._go_on()
                    if file.is_file():
                        archive.write(file, Path(Path(name).stem) / file.relative_to(work))
        finally:
            remove(work)

    def _free_name(self, stem: str, suffix: str) -> str:
        stamp = time.strftime("%Y%m%d")
        for count in range(1, 10_000):
            name = f"{stem}-{stamp}{'' if count == 1 else f'-{count}'}{suffix}"
            if not (self._folder / name).exists():
                return name
        raise DataError("too many exports of one day", where=self._folder, hint="delete some")
