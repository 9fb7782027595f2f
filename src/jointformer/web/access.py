"""Which files the page may open: those in the chosen folders, symbolic links followed before the check."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from jointformer.data.frames import PICTURE_SUFFIXES, is_hidden, list_pictures, natural_key
from jointformer.data.video import VIDEO_SUFFIXES
from jointformer.errors import DataError

_LONGEST_LISTING = 2000


def real(path: str | Path) -> Path:
    """Return the path with every symbolic link followed. Raises DataError for texts that are no path."""
    try:
        return Path(os.path.realpath(path))
    except (OSError, ValueError) as error:
        raise _no_path(path) from error


def is_inside(path: Path, folder: Path) -> bool:
    """Whether a real path is a real folder or lies in it."""
    return path == folder or folder in path.parents


class Roots:
    """The chosen folders. Every question about another place is answered alike, whether anything is there or not."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self.folders = tuple(dict.fromkeys(real(root) for root in roots))

    def resolve(self, text: str) -> Path:
        """Return the real path of what a person typed; relative ones begin in the first folder. Raises DataError."""
        path = self._path(text)
        if not (self.holds(path) and os.path.exists(path)):  # names may end in blanks, and so may what is pasted
            path = self._path(text.strip())
        if not self.holds(path):
            hint = "start jointformer ui with --folder to allow another one"
            raise DataError("outside the folders that may be opened", got=text[:200], hint=hint)
        return path

    def holds(self, path: Path) -> bool:
        """Whether a real path lies in a chosen folder."""
        return any(is_inside(path, folder) for folder in self.folders)

    def resolve_video(self, text: str) -> Path:
        """Return the real path of a video or folder of pictures, of which none may be a link to elsewhere."""
        path = self.resolve(text)
        if not os.path.exists(path):  # unlike Path.exists, false for what is too long or forbidden
            raise DataError("no such file or folder", where=path)
        if path.is_dir():
            self.check_pictures(path)
        elif path.suffix.lower() not in VIDEO_SUFFIXES:
            raise DataError("not a video", where=path, expected="a video file or a folder of pictures")
        return path

    def check_pictures(self, folder: Path) -> None:
        """Raise DataError where one of a folder's pictures is a link to outside the chosen folders."""
        for picture in list_pictures(folder):
            if not self.holds(real(picture)):
                raise DataError("a picture is a link to outside the folders that may be opened", where=picture)

    def listing(self, text: str | None) -> dict[str, Any]:
        """Return a folder's subfolders and videos, and how many pictures it holds; without a path the first folder."""
        folder = self.resolve(text) if text else self.folders[0]
        if not os.path.isdir(folder):
            raise DataError("no such folder", where=folder)
        try:
            found = sorted(folder.iterdir(), key=lambda path: natural_key(path.name))
        except OSError as error:
            raise DataError("the folder cannot be read", where=folder, got=error.strerror) from error
        visible = [path for path in found if not is_hidden(path) and self.holds(real(path))]
        folders = [path for path in visible if os.path.isdir(path)]
        videos = [path for path in visible if path.suffix.lower() in VIDEO_SUFFIXES and os.path.isfile(path)]
        pictures = sum(path.suffix.lower() in PICTURE_SUFFIXES for path in visible)
        return {
            "path": str(folder),
            "parent": str(folder.parent) if self.holds(folder.parent) else None,
            "roots": [str(root) for root in self.folders],
            "folders": [{"name": path.name, "path": str(path)} for path in folders[:_LONGEST_LISTING]],
            "videos": [
                {"name": path.name, "path": str(path), "bytes": path.stat().st_size}
                for path in videos[:_LONGEST_LISTING]
            ],
            "pictures": pictures,
        }

    def _path(self, text: str) -> Path:
        try:
            return real(self.folders[0] / os.path.expanduser(text))
        except ValueError as error:  # the name of a user that is none
            raise _no_path(text) from error


def _no_path(path: str | Path) -> DataError:
    return DataError("not a path", got=repr(str(path))[:120])
