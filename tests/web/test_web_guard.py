"""Who is let in, and what can be reached."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import sqlite3
import sys
import time
from collections.abc import Callable, MutableMapping
from contextlib import closing
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from jointformer.data.video_writer import VideoWriter
from jointformer.errors import ConfigError
from jointformer.web import app, uploads
from jointformer.web.config import WebConfig
from web.helpers import Tool

TOKEN = "correct-horse-battery"


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost:9", "[::1]:8765", "127.0.0.1"])
def test_names_of_this_computer_are_answered(tool: Tool, host: str) -> None:
    assert tool.client.get("/api/server", headers={"host": host}).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8765", "127.0.0.1.evil.example", "a@127.0.0.1", "", "x:y"]
)
def test_other_names_are_refused_against_dns_rebinding(tool: Tool, host: str) -> None:
    answer = tool.client.get("/api/server", headers={"host": host})
    assert answer.status_code == 421
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize("method", ["POST", "GET", "DELETE", "PUT", "PATCH"])
def test_requests_of_other_sites_are_refused(tool: Tool, method: str, headers: dict[str, str]) -> None:
    tool.open()
    assert tool.client.request(method, f"/api/projects/{tool.project}", headers=headers).status_code == 403


def test_a_link_from_elsewhere_opens_the_page_but_cannot_embed_it(tool: Tool) -> None:
    navigate = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = tool.client.get("/", headers=navigate)
    assert answer.status_code == 200
    assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
    assert tool.client.get("/", headers={**navigate, "sec-fetch-mode": "cors"}).status_code == 403


def test_the_page_has_no_inline_scripts_or_styles(tool: Tool) -> None:
    page = tool.client.get("/").text
    assert "<script>" not in page
    assert " style=" not in page
    assert " onclick=" not in page
    assert "//" not in page.replace("</", "").replace("http://www.w3.org", "")
    assert "unsafe" not in tool.client.get("/").headers["content-security-policy"]


def test_other_addresses_than_this_computers_need_a_token(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="token"):
        WebConfig(tmp_path, (tmp_path,), host="0.0.0.0")
    with pytest.raises(ConfigError, match="token"):
        WebConfig(tmp_path, (tmp_path,), host="192.168.1.7", token="short")
    WebConfig(tmp_path, (tmp_path,), host="::", token=TOKEN)


def test_without_the_token_nothing_is_answered(start: Callable[..., Tool]) -> None:
    client = start(host="0.0.0.0", token=TOKEN).client
    assert client.get("/api/projects").status_code == 401
    assert client.get("/static/js/main.js").status_code == 401
    assert client.get("/api/projects", headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/projects", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    asked = client.get("/")
    assert asked.status_code == 401
    assert "<form" in asked.text
    wrong = client.get("/?token=wrong-horse-battery")
    assert wrong.status_code == 401
    assert "not the token" in wrong.text


def test_the_token_in_the_address_becomes_a_cookie_and_leaves_the_address(start: Callable[..., Tool]) -> None:
    client = start(host="0.0.0.0", token=TOKEN).client
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert client.get("/api/projects").status_code == 200
    # A rebound name does not have the cookie; another site's request is refused in spite of it.
    assert client.get("/api/projects", headers={"origin": "http://evil.example"}).status_code == 403


@pytest.mark.parametrize(
    "others",
    ['prefs={"theme":"dark"}; ', "a b=c; ", "x[0]=1; =; ", f"{'y' * 3000}=@,; ", "jointformer_8765=older; "],
)
def test_cookies_of_other_programs_do_not_hide_the_token(start: Callable[..., Tool], others: str) -> None:
    client = start(host="0.0.0.0", token=TOKEN).client

    def status(cookies: str) -> int:
        return client.get("/api/projects", headers={"cookie": cookies}).status_code

    own = f"jointformer_8765={TOKEN}"
    assert [status(others + own), status(f"{own}; {others}"), status(others), status(f"not_{own}")] == [
        200,
        200,
        401,
        401,
    ]


@pytest.mark.parametrize(
    "path", ["../secret.mp4", "/etc/passwd", "~", "square/../../secret.mp4", "link", "a\0b", "/", "~\0"]
)
def test_paths_outside_the_chosen_folders_are_refused(tool: Tool, videos: Path, path: str) -> None:
    (videos.parent / "secret.mp4").write_bytes(b"secret")
    os.symlink(videos.parent, videos / "link")
    answer = tool.client.post("/api/projects", json={"path": path})
    assert answer.status_code == 400
    assert "outside the folders" in answer.json()["error"] or "not a path" in answer.json()["error"]
    assert tool.client.get("/api/files", params={"path": path}).status_code == 400


@pytest.mark.parametrize("path", ["x" * 300, "界" * 90, "square/" + "x" * 5000])
def test_paths_too_long_for_the_file_system_are_not_there(tool: Tool, path: str) -> None:
    answers = [tool.client.post("/api/projects", json={"path": path}), tool.client.get("/api/files?path=" + path)]
    assert [answer.status_code for answer in answers] == [400, 400]
    assert all("no such" in answer.json()["error"] for answer in answers)


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
def test_folders_are_listed_by_a_path_in_the_body_that_no_address_can_hold(tool: Tool, videos: Path) -> None:
    os.rename(videos / "square", os.fsencode(videos) + b"/squ\xe9")
    (folder,) = tool.client.post("/api/files", json={}).json()["folders"]
    body = json.dumps({"path": folder["path"]})
    answer = tool.client.post("/api/files", content=body, headers={"content-type": "application/json"})
    assert answer.json()["pictures"] == 30
    for path in (7, "..", ["square"]):
        assert tool.client.post("/api/files", json={"path": path}).status_code == 400, path


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
def test_files_whose_names_are_no_utf8_are_listed_opened_and_told_of(tool: Tool, videos: Path) -> None:
    os.rename(videos / "square", os.fsencode(videos) + b"/squ\xe9")
    (folder,) = tool.client.get("/api/files").json()["folders"]
    answers = []
    for path in (folder["path"], folder["path"] + "0"):
        content = json.dumps({"path": path, "name": "square"})  # in ASCII, as browsers send such letters
        answers.append(tool.client.post("/api/projects", content=content, headers={"content-type": "application/json"}))
    assert answers[0].status_code == 200, answers[0].text
    assert tool.client.get("/api/projects").json()[0]["video"] == folder["path"]
    assert "no such file" in answers[1].json()["error"]


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("Screen Recording at 3.14.15\u202fPM", "Screen Recording at 3.14.15\u202fPM"),  # as macOS calls them
        ("休暇\u30002024", "休暇\u30002024"),
        ("tab\tand\nline", "tab and line"),
        ("caf\udce9 1", "caf  1"),  # no UTF-8
        ("\u202e", "video"),
        ("x" * 150, "x" * 120),
    ],
)
@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
def test_a_video_of_any_name_is_opened_and_uploaded(tool: Tool, videos: Path, stem: str, name: str) -> None:
    path = videos / stem
    (videos / "square").rename(path)
    content = json.dumps({"path": str(path)})  # in ASCII, as browsers send such letters
    answer = tool.client.post("/api/projects", content=content, headers={"content-type": "application/json"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["name"] == name
    assert [row["name"] for row in tool.client.get("/api/projects").json()] == [name]
    started, _ = upload(tool, {each.name: each.read_bytes() for each in path.iterdir()})
    content = json.dumps({"upload": started, "name": stem})
    answer = tool.client.post("/api/projects", content=content, headers={"content-type": "application/json"})
    assert answer.json()["name"] == name


@pytest.mark.skipif(sys.platform == "win32", reason="other file systems have no such names")
def test_blanks_at_a_paths_ends_are_its_names_where_such_a_folder_is_there(tool: Tool, videos: Path) -> None:
    shutil.copytree(videos / "square", videos / " twin ")
    for path in (str(videos / " twin "), " twin "):
        assert tool.client.get("/api/files", params={"path": path}).json()["pictures"] == 30
        assert tool.open(path)["name"] == "twin"
    assert tool.open(" square\n")["name"] == "square"  # as pasted
    (videos / "square ").mkdir()
    assert tool.client.get("/api/files", params={"path": "square "}).json()["pictures"] == 0
    assert tool.client.get("/api/files", params={"path": "square  "}).json()["pictures"] == 30


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may look everywhere")
def test_a_folder_that_may_be_listed_but_not_entered_shows_nothing(tool: Tool, videos: Path) -> None:
    tool.open()
    (videos / "clip.mp4").write_bytes(b"x")
    videos.chmod(0o444)
    try:
        listing = tool.client.get("/api/files").json()
        answer = tool.client.post("/api/projects", json={"path": "."})
        (row,) = tool.client.get("/api/projects").json()
    finally:
        videos.chmod(0o755)
    assert (listing["folders"], listing["videos"]) == ([], [])
    assert "holds no pictures" in answer.json()["error"]
    assert row["problem"] == "its video is no longer there"


def test_the_answer_is_the_same_whether_a_file_outside_is_there_or_not(tool: Tool, videos: Path) -> None:
    answers = []
    for name in ("there.mp4", "gone.mp4"):
        if name == "there.mp4":
            (videos.parent / name).write_bytes(b"x")
        text = tool.client.post("/api/projects", json={"path": f"../{name}"}).json()["error"]
        answers.append(text.replace(name, ""))
    assert answers[0] == answers[1]


def test_links_that_leave_the_chosen_folders_are_neither_listed_nor_opened(
    tool: Tool, videos: Path, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Image.new("RGB", (64, 24)).save(outside / "secret.png")
    (outside / "secret.mp4").write_bytes(b"x")
    os.symlink(outside, videos / "folder-link")
    os.symlink(outside / "secret.mp4", videos / "link.mp4")
    os.symlink(outside / "secret.png", videos / "square" / "9999.png")
    listing = tool.client.get("/api/files").json()
    assert [entry["name"] for entry in listing["folders"]] == ["square"]
    assert listing["videos"] == []
    assert listing["parent"] is None
    error = tool.client.post("/api/projects", json={"path": "square"}).json()["error"]
    assert "link to outside" in error


def test_links_inside_the_chosen_folders_work(tool: Tool, videos: Path) -> None:
    os.symlink(videos / "square", videos / "same")
    assert tool.open("same")["frames"] == 30


def test_a_project_of_a_folder_no_longer_allowed_is_not_opened(
    start: Callable[..., Tool], videos: Path, tmp_path: Path
) -> None:
    tool = start()
    tool.open()
    tool.client.__exit__(None, None, None)
    (tmp_path / "other").mkdir()
    later = start(roots=(tmp_path / "other",))
    later.project = tool.project
    assert "outside the folders" in later.ask("GET", "", status=400)["error"]


@pytest.mark.parametrize("part", ["media", "exports", "media/0000.png"])
def test_links_in_a_strangers_project_lead_nowhere(tool: Tool, videos: Path, tmp_path: Path, part: str) -> None:
    pictures = {path.name: path.read_bytes() for path in (videos / "square").iterdir()}
    started, _ = upload(tool, pictures)
    made = tool.client.post("/api/projects", json={"upload": started}).json()["id"]
    tool.project = "handed-over"
    home = shutil.copytree(tmp_path / "projects" / made, tmp_path / "projects" / tool.project)
    with closing(sqlite3.connect(home / "session.db", isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = ? WHERE key = 'video'", (json.dumps(str(home / "media")),))
    assert tool.state()["frames"] == 30
    tool.client.__exit__(None, None, None)
    tool.client.__enter__()
    (home / "exports").mkdir(exist_ok=True)
    (home / part).rename(tmp_path / "private")
    (home / part).symlink_to(tmp_path / "private")
    assert "is a link to" in tool.ask("GET", "", status=400)["error"]
    tool.ask("DELETE", "")
    assert (tmp_path / "private").exists()


@pytest.mark.parametrize("kind", ["pipe", "link"])
def test_a_strangers_thumbnail_that_is_no_file_is_none(tool: Tool, tmp_path: Path, kind: str) -> None:
    tool.open()
    thumbnail = tmp_path / "projects" / tool.project / "thumbnail.jpg"
    if kind == "pipe":
        thumbnail.unlink()
        os.mkfifo(thumbnail)
    else:
        thumbnail.rename(tmp_path / "private")
        thumbnail.symlink_to(tmp_path / "private")
    tool.ask("GET", "/thumbnail", status=404)


@pytest.mark.parametrize(
    "path", ["/static/../app.py", "/static/%2e%2e/app.py", "/static/..%2fapp.py", "/static//etc/passwd"]
)
def test_only_the_pages_own_files_are_served(tool: Tool, path: str) -> None:
    assert tool.client.get(path).status_code == 404


@pytest.mark.parametrize("name", ["%2e%2e%2fproject.json", "session.db", ".hidden", "a%00b"])
def test_only_exports_are_downloaded(tool: Tool, name: str) -> None:
    tool.open()
    answer = tool.client.get(f"/api/projects/{tool.project}/exports/{name}")
    assert answer.status_code in (400, 404, 405)


@pytest.mark.parametrize("project", ["..", "%2e%2e", ".uploads", "A", "x" * 200])
def test_only_projects_are_opened(tool: Tool, project: str) -> None:
    assert tool.client.get(f"/api/projects/{project}").status_code in (200, 404)
    assert tool.client.get(f"/api/projects/{project}/timeline").status_code == 404


def upload(tool: Tool, files: dict[str, bytes]) -> tuple[str, list[Any]]:
    started = tool.client.post("/api/uploads", json={}).json()["upload"]
    answers = [tool.client.put(f"/api/uploads/{started}", params={"name": n}, content=c) for n, c in files.items()]
    return started, answers


@pytest.mark.parametrize("kind", ["pictures", "video"])
def test_uploads_are_found_where_the_projects_were_moved_to(
    start: Callable[..., Tool], videos: Path, tmp_path: Path, kind: str
) -> None:
    files = {path.name: path.read_bytes() for path in (videos / "square").iterdir()}
    if kind == "video":
        with VideoWriter(tmp_path / "square.mp4", Fraction(25), (24, 64)) as writer:
            for content in files.values():
                writer.write(np.asarray(Image.open(io.BytesIO(content)).convert("RGB")))
        files = {"square.mp4": (tmp_path / "square.mp4").read_bytes()}
    first = start()
    started, _ = upload(first, files)
    project = first.client.post("/api/projects", json={"upload": started}).json()["id"]
    first.client.__exit__(None, None, None)
    (tmp_path / "projects").rename(tmp_path / "elsewhere")
    tool = start(projects=tmp_path / "elsewhere")
    tool.project = project
    assert [row["problem"] for row in tool.client.get("/api/projects").json()] == [None]
    assert tool.state()["frames"] == 30


def test_uploaded_pictures_become_a_project_that_deleting_removes(tool: Tool, videos: Path, tmp_path: Path) -> None:
    pictures = {path.name: path.read_bytes() for path in (videos / "square").iterdir()}
    started, answers = upload(tool, pictures)
    assert all(answer.status_code == 200 for answer in answers)
    state = tool.client.post("/api/projects", json={"upload": started, "name": "mine"}).json()
    assert state["frames"] == 30
    tool.project = state["id"]
    assert tool.client.post("/api/projects", json={"upload": started}).status_code == 400
    tool.ask("DELETE", "")
    assert not (tmp_path / "projects" / state["id"]).exists()


def test_uploads_are_limited_in_size_and_nothing_of_them_stays(start: Callable[..., Tool], tmp_path: Path) -> None:
    tool = start(max_upload=2**20)
    started, (good, bad) = upload(tool, {"a.png": b"x" * 2**19, "b.png": b"x" * (2**19 + 1)})
    assert good.status_code == 200
    assert bad.status_code == 400
    assert "too large" in bad.json()["error"]
    assert [path.name for path in (tmp_path / "projects" / ".uploads" / started).iterdir()] == ["a.png"]


@pytest.mark.parametrize("name", ["a.exe", "a.html", ".mp4", "x.mp4.sh", "", "m3u8", "list.m3u8", "clip.svg"])
def test_only_videos_and_pictures_are_taken(tool: Tool, name: str) -> None:
    _, (answer,) = upload(tool, {name: b"x"})
    assert answer.status_code == 400


@pytest.mark.parametrize(
    "name", ["界" * 90 + ".mp4", "x" * 300 + ".mp4", "." * 200 + "é" * 120 + ".mp4", "e\u0301" * 60 + ".png"]
)
def test_long_names_of_uploads_keep_their_ends(tool: Tool, name: str) -> None:
    _, (answer,) = upload(tool, {name: b"x"})
    assert answer.status_code == 200, answer.text
    kept = answer.json()["name"]
    assert name.endswith(kept)
    assert 100 < len(kept.encode()) <= 140


def test_names_of_uploads_cannot_leave_their_folder(tool: Tool, tmp_path: Path) -> None:
    names = {
        "../../../evil.mp4": "evil.mp4",
        "..\\c:\\more.mp4": "more.mp4",
        'a:b\n\x7f\x85\u2028\u202e<c>"|?*.mp4': "a_b______c_____.mp4",
    }
    started, answers = upload(tool, dict.fromkeys(names, b"x"))
    assert [answer.json()["name"] for answer in answers] == list(names.values())
    inside = {path.name for path in (tmp_path / "projects" / ".uploads" / started).iterdir()}
    assert inside == set(names.values())


@pytest.mark.parametrize(
    "content",
    [b"not a video", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", b"ffconcat version 1.0\nfile /etc/passwd\n"],
)
def test_an_upload_that_is_no_video_is_refused_and_deleted(tool: Tool, tmp_path: Path, content: bytes) -> None:
    started, _ = upload(tool, {"clip.mp4": content})
    answer = tool.client.post("/api/projects", json={"upload": started, "name": "x"})
    assert answer.status_code == 400
    assert list((tmp_path / "projects" / ".uploads").iterdir()) == []
    assert tool.client.get("/api/projects").json() == []


@pytest.mark.parametrize("path", ["/api/uploads/{}", "/api/projects"])
def test_a_page_that_goes_away_while_it_sends_is_no_error_and_leaves_nothing(
    tool: Tool, tmp_path: Path, path: str
) -> None:
    started, _ = upload(tool, {})
    parts: list[dict[str, Any]] = [
        {"type": "http.request", "body": b"xxx", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> dict[str, Any]:
        return parts.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        pass

    scope = {
        "type": "http",
        "method": "PUT" if "uploads" in path else "POST",
        "path": path.format(started),
        "query_string": b"name=a.mp4",
        "headers": [(b"host", b"127.0.0.1")],
    }

    async def ask() -> None:
        await tool.client.app(scope, receive, send)

    asyncio.run(ask())
    assert list((tmp_path / "projects" / ".uploads" / started).iterdir()) == []
    assert tool.client.put(f"/api/uploads/{started}?name=a.mp4", content=b"x").status_code == 200


def test_a_page_can_give_up_an_upload_and_those_that_nobody_sends_go_by_themselves(
    start: Callable[..., Tool], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_LOOK_EVERY", 0.02)
    tool = start()
    started, _ = upload(tool, {"a.png": b"x"})
    assert tool.client.delete(f"/api/uploads/{started}").status_code == 200
    assert list((tmp_path / "projects" / ".uploads").iterdir()) == []
    upload(tool, {"a.png": b"x"})
    monkeypatch.setattr(uploads, "_SILENT", 0.0)
    end = time.monotonic() + 60
    while list((tmp_path / "projects" / ".uploads").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize("upload_id", ["..", "0" * 16, "%2e%2e"])
def test_only_begun_uploads_are_written(tool: Tool, upload_id: str) -> None:
    assert tool.client.put(f"/api/uploads/{upload_id}", params={"name": "a.mp4"}, content=b"x").status_code in (
        400,
        404,
    )
