"""The web tool as an ASGI application: addresses run in threads, news as server-sent events, uploads streamed."""

from __future__ import annotations

import asyncio
import json
import logging
import mimetypes
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from jointformer.errors import DataError, OutputError, UserError
from jointformer.web.calls import PROJECT, TABLE, Answer, Call
from jointformer.web.config import WebConfig
from jointformer.web.guard import Guard
from jointformer.web.models import SharedSession
from jointformer.web.project import Project
from jointformer.web.shelf import NotThere, Shelf
from jointformer.web.uploads import Uploads

logger = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
# On Windows any program may have registered another type for these, and browsers run no script of another type.
mimetypes.add_type("text/javascript", ".js")
mimetypes.add_type("text/css", ".css")
_LOOK_EVERY = 15.0  # seconds between looks for projects that nobody uses and uploads that nobody sends
_MOST_JSON = 32 * 2**20  # bytes: the runs of a mask of noise in 4K


def create_app(config: WebConfig, session_type: type[SharedSession] = SharedSession) -> Starlette:
    """Return the ASGI application; `app.state.shelf` holds the projects."""
    shelf, uploads = Shelf(config, session_type), Uploads(config.projects, config.max_upload)

    def endpoint(work: Callable[[Call], Answer]) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            body = await _read_json(request) if request.method in ("POST", "PUT", "PATCH") else {}
            call = Call(shelf, uploads, request.path_params, dict(request.query_params), body)
            result = await run_in_threadpool(work, call)
            return result if isinstance(result, Response) else _Json(result)

        return answer

    async def receive_file(request: Request) -> Response:
        name, upload = request.query_params.get("name", ""), request.path_params["upload"]
        return _Json(await uploads.receive(upload, name, request.stream()))

    async def events(request: Request) -> Response:
        project = await run_in_threadpool(shelf.get, request.path_params["project"])
        return StreamingResponse(_stream(project), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    async def page(request: Request) -> Response:
        return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-cache"})

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        looking = asyncio.create_task(_tidy(shelf, uploads))
        yield
        looking.cancel()
        await run_in_threadpool(shelf.close)

    routes = [Route(path, endpoint(work), methods=[method]) for method, path, work in TABLE]
    app = Starlette(
        routes=[
            Route("/", page),
            Route("/api/uploads/{upload}", receive_file, methods=["PUT"]),
            Route(PROJECT + "/events", events),
            *routes,
            Mount("/static", _Static(directory=STATIC)),
        ],
        middleware=[Middleware(Guard, config=config)],
        exception_handlers={UserError: _explain, HTTPException: _explain_http, ClientDisconnect: _nobody},
        lifespan=lifespan,
    )
    app.state.shelf = shelf
    return app


class _Json(JSONResponse):
    """JSON in ASCII: names of files need not be UTF-8, and the bytes that are not come back as they went."""

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode()


class _Static(StaticFiles):
    """The page's files; browsers ask each time whether theirs is still the newest."""

    def file_response(self, *args: Any, **kwargs: Any) -> Response:
        response = super().file_response(*args, **kwargs)
        response.headers["Cache-Control"] = "no-cache"
        return response


async def _tidy(shelf: Shelf, uploads: Uploads) -> None:
    while True:
        await asyncio.sleep(_LOOK_EVERY)
        try:
            await run_in_threadpool(shelf.close_unused)
            await run_in_threadpool(uploads.drop_silent)
        except UserError as error:
            logger.warning("%s", error)


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
    return _Json({"error": str(error)}, status)


async def _nobody(request: Request, error: Exception) -> Response:
    """A page that went away before it had sent everything: nothing to tell, and nobody to tell it to."""
    return Response(status_code=400)


async def _explain_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return _Json({"error": error.detail}, error.status_code, error.headers)
