"""Files that a page sends: limited in size, number and kind, kept apart until a project takes them."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from jointformer.data.frames import PICTURE_SUFFIXES
from jointformer.data.video import VIDEO_SUFFIXES
from jointformer.errors import DataError
from jointformer.ops.files import make_dir, remove, temporary_name, writing

_ID = re.compile(r"[0-9a-f]{16}")
_MOST_FILES = 20_000
_LONGEST_NAME = 140  # bytes: what encrypted home folders take; others take 255
_KEPT = 24 * 3600.0  # seconds after which an upload that no project took is deleted


class Uploads:
    """The waiting uploads of a projects folder. limit: bytes of one upload, all its files together."""

    def __init__(self, projects: Path, limit: int) -> None:
        self._folder = make_dir(projects / ".uploads")
        self.limit = limit
        self._sizes: dict[str, int] = {}
        for path in self._folder.iterdir():
            if time.time() - path.stat().st_mtime > _KEPT:
                remove(path)

    def begin(self) -> str:
        """Return the id of a new, empty upload."""
        upload = secrets.token_hex(8)
        make_dir(self._folder / upload)
        self._sizes[upload] = 0
        return upload

    async def receive(self, upload: str, name: str, stream: AsyncIterator[bytes]) -> dict[str, Any]:
        """Write one file of an upload and return its name and size. Raises DataError, OutputError."""
        folder = self.folder(upload)
        path = folder / safe_name(name)
        if path.exists():
            raise DataError("two files of one name", got=path.name)
        if sum(1 for _ in folder.iterdir()) >= _MOST_FILES:
            raise DataError("too many files", expected=f"at most {_MOST_FILES}")
        temporary, size = temporary_name(path), 0
        try:
            with writing(path, temporary), open(temporary, "xb") as file:
                async for part in stream:
                    size += len(part)
                    if self._sizes[upload] + size > self.limit:
                        hint = "start jointformer ui with a larger --max-upload, or open the file by its path"
                        raise DataError("the upload is too large", expected=f"at most {self.limit} bytes", hint=hint)
                    file.write(part)
            temporary.rename(path)
        except BaseException:
            remove(temporary)
            raise
        self._sizes[upload] += size
        return {"name": path.name, "bytes": size}

    def folder(self, upload: object) -> Path:
        """Return the folder of an upload of this server. Raises DataError."""
        if not isinstance(upload, str) or not _ID.fullmatch(upload) or upload not in self._sizes:
            raise DataError("no such upload")
        return self._folder / upload

    def take(self, upload: object) -> Path:
        """Return the folder of a complete upload for a project to move: one video, or pictures. Raises DataError."""
        folder = self.folder(upload)
        suffixes = [path.suffix.lower() for path in folder.iterdir()]
        pictures = all(suffix in PICTURE_SUFFIXES for suffix in suffixes)
        videos = all(suffix in VIDEO_SUFFIXES for suffix in suffixes)
        if not suffixes or not ((videos and len(suffixes) == 1) or (pictures and len(suffixes) > 1)):
            raise DataError("an upload", expected="one video, or two or more pictures", got=f"{len(suffixes)} files")
        return folder

    def drop(self, upload: object) -> None:
        """Delete what is left of an upload."""
        if isinstance(upload, str) and self._sizes.pop(upload, None) is not None:
            remove(self._folder / upload)


def safe_name(name: str) -> str:
    """Return a file name without folders, leading dots or odd characters. Raises DataError for kinds not taken."""
    base = re.sub(r"[^\w.() -]", "_", re.split(r"[/\\]", name)[-1]).strip(". ")
    path = Path(base.encode()[-_LONGEST_NAME:].decode(errors="ignore").lstrip(". "))
    if path.suffix.lower() not in VIDEO_SUFFIXES | PICTURE_SUFFIXES or not path.stem.strip(". "):
        raise DataError("a file of a kind that is not taken", expected="videos or pictures", got=repr(name[:100]))
    return path.name
