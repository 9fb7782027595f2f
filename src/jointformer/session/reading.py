"""What a session tells: its frames, masks, statuses and confidences."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from jointformer.data.video import VideoReader, video_title
from jointformer.errors import DataError
from jointformer.session.book import Book, ObjectInfo
from jointformer.session.home import Home
from jointformer.session.overview import frame_result, frame_status, least_certain, timeline
from jointformer.session.packing import SoftMaps
from jointformer.session.result import FrameResult, Status
from jointformer.session.source import FrameCache
from jointformer.session.store import Kind
from jointformer.types import UInt8Array


class Reading:
    """The half of `Session` that changes nothing."""

    _home: Home
    _video: VideoReader
    _book: Book
    _frames: FrameCache

    @property
    def folder(self) -> Path:
        """Where the session is kept."""
        return self._home.folder

    @property
    def video(self) -> VideoReader:
        """The video's reader: its `fps`, `name(index)` and `time(index)`, and frames by index or in order."""
        return self._video

    @property
    def title(self) -> str:
        """The video's name in files that need one."""
        return video_title(self._video)

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frames."""
        return self._book.size

    def __len__(self) -> int:
        """The number of frames."""
        return self._book.length

    @property
    def objects(self) -> tuple[ObjectInfo, ...]:
        """Id, name and colour of every object, by id."""
        return tuple(self._book.objects().values())

    @property
    def annotated_frames(self) -> tuple[int, ...]:
        """Frames with masks from the user, ascending."""
        return self._book.drawn_frames()

    def frame(self, index: int) -> UInt8Array:
        """Return a frame (H, W, 3) uint8 RGB, read-only, from a bounded cache; DataError outside the video."""
        return self._frames[self._checked(index)]

    def result(self, frame: int) -> FrameResult:
        """Return a frame's masks: the user's where given, else tracked ones; no objects where nothing is known.

        Raises DataError for a frame outside the video, as do the other questions about one frame.
        """
        return frame_result(self._book, self._checked(frame))

    def soft_maps(self, frame: int) -> SoftMaps | None:
        """Return the probabilities kept of a tracked frame (with keep_soft); else None.

        `ids`: the objects; `maps`: (N, h, w) uint8 in their order, 255 is certain, at network size.
        """
        return self._book.maps(Kind.SOFT, self._checked(frame))

    def confidence(self, frame: int) -> dict[int, float]:
        """Return {object id: confidence in [0, 1]} in a frame: the J that its probabilities expect."""
        return dict(self.result(frame).confidence)

    def status(self, frame: int) -> Status:
        """Return what is known of a frame.

        none; annotated; tracked; half: seen from one of two sides so far; stale: out of date; partial: without a result
        of an object that was drawn earlier; held: it could not be read, and has the masks of the frame beside it.
        """
        return frame_status(self._book, self._checked(frame))

    def timeline(self, start: int = 0, stop: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return (status, lowest confidence) of the frames start up to (without) stop: two arrays (T,), uint8, float32.

        status: indices into `jointformer.session.STATUSES`. The lowest confidence of a frame's tracked objects is in
        [0, 1]; NaN where there is none.
        """
        status, confidence = timeline(self._book)
        return status[start:stop], confidence[start:stop]

    def next_frame_to_fix(self) -> int | None:
        """Return the frame with the least certain tracked object; None where nothing is tracked.

        Results that are out of date do not count (track again first), nor do frames that could not be read.
        """
        return least_certain(*self.timeline())

    @property
    def history(self) -> tuple[str | None, str | None]:
        """The labels of what `undo` and `redo` would take; None where there is nothing."""
        with self._book.lock:
            return self._book.store.history()

    @property
    def edit(self) -> int:
        """The number of the newest edit or tracking run in force, 0 before the first."""
        with self._book.lock:
            return self._book.store.position

    # -- inside

    def _check(self) -> None:
        """Refuse cells outside the video and objects that are none; masks are checked when they are read."""
        self._book.objects()
        for kind in Kind:
            span = self._book.store.frames(kind)
            if span is not None and not 0 <= span[0] <= span[1] < len(self):
                raise DataError("a session with cells outside its video", where=self.folder, got=f"frame {span[1]}")

    def _checked(self, frame: int) -> int:
        if isinstance(frame, bool) or not isinstance(frame, int | np.integer) or not 0 <= frame < len(self):
            raise DataError("no such frame", expected=f"0 to {len(self) - 1}", got=repr(frame))
        return int(frame)
