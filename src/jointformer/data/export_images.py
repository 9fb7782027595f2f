"""Masks as pictures: palette, binary, soft and cut-out PNGs, and a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from jointformer.data.export_selection import Selection
from jointformer.data.export_source import ExportObject
from jointformer.data.masks import encode_mask, say_if_void
from jointformer.errors import DataError
from jointformer.ops.drawing import contact_sheet, overlay
from jointformer.system.files import make_dir, write_bytes
from jointformer.types import UInt8Array


def write_palette(selection: Selection, folder: Path) -> None:
    """Writes an 8-bit palette PNG of object ids per frame, in the objects' colours. Raises OutputError."""
    say_if_void([one.id for one in selection.objects])
    for frame in selection.each():
        data = encode_mask(selection.label_map(frame), selection.palette[:256])
        write_bytes(folder / f"{selection.video.name(frame)}.png", data)


def write_binary(selection: Selection, folder: Path) -> None:
    """Writes, in a folder per object, an 8-bit grey PNG per frame: 255 is the object."""
    for frame in selection.each():
        labels = selection.label_map(frame)
        for one in selection.objects:
            mask = np.where(labels == one.id, np.uint8(255), np.uint8(0))
            write_bytes(_object_folder(folder, one) / f"{selection.video.name(frame)}.png", encode_picture(mask))


def write_soft(selection: Selection, folder: Path) -> None:
    """Writes, in a folder per object, a 16-bit grey PNG per frame: 65535 is certainly the object. Raises DataError."""
    for frame in selection.each():
        prob = selection.prob(frame)
        for one in selection.objects:
            values = prob.get(one.id, np.zeros(selection.video.size, np.float32))
            stored = np.rint(np.clip(values, 0, 1) * 65535).astype(np.uint16)
            write_bytes(_object_folder(folder, one) / f"{selection.video.name(frame)}.png", encode_picture(stored))


def write_cutouts(selection: Selection, folder: Path) -> None:
    """Writes an RGBA PNG per frame: the objects, the rest transparent (and black); alpha is not premultiplied."""
    for frame, picture in selection.pictures():
        alpha = selection.alpha(frame)
        rgba = np.dstack([picture, alpha])
        rgba[alpha == 0] = 0
        write_bytes(
            folder / f"{selection.video.name(frame)}.png", encode_picture(cv2.cvtColor(rgba, cv2.COLOR_RGBA2BGRA))
        )


def write_sheet(selection: Selection, path: Path) -> None:
    """Writes one PNG with overlays of frames spread evenly over the selection, each with its number below."""
    options = selection.options
    chosen = np.unique(np.linspace(selection.frames.start, selection.frames.stop - 1, options.pictures).round())
    frames = [int(frame) for frame in chosen]
    shown = [
        overlay(
            selection.picture(frame),
            selection.label_map(frame),
            style=options.style,
            opacity=options.opacity,
            labels=options.labels,
            palette=selection.palette,
        )
        for frame in frames
    ]
    width = min(480, selection.video.size[1])
    sheet = contact_sheet(shown, options.columns, [f"frame {frame}" for frame in frames], cell_width=width)
    write_bytes(path, encode_picture(cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)))


def _object_folder(folder: Path, one: ExportObject) -> Path:
    return make_dir(folder / f"object-{one.id}")


def encode_picture(image: UInt8Array | np.ndarray, suffix: str = ".png", parameters: Sequence[int] = ()) -> bytes:
    """The bytes of a picture file; OpenCV's order of channels and its parameters. Raises DataError."""
    done, data = cv2.imencode(suffix, image, list(parameters))
    if not done:
        raise DataError(f"a picture that a {suffix} file cannot hold", got=f"{image.dtype} {image.shape}")
    return data.tobytes()
