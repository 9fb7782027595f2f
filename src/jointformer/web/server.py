"""The web tool's server process."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from jointformer.errors import ConfigError
from jointformer.web.accounts import with_own_account
from jointformer.web.app import create_app
from jointformer.web.config import WebConfig


def listen(config: WebConfig, *, any_port: bool) -> tuple[socket.socket, WebConfig]:
    """Return a listening socket and the settings with its port; any_port: another one where it is taken.

    Raises ConfigError where nothing can be bound.
    """
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    for port in (config.port, 0) if any_port else (config.port,):
        # Named as TCP, because asyncio sends small answers at once only on such sockets: others wait 40 ms.
        server = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        if sys.platform != "win32":
            # A port stays blocked for a minute after its server; on Windows the option would share a live one.
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((config.host.strip("[]"), port))
        except (OSError, OverflowError, UnicodeError) as error:
            server.close()
            reason = getattr(error, "strerror", None) or str(error)
            failure = ConfigError(f"cannot listen on {config.host} port {port}", got=reason.lower())
        else:
            server.listen(128)  # a browser may ask before the server is ready, and waits then
            return server, replace(config, port=server.getsockname()[1])
    raise failure


def address(config: WebConfig) -> str:
    """Return the address to open, with the token where one is needed."""
    host = "127.0.0.1" if config.host in ("0.0.0.0", "::") else config.host
    host = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return f"http://{host}:{config.port}/" + (f"?token={config.token}" if config.token else "")


def serve(config: WebConfig, bound: socket.socket, ready: Callable[[Starlette], None]) -> None:
    """Answer requests until interrupted or told to end; `ready` is called with the application when it listens."""
    app = create_app(config)
    # Headers of proxies could name any client; a token is for what goes through one.
    settings = uvicorn.Config(
        app if config.token else with_own_account(app, bound), log_level="warning", access_log=False,
        timeout_graceful_shutdown=3, server_header=False, ws="none", proxy_headers=False,
    )  # fmt: skip
    server = _Server(settings, app)
    with contextlib.closing(bound):
        ready(app)
        server.run(sockets=[bound])


class _Server(uvicorn.Server):
    """Ends the pages' streams as soon as it is told to stop; otherwise they would hold it open."""

    def __init__(self, config: uvicorn.Config, app: Starlette) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._app.state.shelf.end_streams()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but an interruption is how people end it, and no error."""
        try:
            with super().capture_signals():
                yield
        except KeyboardInterrupt:
            return
