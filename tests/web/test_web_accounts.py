"""Connections of other accounts of the same computer."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from starlette.responses import PlainTextResponse

from jointformer.web import accounts
from jointformer.web.accounts import OwnAccount, account_of, with_own_account
from jointformer.web.config import WebConfig
from jointformer.web.server import listen, serve

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells whose connections are whose")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root, to be another account"
)
NOBODY = 65534
APP = PlainTextResponse("yours")


@contextmanager
def _account(number: int) -> Iterator[None]:
    """Sockets belong to the account that makes them."""
    before = os.geteuid()
    os.seteuid(number)
    try:
        yield
    finally:
        os.seteuid(before)


@contextmanager
def _listening(host: str = "127.0.0.1") -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as server:
        try:
            server.bind((host, 0))
        except OSError:
            pytest.skip(f"{host} is no address here")
        server.listen()
        yield server


@contextmanager
def _serving() -> Iterator[int]:
    with _listening() as bound:
        settings = uvicorn.Config(
            with_own_account(APP, bound), log_level="warning", lifespan="off", ws="none", proxy_headers=False
        )
        server = uvicorn.Server(settings)
        thread = threading.Thread(target=server.run, args=([bound],))
        thread.start()
        try:
            yield bound.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def _asked(connection: socket.socket) -> str:
    connection.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Forwarded-For: 127.0.0.1\r\nConnection: close\r\n\r\n")
    return b"".join(iter(lambda: connection.recv(65536), b"")).decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_connection_is_its_makers(host: str) -> None:
    with _listening(host) as server, socket.create_connection(server.getsockname()[:2]) as client:
        ends = client.getsockname()[:2], server.getsockname()[:2]
        assert account_of(*ends) == os.geteuid()
        assert account_of((host, ends[0][1] ^ 1), ends[1]) is None
        client.close()
        assert account_of(*ends) is None  # what is left of it would be listed as root's


def test_an_ipv4_connection_may_be_listed_among_those_of_ipv6() -> None:
    with _listening() as server, socket.socket(socket.AF_INET6) as client:
        client.connect(("::ffff:127.0.0.1", server.getsockname()[1]))
        assert account_of(("127.0.0.1", client.getsockname()[1]), server.getsockname()) == os.geteuid()


@as_root
def test_another_account_is_another() -> None:
    with _listening() as server:
        with _account(NOBODY):
            client = socket.create_connection(server.getsockname())
        with client:
            assert account_of(client.getsockname(), server.getsockname()) == NOBODY


def test_the_own_account_is_answered() -> None:
    with _serving() as port, socket.create_connection(("127.0.0.1", port)) as client:
        assert _asked(client).endswith("yours")


@as_root
def test_another_account_is_refused_whatever_it_says_to_be() -> None:
    with _serving() as port:
        with _account(NOBODY):
            client = socket.create_connection(("127.0.0.1", port))
        with client:
            answer = _asked(client)
    assert answer.startswith("HTTP/1.1 403")
    assert "yours" not in answer
    assert "another account of this computer" in answer


@pytest.mark.parametrize(("account", "answered"), [(4711, True), (0, True), (4712, False), (None, False)])
def test_this_account_and_root_are_answered(
    account: int | None, answered: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    monkeypatch.setattr(accounts, "account_of", lambda *_: account)
    from web.helpers import TestClient

    response = TestClient(OwnAccount(APP)).get("/")
    assert response.status_code == (200 if answered else 403)


@pytest.mark.parametrize(("token", "guarded"), [(None, True), ("a" * 16, False)])
def test_the_tool_asks_for_the_account_where_there_is_no_token_and_trusts_no_proxy(
    token: str | None, guarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[uvicorn.Config] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(self.config))
    config = WebConfig(projects=tmp_path / "projects", roots=(tmp_path,), token=token, port=0)
    bound, config = listen(config, any_port=True)
    serve(config, bound, lambda app: None)
    assert isinstance(seen[0].app, OwnAccount) is guarded
    assert not seen[0].proxy_headers


def test_it_is_said_where_the_system_does_not_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(accounts, "_TABLES", (str(tmp_path / "none"),))
    with _listening() as bound:
        assert with_own_account(APP, bound) is APP
    assert "other accounts can use the tool, unless --token is given" in caplog.text
    monkeypatch.setattr(sys, "platform", "darwin")
    caplog.clear()
    with _listening() as bound:
        assert with_own_account(APP, bound) is APP
    assert caplog.text == ""  # there it is always so, and said in the guide
