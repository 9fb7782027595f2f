"""A tiny network and a local HTTP server that misbehaves on request."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
import torch

from jointformer.model.config import ModelConfig
from jointformer.model.network import JointFormer

SMALL = ModelConfig("custom", (16, 24, 48), (1, 2, 3), heads=3, update_depth=2, enhance_depth=1)


@pytest.fixture
def network() -> JointFormer:
    """A network of a few thousand parameters."""
    torch.manual_seed(0)
    return JointFormer(SMALL).eval()


@pytest.fixture
def plain_network(network: JointFormer) -> JointFormer:
    """Its weights with as many heads as a file without a config says: one for every 64 channels."""
    plain = JointFormer(replace(SMALL, heads=1)).eval()
    plain.load_state_dict(network.state_dict())
    return plain


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of the user's cache."""
    folder = tmp_path / "home"
    monkeypatch.setenv("JOINTFORMER_HOME", str(folder))
    return folder / "weights"


@dataclass
class Server:
    """What the server has, how it behaves, and what it was asked for.

    cut: bytes after which each of the next answers breaks off (one entry an answer). statuses: answered instead of
    the file, one an answer. claim: a Content-Length that is not the file's. headers: what takes the place of its own
    ("": is left out).
    """

    base: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    cut: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    claim: int | None = None
    ranges: bool = True
    etag: str | None = '"one"'
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, str | None]] = field(default_factory=list)

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        self.asked.append((handler.path, wanted))
        if handler.path in self.redirects:
            handler.send_response(302)
            handler.send_header("Location", self.redirects[handler.path])
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        body = self.files.get(handler.path.lstrip("/"))
        if self.statuses or body is None:
            handler.send_error(self.statuses.pop(0) if self.statuses else 404)
            return
        start = 0
        if wanted and self.ranges and handler.headers.get("If-Range") == self.etag:
            start = int(wanted.removeprefix("bytes=").rstrip("-"))
        handler.send_response(206 if start else 200)
        lines = {
            "Content-Type": "application/octet-stream",
            "ETag": self.etag,
            "Content-Range": f"bytes {start}-{len(body) - 1}/{len(body)}" if start else None,
            "Content-Length": str(len(body) - start if self.claim is None else self.claim),
        }
        for name, value in (lines | self.headers).items():
            if value:
                handler.send_header(name, value)
        handler.end_headers()
        part = body[start:]
        handler.wfile.write(part[: self.cut.pop(0)] if self.cut else part)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server at localhost in the place of the release page; retries come at once."""
    state = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.close_connection = True
            state.answer(self)

        def log_message(self, *_: object) -> None:
            return

    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    state.base = f"http://127.0.0.1:{httpd.server_port}"
    monkeypatch.setenv("JOINTFORMER_RELEASE_URL", state.base)
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr("jointformer.model.download.FIRST_WAIT", 0.0)
    yield state
    httpd.shutdown()
    httpd.server_close()
    thread.join()
