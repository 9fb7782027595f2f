"""Downloads against a local server that cuts, lies and redirects."""

from __future__ import annotations

import hashlib
import json
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from jointformer.errors import OutputError, WeightsError
from jointformer.model import cache, download
from jointformer.model.download import fetch
from jointformer.system.files import write_json
from weights.conftest_weights import Server

BODY = bytes(range(256)) * 400
DATE = "Sun, 01 Nov 2026 08:00:00 GMT"
SHA = hashlib.sha256(BODY).hexdigest()


def leftovers(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir() if not p.name.endswith(".lock")}


@pytest.fixture
def target(home: Path) -> Path:
    return home / "w.pth"


@pytest.fixture
def url(server: Server) -> str:
    server.files["w.pth"] = BODY
    return f"{server.base}/w.pth"


def test_a_file_arrives_whole_and_its_hash_is_noted(target: Path, url: str) -> None:
    assert fetch(url, target) == SHA
    assert target.read_bytes() == BODY
    note = json.loads(target.with_name("w.pth.json").read_text())
    assert note == {"file": "w.pth", "bytes": len(BODY), "sha256": SHA, "url": url}
    assert leftovers(target.parent) == {"w.pth", "w.pth.json"}


def test_a_cut_connection_is_resumed_where_it_broke(target: Path, url: str, server: Server) -> None:
    server.cut = [1000, 50_000]
    assert fetch(url, target) == SHA
    assert [r for _, r in server.asked] == [None, "bytes=1000-", "bytes=51000-"]


def test_a_link_in_the_place_of_a_file_that_grows_is_not_followed(target: Path, url: str, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    target.parent.mkdir(parents=True, exist_ok=True)
    target.with_name("w.pth.partial").symlink_to(tmp_path / "mine")
    with pytest.raises(OutputError, match=r"w\.pth: cannot be written: .*link"):
        fetch(url, target)
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_later_call_resumes_what_an_earlier_one_had_to_leave(target: Path, url: str, server: Server) -> None:
    server.cut = [40_000] + [0] * download.ATTEMPTS
    with pytest.raises(WeightsError, match=r"40,000 bytes have arrived.*the same command resumes"):
        fetch(url, target)
    assert not target.exists()
    server.asked.clear()
    assert fetch(url, target) == SHA
    assert server.asked == [("/w.pth", "bytes=40000-")]


def test_a_file_that_changed_on_the_server_starts_anew(target: Path, url: str, server: Server) -> None:
    server.cut = [40_000] + [0] * download.ATTEMPTS
    with pytest.raises(WeightsError):
        fetch(url, target)
    server.files["w.pth"], server.etag = BODY[::-1], '"two"'
    fetch(url, target)
    assert target.read_bytes() == BODY[::-1]


@pytest.mark.parametrize("change", [{"ranges": False}, {"etag": None}, {"etag": 'W/"weak"'}])
def test_a_server_that_cannot_resume_sends_all_again(
    target: Path, url: str, server: Server, change: dict[str, bool | str | None]
) -> None:
    for name, value in change.items():
        setattr(server, name, value)
    server.cut = [1000]
    assert fetch(url, target) == SHA


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        ({"ETag": "", "Last-Modified": DATE}, "bytes=1000-"),
        ({"ETag": 'W/"weak"', "Last-Modified": DATE}, "bytes=1000-"),
        ({"ETag": 'W/"weak"'}, None),
        ({"ETag": ""}, None),
    ],
)
def test_a_file_without_a_strong_mark_is_resumed_by_its_date_alone(
    target: Path, url: str, server: Server, lines: dict[str, str], wanted: str | None
) -> None:
    server.etag, server.headers, server.cut = DATE, lines, [1000]  # what an If-Range must be for a part to be sent
    assert fetch(url, target) == SHA
    assert [asked for _, asked in server.asked] == [None, wanted]


def test_a_download_killed_before_its_last_rename_is_not_fetched_again(target: Path, url: str, server: Server) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("w.pth.partial").write_bytes(BODY)
    state = {"url": url, "validator": '"one"', "total": len(BODY)}
    target.with_name("w.pth.partial.json").write_text(json.dumps(state))
    assert fetch(url, target) == SHA
    assert server.asked == []


def test_a_download_killed_as_another_version_begins_does_not_mix_the_two(
    target: Path, url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("w.pth.partial").write_bytes(b"an older version")
    state = {"url": url, "validator": '"zero"', "total": 40}
    target.with_name("w.pth.partial.json").write_text(json.dumps(state))

    def killed(path: Path, data: object) -> None:
        write_json(path, data)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(download, "write_json", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch(url, target)
    assert fetch(url, target) == SHA


@pytest.mark.parametrize("note", ["", "[]", "{}", "[" * 100_000, '{"url": 1, "validator": 2, "total": 3}'])
def test_a_damaged_note_of_a_partial_file_means_starting_anew(
    target: Path, url: str, server: Server, note: str
) -> None:
    target.parent.mkdir(parents=True)
    target.with_name("w.pth.partial").write_bytes(b"rubbish")
    target.with_name("w.pth.partial.json").write_text(note)
    assert fetch(url, target) == SHA


def test_temporary_trouble_of_the_server_is_waited_out(target: Path, url: str, server: Server) -> None:
    server.statuses = [503, 429]
    assert fetch(url, target) == SHA


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_missing_file_is_one_line_with_the_way_out(target: Path, url: str, server: Server, status: int) -> None:
    server.statuses = [status]
    with pytest.raises(WeightsError, match=f"HTTP {status}") as caught:
        fetch(url, target, page="https://example.org/files")
    text = str(caught.value)
    assert f"put the file by hand at {target}" in text
    assert "https://example.org/files" in text
    assert "\n" not in text
    assert len(server.asked) == 1


def test_without_a_network_the_line_says_what_was_tried_and_where_to_put_the_file(target: Path) -> None:
    with pytest.raises(WeightsError, match=r"127.0.0.1:9/w.pth: cannot be reached") as caught:
        fetch("http://127.0.0.1:9/w.pth", target)
    assert f"put the file by hand at {target}" in str(caught.value)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("ALL_PROXY", "socks://127.0.0.1:9", "Unknown scheme for proxy URL"),
        ("ALL_PROXY", "socks5://127.0.0.1:9", ""),  # needs a package, or is not there
        ("ALL_PROXY", "http://127.0.0.1:port", "Invalid port"),
        ("SSL_CERT_FILE", "/nowhere/certificates.pem", "No such file"),
    ],
)
def test_a_proxy_or_certificates_that_do_not_serve_are_one_line(
    target: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, said: str
) -> None:
    for name in ("ALL_PROXY", "NO_PROXY", "HTTPS_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    monkeypatch.setenv(variable, value)
    with pytest.raises(WeightsError, match=rf"https://example\.org/w\.pth: cannot be reached.*got .*{said}") as caught:
        fetch("https://example.org/w.pth", target)
    assert f"put the file by hand at {target}" in str(caught.value)


def test_a_host_that_cannot_be_reached_any_more_is_tried_again_and_what_has_arrived_is_kept(
    target: Path, server: Server
) -> None:
    url, partial = "http://127.0.0.1:9/w.pth", target.with_name("w.pth.partial")
    target.parent.mkdir(parents=True)
    partial.write_bytes(BODY[:1000])
    partial.with_name("w.pth.partial.json").write_text(json.dumps({"url": url, "validator": '"one"', "total": None}))
    with pytest.raises(WeightsError, match=r"cannot be downloaded, .*1,000 bytes have arrived and are kept"):
        fetch(url, target)
    assert partial.read_bytes() == BODY[:1000]


def test_a_silent_server_is_given_up(target: Path, url: str, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    import httpx

    # Only reading is short of time: a machine under load may take long to connect.
    monkeypatch.setattr(download, "TIMEOUT", httpx.Timeout(60, read=0.05))
    monkeypatch.setattr(download, "ATTEMPTS", 2)
    server.claim = len(BODY)
    server.files["w.pth"] = b""
    answer, given_up = server.answer, threading.Event()

    def silent(handler: BaseHTTPRequestHandler) -> None:
        answer(handler)
        handler.wfile.flush()
        given_up.wait(60)

    monkeypatch.setattr(server, "answer", silent)
    try:
        with pytest.raises(WeightsError, match=r"ReadTimeout"):
            fetch(url, target)
    finally:
        given_up.set()


def test_fewer_bytes_than_announced_are_not_a_file(target: Path, url: str, server: Server) -> None:
    server.claim = len(BODY) + 10
    server.ranges = False
    with pytest.raises(WeightsError, match=r"cannot be downloaded"):
        fetch(url, target)
    assert not target.exists()


def test_a_wrong_total_size_is_an_error(target: Path, url: str, server: Server) -> None:
    server.cut = [1000]
    server.headers = {"Content-Range": f"bytes 1000-{len(BODY) - 1}/{len(BODY) + 5}"}
    with pytest.raises(WeightsError, match=r"wrong size, expected 102,405 bytes, got 102,400"):
        fetch(url, target)
    assert leftovers(target.parent) == set()


@pytest.mark.parametrize("part", ["", "bytes 0-102399/102400", "bytes 2000-102399/102400", "bytes */102400"])
def test_another_part_than_was_asked_for_is_not_added(target: Path, url: str, server: Server, part: str) -> None:
    server.cut = [1000]
    server.headers = {"Content-Range": part}
    with pytest.raises(WeightsError, match=r"another part than asked for, expected from byte 1,000 on"):
        fetch(url, target)
    assert not target.exists()
    server.headers = {}
    assert fetch(url, target) == SHA


def test_a_part_of_a_file_of_untold_size_is_added(target: Path, url: str, server: Server) -> None:
    server.cut = [1000]
    server.headers = {"Content-Range": f"bytes 1000-{len(BODY) - 1}/*"}
    assert fetch(url, target) == SHA
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-"]


def test_a_server_that_has_no_such_part_is_asked_for_the_whole(target: Path, url: str, server: Server) -> None:
    server.cut = [40_000] + [0] * download.ATTEMPTS
    with pytest.raises(WeightsError):
        fetch(url, target)
    server.asked.clear()
    server.statuses = [416]
    assert fetch(url, target) == SHA
    assert [wanted for _, wanted in server.asked] == ["bytes=40000-", None]


def test_a_file_that_the_server_packed_is_not_taken_for_the_file(target: Path, url: str, server: Server) -> None:
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(WeightsError, match=r"the server packed the file, got gzip"):
        fetch(url, target)
    assert leftovers(target.parent) == set()


def test_a_file_of_untold_size_is_whole_when_it_ends_and_cut_off_when_it_is_too_large(
    target: Path, url: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.headers = {"Content-Length": ""}
    assert fetch(url, target) == SHA
    monkeypatch.setattr(download, "MAX_BYTES", 50_000)
    with pytest.raises(WeightsError, match=r"too large for weights, expected at most 50,000 bytes"):
        fetch(url, target.with_name("other.pth"))
    assert not target.with_name("other.pth").exists()


def test_the_hash_noted_at_the_first_download_is_enforced_at_the_next(target: Path, url: str, server: Server) -> None:
    fetch(url, target)
    target.unlink()
    server.files["w.pth"] = BODY[::-1]
    with pytest.raises(WeightsError, match=rf"not the file expected \(SHA-256\), expected {SHA}.*delete .*w.pth.json"):
        fetch(url, target)
    assert leftovers(target.parent) == {"w.pth.json"}


def test_an_html_page_is_not_a_file(target: Path, url: str, server: Server) -> None:
    server.headers = {"Content-Type": "text/html; charset=utf-8"}
    with pytest.raises(WeightsError, match=r"something else.*an HTML page"):
        fetch(url, target)


@pytest.mark.parametrize(
    ("body", "what"),
    [
        (b"\n<!DOCTYPE html><title>Sign in</title>", "an HTML page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "a Git LFS pointer"),
        (b"", "an empty file"),
    ],
)
def test_a_page_or_pointer_under_a_file_name_is_recognised(
    target: Path, url: str, server: Server, body: bytes, what: str
) -> None:
    server.files["w.pth"] = body
    with pytest.raises(WeightsError, match=f"something else, expected a weights file, got {what}"):
        fetch(url, target)
    assert leftovers(target.parent) == set()


def test_a_file_whose_hash_cannot_be_noted_serves_with_a_word_about_it(
    target: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def full(path: Path, value: object) -> None:
        raise OutputError("cannot be written: the file system is read-only", where=path)

    monkeypatch.setattr(cache, "write_json", full)
    target.parent.mkdir(parents=True)
    target.write_bytes(BODY)
    assert cache.verify_or_note(target) == SHA
    assert "w.pth could not be noted" in caplog.text


def test_redirects_at_the_same_scheme_are_followed(target: Path, url: str, server: Server) -> None:
    server.redirects["/start"] = "/w.pth"
    assert fetch(f"{server.base}/start", target) == SHA


@pytest.mark.parametrize(
    "location",
    [
        "ftp://127.0.0.1/w.pth",
        "file:///etc/passwd",
        "http://example.org/w.pth",
        "http://169.254.169.254/latest",
        "http://127.0.0.1@example.org/",
        "gopher://x",
    ],
)
def test_a_redirect_to_another_scheme_or_an_open_host_is_refused(target: Path, server: Server, location: str) -> None:
    server.redirects["/start"] = location
    with pytest.raises(WeightsError, match=r"refused to be redirected: weights come over https only"):
        fetch(f"{server.base}/start", target)
    assert leftovers(target.parent) == set()


def test_a_redirect_to_nonsense_is_one_line(target: Path, server: Server) -> None:
    server.redirects["/start"] = "data:,x"
    with pytest.raises(WeightsError, match=r"led to what is no address"):
        fetch(f"{server.base}/start", target)


def test_https_never_leads_to_http_not_even_at_localhost() -> None:
    from jointformer.model.transport import checked_url

    assert checked_url("https://example.org/a", "https://github.com/x").host == "example.org"
    with pytest.raises(WeightsError, match=r"https only"):
        checked_url("http://localhost/a", "https://github.com/x")


@pytest.mark.parametrize("address", ["http://example.org/w.pth", "ftp://example.org/w", "/etc/passwd", "https://x:y"])
def test_only_https_addresses_are_asked(target: Path, address: str) -> None:
    with pytest.raises(WeightsError, match=r"refused: weights come over https only|not an address"):
        fetch(address, target)


def test_redirects_in_a_circle_end(target: Path, server: Server) -> None:
    server.redirects["/start"] = "/start"
    with pytest.raises(WeightsError, match=r"more than 10 redirects"):
        fetch(f"{server.base}/start", target)


def test_a_size_that_nobody_publishes_is_refused_before_a_byte_is_written(
    target: Path, url: str, server: Server
) -> None:
    server.claim = 10**13
    with pytest.raises(WeightsError, match=r"too large for weights.*got 10,000,000,000,000 bytes"):
        fetch(url, target)
    assert leftovers(target.parent) == set()


def test_a_full_disk_is_said_before_it_is_full(target: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from types import SimpleNamespace

    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1000))
    with pytest.raises(OutputError, match=r"not enough room.*102,400 bytes free.*JOINTFORMER_HOME"):
        fetch(url, target)


def test_a_cache_that_cannot_be_a_folder_is_one_line(tmp_path: Path, url: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match=r"cannot be written"):
        fetch(url, tmp_path / "file" / "w.pth")


def test_several_that_want_one_file_fetch_it_once(target: Path, url: str, server: Server) -> None:
    with ThreadPoolExecutor(4) as pool:
        hashes = list(pool.map(lambda _: fetch(url, target, progress=False), range(4)))
    assert hashes == [SHA] * 4
    assert len(server.asked) == 1
    assert target.read_bytes() == BODY


def test_waiting_for_another_download_has_an_end(target: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from filelock import FileLock

    monkeypatch.setattr(download, "LOCK_WAIT", 0.05)
    target.parent.mkdir(parents=True)
    with FileLock(target.with_name(".w.pth.lock")), pytest.raises(WeightsError, match=r"another process"):
        fetch(url, target)


@pytest.mark.usefixtures("no_locks")
def test_without_locks_each_process_fetches_a_file_for_itself(target: Path, url: str, server: Server) -> None:
    target.parent.mkdir(parents=True)
    others = target.with_name("w.pth.partial")
    others.write_bytes(BODY[:7])  # what another process may be writing to
    server.cut = [1000]
    assert fetch(url, target) == SHA
    assert [wanted for _, wanted in server.asked] == [None, "bytes=1000-"]
    assert target.read_bytes() == BODY
    assert others.read_bytes() == BODY[:7]
    assert leftovers(target.parent) == {"w.pth", "w.pth.json", "w.pth.partial"}


@pytest.mark.usefixtures("no_locks")
def test_without_locks_nothing_stays_of_a_download_that_broke_off(target: Path, url: str, server: Server) -> None:
    server.cut = [40_000] + [0] * download.ATTEMPTS
    with pytest.raises(WeightsError, match="cannot be downloaded") as error:
        fetch(url, target)
    assert "are kept" not in str(error.value)
    assert leftovers(target.parent) == set()
