"""A video being annotated: masks drawn, frames tracked, corrections that count, everything kept on disk."""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from jointformer.data.export_formats import export
from jointformer.data.given_masks import find_masks
from jointformer.errors import ConfigError, DataError, require
from jointformer.model.network import JointFormer
from jointformer.model.weights import load_model
from jointformer.session.book import Book, ObjectInfo
from jointformer.session.edits import Edits
from jointformer.session.exporting import SessionSource
from jointformer.session.home import Home
from jointformer.session.opening import OpenedVideo, describe, find_video, model_name, stored_config
from jointformer.session.plan import Direction, Plan, make_plan
from jointformer.session.propagation import Propagation, SessionTracker
from jointformer.session.reading import Reading
from jointformer.session.result import FrameResult
from jointformer.session.source import FrameCache, VideoLike
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.config import require_config
from jointformer.track.frames import MasksLike
from jointformer.types import Colour


class Session(Reading):
    """Any number of annotated frames of one video, the masks tracked from them, and what is worth correcting.

        session = Session("video.mp4")
        session.add_masks(0, label_map)
        for frame, result in session.propagate():
            show(frame, result.label_map)
        session.add_masks(session.next_frame_to_fix(), {1: better})
        list(session.propagate())                # tracks again only what the correction can change
        session.export("overlay", "overlay.mp4")

    video: a file, a folder of pictures, frames as uint8 RGB, (T, H, W, 3) or a sequence of (H, W, 3), or any
    VideoReader. model: a name or path for `load_model`, or a network; it is loaded when first needed, on `device` in
    `precision`, which are `load_model`'s. config: how it is tracked (None: the defaults). folder: where everything is
    kept as it happens (a temporary folder if None, removed by `close`); a folder that holds a session is opened with
    `Session.load`. keep_soft: keep 8-bit probabilities too, which the export of soft masks needs.

    May be used from several threads; only one propagation runs at a time. What a call has changed outlives the
    process when it returns. Raises DataError for a video that cannot be opened and a folder that holds a session,
    ConfigError for settings that are none, OutputError where the folder cannot be written. Later calls raise DataError
    where the session is damaged or closed, those that change something OutputError where that cannot be written.
    """

    _model: JointFormer | str | Path | None
    _device: str | torch.device
    _precision: str

    def __init__(
        self,
        video: VideoLike,
        *,
        model: JointFormer | str | Path = "tiny",
        config: TrackerConfig | None = None,
        folder: str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
        keep_soft: bool = False,
    ) -> None:
        config = require_config(config)
        require("keep_soft", keep_soft, bool, "True or False")
        opened = OpenedVideo.open(video)
        self._hold(Home.make(folder))
        try:
            if self._store.meta("facts") is not None:  # of one without them a process has died beginning it
                raise DataError(
                    "holds a session already",
                    where=self.folder,
                    hint="open it with Session.load, or choose another folder",
                )
            self._show(opened)
            with self._book.lock, self._store.transaction():
                for key, value in describe(opened, model_name(model), config, keep_soft).items():
                    self._store.set_meta(key, value)
        except BaseException:
            self._home.close()
            raise
        self._set_up(model, config, device, precision, keep_soft)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        video: VideoLike | None = None,
        model: JointFormer | str | Path | None = None,
        device: str | torch.device = "auto",
        precision: str = "auto",
    ) -> Session:
        """Return the session kept in a folder.

        video: where the video is now (default: where it was). model: default the one it had, if that has a name. The
        settings are those it had, but for `memory_limit`, which is this process's. Raises DataError for folders that
        hold no session, a damaged one, one of another video or one that is open already, OutputError for a folder that
        cannot be written.
        """
        session = cls.__new__(cls)
        session._hold(Home.find(Path(path)))
        try:
            session._show(find_video(session._store, video))
            config, keep_soft, name = stored_config(session._store)
            session._check()
        except BaseException:
            session._home.close()
            raise
        session._set_up(model if model is not None else name, config, device, precision, keep_soft)
        return session

    # -- edits

    def add_masks(self, frame: int, masks: MasksLike) -> None:
        """Give masks of one frame: a label map (H, W), or {id: mask}; new ids are new objects, known ones corrected.

        Label maps hold integers. The masks of a mapping, (H, W), are of bools, of integers (any above 0 is the object)
        or of floats (any above 0.5); threshold 8-bit mattes yourself (`matte > 127`).
        Objects not named keep what they have, less the pixels now another's. An empty mask in a mapping says that the
        object is not in this frame. Where masks given together overlap, the lowest id has the pixel. 255 is an id like
        any other; where it is void, `jointformer.data.masks.resolve_void` takes it out. Raises DataError.
        """
        self._edits.add_masks(self._checked(frame), masks)

    def add_mask_files(self, path: str | Path, *, frame: int = 0, white: int | None = None) -> list[int]:
        """Give the masks in files, as `jointformer track --masks` reads them, in one step; return their frames.

        path: a label map of `frame`, or a folder of label maps named after frames (`video.name(i)`, or their numbers).
        white: the object that black and white masks show (default: the id in the files, which is 1 or 255). New objects
        get the colours that the files have. Raises DataError, ConfigError, and then no mask is given.
        """
        return self._add_mask_files(path, frame, None if white is None else ObjectInfo.default(white))

    def clear_masks(self, frame: int, object_id: int | None = None) -> None:
        """Take the user's masks of a frame (of one object) back; the frame can be tracked again then.

        With the last mask that shows an object its results go, too. Raises DataError where there is no such mask.
        """
        self._edits.clear_masks(self._checked(frame), object_id)

    def remove_object(self, object_id: int) -> None:
        """Forget an object in all frames; the others stay as they are. Raises DataError for an id that is none."""
        self._edits.remove_object(object_id)

    def set_object(self, object_id: int, *, name: str | None = None, colour: Colour | None = None) -> ObjectInfo:
        """Give an object another name or (red, green, blue) colour and return it. Raises DataError, ConfigError."""
        return self._edits.set_object(object_id, name=name, colour=colour)

    def undo(self) -> str | None:
        """Take back the newest edit or tracking run and return what it was; None where there is none.

        Labels: masks, clear, remove, object, track. Results come back as they were.
        """
        return self._edits.undo()

    def redo(self) -> str | None:
        """Do again what was undone last and return what it was; None where there is none."""
        return self._edits.redo()

    # -- tracking

    def plan(
        self,
        start: int | None = None,
        end: int | None = None,
        direction: Direction = "forward",
        *,
        again: bool = False,
        since: int | None = None,
    ) -> Plan:
        """Return what `propagate` with these arguments would track; its `steps()` tell how much work that is.

        Raises ConfigError for a range or direction that is none, DataError where there is no mask to track from.
        """
        with self._book.lock:
            known = self._book.known(since, tried=self._frames.damaged)
            return make_plan(known, len(self), start, end, direction, again=again)

    def propagate(
        self,
        start: int | None = None,
        end: int | None = None,
        direction: Direction = "forward",
        *,
        again: bool = False,
        since: int | None = None,
    ) -> Generator[tuple[int, FrameResult], None, None]:
        """Track frames start to end (both included) and yield (frame, its result) as each is finished and kept.

        start, end: the frames that are wanted (default: the video's ends). Missing frames between them and the nearest
        annotated one are tracked, kept and yielded, too; `plan(...).steps()` says how many are tracked in all.

        Frames between two annotated ones are tracked from both sides and joined whatever the direction (they come
        twice: seen from one side, then joined); the direction decides about the frames before an object's first
        annotation and after its last. Only frames without results, or whose results an edit has put out of date, are
        tracked, unless `again`; which these are is settled when the first is asked for. The iterator may be closed at
        any point: what it has yielded is kept, and the next call goes on from there; after one with `again`, if it has
        `again` and `since`, the `edit` that the broken-off run was. It ends by itself when somebody edits the session
        meanwhile.

        Raises ConfigError for a range or direction that is none, DataError where there is no mask to track from. The
        iterator raises DataError while another propagation runs, WeightsError and ConfigError where the model cannot be
        loaded or a GPU has no memory left, OutputError where a result cannot be kept.
        """
        self.plan(start, end, direction, again=again, since=since)  # what cannot be tracked is refused here and now
        return self._propagate(start, end, direction, again, since)

    def _propagate(
        self, start: int | None, end: int | None, direction: Direction, again: bool, since: int | None
    ) -> Generator[tuple[int, FrameResult], None, None]:
        if not self._running.acquire(blocking=False):
            raise DataError("this session is being tracked already", hint="stop the other propagation first")
        try:
            with self._book.lock, self._store.transaction():
                plan = self.plan(start, end, direction, again=again, since=since)
                if not plan.blocks:
                    return
                if again and since is None:
                    self._book.drop_halves()  # another run's, perhaps of another model
                run = Propagation(
                    self._book,
                    self._frames,
                    plan,
                    direction,
                    self._new_tracker,
                    pins=_pins(self.config),
                    keep_soft=self.keep_soft,
                )
            for frame in run.run():
                yield frame, self.result(frame)
        finally:
            self._running.release()

    @property
    def model(self) -> JointFormer:
        """The network, loaded when first asked for. Raises ConfigError, and what `load_model` raises."""
        with self._loading:  # which may be a download: nobody else is to wait for it
            if not isinstance(self._model, JointFormer):
                if self._model is None:
                    raise ConfigError("this session's model has no name", hint="give Session.load the model")
                self._model = load_model(self._model, self._device, self._precision)
            return self._model

    def _add_mask_files(self, path: str | Path, frame: int, white: ObjectInfo | None) -> list[int]:
        """See `add_mask_files`; white: also the object's name and colour, if it is new."""
        masks = find_masks(path, self.video, 0 if Path(path).is_dir() else self._checked(frame), len(self))
        red, green, blue = masks.palette.T.tolist()
        infos = [replace(ObjectInfo.default(i), colour=(red[i], green[i], blue[i])) for i in masks.objects]
        shown = white if masks.are_white else None
        frames = []

        def given() -> Iterator[tuple[int, MasksLike]]:
            for at in sorted(masks.files):
                label_map = masks.at(at, ())
                if label_map is not None:
                    frames.append(at)
                    yield at, label_map if shown is None else {shown.id: label_map > 0}

        self._edits.add_frames(given(), infos if shown is None else [shown])
        return frames

    def _new_tracker(self) -> SessionTracker:
        return Tracker(self.model, self.config)

    # -- keeping

    def save(self, path: str | Path | None = None) -> Path:
        """Write a compact copy of the session into a folder (whole or not at all) and return the folder.

        A session that the folder holds is replaced. Without a path nothing needs writing: a session with a folder is
        always saved. Raises DataError where the folder's session is open, OutputError where it cannot be written,
        ConfigError without a path for a session without a folder of its own.
        """
        if path is None:
            if self._home.temporary:
                raise ConfigError("this session has no folder of its own", hint="give save a path")
            return self.folder
        if Path(path).resolve() == self.folder.resolve():
            return self.folder
        folder = Path(path)
        with self._book.lock:
            self._home.copy_to(folder)
        return folder

    def export(self, format: str, path: str | Path, **options: Any) -> Path:
        """Write the masks in a format of `jointformer.data.export_formats.FORMATS` and return where.

        options: `ExportOptions`' fields that the format heeds. Raises ConfigError, DataError, OutputError.
        """
        return export(SessionSource(self), format, Path(path), **options)

    def close(self) -> None:
        """Close the files, the video's too; a session without a folder of its own is gone then. Twice does no harm."""
        self._home.close()
        self._frames.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # -- inside

    def _hold(self, home: Home) -> None:
        self._home, self._store = home, home.store

    def _show(self, opened: OpenedVideo) -> None:
        self._video = opened.reader
        self._book = Book(self._store, len(opened.reader), opened.reader.size)
        self._edits = Edits(self._book)
        self._frames = FrameCache(opened.reader)

    def _set_up(
        self,
        model: JointFormer | str | Path | None,
        config: TrackerConfig,
        device: str | torch.device,
        precision: str,
        keep_soft: bool,
    ) -> None:
        self._model = model
        self._device, self._precision = device, precision
        self.config, self.keep_soft = config, keep_soft
        self._running, self._loading = threading.Lock(), threading.Lock()


def _pins(config: TrackerConfig) -> int:
    """How many drawn frames are pinned besides the first memory, so that two places stay for what comes."""
    return 2 if config.max_memory_frames == 0 else max(0, min(2, config.max_memory_frames - 3))
