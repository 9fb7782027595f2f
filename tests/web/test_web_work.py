"""A person's work in the web tool: open, draw, track, correct, export, and find it all again."""

from __future__ import annotations

import errno
import gc
import io
import json
import os
import re
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from jointformer.data.export_selection import Selection
from jointformer.data.masks import encode_mask, write_mask
from jointformer.errors import DataError, OutputError
from jointformer.session import Session, stored_video
from jointformer.web import app, shelf
from jointformer.web.events import Broadcaster
from jointformer.web.exports import Exports
from jointformer.web.models import SharedModel
from jointformer.web.record import Range, RecordFile, is_project
from jointformer.web.runs import encode_runs
from session.scripted import H, ScriptedSession, SquareTracker, W, square, video
from web.helpers import GatedTracker, Tool


def test_a_video_is_opened_drawn_tracked_corrected_and_exported(tool: Tool) -> None:
    state = tool.open()
    assert (state["frames"], state["height"], state["width"]) == (30, 24, 64)
    SquareTracker.lost = {12}
    tool.draw(0, 1, square(0), name="knight", colour=[10, 200, 30])
    assert tool.state()["objects"] == [{"id": 1, "name": "knight", "colour": [10, 200, 30]}]
    assert tool.track()["kind"] == "finished"
    assert tool.statuses() == [1] + [2] * 29
    assert not np.array_equal(tool.masks(20)[1], square(20))
    SquareTracker.lost = set()
    tool.draw(12, 1, square(12))
    assert tool.statuses()[11:14] == [4, 1, 4]
    assert tool.track()["kind"] == "finished"
    assert all(np.array_equal(tool.masks(t)[1], square(t)) for t in range(30))
    with zipfile.ZipFile(io.BytesIO(tool.export("palette"))) as archive:
        names = [name for name in archive.namelist() if name.endswith(".png")]
        assert len(names) == 30
        last = np.asarray(Image.open(io.BytesIO(archive.read(names[-1]))))
    assert np.array_equal(last, square(29).astype(np.uint8))
    with zipfile.ZipFile(io.BytesIO(tool.export("yolo", start=3, end=5))) as archive:
        (settings,) = (name for name in archive.namelist() if name.endswith("/data.yaml"))
        root = settings.removesuffix("data.yaml")
        files = {f"{root}{place}" for place in ("images/train/square_0003.jpg", "labels/val/square_0005.txt")}
        assert files < set(archive.namelist())
        assert archive.read(settings).endswith(b'names:\n  0: "knight"\n')
    tool.export("coco", start=3, end=5)
    assert len(tool.state()["exports"]["files"]) == 3


def test_an_export_that_another_page_deletes_is_none_or_breaks_off(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    content = tool.export("coco")
    name = tool.state()["exports"]["files"][0]["name"]
    path = Exports.path
    with monkeypatch.context() as patch:
        patch.setattr(Exports, "path", lambda self, name: deleted(path(self, name)))
        assert "no such export" in tool.ask("GET", f"/exports/{name}", status=400)["error"]
    assert tool.export("coco") == content
    address = f"/api/projects/{tool.project}/exports/{name}"
    rest = tool.client.get(address, headers={"Range": "bytes=9-"})  # as a browser that goes on with a download
    assert (rest.status_code, rest.content) == (206, content[9:])
    find = Exports.find
    monkeypatch.setattr(Exports, "find", lambda self, name: (found := find(self, name), deleted(found[0]))[0])
    answer = tool.client.get(address)
    assert (answer.status_code, answer.content) == (200, b"")
    assert int(answer.headers["content-length"]) == len(content)
    assert tool.state()["exports"]["files"] == []


class Waits:
    """A session whose export ends when it may."""

    def __init__(self) -> None:
        self.may_end = threading.Event()

    def export(self, format: str, path: Path, **options: Any) -> None:
        self.may_end.wait(60)
        path.write_bytes(b"{}")


def test_an_export_that_cannot_be_written_is_told_by_the_name_of_its_file(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _data: bytes) -> None:
        raise OutputError("cannot be written: the disk is full", where=path)

    monkeypatch.setattr("jointformer.data.export_images.write_bytes", refuse)
    tool.open()
    tool.draw(0, 1, square(0))
    name = tool.ask("POST", "/exports", {"format": "palette"})["name"]
    failure = tool.until(lambda state: not state["exports"]["running"])["exports"]["failure"]
    assert f"/exports/{name}/0000.png: cannot be written: the disk is full" in failure.replace(os.sep, "/")


def test_an_export_that_is_stopped_leaves_nothing_and_makes_room_for_another(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def waits(self: Selection) -> Iterator[int]:
        for frame in each(self):
            begun.set()
            may_go_on.wait(60)
            yield frame

    each, begun, may_go_on = Selection.each, threading.Event(), threading.Event()
    monkeypatch.setattr(Selection, "each", waits)
    tool.open()
    tool.draw(0, 1, square(0))
    for format in ("palette", "overlay"):
        begun.clear()
        may_go_on.clear()
        name = tool.ask("POST", "/exports", {"format": format})["name"]
        assert begun.wait(60)
        tool.ask("DELETE", f"/exports/{name}")
        may_go_on.set()
        exports = tool.until(lambda state: not state["exports"]["running"])["exports"]
        assert (exports["files"], exports["failure"], exports["done"]) == ([], None, 0)
        assert list((tmp_path / "projects" / tool.project / "exports").iterdir()) == []
    assert len(tool.export("coco")) > 0


def test_a_project_that_is_closed_stops_the_export_that_is_being_written(tmp_path: Path) -> None:
    class Endless(Waits):
        def export(self, format: str, path: Path, **options: Any) -> None:
            while not self.may_end.wait(0.01):
                options["progress"](1, 9)

    exports = Exports(tmp_path, cast(Session, session := Endless()), lambda kind, make: None)
    exports.start("title", "coco", {})
    began = time.monotonic()
    exports.close()
    ended, now = time.monotonic(), exports.status()
    session.may_end.set()
    assert ended - began < 5
    assert (now["running"], now["failure"], now["files"]) == (None, None, [])


def test_an_export_that_ends_while_the_files_are_listed_is_not_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ends_meanwhile(self: Path) -> Any:
        found = list(list_files(self))
        if threading.current_thread() is threading.main_thread():
            session.may_end.set()
            exports.wait(60)
        return iter(found)

    session, list_files = Waits(), Path.iterdir
    exports = Exports(tmp_path, cast(Session, session), lambda kind, make: None)
    name = exports.start("title", "coco", {})
    with monkeypatch.context() as patch:
        patch.setattr(Path, "iterdir", ends_meanwhile)
        assert exports.status()["running"] == name
    now = exports.status()
    assert (now["running"], [file["name"] for file in now["files"]]) == (None, [name])


def test_the_last_that_pages_hear_of_an_export_is_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def slowly(self: Path) -> Any:
        found = list(list_files(self))
        if threading.current_thread() is threading.main_thread():
            session.may_end.set()
            exports.wait(0.3)  # long enough to end and to tell it, if nobody sees to the order
        return iter(found)

    session, list_files = Waits(), Path.iterdir
    events, heard = Broadcaster(), list[str]()
    monkeypatch.setattr(events, "_send", heard.append)
    monkeypatch.setattr(Path, "iterdir", slowly)
    exports = Exports(tmp_path, cast(Session, session), events.publish)
    name = exports.start("title", "coco", {})
    exports.wait(60)
    running = [json.loads(text.partition("data: ")[2])["running"] for text in heard]
    assert running == [name, None]


def deleted(path: Path) -> Path:
    path.unlink()
    return path


def test_everything_is_found_again_after_a_restart(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0), name="knight")
    tool.track(end=10)
    tool.export("sheet")
    tool.ask("PATCH", "", {"frame": 7, "name": "a battle"})
    before, project = tool.state(), tool.project
    tool.client.__exit__(None, None, None)
    later = start()
    later.project = project
    rows = later.client.get("/api/projects").json()
    assert [(row["id"], row["name"], row["problem"]) for row in rows] == [(project, "a battle", None)]
    after = later.state()
    same = {"name", "frame", "objects", "annotated", "undo", "exports", "frames"}
    assert {key: after[key] for key in same} == {key: before[key] for key in same}
    assert later.statuses() == [1] + [2] * 10 + [0] * 19
    assert later.client.get(f"/api/projects/{project}/thumbnail").headers["content-type"] == "image/jpeg"


@contextmanager
def slowly_opened(gate: threading.Semaphore) -> Iterator[None]:
    """Let a step pass from time to time: one that passes before the run is told to stop is followed by another."""
    over = threading.Event()

    def let_pass() -> None:
        while not over.wait(0.1):
            gate.release(1)

    thread = threading.Thread(target=let_pass)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_a_run_cut_off_by_the_programs_end_loses_nothing_and_goes_on(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    GatedTracker.gate = threading.Semaphore(10)
    tool.ask("POST", "/track", {"direction": "forward"})
    tool.until(lambda state: state["tracking"].get("done", 0) >= 8)
    project = tool.project
    with slowly_opened(GatedTracker.gate):
        tool.client.__exit__(None, None, None)
    GatedTracker.gate = None
    later = start()
    later.project = project
    state = later.state()
    assert state["interrupted"] == {
        "start": None, "end": None, "direction": "forward", "again": False, "since": None,
    }  # fmt: skip
    done = later.statuses().count(2)
    assert done >= 8
    SquareTracker.calls = []
    later.track(**state["interrupted"])
    assert later.statuses() == [1] + [2] * 29
    # Only what was missing, from the last finished frame and the drawn one on.
    assert sum(kind == "step" for kind, _ in SquareTracker.calls) <= 29 - done + 2
    assert later.state()["interrupted"] is None


def test_a_cut_off_run_that_tracks_all_again_goes_on_where_it_was(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    tool.track()
    for _ in range(2):  # it may be cut off more than once
        GatedTracker.gate = threading.Semaphore(10)
        SquareTracker.calls = []
        tool.ask("POST", "/track", tool.state()["interrupted"] or {"again": True, "end": 25})
        tool.until(lambda state: state["tracking"].get("done", 0) >= 8)
        with slowly_opened(GatedTracker.gate):
            tool.client.__exit__(None, None, None)
        seen = {frame for kind, frame in SquareTracker.calls if kind == "step"}
        GatedTracker.gate = None
        project, tool = tool.project, start()
        tool.project = project
    assert max(seen) > 15
    SquareTracker.calls = []
    assert tool.ask("POST", "/plan", tool.state()["interrupted"])["steps"] == 25 - max(seen)
    tool.track(**tool.state()["interrupted"])
    steps = [frame for kind, frame in SquareTracker.calls if kind == "step"]
    assert steps == [0, *range(max(seen), 26)]  # from the drawn frame and the last finished one on
    assert tool.state()["interrupted"] is None


def test_a_run_cut_off_after_its_last_frame_is_done(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    tool.track(end=20)
    projects = tool.client.app.state.shelf  # type: ignore[attr-defined]
    projects.close()
    record = RecordFile.load(projects.folder / tool.project)
    record.update(tracking=Range(end=20))  # as a kill leaves it before its end is noted
    for _ in range(2):  # later edits do not make it one that was cut off
        assert tool.state()["interrupted"] is None
        tool.draw(10, 1, square(10))
        projects.close()


def test_a_run_stops_after_the_frame_it_is_at_and_is_not_called_interrupted(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    gate = tool.begin_to_track()
    assert "tracked already" in tool.ask("POST", "/track", {}, status=400)["error"]
    tool.ask("POST", "/stop", {})
    gate.release(2)
    state = tool.until(lambda state: state["tracking"]["state"] == "idle")
    assert state["tracking"]["outcome"]["kind"] == "stopped"
    assert state["interrupted"] is None
    assert 3 <= tool.statuses().count(2) <= 7


def test_an_edit_while_tracking_ends_the_run_and_says_so(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    gate = tool.begin_to_track()
    tool.draw(20, 1, square(20))
    gate.release(100)
    state = tool.until(lambda state: state["tracking"]["state"] == "idle")
    assert state["tracking"]["outcome"]["kind"] == "edited"


def test_a_run_over_frames_that_are_up_to_date_says_how_far_an_edit_let_it_come(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    tool.track()
    gate = tool.begin_to_track(again=True)
    tool.draw(0, 2, square(0, 14))
    gate.release(100)
    outcome = tool.until(lambda state: state["tracking"]["state"] == "idle")["tracking"]["outcome"]
    assert outcome["kind"] == "edited"
    assert re.fullmatch(r"tracking stopped after \d of 29 steps, because masks were changed", outcome["text"])


def test_naming_an_object_while_tracking_ends_no_run(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    gate = tool.begin_to_track()
    tool.ask("PUT", "/objects/1", {"name": "knight"})
    gate.release(100)
    outcome = tool.until(lambda state: state["tracking"]["state"] == "idle")["tracking"]["outcome"]
    assert (outcome["kind"], outcome["done"]) == ("finished", 29)
    assert tool.state()["objects"][0]["name"] == "knight"


def test_frames_that_could_not_be_read_are_told_of_when_tracking_is_done(tool: Tool, videos: Path) -> None:
    tool.open()
    (videos / "square/0005.png").write_bytes(b"")
    tool.draw(0, 1, square(0))
    outcome = tool.track()
    assert (outcome["kind"], outcome["held"]) == ("finished", 1)
    assert "1 frames could not be read" in outcome["text"]
    assert tool.statuses()[4:7] == [2, 6, 2]


def test_a_video_that_is_gone_is_not_tracked(tool: Tool, videos: Path) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    (videos / "square").rename(videos / "elsewhere")
    outcome = tool.track()
    assert outcome["kind"] == "failed"
    assert "0001.png" in outcome["text"] or "0000.png" in outcome["text"]
    assert tool.statuses() == [1] + [0] * 29


def test_a_project_that_was_tracked_with_another_model_says_so(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    assert tool.state()["model"] == {"now": "tiny", "before": ""}
    tool.draw(0, 1, square(0))
    tool.track(end=5)
    tool.client.__exit__(None, None, None)
    project, tool = tool.project, start(model="small.safetensors")
    tool.project = project
    assert tool.state()["model"] == {"now": "small.safetensors", "before": "tiny"}


def test_two_projects_are_not_tracked_at_once(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    other = Tool(tool.client)
    other.open()
    other.draw(0, 1, square(0))
    GatedTracker.gate = threading.Semaphore(2)
    tool.ask("POST", "/track", {})
    assert "another project" in other.ask("POST", "/track", {}, status=400)["error"]


def test_a_run_may_begin_as_soon_as_the_one_before_has_told_its_end(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    update = RecordFile.update

    def slow(self: RecordFile, **changes: Any) -> None:
        if changes == {"tracking": None}:  # the run is forgotten after its end is told
            time.sleep(0.2)
        update(self, **changes)

    monkeypatch.setattr(RecordFile, "update", slow)
    tool.open()
    tool.draw(0, 1, square(0))
    assert tool.track(end=5)["kind"] == "finished"
    assert tool.track(end=9)["kind"] == "finished"


def test_a_failing_model_is_told_in_one_line(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    from jointformer.errors import WeightsError

    def refuse(self: SharedModel) -> None:
        raise WeightsError("no weights here", hint="give --model")

    monkeypatch.setattr(SharedModel, "get", refuse)
    tool.open()
    tool.draw(0, 1, square(0))
    assert tool.track() == {
        "kind": "failed",
        "text": "no weights here; give --model",
        "seconds": pytest.approx(0, abs=5),
    }


def test_how_a_run_ended_is_told_also_when_its_project_has_been_closed_since(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    outcome = tool.track()
    opened = tool.client.app.state.shelf  # type: ignore[attr-defined]
    monkeypatch.setattr(shelf, "_REST", -1.0)
    before = opened.get(tool.project)
    tool.until(lambda _: not before.busy)
    opened.close_unused()
    assert opened.get(tool.project) is not before
    assert tool.state()["tracking"] == {"state": "idle", "outcome": outcome}


def test_exports_of_uploaded_pictures_have_the_projects_name(tool: Tool) -> None:
    started = tool.client.post("/api/uploads", json={}).json()["upload"]
    for index, frame in enumerate(video(2)):
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "PNG")
        tool.client.put(f"/api/uploads/{started}", params={"name": f"{index}.png"}, content=file.getvalue())
    tool.project = tool.client.post("/api/projects", json={"upload": started, "name": "Überfahrt der Katzen"}).json()[
        "id"
    ]
    tool.draw(0, 1, square(0))
    assert json.loads(tool.export("coco"))["images"][0]["file_name"] == "uberfahrt-der-katzen/0.png"
    tool.ask("PATCH", "", {"name": "ñandú"})
    assert json.loads(tool.export("coco"))["images"][0]["file_name"] == "nandu/0.png"


def test_the_answer_to_a_mask_tells_the_version_that_has_it(tool: Tool) -> None:
    tool.open()
    answer = tool.ask("PUT", "/frames/0/masks/1", {"runs": encode_runs(square(0))})
    assert answer == {"version": tool.state()["version"]}


def test_undo_takes_a_new_object_with_its_name_and_colour_and_redo_brings_it_back(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0), name="knight", colour=[1, 2, 3])
    tool.ask("PUT", "/objects/1", {"name": "bishop"})
    tool.ask("POST", "/undo", {})
    assert tool.state()["objects"] == [{"id": 1, "name": "knight", "colour": [1, 2, 3]}]
    tool.ask("POST", "/undo", {})
    state = tool.state()
    assert (state["objects"], state["annotated"], state["undo"]) == ([], [], None)
    tool.ask("POST", "/redo", {})
    assert tool.state()["objects"] == [{"id": 1, "name": "knight", "colour": [1, 2, 3]}]
    assert tool.state()["redo"] == "object"


def test_undo_and_redo_tell_what_they_took_and_whether_there_was_anything(tool: Tool) -> None:
    tool.open()
    assert tool.ask("POST", "/undo", {}) == {"edit": None}
    tool.draw(0, 1, square(0))
    assert tool.ask("POST", "/undo", {}) == {"edit": "masks"}
    assert tool.ask("POST", "/redo", {}) == {"edit": "masks"}
    assert tool.ask("POST", "/redo", {}) == {"edit": None}


def test_undoing_a_renaming_leaves_the_drawing(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    tool.draw(3, 1, square(3))
    tool.ask("PUT", "/objects/1", {"name": "bishop"})
    tool.ask("POST", "/undo", {})
    state = tool.state()
    assert (state["objects"][0]["name"], state["annotated"]) == ("object 1", [0, 3])


def test_undoing_a_renaming_leaves_what_was_drawn_in_python_before_it(
    start: Callable[..., Tool], tmp_path: Path
) -> None:
    tool = start()
    tool.open()
    tool.client.__exit__(None, None, None)
    with ScriptedSession.load(tmp_path / "projects" / tool.project) as session:
        session.add_masks(3, {1: square(3)})
        session.set_object(1, name="bishop")
    later = start()
    later.project = tool.project
    later.ask("POST", "/undo", {})
    state = later.state()
    assert ([one["name"] for one in state["objects"]], state["annotated"]) == (["object 1"], [3])
    later.ask("POST", "/redo", {})
    assert later.state()["objects"][0]["name"] == "bishop"


def test_objects_and_masks_go_when_they_are_told_to(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    tool.draw(0, 2, square(0, 14))
    tool.draw(0, 2**53 - 1, square(20))
    tool.ask("DELETE", "/frames/0/masks?object=2")
    tool.ask("DELETE", f"/frames/0/masks?object={2**53 - 1}")
    assert set(tool.masks(0)) == {1}
    tool.ask("DELETE", "/objects/1")
    assert [o["id"] for o in tool.state()["objects"]] == [2, 2**53 - 1]


def test_the_expected_time_comes_from_the_last_steps_and_survives_a_restart(start: Callable[..., Tool]) -> None:
    tool = start()
    tool.open()
    tool.draw(0, 1, square(0))
    plan = tool.ask("POST", "/plan", {"direction": "forward"})
    assert plan == {"steps": 29, "objects": 1, "seconds": None, "rough": True}
    tool.ask("POST", "/undo", {})  # as another page may do while this one asks
    assert tool.ask("POST", "/plan", {})["reason"].startswith("no masks to track from")
    tool.ask("POST", "/redo", {})
    tool.track()
    tool.client.__exit__(None, None, None)
    later = start()
    later.project = tool.project
    again = later.ask("POST", "/plan", {"again": True})
    assert again["steps"] == 29
    assert 0 < again["seconds"] < 29


def test_accepting_makes_tracked_masks_ones_own_in_one_edit(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    tool.draw(0, 2, square(0, 14))
    tool.ask("POST", "/frames/5/accept", {}, status=400)
    tool.track()
    tool.ask("POST", "/frames/5/accept", {})
    assert tool.state()["annotated"] == [0, 5]
    tool.ask("POST", "/undo", {})
    assert tool.state()["annotated"] == [0]


def upload(tool: Tool, **label_maps: np.ndarray) -> str:
    upload_id = str(tool.client.post("/api/uploads", json={}).json()["upload"])
    for name, label_map in label_maps.items():
        data = encode_mask(label_map)
        answer = tool.client.put(f"/api/uploads/{upload_id}", params={"name": f"{name}.png"}, content=data)
        assert answer.status_code == 200, answer.text
    return upload_id


def test_masks_of_files_are_taken_over_in_one_edit(tool: Tool) -> None:
    tool.open()
    two = {"first": np.where(square(3), 1, 0) + np.where(square(3, 14), 2, 0)}
    version = tool.state()["version"]
    assert tool.ask("POST", "/masks", {"upload": upload(tool, **two), "frame": 3}) == {"frames": [3]}
    assert tool.state()["version"] > version  # by which other pages learn of it
    np.testing.assert_array_equal(tool.masks(3)[2], square(3, 14))
    several = {"0005": np.where(square(5), 1, 0), "0006": np.where(square(6), 1, 0)}
    assert tool.ask("POST", "/masks", {"upload": upload(tool, **several), "frame": 3}) == {"frames": [5, 6]}
    assert tool.state()["annotated"] == [3, 5, 6]
    tool.ask("POST", "/undo", {})
    assert tool.state()["annotated"] == [3]


def test_masks_find_frames_whose_names_have_signs_and_accents(tool: Tool, videos: Path) -> None:
    for path in (videos / "square").iterdir():
        path.rename(path.with_stem(f"img[{path.stem}] a+b,c@d e\u0301"))
    tool.open()
    masks = {f"img[{number:04d}] a+b,c@d e\u0301": np.where(square(number), 1, 0) for number in (5, 6)}
    assert tool.ask("POST", "/masks", {"upload": upload(tool, **masks), "frame": 0}) == {"frames": [5, 6]}


def test_a_black_and_white_mask_is_of_the_chosen_object(tool: Tool) -> None:
    tool.open()
    chosen = {"id": 1, "name": "cat", "colour": [1, 2, 3]}
    body = {"upload": upload(tool, m=np.where(square(0), 255, 0)), "frame": 0, "object": chosen}
    assert tool.ask("POST", "/masks", body) == {"frames": [0]}
    assert tool.state()["objects"] == [chosen]
    np.testing.assert_array_equal(tool.masks(0)[1], square(0))
    body = {"upload": upload(tool, m=np.where(square(1), 255, 0)), "frame": 1, "object": {"id": 1}}
    tool.ask("POST", "/masks", body)
    assert tool.state()["objects"] == [chosen]


@pytest.mark.parametrize(
    ("label_map", "body", "said"),
    [
        (
            np.ones((3, 4), np.uint8),
            {"frame": 0},
            "m.png: mask of another size than its frame, expected 64x24, got 4x3",
        ),
        (np.zeros((H, W), np.uint8), {"frame": 0}, "m.png: the mask has no object"),
        (np.ones((H, W), np.uint8), {"frame": 30}, "no such frame"),
        (np.ones((H, W), np.uint8), {"frame": "0"}, "a frame for masks"),
        (np.ones((H, W), np.uint8), {"frame": 0, "object": 1}, "object of black and white masks"),
        (np.ones((H, W), np.uint8), {"frame": 0, "object": {"id": 2**53}}, f"a page cannot show object {2**53}"),
    ],
)
def test_masks_that_cannot_be_taken_are_told_in_one_line(
    tool: Tool, label_map: np.ndarray, body: dict[str, Any], said: str
) -> None:
    tool.open()
    answer = tool.ask("POST", "/masks", {"upload": upload(tool, m=label_map), **body}, status=400)
    assert answer["error"].startswith(said)
    assert tool.state()["objects"] == []
    clip = tool.client.post("/api/uploads", json={}).json()["upload"]
    tool.client.put(f"/api/uploads/{clip}?name=a.mp4", content=b"x")
    answer = tool.ask("POST", "/masks", {"upload": clip, "frame": 0}, status=400)
    assert answer["error"] == "an upload, expected pictures of masks, got 1 files"
    answer = tool.ask("POST", "/masks", {"upload": "gone", "frame": 0}, status=400)
    assert answer["error"] == "no such upload"


def test_a_project_begins_with_mask_files_or_not_at_all(tool: Tool, videos: Path, tmp_path: Path) -> None:
    shelf = tool.client.app.state.shelf  # type: ignore[attr-defined]
    write_mask(tmp_path / "m.png", np.where(square(0), 1, 0))
    project = shelf.begin(videos / "square", tmp_path / "m.png")
    assert project.state()["annotated"] == (0,)
    write_mask(tmp_path / "white.png", np.where(square(0), 255, 0))
    white = shelf.begin(videos / "square", tmp_path / "white.png")
    assert [row["id"] for row in white.state()["objects"]] == [1]
    shelf.delete(white.home.name)
    with pytest.raises(DataError, match="no such mask file"):
        shelf.begin(videos / "square", tmp_path / "n.png")
    assert [row["id"] for row in shelf.list()] == [project.home.name]


def test_a_box_becomes_a_mask_that_leaves_other_objects_alone(tool: Tool) -> None:
    tool.open()
    tool.draw(0, 2, square(0, 14))
    runs = tool.ask("POST", "/frames/0/cutout", {"box": [0, 2, 14, 22]})["runs"]
    mask = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(24, 64)
    assert (mask & square(0)).sum() > 0.9 * square(0).sum()
    assert not (mask & square(0, 14)).any()
    error = tool.ask("POST", "/frames/0/cutout", {"strokes": []}, status=400)["error"]
    assert "nothing marks the object" in error


def test_a_picture_comes_in_the_height_asked_for(tool: Tool) -> None:
    tool.open()
    answer = tool.client.get(f"/api/projects/{tool.project}/pictures/{tool.state()['pictures']}/frames/3?height=16")
    assert Image.open(io.BytesIO(answer.content)).size == (43, 16)
    assert "immutable" in answer.headers["cache-control"]


def test_browsers_keep_no_picture_of_another_video_that_had_the_same_name(
    start: Callable[..., Tool], tmp_path: Path, videos: Path
) -> None:
    (videos / "other").mkdir()
    for index, frame in enumerate(video()):
        Image.fromarray(255 - frame).save(videos / "other" / f"{index:04d}.png")

    def begin(name: str) -> None:
        ScriptedSession(videos / name, folder=tmp_path / "projects" / "same").close()

    def kept(tool: Tool, known_by: str) -> bool:
        answer = tool.client.get(f"/api/projects/same/pictures/{known_by}/frames/0")
        assert answer.status_code == 200
        return "immutable" in answer.headers["cache-control"]

    begin("square")
    first = start()
    first.project = "same"
    one = first.state()["pictures"]
    assert kept(first, one)
    first.client.__exit__(None, None, None)
    again = start()
    again.project = "same"
    assert again.state()["pictures"] == one  # what a browser has is still good
    assert again.client.delete("/api/projects/same").status_code == 200
    begin("other")
    two = again.state()["pictures"]
    assert two != one
    assert (kept(again, one), kept(again, two)) == (False, True)
    assert again.client.get("/api/projects/same/frames/0").headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "body", "text"),
    [
        ("PUT", "/frames/0/masks/1", {"runs": [5]}, "another size"),
        ("PUT", "/frames/0/masks/1", {"runs": [-1, 24 * 64 + 1]}, "another size"),
        ("PUT", "/frames/0/masks/1", {"runs": "all"}, "run lengths"),
        ("PUT", "/frames/0/masks/1", {"runs": [24 * 64]}, "empty"),
        ("PUT", "/frames/0/masks/0", {"runs": [0, 24 * 64]}, "object id"),
        ("PUT", f"/frames/0/masks/{10**20 - 1}", {"runs": [0, 24 * 64]}, "object in the address"),
        ("PUT", f"/frames/0/masks/{2**53}", {"runs": [0, 24 * 64]}, "object in the address"),
        ("DELETE", f"/frames/{'9' * 5000}/masks", None, "frame in the address"),
        ("PUT", "/frames/99/masks/1", {"runs": [0, 24 * 64]}, "no such frame"),
        ("POST", "/frames/0/cutout", {"box": [0, 0, "a", 3]}, "box"),
        ("POST", "/frames/0/cutout", {"box": [5, 5, 6, 6]}, "too small"),
        ("POST", "/frames/0/cutout", {"strokes": [{"points": [[1e9, 0]], "radius": 2, "inside": True}]}, "scribble"),
        ("POST", "/track", {"start": "0"}, "frames to track"),
        ("POST", "/track", {}, "no masks"),
        ("POST", "/exports", {"format": "jpeg2"}, "export format"),
        ("POST", "/exports", {"format": "coco", "options": {"objects": 5}}, "objects, expected a list of ids"),
        ("POST", "/exports", {"format": "coco", "options": {"start": "a"}}, "start, expected a frame's number"),
        ("POST", "/exports", {"format": "coco", "options": {"progress": 1}}, "export option"),
        ("POST", "/exports", {"format": "coco", "options": {"self": 1}}, "export option"),
        ("POST", "/exports", {"format": "rgba", "options": {"soft": "yes"}}, "soft, expected true or false"),
        ("PUT", "/objects/7", {"name": "x"}, "no object 7"),
        ("PATCH", "", {"name": "  "}, "name of a project"),
        ("PATCH", "", {"frame": 30}, "no such frame"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tool: Tool, method: str, path: str, body: dict[str, Any] | None, text: str
) -> None:
    tool.open()
    error = tool.ask(method, path, body, status=400)["error"]
    assert text in error
    assert "\n" not in error


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/frames/3/masks/9", {"name": "x" * 300}),
        ("PUT", "/frames/3/masks/9", {"name": "knight", "colour": [1, 2]}),
        ("PUT", "/frames/3/masks/9", {"colour": 5}),
        ("PUT", "/objects/1", {"name": "knight", "colour": [0, 0, 256]}),
        ("PATCH", "", {"name": "a battle", "frame": 99}),
        ("PATCH", "", {"name": "", "frame": 7}),
    ],
)
def test_what_is_refused_changes_nothing(tool: Tool, method: str, path: str, body: dict[str, Any]) -> None:
    tool.open()
    tool.draw(0, 1, square(0))
    before = tool.state()
    tool.ask(method, path, {"runs": encode_runs(square(3)), **body}, status=400)
    assert tool.state() == before


def test_a_name_that_cannot_be_written_is_not_taken(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, _value: object) -> None:
        raise OutputError("cannot be written: the disk is full", where=path)

    name = tool.open()["name"]
    monkeypatch.setattr("jointformer.web.record.write_json", refuse)
    tool.ask("PATCH", "", {"name": "another"}, status=507)
    assert tool.state()["name"] == name


def test_a_project_that_could_not_be_opened_on_a_full_disk_opens_when_there_is_room(
    start: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _value: object) -> None:
        raise OutputError("cannot be written: the disk is full", where=path)

    first = start()
    project = first.open()["id"]
    first.client.__exit__(None, None, None)
    tool = start()
    tool.project = project
    gc.disable()  # without it nobody would give back a folder that is forgotten
    try:
        with monkeypatch.context() as patch:
            patch.setattr("jointformer.web.record.write_json", refuse)
            tool.ask("GET", "", status=507)
        assert tool.state()["id"] == project
    finally:
        gc.enable()


def test_a_project_whose_picture_cannot_be_kept_is_not_begun(
    tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path, _data: bytes) -> None:
        raise OutputError("cannot be written: the disk is full", where=path)

    monkeypatch.setattr("jointformer.web.shelf.write_bytes", refuse)
    assert tool.client.post("/api/projects", json={"path": "square"}).status_code == 507
    assert tool.client.get("/api/projects").json() == []
    assert [path.name for path in (tmp_path / "projects").iterdir()] == [".uploads"]


def test_what_is_no_json_object_is_refused(tool: Tool) -> None:
    tool.open()
    path = f"/api/projects/{tool.project}/track"
    assert tool.client.post(path, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    assert tool.client.post(path, content=b"[1]", headers={"content-type": "application/json"}).status_code == 400
    assert tool.client.post(path, content=b"{", headers={"content-type": "application/json"}).status_code == 400


def test_a_deleted_project_is_gone_and_its_video_stays(tool: Tool, videos: Path) -> None:
    tool.open()
    tool.ask("DELETE", "")
    assert tool.client.get("/api/projects").json() == []
    assert tool.ask("GET", "", status=404)["error"].startswith("no such project")
    assert len(list((videos / "square").iterdir())) == 30


def test_projects_that_nobody_looks_at_are_closed_and_opened_again(tool: Tool) -> None:
    ids = []
    for _ in range(6):
        tool.open()
        tool.draw(0, 1, square(0))
        ids.append(tool.project)
    for project in ids:
        tool.project = project
        assert tool.state()["annotated"] == [0]


def test_two_servers_of_one_folder_see_each_others_projects_and_each_is_open_in_one(
    start: Callable[..., Tool], tmp_path: Path
) -> None:
    here, there = start(), start()
    project = there.project = here.open()["id"]
    here.draw(0, 1, square(0))
    GatedTracker.gate = threading.Semaphore(5)
    here.ask("POST", "/track", {})
    here.until(lambda state: state["tracking"].get("done", 0) >= 3)
    (row,) = there.client.get("/api/projects").json()
    assert (row["id"], row["problem"]) == (project, None)
    refusal = "this project is open in another program; leave it there and try again in a minute, or end that program"
    assert there.ask("GET", "", status=400)["error"] == refusal
    assert there.ask("DELETE", "", status=400)["error"] == refusal
    GatedTracker.gate.release(100)
    here.until(lambda state: state["tracking"]["state"] == "idle")
    here.ask("PATCH", "", {"name": "a battle"})
    (row,) = there.client.get("/api/projects").json()
    assert row["name"] == "a battle"
    here.client.__exit__(None, None, None)
    assert there.state()["name"] == "a battle"
    there.ask("DELETE", "")
    again = start()
    again.project = project
    assert again.client.get("/api/projects").json() == []
    assert "no such project" in again.ask("DELETE", "", status=404)["error"]


def test_a_project_that_nobody_has_looked_at_for_a_while_is_free_for_another_program(
    start: Callable[..., Tool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app, "_LOOK_EVERY", 0.02)
    here, there = start(), start()
    there.project = here.open()["id"]
    here.draw(0, 1, square(0))
    GatedTracker.gate = threading.Semaphore(5)
    here.ask("POST", "/track", {})
    here.until(lambda state: state["tracking"].get("done", 0) >= 3)
    monkeypatch.setattr(shelf, "_REST", 0.3)
    time.sleep(0.5)
    assert "open in another program" in there.ask("GET", "", status=400)["error"]  # a run goes on
    GatedTracker.gate.release(100)
    end = time.monotonic() + 60
    while there.client.get(f"/api/projects/{there.project}").status_code != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert there.state()["interrupted"] is None
    assert there.statuses() == [1] + [2] * 29


def test_a_project_that_cannot_be_read_now_does_not_hide_the_others(
    tool: Tool, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tool.open()["id"], tool.open()["id"]

    def refuse(home: Path) -> Path | None:
        if home.name == first:
            raise OutputError("the session cannot be written: disk I/O error", where=home)
        return stored_video(home)

    monkeypatch.setattr(shelf, "stored_video", refuse)
    problems = {row["id"]: row["problem"] for row in tool.client.get("/api/projects").json()}
    assert problems[second] is None
    assert "disk I/O error" in problems[first]


@pytest.mark.parametrize("date", ["NaN", "Infinity", "1e999"])
def test_a_project_of_a_date_that_is_none_is_listed_with_its_problem(tool: Tool, date: str) -> None:
    first, second = tool.open()["id"], tool.open()["id"]
    record = tool.client.app.state.shelf.folder / first / "project.json"  # type: ignore[attr-defined]
    record.write_text(re.sub('"opened": [^,]*', f'"opened": {date}', record.read_text("utf-8")), "utf-8")
    problems = {row["id"]: row["problem"] for row in tool.client.get("/api/projects").json()}
    assert problems[second] is None
    assert "not a project of the web tool" in problems[first]


def test_a_project_whose_video_has_gone_is_listed_with_its_problem(tool: Tool, videos: Path) -> None:
    tool.open()
    (videos / "square").rename(videos / "moved")
    assert tool.client.get("/api/projects").json()[0]["problem"] == "its video is no longer there"
    tool.client.app.state.shelf.close()  # type: ignore[attr-defined]
    media = tool.client.app.state.shelf.folder / tool.project / "media" / "square"  # type: ignore[attr-defined]
    hint = f"put it back where it was, or to {media}"
    gone = f"{videos / 'square'}: the project's video is no longer there; {hint}"
    assert tool.ask("GET", "", status=400)["error"] == gone
    media.parent.mkdir()
    (videos / "moved").rename(media)
    assert tool.ask("GET", "")["frames"] == 30


def test_a_session_that_python_kept_in_the_projects_folder_is_a_project(
    start: Callable[..., Tool], videos: Path, tmp_path: Path
) -> None:
    with ScriptedSession(videos / "square", folder=tmp_path / "projects/Nacht 1.ö_b") as session:
        session.add_masks(0, {1: square(0)})
        session.set_object(1, name="bishop")
        list(session.propagate(end=5))
    tool = start()
    (row,) = tool.client.get("/api/projects").json()
    assert (row["id"], row["name"], row["problem"]) == ("Nacht 1.ö_b", "Nacht 1.ö_b", None)
    tool.project = row["id"]
    assert [one["name"] for one in tool.state()["objects"]] == ["bishop"]
    assert tool.statuses()[:7] == [1, 2, 2, 2, 2, 2, 0]
    assert tool.client.get("/api/projects/Nacht 1.ö_b/thumbnail").status_code == 200
    tool.track()
    assert tool.statuses() == [1] + [2] * 29
    tool.client.__exit__(None, None, None)
    with ScriptedSession.load(tmp_path / "projects/Nacht 1.ö_b") as session:
        assert session.status(29) == "tracked"
    again = start()
    again.project = row["id"]
    again.ask("DELETE", "")
    assert (videos / "square").is_dir()


def test_a_session_with_an_id_that_no_page_can_name_says_so(
    start: Callable[..., Tool], videos: Path, tmp_path: Path
) -> None:
    with ScriptedSession(videos / "square", folder=tmp_path / "projects/night") as session:
        session.add_masks(0, {2**53: square(0)})
    tool = start()
    tool.project = "night"
    said = f"a page cannot show object {2**53}, expected ids up to {2**53 - 1}; go on with this session in Python"
    assert tool.ask("GET", "", status=400)["error"] == said
    ScriptedSession.load(tmp_path / "projects/night").close()  # which is free for that


def test_a_session_of_frames_in_memory_says_so(start: Callable[..., Tool], tmp_path: Path) -> None:
    ScriptedSession(video(), folder=tmp_path / "projects/night").close()
    tool = start()
    (row,) = tool.client.get("/api/projects").json()
    assert row["problem"] == "its video is frames in memory, not a file"
    tool.project = "night"
    hint = "Session.load(…, video=frames) in Python goes on with it"
    assert tool.ask("GET", "", status=400)["error"] == f"{tmp_path / 'projects/night'}: {row['problem']}; {hint}"


def test_a_closed_folder_among_the_projects_hides_no_other(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    tool.open()
    (tool.client.app.state.shelf.folder / "lost+found").mkdir()  # type: ignore[attr-defined]
    stat = os.stat

    def refuse(path: Any, *args: Any, **options: Any) -> os.stat_result:
        if "lost+found" in str(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return stat(path, *args, **options)

    monkeypatch.setattr(os, "stat", refuse)
    assert [row["id"] for row in tool.client.get("/api/projects").json()] == [tool.project]


@pytest.mark.parametrize("name", [".", "..", ".hidden", "a/b", "a\\b", "C:", "x" * 300, "ö" * 130, "a\nb", "a\0b"])
def test_what_leads_elsewhere_is_no_project(name: str, tmp_path: Path) -> None:
    for folder in (".", ".hidden", "a/b", "C:"):
        (tmp_path / "p" / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / folder / "session.db").touch()
    (tmp_path / "session.db").touch()
    assert not is_project(tmp_path / "p", name)


def test_a_session_in_the_folder_of_its_own_video_is_not_deleted_with_it(
    start: Callable[..., Tool], videos: Path
) -> None:
    ScriptedSession(videos / "square", folder=videos / "square").close()
    tool = start(projects=videos)
    tool.project = "square"
    expected = f"{videos / 'square'}: the video lies in its session's folder; delete the folder by hand"
    assert tool.ask("DELETE", "", status=400)["error"] == expected
    assert len(list((videos / "square").glob("*.png"))) == 30


def test_what_its_user_keeps_beside_a_session_is_not_deleted_with_it(
    start: Callable[..., Tool], videos: Path, tmp_path: Path
) -> None:
    home = tmp_path / "projects/night"
    ScriptedSession(videos / "square", folder=home).close()
    (home / "notes.txt").write_text("mine")
    tool = start()
    tool.project = "night"
    tool.ask("GET", "")
    expected = f"{home}: the folder holds more than its project, got notes.txt; delete the folder by hand"
    assert tool.ask("DELETE", "", status=400)["error"] == expected
    assert tool.ask("GET", "")["frames"] == 30
    (home / "notes.txt").rename(home / ".DS_Store")
    tool.ask("DELETE", "")
    assert not home.exists()
