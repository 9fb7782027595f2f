"""The web tool's addresses: each a plain function of a call, answering with JSON or a file."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from starlette.responses import FileResponse, Response
from starlette.types import Receive, Scope, Send

from jointformer.data.export_formats import FORMATS
from jointformer.errors import DataError
from jointformer.web.project import LARGEST_SHOWN, Project
from jointformer.web.record import Range
from jointformer.web.shelf import Shelf
from jointformer.web.uploads import Uploads

_OLD_PICTURES = "private, max-age=86400, immutable"


@dataclass(frozen=True)
class Call:
    """One request: what its address names, its query, and its JSON body ({} without one)."""

    shelf: Shelf
    uploads: Uploads
    path: dict[str, Any]
    query: dict[str, str]
    body: dict[str, Any]

    @property
    def project(self) -> Project:
        """The project that the address names. Raises DataError."""
        return self.shelf.get(self.path["project"])

    @property
    def frame(self) -> int:
        """The frame that the address names. Raises DataError."""
        return _number("frame", self.path["frame"])

    @property
    def object_id(self) -> int:
        """The object id that the address names. Raises DataError."""
        return _number("object", self.path["object"])

    def number(self, name: str) -> int | None:
        """Return a number of the query; None where it is not given. Raises DataError."""
        return _number(name, self.query[name]) if name in self.query else None


def _number(name: str, text: str) -> int:
    # Not left to the routes' own numbers: int() refuses the very long ones with a traceback.
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and int(text) <= LARGEST_SHOWN):
        raise DataError(f"{name} in the address", expected=f"a number up to {LARGEST_SHOWN}", got=repr(text[:40]))
    return int(text)


Answer = dict[str, Any] | list[dict[str, Any]] | Response | None


def server_facts(call: Call) -> Answer:
    """What a page must know about the server."""
    from jointformer import __version__

    model = call.shelf.desk.model
    formats = [
        {
            "name": f.name,
            "text": f.text,
            "suffix": f.suffix or ".zip",
            "options": sorted(f.options),
            "missing": f.missing,
        }
        for f in FORMATS.values()
    ]
    return {"version": __version__, "model": str(model.name), "formats": formats, **call.uploads.limits()}


def list_files(call: Call) -> Answer:
    """A folder's listing."""
    path = call.body.get("path", call.query.get("path"))
    if path is not None and not isinstance(path, str):
        raise DataError("a folder", expected="its path")
    return call.shelf.roots.listing(path)


def list_projects(call: Call) -> Answer:
    """All projects."""
    return call.shelf.list()


def create_project(call: Call) -> Answer:
    """A new project of a path, an upload or the demo clip."""
    body = call.body
    name = body.get("name")
    if name is not None and not isinstance(name, str):
        raise DataError("name of a project", expected="text")
    if body.get("demo") is True:
        return call.shelf.create_demo(body).state()
    if "upload" in body:
        with call.uploads.take(body["upload"]) as folder:
            return call.shelf.create_from_upload(folder, name or "upload", body).state()
    if not isinstance(body.get("path"), str):
        raise DataError("a new project", expected="path, upload or demo")
    return call.shelf.create_from_path(body["path"], name, body).state()


def begin_upload(call: Call) -> Answer:
    """The id of a new upload."""
    return {"upload": call.uploads.begin()}


def drop_upload(call: Call) -> Answer:
    """An upload's end that comes before it is complete."""
    call.uploads.drop(call.path["upload"])
    return None


def get_state(call: Call) -> Answer:
    """A project's state."""
    return call.project.state()


def change_project(call: Call) -> Answer:
    """Another name, or another frame to begin with."""
    call.project.change(call.body)
    return None


def delete_project(call: Call) -> Answer:
    """A project's end."""
    call.shelf.delete(call.path["project"])
    return None


def get_thumbnail(call: Call) -> Answer:
    """A small picture of a project, which need not be opened for it."""
    return Response(call.shelf.thumbnail(call.path["project"]), media_type="image/jpeg")


def get_timeline(call: Call) -> Answer:
    """Statuses and confidences of all frames, as bytes."""
    return Response(call.project.timeline(), media_type="application/octet-stream")


def get_picture(call: Call) -> Answer:
    """A frame as JPEG; browsers keep it where the address says of which video it is, not of which project alone."""
    project = call.project
    data = project.picture(call.frame, call.number("height"))
    kept = {"Cache-Control": _OLD_PICTURES} if call.path.get("pictures") == project.pictures else None
    return Response(data, media_type="image/jpeg", headers=kept)


def get_masks(call: Call) -> Answer:
    """A frame's masks."""
    return call.project.masks(call.frame)


def put_mask(call: Call) -> Answer:
    """A person's mask of an object; the state of the version that is answered knows it."""
    return {"version": call.project.put_mask(call.frame, call.object_id, call.body)}


def add_mask_files(call: Call) -> Answer:
    """Uploaded mask files, taken over."""
    frame = call.body.get("frame")
    if type(frame) is not int:
        raise DataError("a frame for masks", expected="its number")
    with call.uploads.take(call.body.get("upload"), masks=True) as folder:
        return {"frames": call.project.add_mask_files(folder, frame, call.body.get("object"))}


def clear_masks(call: Call) -> Answer:
    """A person's masks of a frame, taken back."""
    call.project.clear_masks(call.frame, call.number("object"))
    return None


def accept(call: Call) -> Answer:
    """A frame's tracked masks, made the person's own."""
    call.project.accept(call.frame)
    return None


def cut_out(call: Call) -> Answer:
    """A mask from a box or scribbles."""
    object_id = call.number("object")
    return {"runs": call.project.cut_out(call.frame, object_id, call.body)}


def set_object(call: Call) -> Answer:
    """An object's name and colour."""
    call.project.set_object(call.object_id, call.body)
    return None


def remove_object(call: Call) -> Answer:
    """An object's end."""
    call.project.remove_object(call.object_id)
    return None


def undo(call: Call) -> Answer:
    """The newest edit, taken back: what it was, null where there is none."""
    return {"edit": call.project.undo()}


def redo(call: Call) -> Answer:
    """What was undone last, done again: what it was, null where there is none."""
    return {"edit": call.project.redo()}


def plan(call: Call) -> Answer:
    """How long tracking would take, or why there is nothing to track."""
    return call.project.tracking.outlook(Range.parse(call.body))


def track(call: Call) -> Answer:
    """Tracking, begun."""
    call.project.track(Range.parse(call.body))
    return None


def stop(call: Call) -> Answer:
    """Tracking, to be stopped."""
    call.project.tracking.stop()
    return None


def dismiss(call: Call) -> Answer:
    """The notice of an interrupted run, taken down."""
    call.project.dismiss_interrupted()
    return None


def start_export(call: Call) -> Answer:
    """An export, begun."""
    project, options = call.project, call.body.get("options", {})
    if not isinstance(options, dict) or not isinstance(call.body.get("format"), str):
        raise DataError("an export", expected="format and options")
    return {"name": project.exports.start(project.name, call.body["format"], options)}


def get_export(call: Call) -> Answer:
    """An exported file to save; one that another page deletes meanwhile is none, or ends there."""
    path, known = call.project.exports.find(call.path["name"])
    return _Download(path, stat_result=known, filename=path.name, content_disposition_type="attachment")


class _Download(FileResponse):
    """A file that may be deleted between its headers and its content: the download breaks off, which a browser says."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(FileNotFoundError):
            await super().__call__(scope, receive, send)


def delete_export(call: Call) -> Answer:
    """An exported file's end, or that of its writing."""
    call.project.exports.remove(call.path["name"])
    return None


PROJECT = "/api/projects/{project}"
_FRAME = PROJECT + "/frames/{frame}"
#: (method, path, function): what the application routes.
TABLE: tuple[tuple[str, str, Callable[[Call], Answer]], ...] = (
    ("GET", "/api/server", server_facts),
    ("GET", "/api/files", list_files),
    ("POST", "/api/files", list_files),
    ("GET", "/api/projects", list_projects),
    ("POST", "/api/projects", create_project),
    ("POST", "/api/uploads", begin_upload),
    ("DELETE", "/api/uploads/{upload}", drop_upload),
    ("GET", PROJECT, get_state),
    ("PATCH", PROJECT, change_project),
    ("DELETE", PROJECT, delete_project),
    ("GET", PROJECT + "/thumbnail", get_thumbnail),
    ("GET", PROJECT + "/timeline", get_timeline),
    ("GET", _FRAME, get_picture),
    ("GET", PROJECT + "/pictures/{pictures}/frames/{frame}", get_picture),
    ("GET", _FRAME + "/masks", get_masks),
    ("DELETE", _FRAME + "/masks", clear_masks),
    ("PUT", _FRAME + "/masks/{object}", put_mask),
    ("POST", PROJECT + "/masks", add_mask_files),
    ("POST", _FRAME + "/accept", accept),
    ("POST", _FRAME + "/cutout", cut_out),
    ("PUT", PROJECT + "/objects/{object}", set_object),
    ("DELETE", PROJECT + "/objects/{object}", remove_object),
    ("POST", PROJECT + "/undo", undo),
    ("POST", PROJECT + "/redo", redo),
    ("POST", PROJECT + "/plan", plan),
    ("POST", PROJECT + "/track", track),
    ("POST", PROJECT + "/stop", stop),
    ("POST", PROJECT + "/dismiss", dismiss),
    ("POST", PROJECT + "/exports", start_export),
    ("GET", PROJECT + "/exports/{name}", get_export),
    ("DELETE", PROJECT + "/exports/{name}", delete_export),
)
