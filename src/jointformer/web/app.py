"""The web tool's addresses: each a plain function of a call, run in a thread, answering with JSON or a file."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jointformer.data.export_formats import FORMATS
from jointformer.errors import DataError, OutputError, UserError
from jointformer.web.config import WebConfig
from jointformer.web.guard import Guard
from jointformer.web.models import SharedSession
from jointformer.web.project import Project
from jointformer.web.record import Range
from jointformer.web.shelf import NotThere, Shelf
from jointformer.web.uploads import Uploads

STATIC = Path(__file__).parent / "static"
_MOST_JSON = 32 * 2**20  # bytes: the runs of a mask of noise in 4K
_OLD_PICTURES = "private, max-age=86400, immutable"  # a project's video does not change


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

    def number(self, name: str) -> int | None:
        """Return a number of the query; None where it is not given. Raises DataError."""
        text = self.query.get(name)
        if text is None:
            return None
        if not (text.isascii() and text.isdecimal() and len(text) < 10):
            raise DataError(f"{name} in the address", expected="a number", got=repr(text)[:40])
        return int(text)


Answer = dict[str, Any] | list[dict[str, Any]] | Response | None


def server_facts(call: Call) -> Answer:
    """What a page must know about the server."""
    from jointformer import __version__

    model = call.shelf.desk.model
    formats = [
        {"name": f.name, "text": f.text, "suffix": f.suffix or ".zip", "options": sorted(f.options)}
        for f in FORMATS.values()
    ]
    limits = {"upload": call.uploads.limit}
    return {"version": __version__, "model": str(model.name), "device": model.device, "formats": formats, **limits}


def list_files(call: Call) -> Answer:
    """A folder's listing."""
    return call.shelf.roots.listing(call.query.get("path"))


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
        try:
            folder = call.uploads.take(body["upload"])
            return call.shelf.create_from_upload(folder, name or "upload", body).state()
        finally:
            call.uploads.drop(body["upload"])
    if not isinstance(body.get("path"), str):
        raise DataError("a new project", expected="path, upload or demo")
    return call.shelf.create_from_path(body["path"], name, body).state()


def begin_upload(call: Call) -> Answer:
    """The id of a new upload."""
    return {"upload": call.uploads.begin(), "limit": call.uploads.limit}


def get_state(call: Call) -> Answer:
    """A project's state."""
    return call.project.state()


def change_project(call: Call) -> Answer:
    """Another name, or another frame to begin with."""
    project = call.project
    if "name" in call.body:
        project.rename(call.body["name"])
    if "frame" in call.body:
        project.look_at(call.body["frame"])
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
    """A frame as JPEG."""
    data = call.project.picture(call.path["frame"], call.number("height"))
    return Response(data, media_type="image/jpeg", headers={"Cache-Control": _OLD_PICTURES})


def get_masks(call: Call) -> Answer:
    """A frame's masks."""
    return call.project.masks(call.path["frame"])


def put_mask(call: Call) -> Answer:
    """A person's mask of an object."""
    call.project.put_mask(call.path["frame"], call.path["object"], call.body)
    return None


def clear_masks(call: Call) -> Answer:
    """A person's masks of a frame, taken back."""
    call.project.clear_masks(call.path["frame"], call.number("object"))
    return None


def accept(call: Call) -> Answer:
    """A frame's tracked masks, made the person's own."""
    call.project.accept(call.path["frame"])
    return None


def cut_out(call: Call) -> Answer:
    """A mask from a box or scribbles."""
    object_id = call.number("object")
    return {"runs": call.project.cut_out(call.path["frame"], object_id, call.body)}


def set_object(call: Call) -> Answer:
    """An object's name and colour."""
    call.project.set_object(call.path["object"], call.body)
    return None


def remove_object(call: Call) -> Answer:
    """An object's end."""
    call.project.remove_object(call.path["object"])
    return None


def undo(call: Call) -> Answer:
    """The newest edit, taken back."""
    return {"label": call.project.undo()}


def redo(call: Call) -> Answer:
    """What was undone last, done again."""
    return {"label": call.project.redo()}


def plan(call: Call) -> Answer:
    """How long tracking would take."""
    return call.project.tracking.plan(Range.parse(call.body))


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
    """An exported file to save."""
    path = call.project.exports.path(call.path["name"])
    return FileResponse(path, filename=path.name, content_disposition_type="attachment")


def delete_export(call: Call) -> Answer:
    """An exported file's end."""
    call.project.exports.remove(call.path["name"])
    return None


_P = "/api/projects/{project}"
_FRAME = _P + "/frames/{frame:int}"
_TABLE: tuple[tuple[str, str, Callable[[Call], Answer]], ...] = (
    ("GET", "/api/server", server_facts),
    ("GET", "/api/files", list_files),
    ("GET", "/api/projects", list_projects),
    ("POST", "/api/projects", create_project),
    ("POST", "/api/uploads", begin_upload),
    ("GET", _P, get_state),
    ("PATCH", _P, change_project),
    ("DELETE", _P, delete_project),
    ("GET", _P + "/thumbnail", get_thumbnail),
    ("GET", _P + "/timeline", get_timeline),
    ("GET", _FRAME, get_picture),
    ("GET", _FRAME + "/masks", get_masks),
    ("DELETE", _FRAME + "/masks", clear_masks),
    ("PUT", _FRAME + "/masks/{object:int}", put_mask),
    ("POST", _FRAME + "/accept", accept),
    ("POST", _FRAME + "/cutout", cut_out),
    ("PUT", _P + "/objects/{object:int}", set_object),
    ("DELETE", _P + "/objects/{object:int}", remove_object),
    ("POST", _P + "/undo", undo),
    ("POST", _P + "/redo", redo),
    ("POST", _P + "/plan", plan),
    ("POST", _P + "/track", track),
    ("POST", _P + "/stop", stop),
    ("POST", _P + "/dismiss", dismiss),
    ("POST", _P + "/exports", start_export),
    ("GET", _P + "/exports/{name}", get_export),
    ("DELETE", _P + "/exports/{name}", delete_export),
)


def create_app(config: WebConfig, session_type: type[SharedSession] = SharedSession) -> Starlette:
    """Return the ASGI application; `app.state.shelf` holds the projects."""
    shelf, uploads = Shelf(config, session_type), Uploads(config.projects, config.max_upload)

    def endpoint(work: Callable[[Call], Answer]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await _read_json(request) if request.method in ("POST", "PUT", "PATCH") else {}
            call = Call(shelf, uploads, request.path_params, dict(request.query_params), body)
            result = await run_in_threadpool(work, call)
            return result if isinstance(result, Response) else JSONResponse(result)

        return answer

    async def receive_file(request: Request) -> Response:
        name, upload = request.query_params.get("name", ""), request.path_params["upload"]
        return JSONResponse(await uploads.receive(upload, name, request.stream()))

    async def events(request: Request) -> Response:
        project = await run_in_threadpool(shelf.get, request.path_params["project"])
        return StreamingResponse(_stream(project), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(shelf.close)

    routes = [Route(path, endpoint(work), methods=[method]) for method, path, work in _TABLE]
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/uploads/{upload}", receive_file, methods=["PUT"]),
            Route(_P + "/events", events),
            *routes,
            Mount("/static", _Static(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, config=config)],
        exception_handlers={UserError: _explain, HTTPException: _explain_http},
        lifespan=lifespan,
    )
    app.state.shelf = shelf
    return app


class _Static(StaticFiles):
    """The page's files; browsers ask each time whether theirs is still the newest."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _stream(project: Project) -> AsyncIterator[str]:
    # The listener is there before the state is read, so that no news falls between the two.
    stream = project.events.listen(": hello\n\n")
    try:
        yield await anext(stream)
        yield f"event: state\ndata: {json.dumps(await run_in_threadpool(project.state))}\n\n"
        async for text in stream:
            yield text
    finally:
        await stream.aclose()  # type: ignore[attr-defined]


async def _read_json(request: Request) -> dict[str, Any]:
    """The request's JSON object. Raises DataError for others, HTTPException for too large ones."""
    data = bytearray()
    async for part in request.stream():
        data += part
        if len(data) > _MOST_JSON:
            raise HTTPException(413, "the request is too large")
    if not data:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "the request must be JSON")
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DataError("the request is no JSON") from error
    if not isinstance(value, dict):
        raise DataError("the request", expected="a JSON object")
    return value


async def _explain(request: Request, error: Exception) -> Response:
    """A user's mistake in one line."""
    assert isinstance(error, UserError)
    status = 404 if isinstance(error, NotThere) else 507 if isinstance(error, OutputError) else 400
    return JSONResponse({"error": str(error)}, status)


async def _explain_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)
