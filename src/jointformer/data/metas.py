"""The benchmarks' json files and lists -> their videos, objects, and which frames are to be saved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jointformer.errors import DataError

#: Frame names of LVOS have 8 digits, so no honest number is larger.
_LARGEST_NUMBER = 99_999_999
#: Ten hours at 30 frames/s; a longer list is a damaged file, and would fill the memory.
MOST_FRAMES = 1_080_000


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file. Raises `DataError` where it is missing or cannot be read."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise DataError("no such file", where=path) from None
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror or error}", where=path) from error


def read_json(path: str | Path) -> Any:
    """The value of a json file. Raises `DataError` where it is missing or damaged."""
    content = read_bytes(path)
    try:
        return json.loads(content)
    except RecursionError:
        raise DataError("the json is nested too deeply", where=path) from None
    except ValueError as error:  # includes UnicodeDecodeError and numbers with thousands of digits
        raise DataError("not a json file", where=path, got=str(error)) from error


def read_list(path: Path) -> str:
    """The text of a file of names. Raises `DataError` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list ({error})", where=path) from error


def listed_videos(path: Path) -> list[str]:
    """The videos of a text file, one per line, each once. Raises `DataError`."""
    names = list(dict.fromkeys(line.strip() for line in read_list(path).splitlines() if line.strip()))
    for name in names:
        if not is_plain_name(name):
            raise DataError("not a video's name", where=path, expected="one folder name per line", got=repr(name[:60]))
    if not names:
        raise DataError("lists no videos", where=path)
    return names


def video_objects(path: str | Path) -> dict[str, dict[str, Any]]:
    """Video -> what `videos.<video>.objects` holds by object, in the file's order. Raises `DataError`."""
    videos = _get(read_json(path), "videos", dict, path)
    return {
        _text(name, path, "videos"): _get(entry, "objects", dict, path, f"videos.{name}")
        for name, entry in videos.items()
    }


def youtube_objects(path: str | Path) -> dict[str, dict[str, list[str]]]:
    """Video -> {object: names of the frames that YouTube-VOS's meta.json lists for it}. Raises `DataError`."""
    found: dict[str, dict[str, list[str]]] = {}
    for video, objects in video_objects(path).items():
        found[video] = {}
        for number, entry in objects.items():
            listed = _get(entry, "frames", list, path, f"videos.{video}.objects.{number}")
            found[video][number] = [_text(name, path, f"videos.{video}.objects.{number}.frames") for name in listed]
    return found


def listed_frames(videos: Mapping[str, Mapping[str, list[str]]]) -> dict[str, list[str]]:
    """Video -> names of the frames that its objects list, from what `youtube_objects` returns."""
    return {video: sorted(set().union(*objects.values())) for video, objects in videos.items()}


def lvos_frames(path: str | Path) -> dict[str, list[str]]:
    """Video -> every 5th 8-digit frame name from the first to the last number in its objects' frame_range.

    The numbers may be strings; all of `start` and `end` of all objects count. Raises `DataError`.
    """
    frames: dict[str, list[str]] = {}
    for video, objects in video_objects(path).items():
        numbers: list[int] = []
        for label, entry in objects.items():
            at = f"videos.{video}.objects.{label}"
            frame_range = _get(entry, "frame_range", dict, path, at)
            numbers += [frame_number(frame_range.get(key), path, f"{at}.frame_range.{key}") for key in ("start", "end")]
        if not numbers:
            raise DataError(f"videos.{video} has no objects", where=path)
        if max(numbers) - min(numbers) > 5 * MOST_FRAMES:
            raise DataError(f"videos.{video} spans {max(numbers) - min(numbers)} frames", where=path)
        frames[video] = [f"{number:08d}" for number in range(min(numbers), max(numbers) + 1, 5)]
    return frames


def _get(value: Any, key: str, kind: type, path: str | Path, at: str = "") -> Any:
    if not isinstance(value, dict) or key not in value:
        raise DataError(f"{at or 'the file'} has no {key!r}", where=path, hint="is this the benchmark's own json file?")
    if not isinstance(value[key], kind):
        name = f"{at}.{key}" if at else key
        raise DataError(f"{name} is of the wrong type", where=path, expected=_KINDS[kind], got=short(value[key]))
    return value[key]


_KINDS: dict[type, str] = {dict: "an object", list: "a list"}


def _text(value: Any, path: str | Path, at: str) -> str:
    """A name that stays inside its folder."""
    if isinstance(value, str) and is_plain_name(value):
        return value
    raise DataError(f"{at} holds something that is not a file name", where=path, got=short(value))


def is_plain_name(name: str) -> bool:
    """Whether a name can only mean something directly inside a folder (no `..`, no separator, no NUL)."""
    return bool(name) and name not in (".", "..") and not any(c in name for c in "/\\\0")


def frame_number(value: Any, path: str | Path, at: str) -> int:
    """The number in a json value, which may be a text of digits. Raises `DataError`."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    digits = isinstance(value, str) and value.strip().isdecimal() and len(value) < 20
    if not (whole or digits) or not 0 <= int(value) <= _LARGEST_NUMBER:
        raise DataError(f"{at} is no frame number", where=path, expected="0..99999999", got=short(value))
    return int(value)


def short(value: Any) -> str:
    """A json value as an error names it."""
    try:
        text = repr(value)
    except (RecursionError, ValueError):  # numbers beyond Python's digit limit cannot be printed
        return f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:57]}..."
