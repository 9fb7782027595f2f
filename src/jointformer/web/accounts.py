"""Whose connections come in: on a computer that people share, all their accounts reach a local address."""

from __future__ import annotations

import ipaddress
import logging
import os
import socket
import sys

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger(__name__)

Address = tuple[str, int]

_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")  # the kernel's connections, for everybody to read
_ESTABLISHED = 1
_ROOT = 0
_MAPPED = b"\0" * 10 + b"\xff\xff"  # before an IPv4 address that is used as an IPv6 one


class OwnAccount:
    """ASGI middleware: answers this process's own account, and root, which could read all of it anyhow.

    (What forwards a port into a virtual machine may run as root.) For connections of the same computer only.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._answered = (os.geteuid(), _ROOT)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = scope["type"] == "http" and account_of(scope["client"], scope["server"]) not in self._answered
        text = "this is the tool of another account of this computer, which can give you a token (--token)"
        await (JSONResponse({"error": text}, 403) if refused else self._app)(scope, receive, send)


def with_own_account(app: ASGIApp, bound: socket.socket) -> ASGIApp:
    """Return the application of a socket bound to a local address, for this account only where the system can tell."""
    if sys.platform != "linux":
        return app
    address = bound.getsockname()[:2]
    try:
        with socket.create_connection(address, timeout=5) as own:
            known = account_of(own.getsockname()[:2], address) == os.geteuid()
    except OSError:
        known = False
    if not known:
        logger.warning(
            "cannot tell whose connections come in: other accounts can use the tool, unless --token is given"
        )
    return OwnAccount(app) if known else app


def account_of(client: Address, server: Address) -> int | None:
    """Return the user id that a connection of this computer comes from; None if it is not there any more."""
    for _ in range(2):  # an entry may be passed over while others come and go
        for table in _TABLES:
            ends = [_as_listed(host, port, wide=table.endswith("6")) for host, port in (client, server)]
            found = None if None in ends else _listed(table, ends)
            if found is not None:
                return found
    return None


def _listed(table: str, ends: list[str | None]) -> int | None:
    """The account in the row of a connection. Only a whole one has one: what is left by a process has root's."""
    try:
        with open(table, encoding="ascii") as rows:
            for row in rows:
                columns = row.split()
                if columns[1:3] == ends and int(columns[3], 16) == _ESTABLISHED:
                    return int(columns[7])
    except OSError:
        return None
    return None


def _as_listed(host: str, port: int, *, wide: bool) -> str | None:
    """An address as the table of IPv4 or (wide) IPv6 connections has it; None where it is in the other one only."""
    packed = ipaddress.ip_address(host).packed
    if len(packed) == 4 and wide:
        packed = _MAPPED + packed
    if len(packed) == 16 and not wide:
        return None
    words = (int.from_bytes(packed[i : i + 4], sys.byteorder) for i in range(0, len(packed), 4))
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
