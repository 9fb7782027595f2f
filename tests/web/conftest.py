"""A web tool in a test's own folders, tracking with a scripted tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jointformer.model.storage import save_weights
from jointformer.web.app import create_app
from jointformer.web.config import WebConfig
from jointformer.web.models import SharedModel
from seeded import MINI, seeded_model
from session.scripted import SquareTracker, video
from web.browser import Person, Server, launch
from web.helpers import HOST, GatedTracker, ScriptedShared, TestClient, Tool


@pytest.fixture
def videos(tmp_path: Path) -> Path:
    """The folder that may be opened, with 30 pictures of the scripted video in `square`."""
    folder = tmp_path / "videos"
    (folder / "square").mkdir(parents=True)
    for index, frame in enumerate(video()):
        Image.fromarray(frame).save(folder / "square" / f"{index:04d}.png")
    return folder


@pytest.fixture
def start(tmp_path: Path, videos: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Tool]]:
    """A function that starts a server on the same folders, as often as a test likes; all are ended with the test."""
    monkeypatch.setattr(SharedModel, "get", lambda self: None)
    monkeypatch.setattr(SharedModel, "warm", lambda self, then: None)
    SquareTracker.lost, SquareTracker.calls = set(), []
    GatedTracker.gate = None
    clients = []

    def begin(**changes: Any) -> Tool:
        config = WebConfig(**{"projects": tmp_path / "projects", "roots": (videos,), **changes})
        client = TestClient(create_app(config, ScriptedShared), base_url=HOST)
        client.__enter__()
        clients.append(client)
        return Tool(client)

    yield begin
    if GatedTracker.gate is not None:
        GatedTracker.gate.release(1000)
    for client in clients:
        client.__exit__(None, None, None)
    SquareTracker.lost, SquareTracker.calls = set(), []


@pytest.fixture
def tool(start: Callable[..., Tool]) -> Tool:
    """A server with nothing in it."""
    return start()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server process with a mini network."""
    folder = tmp_path_factory.mktemp("web")
    server = Server(folder, save_weights(seeded_model(MINI), folder / "mini.safetensors"))
    yield server
    server.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as control:
        chromium = launch(control)
        yield chromium
        chromium.close()


@pytest.fixture
def person(server: Server, browser: Any) -> Iterator[Person]:
    """Somebody at a laptop; afterwards nothing may have gone wrong in the page."""
    context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme="dark")
    person = Person(context.new_page(), server.url)
    yield person
    context.close()
    assert person.problems == []
