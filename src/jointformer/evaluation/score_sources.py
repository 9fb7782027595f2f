"""Mask PNGs of many videos, in a folder or in a zip, looked up by video and frame name and read in place."""

from __future__ import annotations

import lzma
import os
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

from jointformer.data.frames import is_hidden, list_subfolders
from jointformer.data.metas import is_plain_name
from jointformer.errors import DataError
from jointformer.ops.png import HEADER_BYTES, MOST_BYTES, PngHeader, parse_png_header, read_index_png
from jointformer.types import UInt8Array

#: The flag by which a zip's member says that its name is UTF-8 (APPNOTE 4.4.4, bit 11).
_NAMES_ARE_UTF8 = 0x800


@dataclass
class MaskTree:
    """`<video>/<frame>.png` below a folder or inside a zip.

    `folder` holds the video folders; `archive` names the zip they are in, if any, and `members` its
    index. The object can be sent to worker processes; each opens the zip for itself.
    """

    folder: str
    archive: Path | None = None
    members: dict[str, dict[str, str]] = field(default_factory=dict)
    _listed: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    def only(self, video: str) -> MaskTree:
        """The same with one video's names alone: what another process needs to know."""
        members = {video: self.members.get(video, {})} if self.archive else {}
        return MaskTree(self.folder, self.archive, members)

    def videos(self) -> list[str]:
        """The sorted names of the video folders."""
        if self.archive:
            return sorted(self.members)
        return subfolders(Path(self.folder))

    def frames(self, video: str) -> frozenset[str]:
        """The names, without `.png`, of a video's masks; none where it has no folder."""
        return frozenset(self._files(video))

    def others(self, video: str) -> list[str]:
        """The first names in a video's folder, hidden ones left out; none where there is no folder, or in a zip."""
        folder = Path(self.folder) / safe_name(video)
        if self.archive or not folder.is_dir():
            return []
        return sorted(entry.name for entry in folder.iterdir() if not is_hidden(entry))[:3]

    def where(self, video: str, frame: str) -> str:
        """The place of a mask, for messages."""
        return f"{self.archive or self.folder}/{video}/{frame}.png"

    def header(self, video: str, frame: str) -> PngHeader:
        """The PNG header of a mask; DataError when the file is no PNG."""
        return parse_png_header(self._read(video, frame, HEADER_BYTES), self.where(video, frame))

    def read(self, video: str, frame: str) -> UInt8Array:
        """The (H, W) uint8 labels of a mask; DataError when missing, damaged or coloured."""
        return read_index_png(self.read_bytes(video, frame), self.where(video, frame))

    def read_bytes(self, video: str, frame: str) -> bytes:
        """A mask's file as it is; DataError when it cannot be read."""
        return self._read(video, frame, -1)

    def _files(self, video: str) -> dict[str, str]:
        """The file, or the zip's member, of each of a video's masks."""
        if self.archive:
            return self.members.get(video, {})
        if video not in self._listed:
            self._listed[video] = mask_files(Path(self.folder) / safe_name(video))
        return self._listed[video]

    def _read(self, video: str, frame: str, size: int) -> bytes:
        name = self._files(video).get(frame, f"{frame}.png")
        try:
            if self.archive is None:
                with open(os.path.join(self.folder, video, name), "rb") as file:
                    return file.read(size)
            changed = self.archive.stat().st_mtime_ns
            with _opened(self.archive, changed).open(name) as file:
                data = file.read(size if size >= 0 else MOST_BYTES + 1)  # packed, it may grow a thousandfold
        except (OSError, KeyError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, RuntimeError) as error:
            reason = getattr(error, "strerror", None) or error
            raise DataError(f"cannot read the mask ({reason})", where=self.where(video, frame)) from error
        if len(data) > MOST_BYTES:
            place, expected = self.where(video, frame), f"at most {MOST_BYTES:,} bytes"
            raise DataError("the mask is too large", where=place, expected=expected)
        return data


@lru_cache(maxsize=2)
def _opened(path: Path, changed: int) -> zipfile.ZipFile:
    """An open zip: one per process, because reading a large archive's index takes a while."""
    return zipfile.ZipFile(path)


def open_masks(path: Path, expected: Iterable[str]) -> MaskTree:
    """The masks below `path`, a folder or a zip.

    The video folders may lie at the top, under `Annotations` or in one enclosing folder; of these places
    the one with most of the `expected` videos is taken. Raises DataError when none has any.
    """
    wanted = set(expected)
    if path.is_dir():
        trees = [MaskTree(str(place)) for place in _places(path)]
    elif path.is_file() and zipfile.is_zipfile(path):
        trees = _zip_trees(path)
    else:
        got = "nothing there"
        if path.exists():
            got = "a zip that is cut off or damaged" if _begins_as_zip(path) else "another file"
        raise DataError("no predictions", where=path, expected="a folder or a zip of mask PNGs", got=got)
    best = max(trees, key=lambda tree: len(wanted.intersection(tree.videos())), default=None)
    if best is None or not wanted.intersection(best.videos()):
        found = sorted({name for tree in trees for name in tree.videos()})
        raise DataError(
            "none of the benchmark's videos is here",
            where=path,
            expected=f"folders such as {', '.join(sorted(wanted)[:3])}",
            got=", ".join(found[:3]) or "no folders of PNGs",
        )
    return best


def safe_name(name: str) -> str:
    """`name` itself; DataError when it is not one plain path component (lists and meta files are input)."""
    if not is_plain_name(name):
        raise DataError("a name that leaves its folder", expected="a plain video or frame name", got=repr(name))
    return name


def mask_files(folder: Path) -> dict[str, str]:
    """The masks in a folder by their names without `.png`, hidden files left out; none where there is no folder."""
    if not folder.is_dir():
        return {}
    files = (entry for entry in folder.iterdir() if not is_hidden(entry))
    return {entry.stem: entry.name for entry in files if entry.suffix.lower() == ".png"}


def subfolders(folder: Path) -> list[str]:
    """The names of a folder's `list_subfolders`, sorted. Raises DataError."""
    return sorted(path.name for path in list_subfolders(folder))


def _begins_as_zip(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            return file.read(4) == b"PK\x03\x04"
    except OSError:
        return False


def _places(path: Path) -> list[Path]:
    places = [path, path / "Annotations"]
    inner = subfolders(path)
    if len(inner) == 1:
        places += [path / inner[0], path / inner[0] / "Annotations"]
    return [place for place in places if place.is_dir()]


def _zip_trees(path: Path) -> list[MaskTree]:
    by_prefix: dict[str, dict[str, dict[str, str]]] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {entry.filename: _name_inside(entry) for entry in archive.infolist()}
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError("not a zip that can be read", where=path, got=str(error)) from error
    for member, name in members.items():
        inside = PurePosixPath(name.replace("\\", "/"))
        if inside.is_absolute() or ".." in inside.parts:
            raise DataError("an archive whose names leave it", where=path, got=repr(member))
        if inside.suffix.lower() != ".png" or len(inside.parts) < 2:
            continue
        if any(is_hidden(PurePosixPath(part)) for part in inside.parts):
            continue
        prefix = "/".join(inside.parts[:-2])
        by_prefix.setdefault(prefix, {}).setdefault(inside.parts[-2], {})[inside.stem] = member
    return [MaskTree(prefix, path, members) for prefix, members in by_prefix.items()]


def _name_inside(entry: zipfile.ZipInfo) -> str:
    """A member's name as its maker meant it: many zip programs write UTF-8 and do not say so."""
    if entry.flag_bits & _NAMES_ARE_UTF8:
        return entry.filename
    try:
        return entry.filename.encode("cp437").decode("utf-8")  # cp437: what Python takes it for
    except UnicodeError:
        return entry.filename
