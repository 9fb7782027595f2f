"""A web tool in a test's own folders, tracking with a scripted tracker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from jointformer.web.app import create_app
from jointformer.web.config import WebConfig
from jointformer.web.models import SharedModel
from session.scripted import SquareTracker, video
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
