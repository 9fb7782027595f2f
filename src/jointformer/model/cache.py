"""Where downloaded weights lie, and the SHA-256 noted beside each at first sight and enforced ever after."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from jointformer.errors import OutputError, WeightsError
from jointformer.model.registry import PublishedWeights
from jointformer.system.files import write_json

logger = logging.getLogger(__name__)

HOME_VARIABLE = "JOINTFORMER_HOME"
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True)
class Kind:
    """What a file that is fetched holds, in the words of errors about it."""

    things: str
    file: str


WEIGHTS = Kind("weights", "a weights file")


def weights_dir() -> Path:
    """Return the folder of downloads: `weights` below `JOINTFORMER_HOME`, else in the user's cache."""
    home = os.environ.get(HOME_VARIABLE)
    root = Path(os.path.expanduser(home)) if home else Path(platformdirs.user_cache_dir("jointformer", appauthor=False))
    return root / "weights"


def published_path(row: PublishedWeights, folder: Path | None = None) -> Path:
    """Return where a published file lies, or would lie: in the folder given, else in the cache."""
    return (folder or weights_dir()) / row.filename


def record_path(path: Path) -> Path:
    """Return where the size and SHA-256 of a weights file are noted: `<file>.json` beside it."""
    return path.with_name(path.name + ".json")


def not_weights(head: bytes) -> str | None:
    """Return what a file is when its first bytes show that it holds no weights (HTML, an LFS pointer, …)."""
    start = head[:512].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head", b"<?xml", b"<!--")):
        return "an HTML page"
    if start.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer"
    if not head:
        return "an empty file"
    return None


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def recorded_sha256(path: Path, kind: Kind = WEIGHTS) -> str | None:
    """Return the SHA-256 noted beside a fetched file; None where none is. WeightsError for a damaged note."""
    record = record_path(path)
    try:
        text = record.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise _damaged(record, kind, str(error)) from None
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(record, kind, "no JSON") from None
    digest = data.get("sha256") if isinstance(data, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or not _HEX.issuperset(digest):
        raise _damaged(record, kind, f"sha256 {digest!r}"[:100])
    return digest


def write_record(path: Path, sha256: str, url: str | None) -> None:
    """Notes a fetched file's size and SHA-256 beside it, and where it came from. Raises OutputError."""
    write_json(record_path(path), {"file": path.name, "bytes": path.stat().st_size, "sha256": sha256, "url": url})


def verify_or_note(path: Path, kind: Kind = WEIGHTS) -> str:
    """Return the file's SHA-256: the one noted beside it; noted now where none was, as for a file put there by hand.

    Raises WeightsError when the file is not the one that was noted.
    """
    expected, got = recorded_sha256(path, kind), file_sha256(path)
    if expected is None:
        try:
            write_record(path, got, None)
        except OutputError as error:
            logger.warning("the SHA-256 of %s could not be noted: %s", path, error)
    elif got != expected:
        raise WeightsError(
            "the file has changed since its SHA-256 was noted",
            where=path,
            expected=expected,
            got=got,
            hint=f"download it again, or delete {record_path(path).name} if the change was yours",
        )
    return got


def _damaged(record: Path, kind: Kind, got: str) -> WeightsError:
    return WeightsError(
        f"unreadable note of {kind.file}'s SHA-256",
        where=record,
        expected="JSON with a key sha256",
        got=got,
        hint=f"delete it if you trust the {kind.things} beside it",
    )
