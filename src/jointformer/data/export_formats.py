"""The table of export formats, and the one function that writes any of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jointformer.data.export_images import write_binary, write_cutouts, write_palette, write_sheet, write_soft
from jointformer.data.export_json import write_burst, write_coco, write_youtube_vis
from jointformer.data.export_selection import ExportOptions, Progress, Selection
from jointformer.data.export_source import MaskSource
from jointformer.data.export_video import write_overlay, write_prores, write_webm
from jointformer.data.export_yolo import write_yolo
from jointformer.data.frames import PICTURE_SUFFIXES
from jointformer.data.inputs import refuse_inputs
from jointformer.data.video import VIDEO_SUFFIXES
from jointformer.errors import ConfigError, OutputError
from jointformer.system.files import remove_temporaries, replace_dir


@dataclass(frozen=True)
class Format:
    """One row. suffix: of the file, empty for a folder. options: those it heeds besides start, end and objects.

    missing: what becomes of frames without masks.
    """

    name: str
    text: str
    suffix: str
    write: Callable[[Selection, Path], None]
    options: frozenset[str] = frozenset()
    missing: str = "written empty"


_LOOKS = frozenset({"style", "opacity", "labels"})
_CLASSES = frozenset({"classes"})

FORMATS: dict[str, Format] = {
    row.name: row
    for row in (
        Format("palette", "palette PNGs of object ids, one per frame (DAVIS, YouTube-VOS)", "", write_palette),
        Format("binary", "black and white PNGs, a folder per object", "", write_binary),
        Format("soft", "16-bit PNGs of probabilities, a folder per object", "", write_soft),
        Format("coco", "COCO json with run lengths, videos and track ids", ".json", write_coco, _CLASSES),
        Format("youtube-vis", "YouTube-VIS json", ".json", write_youtube_vis, _CLASSES),
        Format("burst", "BURST json", ".json", write_burst, _CLASSES),
        Format("yolo", "pictures with outlines, to train YOLO", "", write_yolo, _CLASSES, missing="left out"),
        Format("rgba", "transparent PNGs of the cut-out objects", "", write_cutouts, frozenset({"soft"})),
        Format("prores", "ProRes 4444 with alpha, for editing", ".mov", write_prores, frozenset({"soft"})),
        Format("webm", "VP9 with alpha, for browsers", ".webm", write_webm, frozenset({"soft", "quality"})),
        Format("overlay", "mp4 with the objects drawn in", ".mp4", write_overlay, _LOOKS | {"sound", "quality"}),
        Format("sheet", "one picture of many frames", ".png", write_sheet, _LOOKS | {"pictures", "columns"}),
    )
}
_COMMON = frozenset({"start", "end", "objects"})
#: Suffixes that promise a kind of file; any other (as in "take.v2") is part of a name.
FILE_SUFFIXES = VIDEO_SUFFIXES | PICTURE_SUFFIXES | {".json", ".zip"}


def build_options(format: str, options: Mapping[str, Any]) -> ExportOptions:
    """Return the options of an export. Raises ConfigError for a format that is none, or an option it does not heed."""
    if format not in FORMATS:
        raise ConfigError("export format", expected=" | ".join(FORMATS), got=repr(format)[:80])
    allowed = FORMATS[format].options | _COMMON
    for name in options:
        if name not in allowed:
            what = "export option" if name not in ExportOptions.names() else f"option of the format {format}"
            raise ConfigError(what, expected=" | ".join(sorted(allowed)), got=name[:80])
    lists = {
        name: tuple(value)
        for name, value in options.items()
        if name in ("objects", "classes") and isinstance(value, Iterable) and not isinstance(value, str)
    }
    return ExportOptions(**{**options, **lists})


def export(
    source: MaskSource, format: str, path: str | Path, *, progress: Progress | None = None, **options: Any
) -> Path:
    """Return the file or folder written: a source's masks in a format of the table, whole or not at all.

    options: `ExportOptions`' fields that the format heeds. A file's suffix is added where it lacks one. progress:
    called with (frames done, frames in all). Raises ConfigError for a format or option that is none and a name that
    promises another kind of file, OutputError for a folder that holds something already, a file that is read (the
    video, a frame, a mask), or whatever cannot be written, DataError for masks that are missing.
    """
    selection, row = Selection(source, build_options(format, options), progress), FORMATS[format]
    target = _target(Path(path), row, source)
    remove_temporaries(target.parent)  # a killed export's, each as large as what it wrote
    if row.suffix:
        row.write(selection, target)
    else:
        with replace_dir(target) as folder:
            row.write(selection, folder)
            _refuse_full(target)  # exports may take hours, and somebody else may have put something there
    selection.report(row.missing)
    return target


def _target(path: Path, row: Format, source: MaskSource) -> Path:
    folder = path.is_dir() or path.name in ("", "..")
    if not folder and path.suffix.lower() in FILE_SUFFIXES - {row.suffix}:
        fitting = ", ".join(other.name for other in FORMATS.values() if other.suffix == path.suffix.lower())
        expected = row.suffix or "the name of a folder"
        hint = f"{path.suffix.lower()} is for {fitting}" if fitting else None
        raise ConfigError(f"no name for the format {row.name}", where=path, expected=expected, hint=hint)
    if not row.suffix:
        _refuse_full(path)
        return path
    if not folder and path.suffix.lower() != row.suffix:
        path = path.with_name(path.name + row.suffix)
    if folder or path.is_dir():
        raise OutputError("a folder of that name is there", where=path, hint="choose another name")
    inputs = (getattr(source.video, "path", None), getattr(source, "folder", None))
    refuse_inputs([path], (read for read in inputs if read is not None))
    return path


def _refuse_full(folder: Path) -> None:
    """Raise OutputError where something is there: exports never delete what they have not made."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError("there is something already", where=folder, hint="choose a new or an empty folder")
