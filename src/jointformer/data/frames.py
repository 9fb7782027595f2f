"""Picture files on disk -> (H, W, 3) uint8 RGB arrays, and folders of them in frame order."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jointformer.errors import DataError
from jointformer.types import UInt8Array

PICTURE_SUFFIXES = frozenset(
    {
        ".jpg",
        ".jpeg",
        ".jpe",
        ".png",
        ".bmp",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".gif",
        ".jp2",
        ".avif",
    }
)

#: What Pillow may take a file for, whatever its name: what is meant above. Of the others one (EPS) runs Ghostscript.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF")


def natural_key(name: str) -> tuple[tuple[int, int | str, str], ...]:
    """A sort key that counts: `frame2` before `frame10`; names of equal width sort as plain text does."""
    # isdecimal, not isdigit: int() refuses superscripts. Very long digit runs are compared by length, then
    # as text, because int() refuses them too (and would be quadratic).
    key: list[tuple[int, int | str, str]] = []
    for part in re.findall(r"\d+|\D+", name):
        if part.isdecimal():
            digits = part.lstrip("0")
            key.append((0, len(digits), digits))
        else:
            key.append((1, part, ""))
    # The name itself decides between 1 and 01.
    return (*key, (2, name, ""))


def is_hidden(path: PurePath) -> bool:
    """Whether a name is none of the user's: dot files (macOS makes `._0001.jpg`), `Thumbs.db` etc."""
    return path.name.startswith(".") or path.name.lower() in {"thumbs.db", "desktop.ini", "__macosx"}


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether it is a link to what is not there (a mount that is gone, a data set that was moved)."""
    return entry.is_symlink() and not os.path.exists(entry)


def _is(question: Callable[[], bool]) -> bool:
    """What an entry answers; no, where nobody may know (a link into a closed folder, or in a circle)."""
    try:
        return question()
    except OSError:
        return False


def list_pictures(folder: str | Path, suffixes: frozenset[str] = PICTURE_SUFFIXES) -> list[Path]:
    """The picture files directly inside a folder, in natural order, without hidden files and other kinds.

    A link to nothing is one of them: reading it fails, where leaving it out would shorten the video in silence. Raises
    `DataError` where the folder is missing, unreadable, or two files share a name but for the suffix.
    """
    folder = Path(folder)
    files = [
        path
        for path, entry in _entries(folder)
        if path.suffix.lower() in suffixes and not is_hidden(path) and (_is(entry.is_file) or _leads_nowhere(entry))
    ]
    files.sort(key=lambda path: natural_key(path.name))
    seen: dict[str, Path] = {}
    for path in files:
        if path.stem in seen:
            raise DataError(
                f"two pictures of one frame: {seen[path.stem].name} and {path.name}",
                where=folder,
                hint="keep one of them",
            )
        seen[path.stem] = path
    return files


def list_folder(folder: str | Path) -> list[Path]:
    """Everything directly inside a folder, unsorted. Raises `DataError` where it cannot be listed."""
    return [path for path, _ in _entries(Path(folder))]


def _entries(folder: Path) -> list[tuple[Path, os.DirEntry[str]]]:
    """Everything in a folder, with what its listing says: asking for each file takes minutes on a network mount."""
    try:
        with os.scandir(folder) as entries:
            return [(folder / entry.name, entry) for entry in entries]
    except FileNotFoundError:
        raise DataError("no such folder", where=folder) from None
    except NotADirectoryError:
        raise DataError("is a file", where=folder, expected="a folder") from None
    except OSError as error:
        raise DataError(f"the folder cannot be read: {error.strerror or error}", where=folder) from error


def list_subfolders(folder: str | Path) -> list[Path]:
    """The folders directly inside a folder, in natural order, without hidden ones. Raises `DataError`.

    A link to nothing is one of them, as in `list_pictures`.
    """
    found = [
        path
        for path, entry in _entries(Path(folder))
        if not is_hidden(path) and (_is(entry.is_dir) or _leads_nowhere(entry))
    ]
    return sorted(found, key=lambda path: natural_key(path.name))


@contextmanager
def open_picture(path: str | Path) -> Iterator[Image.Image]:
    """The opened Pillow image; whatever its decoder raises inside the block becomes a `DataError`."""
    path = Path(path)
    try:
        # By name Pillow maps bare pixels into memory, of turned TIFFs in rows of the wrong length (its version 13).
        with open(path, "rb") as file, Image.open(file, formats=_FORMATS) as image:
            yield image
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except IsADirectoryError:
        raise DataError("is a folder", where=path, expected="a picture file") from None
    except PermissionError:
        raise DataError("no permission to read the file", where=path) from None
    except UnidentifiedImageError:
        raise DataError("not a picture", where=path, got=_describe(path)) from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DataError("the picture is too large", where=path, got=str(error).split(",")[0]) from None
    except MemoryError:
        raise DataError("the picture does not fit into memory", where=path) from None
    except Exception as error:  # decoders of damaged files raise nearly anything: struct, zlib, Index, Syntax...
        raise DataError("the picture is damaged", where=path, got=str(error) or type(error).__name__) from error


def read_frame(path: str | Path) -> UInt8Array:
    """The (H, W, 3) uint8 RGB picture in a file, upright (EXIF orientation applied).

    Grey, palette, CMYK, YCbCr and 1-bit pictures become RGB; 16-bit values keep their upper 8 bits;
    transparency is laid over black. Of an animated picture the first one counts. Raises `DataError`
    naming the file.
    """
    with open_picture(path) as image:
        ImageOps.exif_transpose(image, in_place=True)  # else it is copied where nothing is to be turned
        return np.ascontiguousarray(rgb_pixels(image))


def picture_size(path: str | Path) -> tuple[int, int]:
    """(height, width) of the upright picture, from the file's header; a PNG is decoded. Raises `DataError`."""
    with open_picture(path) as image:
        tags = getattr(image, "tag_v2", None)  # Pillow turns TIFFs by itself: of late its size is the turned one
        width, height = image.size if tags is None else (tags[0x0100], tags[0x0101])
        # Orientations 5..8 are those that turn by 90 degrees (EXIF 2.3, tag 0x0112); PNGs may say it at their end.
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)


def rgb_pixels(image: Image.Image) -> UInt8Array:
    """A picture's (H, W, 3) uint8 RGB pixels by the rules of `read_frame`; ValueError for 32-bit ones."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow calls it I;16, I;16B or (in some formats) I
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise ValueError(f"32-bit values {values.min()}..{values.max()}; only pictures of 8 or 16 bits can be read")
        grey = (values >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    if image.mode == "F":
        raise ValueError("floating-point pixels; only pictures of 8 or 16 bits can be read")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, rgba).convert("RGB"))
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _describe(path: Path) -> str:
    try:
        with open(path, "rb") as file:
            start = file.read(16)
    except OSError:
        return "an unreadable file"
    return f"a file starting with {start!r}" if start else "an empty file"
