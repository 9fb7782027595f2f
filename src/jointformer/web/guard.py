"""Who may talk to the server: this computer's own pages, or browsers that know the token."""

from __future__ import annotations

import html
import secrets
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import cookie_parser
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jointformer.web.config import WebConfig, is_loopback

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self';"
        " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}
_SAFE_METHODS = frozenset({"GET", "HEAD"})
_COOKIE_AGE = 30 * 24 * 3600

_ASK = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>JointFormer</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="stylesheet" href="/static/css/ask.css">
</head><body><main><h1>JointFormer</h1><p>{text}</p><form method="get" action="/">
<label for="token">Token</label><input id="token" name="token" type="password" autocomplete="off" autofocus required>
<button>Open</button></form></main></body></html>"""


class Guard:
    """ASGI middleware: checks Host (against DNS rebinding), Origin and Sec-Fetch-Site, and the token."""

    def __init__(self, app: ASGIApp, config: WebConfig) -> None:
        self._app, self._token = app, config.token
        # Whoever listens for others is found under names only they know; there the token guards.
        self._any_host = not is_loopback(config.host)
        # Cookies are the same for all ports of a computer.
        self._cookie = f"jointformer_{config.port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        refusal = self._refuse(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refuse(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None or not (self._any_host or is_loopback(name)):
            return _refused(f"this address is not the tool's: {host[:100]}", 421)
        entrance = scope["path"] == "/" and scope["method"] in _SAFE_METHODS
        if not _is_own(headers, host) and not (entrance and headers.get("sec-fetch-mode", "navigate") == "navigate"):
            return _refused("requests of other sites are refused", 403)
        return None if self._token is None else self._check_token(scope, headers, self._token, entrance)

    def _check_token(self, scope: Scope, headers: Headers, token: str, entrance: bool) -> Response | None:
        if scope["path"] == "/static/css/ask.css":
            return None
        if entrance:
            shown = parse_qs(scope["query_string"].decode("latin-1")).get("token", [])
            if shown and secrets.compare_digest(shown[0].encode(), token.encode()):
                answer = RedirectResponse("/", 303)
                answer.set_cookie(self._cookie, token, max_age=_COOKIE_AGE, httponly=True, samesite="lax", path="/")
                return answer
        if any(secrets.compare_digest(shown.encode(), token.encode()) for shown in self._shown(headers)):
            return None
        if entrance:
            wrong = b"token=" in scope["query_string"]
            text = "That is not the token." if wrong else "Open the address that the terminal shows, or type its token."
            return HTMLResponse(_ASK.format(text=html.escape(text)), 401)
        return _refused("the token is missing or wrong", 401)

    def _shown(self, headers: Headers) -> list[str]:
        kind, _, value = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return [value.strip()]
        # One by one: other programs of this computer have cookies here, too, in whatever form and perhaps of this name.
        cookies = (cookie_parser(part) for part in headers.get("cookie", "").split(";"))
        return [cookie[self._cookie] for cookie in cookies if self._cookie in cookie]


def _is_own(headers: Headers, host: str) -> bool:
    """Whether no other site asks: browsers say so in Origin and Sec-Fetch-Site, other programs send neither."""
    origin, site = headers.get("origin"), headers.get("sec-fetch-site", "same-origin")
    own = origin is None or origin in (f"http://{host}", f"https://{host}")
    return own and site in ("same-origin", "none")


def _host_name(host: str) -> str | None:
    """The name in a Host header without its port; None for what is none."""
    try:
        parts = urlsplit(f"//{host}")
        _ = parts.port  # raises for ports that are none
    except ValueError:
        return None
    return parts.hostname if parts.netloc == host and parts.username is None else None


def _refused(text: str, status: int) -> Response:
    return JSONResponse({"error": text}, status)
