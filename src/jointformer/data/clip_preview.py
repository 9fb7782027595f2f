"""A contact sheet of clips, for people to look at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from jointformer.ops.files import atomic_write

U8 = npt.NDArray[np.uint8]
COLOURS = np.asarray(
    [(0, 0, 0), (230, 30, 40), (40, 200, 60), (40, 90, 255), (250, 210, 30), (220, 60, 220), (40, 220, 220)],
    np.uint8,
)


class ClipLike(Protocol):
    """What a contact sheet needs of a clip."""

    @property
    def frames(self) -> U8: ...
    @property
    def label_maps(self) -> U8: ...


def contact_sheet(clips: Sequence[ClipLike], columns: int = 1) -> U8:
    """(H,W,3) uint8 RGB: per clip a row of its frames over a row of the same with tinted masks and outlines."""
    cells = []
    for clip in clips:
        tinted = [overlay(frame, labels) for frame, labels in zip(clip.frames, clip.label_maps, strict=True)]
        cells.append(np.vstack([np.hstack(list(clip.frames)), np.hstack(tinted)]))
    while len(cells) % columns:
        cells.append(np.zeros_like(cells[0]))
    rows = [np.hstack(cells[start : start + columns]) for start in range(0, len(cells), columns)]
    return np.ascontiguousarray(np.vstack(rows))


def overlay(frame: U8, labels: U8) -> U8:
    """(H,W,3) uint8: ``frame`` with its labels tinted and outlined."""
    colour = COLOURS[np.where(labels > 0, (labels - 1) % (len(COLOURS) - 1) + 1, 0)]
    mixed = np.where((labels > 0)[..., None], frame // 2 + colour // 2, frame)
    edge = np.asarray(cv2.morphologyEx(labels, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))) > 0
    mixed[edge & (labels > 0)] = 255
    return mixed.astype(np.uint8)


def preview(clips: Sequence[ClipLike], path: str | Path, columns: int = 1) -> None:
    """Write the contact sheet of ``clips`` (all of one shape) as a PNG. OutputError when it cannot be written."""
    sheet = cv2.cvtColor(contact_sheet(clips, columns), cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".png", sheet)
    assert done
    with atomic_write(path) as file:
        file.write(encoded.tobytes())
