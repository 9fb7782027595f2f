"""What a video's input is known by, so that results are not taken for those of other frames or masks."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jointformer.errors import DataError
from jointformer.types import pixels_text

#: Of the first frame's file so many bytes count: all of a picture, as good as all of a film's first frame.
_HEAD = 1 << 20
#: Threads that ask for files' lengths.
_ASKING = 4


def fingerprint(
    files: Sequence[Path], names: Sequence[str], size: tuple[int, int], masks: Mapping[str, Path]
) -> dict[str, str]:
    """Return what tells a video's frames and given masks from others, as plain data; nothing is decoded.

    files: those of the tracked frames in order, or the film that holds them. names: the tracked frames'. size: (height,
    width). masks: {a frame's name: file}. No path has a part in it: other machines have the data elsewhere. Raises
    DataError where the first frame or a mask cannot be read; how long other frames' files are is enough.
    """
    return {
        "size": pixels_text(size),
        "frames": str(len(names)),
        "frame_names": digest(names),
        "frame_bytes": str(_total_length(files)),
        "first_frame": digest(_read(path, _HEAD) for path in files[:1]),
        "masks": digest(part for name in sorted(masks) for part in (name, _read(masks[name]))),
    }


def digest(parts: Iterable[str | bytes]) -> str:
    """Return 16 hexadecimal digits of the SHA-256 over parts, each with its length."""
    whole = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogateescape") if isinstance(part, str) else part
        whole.update(b"%d:" % len(data))
        whole.update(data)
    return whole.hexdigest()[:16]


def _total_length(files: Sequence[Path]) -> int:
    """The bytes of all files, asked for side by side: a network mount takes a millisecond for each."""
    with ThreadPoolExecutor(_ASKING) as pool:
        return sum(pool.map(lambda part: sum(map(_length, part)), (files[n::_ASKING] for n in range(_ASKING))))


def _length(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # whether a run can do without a frame is for it to say
        return 0


def _read(path: Path, length: int = -1) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(length)
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror or error}", where=path) from error
