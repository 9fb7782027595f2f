"""Files that a page sends: limited in size, number and kind, kept apart until a project takes them."""

from __future__ import annotations

import os
import re
import secrets
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jointformer.data.frames import PICTURE_SUFFIXES
from jointformer.data.video import VIDEO_SUFFIXES
from jointformer.errors import DataError
from jointformer.session.book import is_printable
from jointformer.system.files import make_dir, remove, temporary_name, writing

_MOST_FILES = 20_000
_LONGEST_NAME = 140  # bytes: what encrypted home folders take; others take 255
_SIGNS = '<>:"|?*'  # what Windows has in no name
_KEPT = 24 * 3600.0  # seconds after which an upload of a server that is no more is deleted
_SILENT = 3600.0  # seconds after which an upload that nothing comes to is deleted: its page has gone


@dataclass
class _Upload:
    """Files that have come or are coming: their folder, names and bytes so far."""

    folder: Path
    names: set[str] = field(default_factory=set)
    size: int = 0
    changed: float = field(default_factory=time.monotonic)


class Uploads:
    """The waiting uploads of a projects folder. limit: bytes of one upload, all its files together."""

    def __init__(self, projects: Path, limit: int) -> None:
        self._folder = make_dir(projects / ".uploads")
        self.limit = limit
        self._waiting: dict[str, _Upload] = {}
        for path in self._folder.iterdir():
            if time.time() - path.stat().st_mtime > _KEPT:
                remove(path)

    def begin(self) -> str:
        """Return the id of a new, empty upload."""
        upload_id = secrets.token_hex(8)
        self._waiting[upload_id] = _Upload(make_dir(self._folder / upload_id))
        return upload_id

    def limits(self) -> dict[str, Any]:
        """Return what a page must know to refuse files before it sends them."""
        kinds = {"videos": sorted(VIDEO_SUFFIXES), "pictures": sorted(PICTURE_SUFFIXES)}
        return {"upload": self.limit, "files": _MOST_FILES, **kinds}

    def drop(self, upload_id: str) -> None:
        """Delete an upload that its page has given up; one that is gone already is none."""
        upload = self._waiting.pop(upload_id, None)
        if upload is not None:
            remove(upload.folder)

    def drop_silent(self) -> None:
        """Delete the uploads whose pages have gone without a word."""
        now = time.monotonic()
        for upload_id, upload in list(self._waiting.items()):
            if now - upload.changed > _SILENT:
                self.drop(upload_id)

    async def receive(self, upload_id: str, name: str, stream: AsyncIterator[bytes]) -> dict[str, Any]:
        """Write one file of an upload and return its name and size. Raises DataError, OutputError."""
        upload = self._waiting.get(upload_id)
        if upload is None:
            raise DataError("no such upload")
        path = upload.folder / safe_name(name)
        if path.name in upload.names or os.path.exists(path):  # there, too, where A.png is the same as a.png
            raise DataError("two files of one name", got=path.name)
        if len(upload.names) >= _MOST_FILES:
            raise DataError("too many files", expected=f"at most {_MOST_FILES}")
        upload.names.add(path.name)
        temporary, size = temporary_name(path), 0
        try:
            with writing(path, temporary):
                with open(temporary, "xb") as file:
                    async for part in stream:
                        size += len(part)
                        upload.size += len(part)  # at once: several files may be coming
                        upload.changed = time.monotonic()
                        if upload.size > self.limit:
                            hint = "start jointformer ui with a larger --max-upload, or open the file by its path"
                            expected = f"at most {self.limit} bytes"
                            raise DataError("the upload is too large", expected=expected, hint=hint)
                        file.write(part)
                temporary.rename(path)
        except BaseException:
            remove(temporary)
            upload.names.remove(path.name)
            upload.size -= size
            raise
        return {"name": path.name, "bytes": size}

    @contextmanager
    def take(self, upload_id: object, *, masks: bool = False) -> Iterator[Path]:
        """The folder of a complete upload, one video or pictures (of masks one, too), to be used within the block.

        Nobody else can take it then, and what is left of it afterwards is deleted. Raises DataError.
        """
        upload = self._waiting.pop(upload_id, None) if isinstance(upload_id, str) else None
        if upload is None:
            raise DataError("no such upload")
        try:
            suffixes = [path.suffix.lower() for path in upload.folder.iterdir()]
            pictures = all(suffix in PICTURE_SUFFIXES for suffix in suffixes)
            videos = all(suffix in VIDEO_SUFFIXES for suffix in suffixes)
            good = pictures if masks else (videos and len(suffixes) == 1) or (pictures and len(suffixes) > 1)
            if not suffixes or not good:
                expected = "pictures of masks" if masks else "one video, or two or more pictures"
                raise DataError("an upload", expected=expected, got=f"{len(suffixes)} files")
            yield upload.folder
        finally:
            remove(upload.folder)


def safe_name(name: str) -> str:
    """Return a file name without folders, leading dots or what steers lines or other systems take for something else.

    All else stays: masks are named after frames. Raises DataError for kinds not taken.
    """
    last = re.split(r"[/\\]", name)[-1]
    base = "".join(c if is_printable(c) and c not in _SIGNS else "_" for c in last).strip(". ")
    path = Path(base.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(". "))
    if path.suffix.lower() not in VIDEO_SUFFIXES | PICTURE_SUFFIXES or not path.stem.strip(". "):
        raise DataError("a file of a kind that is not taken", expected="videos or pictures", got=repr(name[:100]))
    return path.name
