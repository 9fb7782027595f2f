"""A tracker that needs no network: it follows a bright square, and can be told to go wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

from jointformer.session import Session
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.segmentation import Segmentation

H, W, SIDE = 24, 64, 6


def position(frame: int) -> int:
    return 2 + frame


def square(frame: int, top: int = 4) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[top : top + SIDE, position(frame) : position(frame) + SIDE] = True
    return mask


def video(frames: int = 30) -> np.ndarray:
    """Two squares that move right one pixel per frame: the real one above, its double below."""
    clip = np.zeros((frames, H, W, 3), np.uint8)
    for t in range(frames):
        clip[t][square(t)] = 255
        clip[t][square(t, 14)] = 200
        clip[t, 0, 0, 0] = t  # the frame's number, for whoever wants to know it
    return clip


def damaged_video(folder: Path, *damaged: int) -> Path:
    """`video` as a folder of pictures, of which some cannot be read."""
    folder.mkdir()
    for t, frame in enumerate(video()):
        Image.fromarray(frame).save(folder / f"{t:02}.png")
    for t in damaged:
        (folder / f"{t:02}.png").write_bytes(b"")
    return folder


def number_of(frame: FrameLike) -> int:
    """The number that a frame of `video` carries."""
    assert isinstance(frame, np.ndarray)
    return int(frame[0, 0, 0])


def by_id(masks: MasksLike | None) -> dict[int, np.ndarray]:
    """Masks as a session gives them to its tracker."""
    assert masks is None or isinstance(masks, Mapping)
    return {i: np.asarray(mask) for i, mask in (masks or {}).items()}


class SquareTracker:
    """Shifts every mask by one pixel per frame; in the frames `lost` it jumps to the double below, for good.

    calls: what was asked of any tracker of this class, for tests that count; "go on" names objects whose masks are not
    to be kept as a user's.
    """

    device = torch.device("cpu")
    lost: ClassVar[set[int]] = set()
    calls: ClassVar[list[tuple[str, int]]] = []

    def __init__(self) -> None:
        self.masks: dict[int, np.ndarray] = {}
        self.at: int | None = None

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.masks)

    def step(
        self,
        frame: FrameLike,
        masks: MasksLike | None = None,
        *,
        last: bool = False,
        pinned: Collection[int] | None = None,
    ) -> Segmentation:
        now = number_of(frame)
        self.calls.append(("step", now))
        self.calls.extend(("go on", i) for i in by_id(masks) if pinned is not None and i not in pinned)
        sure = {}
        for i, mask in self.masks.items():
            moved = np.roll(mask, now - (self.at if self.at is not None else now), axis=1)
            if now in self.lost and mask.any() and mask[:12].any():
                moved = np.roll(moved, 10, axis=0)
            self.masks[i] = moved
            sure[i] = 0.7 if moved[12:].any() else 0.95
        given = by_id(masks)
        assert np.sum(list(given.values()), axis=0).max(initial=0) <= 1, "no pixel is two objects'"
        for i, mask in given.items():
            assert mask.any() or i in self.masks, "a Tracker refuses a new object without a pixel"
            self.masks[i], sure[i] = mask.copy(), 1.0
        self.at = now
        rows = [torch.from_numpy(m.astype(np.float32)) * sure[i] for i, m in self.masks.items()]
        objects = torch.stack(rows) if rows else torch.zeros((0, H, W))
        prob = torch.cat([(1 - objects.sum(0, keepdim=True)).clamp_min(0), objects])
        return Segmentation(tuple(self.masks), prob, (H, W))

    def add_memory(self, frame: FrameLike, masks: MasksLike) -> None:
        assert set() < set(by_id(masks)) <= set(self.masks), "a Tracker refuses what is empty or unknown"
        self.calls.append(("pin", number_of(frame)))

    def remove_object(self, object_id: int) -> None:
        self.calls.append(("remove", object_id))
        del self.masks[object_id]


class ScriptedSession(Session):
    """A session whose tracker is the scripted one."""

    def _new_tracker(self) -> SquareTracker:
        return SquareTracker()


def damage(kept: Path, statement: str, *values: object) -> None:
    """Change a closed session behind its back."""
    with sqlite3.connect(kept / "session.db") as db:
        db.execute(statement, values)
    db.close()
