"""All projects of a folder: listed, created, opened when asked for, closed when nobody looks."""

from __future__ import annotations

import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from jointformer.data.frames import list_folder
from jointformer.errors import DataError, UserError
from jointformer.session import Session, stored_video
from jointformer.session.home import OpenAlready, check_closed
from jointformer.system.files import make_dir, remove, replace_dir, write_bytes
from jointformer.track import TrackerConfig
from jointformer.web.access import Roots, is_inside, real
from jointformer.web.config import WebConfig
from jointformer.web.models import SharedModel, SharedSession
from jointformer.web.pace import FILE as PACE_FILE
from jointformer.web.pace import Pace
from jointformer.web.project import EXPORTS, Project
from jointformer.web.record import FILE, RecordFile, fitting_name, is_project, slug
from jointformer.web.tracking import Desk

_MOST_OPEN = 4
_REST = 60.0  # seconds; pages in the background do not listen, and one that is loaded anew is soon back
_THUMBNAIL, _THUMBNAIL_HEIGHT = "thumbnail.jpg", 200
MEDIA = "media"
_IN_MEMORY = "its video is frames in memory, not a file"
#: What a project's folder holds; systems add hidden files.
_OWN = re.compile(rf"(session\.db.*|{FILE}|{_THUMBNAIL}|{MEDIA}|{EXPORTS})$|\.")


class NotThere(DataError):
    """A project, or something of one, that does not exist."""


class Shelf:
    """The projects folder. session_type: what sessions are made of (tests track without a network)."""

    def __init__(self, config: WebConfig, session_type: type[SharedSession] = SharedSession) -> None:
        self.folder = make_dir(config.projects)
        self.roots = Roots(config.roots)
        self._config, self._type = config, session_type
        model = SharedModel(config.model, config.device, config.precision)
        self.desk = Desk(model, Pace(self.folder / PACE_FILE), threading.Lock())
        self._open: dict[str, Project] = {}
        self._lock = threading.RLock()

    def list(self) -> list[dict[str, Any]]:
        """Return the projects, the one opened last first; folders that are none are left out."""
        rows = []
        for home in self.folder.iterdir():
            if not is_project(self.folder, home.name):
                continue
            try:
                record = RecordFile.of(home).record
                video = _video_of(home)
            except UserError as error:  # one that is being begun or deleted cannot be read for a moment
                rows.append({"id": home.name, "name": home.name, "opened": 0.0, "problem": str(error)})
                continue
            problem = None
            if video is None:
                problem = _IN_MEMORY
            elif not os.path.exists(video):
                problem = "its video is no longer there"
            at_work = self._open.get(home.name)
            facts = {
                "video": None if video is None else str(video),
                "opened": record.opened,
                "created": record.created,
                "tracking": at_work is not None and at_work.tracking.running,
            }
            rows.append({"id": home.name, "name": record.name, "problem": problem, **facts})
        return sorted(rows, key=lambda row: -row["opened"])

    def get(self, project_id: str) -> Project:
        """Return a project, opened if it is not. Raises DataError."""
        with self._lock:
            project = self._open.get(project_id)
            if project is None:
                project = self._open[project_id] = self._load(self._home(project_id))
                self._close_idle()
            project.used = time.monotonic()
            return project

    def thumbnail(self, project_id: str) -> bytes:
        """Return a project's small picture as JPEG. Raises DataError where there is none."""
        path = self._home(project_id) / _THUMBNAIL
        try:
            if path.is_file() and not path.is_symlink():  # folders of strangers may hold pipes, devices and links
                return path.read_bytes()
        except OSError as error:
            raise NotThere("no thumbnail", got=project_id) from error
        raise NotThere("no thumbnail", got=project_id)

    def create_from_path(self, text: str, name: str | None, options: dict[str, Any]) -> Project:
        """Return a new project of a video or folder of pictures in the chosen folders. Raises DataError."""
        video = self.roots.resolve_video(text)
        # Dots in a folder's name begin no suffix.
        title = video.name if video.is_dir() else video.stem
        return self._create(name or title, options, lambda home: video)

    def find_or_create(self, video: Path) -> Project:
        """Return the newest project of a video, or a new one. Raises DataError."""
        found = self.newest(video)
        return self.create_from_path(str(video), None, {}) if found is None else self.get(found)

    def newest(self, video: Path) -> str | None:
        """Return the newest project of a video that can be opened."""
        of_it = (row["id"] for row in self.list() if not row["problem"] and row["video"] == str(real(video)))
        return next(of_it, None)

    def begin(self, video: Path, masks: Path) -> Project:
        """Return a new project of a video with masks of files (see `Session.add_mask_files`). Raises DataError.

        Black and white ones are of object 1, as the first that is drawn in a page: after 255 no mask has another id.
        """
        project = self.create_from_path(str(video), None, {})
        try:
            project.session.add_mask_files(masks, white=1)
        except BaseException:
            self.delete(project.home.name)
            raise
        return project

    def create_from_upload(self, upload: Path, name: str, options: dict[str, Any]) -> Project:
        """Return a new project of uploaded files, which move into its folder: one video, or pictures."""

        def move(home: Path) -> Path:
            media = home / MEDIA
            shutil.move(str(upload), media)
            files = sorted(media.iterdir())
            return files[0] if len(files) == 1 else media

        return self._create(name, options, move)

    def create_demo(self, options: dict[str, Any]) -> Project:
        """Return a new project of the bundled clip."""

        painted = self.folder / ".demo" / "demo.mp4"  # once: painting takes seconds
        if not painted.is_file():
            _paint_demo(painted)

        def copy(home: Path) -> Path:
            return Path(shutil.copy(painted, make_dir(home / MEDIA) / painted.name))

        return self._create("Demo: fish and turtle", options, copy)

    def delete(self, project_id: str) -> None:
        """Delete a project with its uploaded video and exports; a video opened by path stays. Raises DataError."""
        with self._lock:
            home = self._home(project_id)
            _check_deletable(home)
            project = self._open.pop(project_id, None)
            if project is not None:
                project.close()
            self.desk.outcomes.pop(home, None)
            with _said_of_projects():
                check_closed(home)
            with replace_dir(home):  # an instant's rename first: a half deleted project is never listed
                pass
            remove(home)

    def close_unused(self) -> None:
        """Close projects that nobody has looked at for a while: another program may open them then."""
        with self._lock:
            now = time.monotonic()
            for project in list(self._open.values()):
                if project.busy:
                    project.used = now
                elif now - project.used > _REST:
                    del self._open[project.home.name]
                    project.close()

    def close(self) -> None:
        """Close everything; runs that go on count as interrupted."""
        with self._lock:
            for project in self._open.values():
                project.close()
            self._open.clear()

    def end_streams(self) -> None:
        """End the streams of all pages, so that the server can stop."""
        for project in list(self._open.values()):
            project.events.close()

    # -- inside

    def _home(self, project_id: str) -> Path:
        if not is_project(self.folder, project_id):
            raise NotThere("no such project", got=project_id[:80])
        return self.folder / project_id

    def _load(self, home: Path) -> Project:
        file = RecordFile.of(home)
        video = _video_of(home)
        if video is None:
            raise DataError(_IN_MEMORY, where=home, hint="Session.load(…, video=frames) in Python goes on with it")
        for part in (MEDIA, EXPORTS):
            if not is_inside(real(home / part), real(home)):
                raise DataError("a part of the project is a link to elsewhere", where=home / part)
        allowed = next((r for r in (self.roots, Roots((home / MEDIA,))) if r.holds(real(video))), None)
        if allowed is None:
            hint = "start jointformer ui with --folder to allow it"
            raise DataError("the project's video lies outside the folders that may be opened", got=video, hint=hint)
        if not os.path.exists(video):
            hint = f"put it back where it was, or to {_place_for(video, home)}"
            raise DataError("the project's video is no longer there", where=video, hint=hint)
        if os.path.isdir(video):
            allowed.check_pictures(video)
        with _said_of_projects():
            session = self._type.load(home, video=video)
        with _closed_if_refused(session):
            project = self._begin(home, file, session, video)
            if not os.path.lexists(home / _THUMBNAIL):  # Python keeps none
                write_bytes(home / _THUMBNAIL, project.picture(0, _THUMBNAIL_HEIGHT))
            return project

    def _create(self, name: str, options: dict[str, Any], fetch: Callable[[Path], Path]) -> Project:
        name = fitting_name(name)
        config = self._tracker_config(options)
        home = self.folder / f"{slug(name)}-{secrets.token_hex(3)}"
        home.mkdir()
        try:
            video = fetch(home)
            keep_soft = options.get("soft") is True
            session = self._type(video, model=self._config.model, config=config, folder=home, keep_soft=keep_soft)
            with _closed_if_refused(session):
                project = self._begin(home, RecordFile.create(home, name), session, video)
                write_bytes(home / _THUMBNAIL, project.picture(0, _THUMBNAIL_HEIGHT))
        except BaseException:
            remove(home)
            raise
        with self._lock:
            self._open[home.name] = project
            self._close_idle()
        return project

    def _begin(self, home: Path, file: RecordFile, session: Any, video: Path) -> Project:
        session.shared = self.desk.model
        project = Project(home, file, session, video, self.desk, is_uploaded=is_inside(real(video), real(home)))
        project.opened()
        return project

    def _tracker_config(self, options: dict[str, Any]) -> TrackerConfig:
        size = options.get("size")
        if size is None:
            return self._config.tracker
        if type(size) is not int:
            raise DataError("detail of a project", expected="pixels of the shorter side, or -1", got=repr(size)[:40])
        return replace(self._config.tracker, size=size)

    def _close_idle(self) -> None:
        idle = sorted((p for p in self._open.values() if not p.busy), key=lambda p: p.used)
        # The newest is the one just asked for: nobody listens to it yet.
        for project in idle[: max(0, min(len(self._open) - _MOST_OPEN, len(idle) - 1))]:
            del self._open[project.home.name]
            project.close()


def _video_of(home: Path) -> Path | None:
    """Where a project's video lies: an uploaded one with the project, also where its folder was moved or copied to."""
    video = stored_video(home)
    if video is None or os.path.exists(video):
        return video
    brought = _place_for(video, home)
    return brought if os.path.exists(brought) else video


def _check_deletable(home: Path) -> None:
    """Raise DataError where more would go along: its video, if not uploaded, or what is kept beside a session."""
    by_hand = "delete the folder by hand"
    try:
        video = stored_video(home)
    except UserError:  # what cannot be read can still be deleted
        video = None
    if video is not None and is_inside(real(video), real(home)) and not is_inside(real(video), real(home / MEDIA)):
        raise DataError("the video lies in its session's folder", where=home, hint=by_hand)
    others = sorted(path.name for path in list_folder(home) if not _OWN.match(path.name))
    if others:
        raise DataError("the folder holds more than its project", where=home, got=", ".join(others[:3]), hint=by_hand)


def _place_for(video: Path, home: Path) -> Path:
    """Where a project's folder holds its video, if it does."""
    return home / MEDIA if video.name == MEDIA else home / MEDIA / video.name


@contextmanager
def _said_of_projects() -> Iterator[None]:
    """A block whose refusal of an open session is told in the words of the page."""
    try:
        yield
    except OpenAlready as error:
        hint = "leave it there and try again in a minute, or end that program"
        raise DataError("this project is open in another program", hint=hint) from error


@contextmanager
def _closed_if_refused(session: Session) -> Iterator[None]:
    """A block that may fail: its folder must be free then for whoever tries again."""
    try:
        yield
    except BaseException:
        session.close()
        raise


def _paint_demo(path: Path) -> None:
    from jointformer.data.demo import demo_clip
    from jointformer.data.video_writer import VideoWriter, h264

    clip = demo_clip()
    with VideoWriter(path, Fraction(12), clip.frames.shape[1:3], codec=h264(12)) as writer:
        for frame in clip.frames:
            writer.write(frame)
