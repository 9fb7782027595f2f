"""The masks that were published with each row of the tables: fetched once, verified, read in place."""

from __future__ import annotations

import zipfile
from pathlib import Path
from urllib.parse import urlsplit

from jointformer.data.published import PublishedRow
from jointformer.errors import DataError, WeightsError
from jointformer.model.cache import Kind, verify_or_note, weights_dir
from jointformer.model.download import fetch
from jointformer.model.registry import RELEASE_PAGE, mirrored

#: A mask that would unpack to more than this is none (a 4K label map has 8 MiB).
_MOST_BYTES = 64 << 20

_MASKS = Kind("masks", "a zip of masks")


def masks_url(row: PublishedRow) -> str:
    """The address of a row's masks; below the mirror of `JOINTFORMER_RELEASE_URL` where that is set."""
    return mirrored(_filename(row), row.masks_url)


def masks_path(row: PublishedRow) -> Path:
    """Where a row's masks lie, or would lie: in `masks` beside the downloaded weights."""
    return weights_dir().parent / "masks" / _filename(row)


def fetch_masks(row: PublishedRow, *, progress: bool = True) -> Path:
    """The zip of a row's published masks after making sure that it is there; a broken download is resumed.

    Its SHA-256 is noted at first sight and enforced from then on. Raises DataError where it cannot be fetched or
    is no zip of masks, OutputError where it cannot be written.
    """
    path = masks_path(row)
    try:
        if path.exists():
            verify_or_note(path, _MASKS)
        else:
            fetch(masks_url(row), path, kind=_MASKS, page=RELEASE_PAGE, progress=progress)
    except WeightsError as error:
        raise DataError(error.what, **error.parts) from None
    _check_zip(path)
    return path


def _filename(row: PublishedRow) -> str:
    return urlsplit(row.masks_url).path.rsplit("/", 1)[-1]


def _check_zip(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            largest = max(archive.infolist(), key=lambda entry: entry.file_size, default=None)
    except (OSError, zipfile.BadZipFile, NotImplementedError) as error:
        raise DataError("not a zip of masks", where=path, got=str(error), hint="delete it and try again") from None
    if largest is None or largest.file_size > _MOST_BYTES:
        got = "an empty zip" if largest is None else f"{largest.filename} of {largest.file_size:,} bytes"
        raise DataError("not a zip of masks", where=path, got=got)
