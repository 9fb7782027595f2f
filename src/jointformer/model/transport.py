"""One answer over http, judged: redirects, status, type, range. What is wrong with it is said in one line."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from jointformer.errors import WeightsError
from jointformer.model.cache import WEIGHTS, Kind

TIMEOUT = httpx.Timeout(30.0, connect=15.0)
MAX_REDIRECTS = 10
_LOCALHOST = ("localhost", "127.0.0.1", "::1")
_RETRIED = (408, 425, 429, 500, 502, 503, 504)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18}|\*)")


class BrokenAttemptError(Exception):
    """The attempt failed in a way that another one may mend."""


@contextmanager
def open_answer(client: httpx.Client, url: str, headers: dict[str, str], kind: Kind) -> Iterator[httpx.Response]:
    """The open answer to a GET after redirects: https only, and http only where we started at localhost.

    Raises WeightsError for other redirects, or too many.
    """
    here = checked_url(url, url, kind)
    for _ in range(MAX_REDIRECTS):
        try:
            with client.stream("GET", here, headers=headers) as response:
                if not response.has_redirect_location:
                    yield response
                    return
                target = str(here.join(response.headers["location"]))
        except httpx.InvalidURL as error:
            raise WeightsError("led to what is no address", where=url, got=str(error)) from None
        here = checked_url(target, url, kind)
    raise WeightsError(f"more than {MAX_REDIRECTS} redirects", where=url)


def checked_url(address: str, start: str, kind: Kind = WEIGHTS) -> httpx.URL:
    """Return the address if files may come from it, else raise WeightsError; `start`: the one asked for at first."""
    try:
        url = httpx.URL(address)
    except httpx.InvalidURL as error:
        raise WeightsError("not an address", where=address, got=str(error)) from None
    local = url.scheme == "http" and url.host in _LOCALHOST and start.startswith("http:")
    if url.scheme != "https" and not local:
        what = "refused to be redirected" if address != start else "refused"
        raise WeightsError(f"{what}: {kind.things} come over https only", where=start, got=f"{url.scheme}://{url.host}")
    return url


def start_and_total(response: httpx.Response, url: str, have: int, kind: Kind) -> tuple[int, int | None]:
    """Return the offset where the answer's bytes begin and the whole file's size (None: not said).

    Raises BrokenAttemptError where another attempt may help, WeightsError for an answer that is not the file's.
    """
    status = response.status_code
    if status in _RETRIED:
        raise BrokenAttemptError(f"HTTP {status} {response.reason_phrase}")
    if status not in (200, 206):
        raise WeightsError("cannot be downloaded", where=url, got=f"HTTP {status} {response.reason_phrase}")
    if response.headers.get("content-type", "").startswith("text/html"):
        raise WeightsError("the server sent something else", where=url, expected=kind.file, got="an HTML page")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise WeightsError("the server packed the file", where=url, got=response.headers["content-encoding"])
    if status == 200:
        length = response.headers.get("content-length", "")
        return 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    found = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
    if found is None or int(found[1]) != have:
        raise WeightsError(
            "the server sent another part than asked for",
            where=url,
            expected=f"from byte {have:,} on",
            got=response.headers.get("content-range", "no Content-Range"),
        )
    return have, None if found[2] == "*" else int(found[2])


def validator(response: httpx.Response) -> str | None:
    """Return what proves that the file is still the same one (If-Range takes no weak ETag)."""
    etag = response.headers.get("etag", "")
    if etag and not etag.startswith("W/"):
        return str(etag)
    return response.headers.get("last-modified")


def reason(error: httpx.TransportError) -> str:
    """Return the error in words, also where it has none of its own (a timeout)."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
