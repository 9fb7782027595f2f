"""One open project: its session, and everything a page may do with it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from jointformer.data.fingerprint import digest
from jointformer.data.frames import list_pictures
from jointformer.errors import DataError
from jointformer.session import STATUSES, ObjectInfo
from jointformer.types import Mask
from jointformer.web.cutout import Stroke, cut_out, parse_box
from jointformer.web.events import Broadcaster
from jointformer.web.exports import Exports
from jointformer.web.models import SharedSession
from jointformer.web.record import Range, RecordFile, checked_name, fitting_name, slug
from jointformer.web.runs import decode_runs, encode_runs
from jointformer.web.tracking import Desk, Tracking

#: The folder of a project's exports.
EXPORTS = "exports"
_JPEG_QUALITY = 90
#: The largest whole number that JavaScript tells from its neighbours: no page can name an object beyond it.
LARGEST_SHOWN = 2**53 - 1


class Project:
    """A session with its record, tracking, exports and listeners. Methods may be called from any thread.

    Raises DataError for a session with an object that no page can name.
    """

    def __init__(
        self, home: Path, file: RecordFile, session: SharedSession, video: Path, desk: Desk, *, is_uploaded: bool
    ) -> None:
        for info in session.objects:  # Python may have given any
            _check_shown(info.id)
        self.home, self.session = home, session
        self._model = fitting_name(str(desk.model.name))  # as the record gives it back
        if is_uploaded and video.is_dir():
            session.own_title = lambda: slug(self.name)
        self.events = Broadcaster()
        self._file = file
        self._lock = threading.RLock()  # one edit at a time, so that versions tell the order
        self._version = 0
        self.used = time.monotonic()
        #: What its pictures are known by: another project of the same name has others.
        self.pictures = _known_by(file.record.created, video)
        self.tracking = Tracking(session, desk, self.events.publish, self._remember)
        # A kill may have fallen between a run's last frame and the note that it is done.
        cut_off = file.record.tracking
        self.interrupted = cut_off if cut_off is not None and self.tracking.has_more(cut_off) else None
        self.exports = Exports(home / EXPORTS, session, self.events.publish)

    @property
    def name(self) -> str:
        """The project's name."""
        return self._file.record.name

    @property
    def busy(self) -> bool:
        """Whether somebody looks at it or something is going on."""
        return bool(self.events.listeners) or self.tracking.running or self.exports.running

    # -- what there is

    def state(self) -> dict[str, Any]:
        """Return what a page shows, but for pictures, masks and the timeline."""
        session = self.session
        with self._lock:
            undo, redo = session.history
            return {
                "id": self.home.name,
                "pictures": self.pictures,
                "name": self.name,
                "version": self._version,
                "frames": len(session),
                "height": session.size[0],
                "width": session.size[1],
                "fps": float(session.video.fps),
                "objects": [{"id": o.id, "name": o.name, "colour": o.colour} for o in session.objects],
                "undo": undo,
                "redo": redo,
                "annotated": session.annotated_frames,
                "frame": min(self._file.record.frame, len(session) - 1),
                "soft": session.keep_soft,
                "model": {"now": self._model, "before": self._file.record.model},
                "tracking": self.tracking.status(),
                "interrupted": None if self.interrupted is None else vars(self.interrupted),
                "exports": self.exports.status(),
            }

    def timeline(self) -> bytes:
        """Return all frames' statuses (index into STATUSES), then all confidences (0 to 254, 255: none), as bytes."""
        status, confidence = self.session.timeline()
        known = np.nan_to_num(confidence * 254, nan=255.0).round().clip(0, 255).astype(np.uint8)
        return status.tobytes() + known.tobytes()

    def picture(self, frame: int, height: int | None) -> bytes:
        """Return a frame as JPEG, no higher than `height` pixels."""
        image = self.session.frame(frame)
        if height is not None and 16 <= height < image.shape[0]:
            width = max(1, round(image.shape[1] * height / image.shape[0]))
            image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8)
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        good, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])
        if not good:
            raise DataError(f"frame {frame} cannot be shown as a picture")
        return bytes(data)

    def masks(self, frame: int) -> dict[str, Any]:
        """Return a frame's masks as runs, which of them are the person's own, and how sure the others are."""
        result = self.session.result(frame)
        rows = {
            str(i): {"runs": encode_runs(mask), "confidence": result.confidence[i], "drawn": i in result.drawn}
            for i, mask in result.masks.items()
        }
        return {"frame": frame, "status": STATUSES.index(result.status), "masks": rows}

    # -- edits

    def put_mask(self, frame: int, object_id: int, value: dict[str, Any]) -> int:
        """Keep a person's mask of an object; of a new one with its name and colour, if the page gives them.

        Return a version of the project that has it.
        """
        mask = decode_runs(value.get("runs"), self.session.size)
        default = ObjectInfo.default(object_id)
        with self._edit():
            new = all(o.id != object_id for o in self.session.objects)
            self.session.draw(frame, mask, replace(default, **_appearance(value)) if new else default)
        return self._version

    def add_mask_files(self, folder: Path, frame: int, value: object) -> list[int]:
        """Take mask files over in one edit and return their frames: one file for `frame`, several by their names.

        value: {id, name, colour} of the object that black and white masks show, or None.
        """
        white = None
        if value is not None:
            if not isinstance(value, dict) or type(value.get("id")) is not int:
                raise DataError("object of black and white masks", expected="its id, name and colour")
            _check_shown(value["id"])
            white = replace(ObjectInfo.default(value["id"]), **_appearance(value))
        files = list_pictures(folder)
        try:
            with self._edit():
                return self.session.draw_files(files[0] if len(files) == 1 else folder, frame, white)
        except DataError as error:  # nobody knows the folder where uploads wait
            where = None if error.where is None else Path(error.where).name
            raise DataError(error.what, **{**error.parts, "where": where}) from error

    def accept(self, frame: int) -> None:
        """Make a frame's tracked masks the person's own, in one edit."""
        result = self.session.result(frame)
        tracked = {i: mask for i, mask in result.masks.items() if i not in result.drawn}
        if not tracked:
            raise DataError("no tracked masks in this frame", hint="track first")
        with self._edit():
            self.session.add_masks(frame, tracked)

    def clear_masks(self, frame: int, object_id: int | None) -> None:
        """Take a person's masks of a frame (of one object) back."""
        with self._edit():
            self.session.clear_masks(frame, object_id)

    def set_object(self, object_id: int, value: dict[str, Any]) -> None:
        """Give an object another name or colour."""
        with self._edit():
            self.session.set_object(object_id, **_appearance(value))

    def remove_object(self, object_id: int) -> None:
        """Forget an object."""
        with self._edit():
            self.session.remove_object(object_id)

    def undo(self) -> str | None:
        """Take the newest edit back."""
        with self._edit():
            return self.session.undo()

    def redo(self) -> str | None:
        """Do again what was undone last."""
        with self._edit():
            return self.session.redo()

    def change(self, value: dict[str, Any]) -> None:
        """Give the project another name, and remember the frame that is shown for the next time."""
        changes = {}
        if "frame" in value:
            frame = changes["frame"] = value["frame"]
            if type(frame) is not int or not 0 <= frame < len(self.session):
                raise DataError("no such frame", expected=f"0 to {len(self.session) - 1}", got=repr(frame)[:40])
        if "name" in value:
            changes["name"] = checked_name(value["name"])
        with self._edit() if "name" in changes else nullcontext():  # other pages keep to their own frames
            self._file.update(**changes)

    def cut_out(self, frame: int, object_id: int | None, value: dict[str, Any]) -> list[int]:
        """Return the runs of what a box or scribbles mark; nothing is kept yet."""
        box = None if value.get("box") is None else parse_box(value["box"], self.session.size)
        given = value.get("strokes", [])
        if not isinstance(given, list) or len(given) > 200:
            raise DataError("scribbles", expected="a list of at most 200")
        strokes = [Stroke.parse(stroke) for stroke in given]
        result = self.session.result(frame)
        # Other objects' tracked masks may be what is being corrected; only those drawn by the person are sure.
        others: Mask = np.zeros(self.session.size, bool)
        for i in result.drawn - {object_id}:
            others |= result.masks[i]
        known = result.masks.get(object_id) if object_id is not None else None
        picture = self.session.frame(frame)
        return encode_runs(cut_out(picture, box=box, strokes=strokes, known=known, others=others))

    # -- runs and the end

    def track(self, wanted: Range) -> None:
        """Begin to track."""
        self.tracking.start(wanted)
        self.interrupted = None
        self._tell()

    def _remember(self, wanted: Range | None) -> None:
        """Note the run that goes on, and with which model; None where none does."""
        model = self._file.record.model if wanted is None else self._model
        self._file.update(tracking=wanted, model=model)

    def dismiss_interrupted(self) -> None:
        """Forget about the run that the program's end cut off."""
        self.interrupted = None
        if not self.tracking.running:
            self._file.update(tracking=None)
        self._tell()

    def opened(self) -> None:
        """Note that somebody opened it now, and whether a run is to be gone on with."""
        self._file.update(opened=time.time(), tracking=self.interrupted)

    def close(self) -> None:
        """Stop what goes on and close the files; nothing is lost."""
        self.tracking.leave()
        self.exports.close()
        self.events.close()
        self.session.close()

    @contextmanager
    def _edit(self) -> Iterator[None]:
        """A block that changes the project; all pages learn of it."""
        with self._lock:
            yield
            self._version += 1
        self._tell()

    def _tell(self) -> None:
        self.events.publish("state", self.state)


def _known_by(created: float, path: Path) -> str:
    """Return what tells a project's pictures from those of another one, or of another video in the same place."""
    parts = [repr(created)]
    with suppress(OSError):  # whoever moves it away now will be told by what reads it
        found = path.stat()
        parts += [str(found.st_mtime_ns), str(found.st_size)]
    return digest(parts)


def _check_shown(object_id: int) -> None:
    if object_id > LARGEST_SHOWN:
        hint = "go on with this session in Python"
        raise DataError(f"a page cannot show object {object_id}", expected=f"ids up to {LARGEST_SHOWN}", hint=hint)


def _appearance(value: dict[str, Any]) -> dict[str, Any]:
    """The name and colour that a page gives, for ObjectInfo to check. Raises DataError."""
    given = {field: value[field] for field in ("name", "colour") if value.get(field) is not None}
    if "colour" in given:
        if not isinstance(given["colour"], list):
            raise DataError("colour of an object", expected="[red, green, blue]")
        given["colour"] = tuple(given["colour"])
    return given
