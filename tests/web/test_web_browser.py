"""The page in a real Chromium, on a real server process, with the demo clip and a mini network."""

from __future__ import annotations

import io
import itertools
import json
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import numpy as np
import pytest

from jointformer.data.masks import write_mask
from jointformer.data.video_writer import VideoWriter
from jointformer.session import Session
from web.browser import IN_BROWSER, SHOWN, Held, Person, Server

pytestmark = IN_BROWSER
FISH, TURTLE = (40, 70, 150, 160), (222, 78, 365, 205)  # left, top, right, bottom in frame 0


def box(person: Person, corners: tuple[int, int, int, int]) -> None:
    person.page.keyboard.press("x")
    person.drag(corners[:2], corners[2:])


def tell(person: Person, project: str, **facts: Any) -> Held:
    """Begin the page anew as if the server had told these facts of the project; what it tells next is held back."""

    def told(route: Any) -> None:
        if route.request.method != "GET":
            route.continue_()
            return
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), **facts})

    held = person.hold_back("**/events")
    person.page.route(f"**/api/projects/{project}", told)
    person.page.reload()
    person.see_project()
    return held


def test_a_person_draws_tracks_corrects_exports_and_finds_it_all_again(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    assert 5000 < person.area(project, 0, 1) < 16000
    page.keyboard.press("a")
    box(person, FISH)
    assert 2000 < person.area(project, 0, 2) < 9000
    name = page.get_by_role("textbox", name="Name of the object").nth(1)
    name.fill("the fish")
    name.press("Enter")
    person.settle()
    person.track()
    state = person.api(project)
    assert state["tracking"]["outcome"]["kind"] == "finished", state["tracking"]
    assert [row["name"] for row in state["objects"]] == ["object 1", "the fish"]
    page.locator(".estimate", has_text="Everything in the range is up to date.").wait_for()
    # Correct where the page says, and track again.
    page.get_by_role("button", name="Frame to fix next").click()
    person.wait("Number(document.querySelector('input[aria-label=\"Frame number\"]').value) > 0")
    frame = int(page.get_by_role("spinbutton", name="Frame number").input_value())
    page.keyboard.press("b")
    person.drag((200, 40), (260, 40))
    assert person.api(project)["annotated"] == [0, frame]
    page.locator(".badge.mine").wait_for()
    person.track()
    # Export and download.
    page.get_by_role("button", name="Export").click()
    page.locator(".format", has_text="Contact sheet").click()
    page.locator("form.export button[type=submit]").click()
    link = page.locator(".file-link").first
    link.wait_for(timeout=60_000)
    with page.expect_download() as download:
        link.click()
    from PIL import Image

    with open(download.value.path(), "rb") as file:
        assert Image.open(io.BytesIO(file.read())).format == "PNG"
    page.keyboard.press("Escape")
    # Everything is there again.
    frame = int(page.get_by_role("spinbutton", name="Frame number").input_value())
    page.reload()
    assert person.see_project() == project
    assert int(page.get_by_role("spinbutton", name="Frame number").input_value()) == frame
    assert page.get_by_role("textbox", name="Name of the object").nth(1).input_value() == "the fish"
    page.get_by_role("link", name="All projects").click()
    page.get_by_role("link", name="Open Demo: fish and turtle").first.click()
    assert person.see_project() == project


def test_every_tool_draws_and_undo_takes_it_back(person: Person) -> None:
    page = person.page
    project = person.open_demo()

    def area() -> int:
        return person.area(project, 0, 1)

    page.keyboard.press("b")
    person.drag((60, 116), (120, 116))
    brush = area()
    assert brush > 500
    page.keyboard.press("e")
    person.drag((90, 100), (90, 130))
    erased = area()
    assert 0 < erased < brush
    page.keyboard.press("p")
    for point in ((200, 20), (300, 20), (250, 60)):
        page.mouse.click(*person.at(*point))
    page.keyboard.press("Enter")
    person.settle()
    polygon = area()
    assert polygon - erased == pytest.approx(2000, rel=0.1)
    page.keyboard.press("s")
    person.drag((270, 140), (330, 140))
    page.get_by_role("button", name="Background").click()
    person.drag((200, 200), (420, 200))
    person.drag((20, 10), (400, 10))
    assert area() == polygon  # nothing is kept yet
    page.keyboard.press("Enter")
    person.settle()
    assert area() != polygon
    for expected in (polygon, erased, brush, 0):
        page.keyboard.press("Control+z")
        person.settle()
        assert area() == expected
    assert person.api(project)["objects"] == []
    page.keyboard.press("Control+Shift+z")
    person.settle()
    assert area() == brush


def test_pens_and_fingers_draw_and_two_fingers_zoom(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    control = page.context.new_cdp_session(page)

    def touch(kind: str, *points: tuple[float, float]) -> None:
        places = [dict(zip("xy", person_at), id=number) for number, person_at in enumerate(points)]
        control.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    touch("touchStart", person.at(60, 100))
    for x in range(60, 121, 10):
        touch("touchMove", person.at(x, 100))
    touch("touchEnd")
    person.settle()
    drawn = person.area(project, 0, 1)
    assert drawn > 300
    left, right = person.at(150, 120), person.at(250, 120)
    touch("touchStart", left)
    touch("touchStart", left, right)
    for step in range(1, 8):
        touch("touchMove", (left[0] - 15 * step, left[1]), (right[0] + 15 * step, right[1]))
    touch("touchEnd")
    person.settle()
    assert person.area(project, 0, 1) == drawn
    assert int(page.locator(".zoom-label").inner_text().split()[0]) > 250
    page.keyboard.press("0")
    pen = {"button": "left", "pointerType": "pen", "force": 0.5}
    for kind, x in (("mousePressed", 300), ("mouseMoved", 330), ("mouseMoved", 360), ("mouseReleased", 360)):
        place = dict(zip("xy", person.at(x, 60)))
        control.send("Input.dispatchMouseEvent", {"type": kind, "buttons": 1, "clickCount": 1, **place, **pen})
    person.settle()
    assert person.area(project, 0, 1) > drawn + 200


def test_the_other_end_of_a_pen_erases(person: Person) -> None:
    project = person.open_demo()
    person.drag((100, 60), (200, 60))
    drawn = person.area(project, 0, 1)
    for kind, x, button in (("down", 140, 5), ("move", 160, -1), ("up", 160, 5)):
        place = dict(zip(("clientX", "clientY"), person.at(x, 60)))
        held = {"button": button, "buttons": 0 if kind == "up" else 32}
        person.page.locator(".stage-canvas").dispatch_event(
            f"pointer{kind}", {"pointerId": 1, "pointerType": "pen", **held, **place}
        )
    person.settle()
    assert 0 < person.area(project, 0, 1) < drawn - 200


@pytest.mark.parametrize("first", ["pen", "hand"])
def test_the_hand_that_holds_the_pen_may_lie_on_the_picture(first: str, person: Person) -> None:
    page = person.page
    project = person.open_demo()
    control = page.context.new_cdp_session(page)

    def pen(kind: str, x: int, buttons: int = 1) -> None:
        more = {"button": "left", "buttons": buttons, "clickCount": 1, "pointerType": "pen", "force": 0.5}
        control.send("Input.dispatchMouseEvent", {"type": kind, **dict(zip("xy", person.at(x, 60))), **more})

    def hand(kind: str, *xs: int) -> None:
        places = [dict(zip("xy", person.at(x, 200))) for x in xs]
        control.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})

    pen("mousePressed", 20)
    pen("mouseReleased", 20, 0)
    person.settle()
    dot, zoom = person.area(project, 0, 1), page.locator(".zoom-label").inner_text()
    assert dot > 50
    for x in range(200, 301, 20):
        if x == (220 if first == "pen" else 200):
            hand("touchStart", 380)
        pen("mousePressed" if x == 200 else "mouseMoved", x)
        if x > 220:
            hand("touchMove", 380 + x // 50)
    pen("mouseReleased", 300, 0)
    hand("touchEnd")
    person.settle()
    assert person.area(project, 0, 1) > dot + 800
    assert page.locator(".zoom-label").inner_text() == zoom


def test_two_tabs_see_the_same(person: Person, browser: Any) -> None:
    project = person.open_demo()
    other = Person(person.page.context.new_page(), person.url)
    other.page.goto(f"{person.url}#/project/{project}")
    other.see_project()
    person.page.bring_to_front()
    person.drag((60, 116), (120, 116))
    other.page.bring_to_front()
    other.page.get_by_text("your mask", exact=True).wait_for()
    other.page.keyboard.press("Control+z")
    other.settle()
    person.page.bring_to_front()
    person.page.get_by_text("not drawn yet").wait_for()
    assert other.problems == []


def test_a_page_whose_project_another_page_deletes_says_so_and_shows_the_others(person: Person) -> None:
    import httpx

    project = person.open_demo()
    person.drag((60, 116), (120, 116))
    assert httpx.delete(f"{person.url}api/projects/{project}").status_code == 200
    person.page.get_by_text("This project has been deleted.").wait_for()
    person.page.wait_for_selector(".begin-card")
    person.problems.clear()  # what is no longer there, as the browser logs it


def test_how_a_run_ended_is_told_to_a_page_that_was_hidden_then(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    page.get_by_role("button", name="Track", exact=True).click()
    page.get_by_role("button", name="Stop").wait_for()
    hide = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    page.evaluate(hide, True)
    httpx.post(f"{person.url}api/projects/{project}/stop", json={}).raise_for_status()
    person.until(lambda: person.api(project)["tracking"]["state"] == "idle", "the run ends")
    page.evaluate(hide, False)
    page.get_by_text(person.api(project)["tracking"]["outcome"]["text"]).wait_for()


def test_that_a_run_failed_is_seen_by_whoever_opens_the_page_later(person: Person) -> None:
    project = person.open_demo()
    outcome = {"kind": "failed", "text": "cannot be written: the disk is full"}
    held = tell(person, project, tracking={"state": "idle", "outcome": outcome})
    failure = person.page.get_by_label("Tracking", exact=True).get_by_text(outcome["text"])
    failure.wait_for()
    held.let_go()  # which is of no such run
    failure.wait_for(state="hidden")


def test_a_double_click_or_a_key_held_down_begins_a_run_and_does_not_stop_it(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    track, stop = page.get_by_role("button", name="Track", exact=True), page.get_by_role("button", name="Stop")

    def finished() -> bool:
        page.wait_for_timeout(300)
        person.until(lambda: person.api(project)["tracking"]["state"] == "idle", "the run ends")
        return bool(person.api(project)["tracking"]["outcome"]["kind"] == "finished")

    box(person, TURTLE)
    page.keyboard.down("t")
    stop.wait_for()
    for _ in range(3):
        page.keyboard.down("t")  # as a key does that is held
    page.keyboard.up("t")
    assert finished()
    page.keyboard.press("Home")
    box(person, FISH)
    track.click()
    place = stop.bounding_box()
    page.mouse.move(place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    page.mouse.down(click_count=2)
    page.mouse.up(click_count=2)
    assert finished()


def test_a_killed_server_loses_nothing_and_the_open_page_goes_on(server: Server, person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    page.keyboard.press("t")
    person.wait("document.querySelector('.track-running progress').value >= 3")
    server.kill()
    page.locator(".connection").wait_for()
    server.start()
    page.get_by_text("Nothing is lost").wait_for(timeout=30_000)
    page.locator(".connection").wait_for(state="hidden")
    assert person.area(project, 0, 1) > 5000
    status = person.api(project)
    assert status["interrupted"]
    page.get_by_role("button", name="Continue").click()
    page.get_by_text("Everything in the range is up to date.").wait_for(timeout=120_000)
    # The browser says itself that the connection broke.
    person.problems = [text for text in person.problems if "ERR_" not in text]


def test_projects_that_cannot_be_listed_can_be_asked_for_again(server: Server, person: Person) -> None:
    page = person.page
    person.open_demo()
    server.kill()
    page.get_by_role("link", name="All projects").click()
    page.get_by_text("The server cannot be reached").last.wait_for()
    page.locator(".editor").wait_for(state="detached")
    server.start()
    page.get_by_role("button", name="Try again").click()
    page.wait_for_selector(".begin-card")
    person.problems = [text for text in person.problems if "ERR_" not in text]


def test_a_slow_answer_puts_no_screen_over_the_one_that_was_asked_for_after_it(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    screens = {"#/": ("**/api/projects", ".home"), f"#/project/{project}": (f"**/api/projects/{project}", ".editor")}
    for (early, (slow, gone)), (late, (quick, stays)) in itertools.permutations(screens.items()):
        page.evaluate(f"location.hash = '{late}'")
        page.wait_for_selector(stays)
        held = person.hold_back(slow)
        page.evaluate(f"location.hash = '{early}'")
        held.wait()
        with page.expect_response(quick):
            page.evaluate(f"location.hash = '{late}'")
        page.wait_for_timeout(300)
        held.let_go()
        page.wait_for_timeout(300)
        page.unroute(slow)
        assert (page.locator(stays).count(), page.locator(gone).count()) == (1, 0)
    page.evaluate(f"location.hash = '#/project/{project}'")
    person.see_project()
    person.drag((60, 116), (120, 116))
    assert person.area(project, 0, 1) > 500


def test_nothing_is_drawn_into_a_frame_whose_picture_is_not_there_yet(person: Person) -> None:
    page = person.page
    held = person.hold_back("**/frames/39")  # before the page is there: what it asks for at once is held back for sure
    project = person.open_demo()
    page.keyboard.press("End")
    held.wait()
    page.locator(".stage-canvas[aria-busy=true]").wait_for()
    page.mouse.move(*person.at(60, 116))
    page.mouse.down()
    page.mouse.move(*person.at(120, 116))
    page.mouse.up()
    page.get_by_text("The picture is still on its way.").wait_for(timeout=5_000)
    assert person.api(project)["annotated"] == []
    held.answer_late()()  # all that were asked for: after other tests there are two
    person.settle()
    person.drag((60, 116), (120, 116))
    assert person.api(project)["annotated"] == [39]
    page.unroute("**/frames/39")


def test_a_frame_chosen_while_the_server_is_away_is_shown_when_it_is_back(server: Server, person: Person) -> None:
    page = person.page
    project = person.open_demo()
    server.kill()
    page.locator(".connection").wait_for()
    page.keyboard.press("End")
    page.get_by_text("The server cannot be reached.").first.wait_for()
    with page.expect_response(lambda answer: answer.url.endswith("/frames/39") and answer.ok):
        server.start()
    person.settle()
    person.drag((60, 116), (120, 116))
    assert person.api(project)["annotated"] == [39]
    person.problems.clear()  # lost connections, as the browser logs them


def test_a_stroke_drawn_while_the_server_is_away_is_saved_when_it_is_back(server: Server, person: Person) -> None:
    page = person.page
    project = person.open_demo()
    person.drag((60, 116), (120, 116))
    drawn = person.area(project, 0, 1)
    server.kill()
    page.locator(".connection").wait_for()
    page.mouse.move(*person.at(200, 40))
    page.mouse.down()
    page.mouse.move(*person.at(260, 40), steps=5)
    page.mouse.up()
    name = page.get_by_role("textbox", name="Name of the object")
    name.fill("fish")
    name.press("Enter")
    page.wait_for_timeout(1500)
    assert page.locator(".saved").inner_text() == "Saving …"
    server.start()
    person.settle()
    assert person.area(project, 0, 1) > drawn + 500
    assert person.api(project)["objects"][0]["name"] == "fish"
    page.locator(".connection").wait_for(state="hidden")
    person.problems = [text for text in person.problems if "ERR_" not in text]


def test_a_video_is_found_by_its_path_and_a_wrong_one_is_explained(server: Server, person: Person) -> None:
    from fractions import Fraction

    import numpy as np

    from jointformer.data.video_writer import VideoWriter

    with VideoWriter(server.folder / "clip.mp4", Fraction(25), (48, 64)) as writer:
        for level in range(0, 250, 50):
            writer.write(np.full((48, 64, 3), level, np.uint8))
    page = person.page
    page.goto(person.url)
    page.get_by_role("button", name="Open a video").click()
    page.get_by_role("textbox", name="Path").fill("/etc")
    page.get_by_role("textbox", name="Path").press("Enter")
    page.get_by_text("outside the folders that may be opened").wait_for()
    person.problems.clear()  # the refusal, as the browser logs it
    page.get_by_role("button", name="clip.mp4").click()
    person.see_project()
    assert page.locator(".facts").inner_text() == "64×48 · 25 fps · 5 frames"


def test_what_is_wrong_with_a_project_can_be_read_on_its_card(server: Server, person: Person) -> None:
    from PIL import Image

    (server.folder / "leaving").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48)).save(server.folder / "leaving" / f"{number}.png")
    page = person.page
    project = page.request.post(f"{person.url}api/projects", data={"path": "leaving"}).json()["id"]
    (server.folder / "leaving").rename(server.folder / "left")
    page.set_viewport_size({"width": 390, "height": 844})
    page.goto(person.url)
    problem = page.get_by_text("its video is no longer there", exact=True)
    assert problem.evaluate("e => e.scrollWidth <= e.clientWidth")
    page.request.delete(f"{person.url}api/projects/{project}")


def test_a_session_that_python_kept_opens_by_whatever_name_it_has(server: Server, person: Person) -> None:
    from PIL import Image

    name = "Nacht 1.ö 50%"
    (server.folder / "kept").mkdir()
    for number in range(2):
        Image.new("RGB", (64, 48)).save(server.folder / "kept" / f"{number}.png")
    Session(server.folder / "kept", folder=server.folder / "projects" / name).close()
    page = person.page
    assert page.request.get(f"{person.url}api/projects/{quote(name)}").ok
    page.goto(person.url)
    page.get_by_role("link", name=f"Open {name}").click()
    assert person.see_project() == quote(name)
    page.reload()
    assert person.see_project() == quote(name)
    page.request.delete(f"{person.url}api/projects/{quote(name)}")


@pytest.mark.parametrize("begun", ["/etc", ""])
def test_a_path_typed_before_the_folder_is_listed_is_kept(server: Server, person: Person, begun: str) -> None:
    page, held = person.page, []
    page.route("**/api/files*", lambda route: held.append(route))
    page.goto(person.url)
    page.get_by_role("button", name="Open a video").click()
    path = page.get_by_role("textbox", name="Path")
    path.focus()
    path.press_sequentially(begun)
    while not held:
        page.wait_for_timeout(50)
    (listing,) = held
    with page.expect_response("**/api/files*"):
        listing.continue_()
    page.locator("ul.files li").first.wait_for()
    path.press_sequentially("/etc/x".removeprefix(begun))
    assert path.input_value() == "/etc/x"
    page.unroute("**/api/files*")


def test_a_picture_sequence_is_uploaded(server: Server, person: Person, tmp_path: Path) -> None:
    import numpy as np
    from PIL import Image

    for number in range(3):
        Image.fromarray(np.full((48, 64, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    person.page.goto(person.url)
    person.page.locator("#upload-input").set_input_files(sorted(tmp_path.glob("*.png")))
    project = person.see_project()
    assert person.api(project)["frames"] == 3


def test_masks_are_loaded_from_files(person: Person, tmp_path: Path) -> None:
    project = person.open_demo()
    white, two = np.zeros((240, 432), np.uint8), np.zeros((240, 432), np.uint8)
    white[20:60, 30:80] = 255
    two[20:60, 30:90], two[100:120, 200:250] = 1, 7
    write_mask(tmp_path / "white.png", white)
    write_mask(tmp_path / "5.png", two)
    write_mask(tmp_path / "00006.png", two)
    write_mask(tmp_path / "small.png", two[:100])
    files = person.page.locator("#masks-input")
    files.set_input_files(tmp_path / "white.png")
    person.page.get_by_text("Masks loaded into frame 0").wait_for()
    person.settle()
    assert [(o["id"], o["name"]) for o in person.api(project)["objects"]] == [(1, "object 1")]
    assert person.area(project, 0, 1) == 40 * 50
    files.set_input_files([tmp_path / "5.png", tmp_path / "00006.png"])
    person.page.get_by_text("Masks loaded into 2 frames").wait_for()
    person.settle()
    assert person.api(project)["annotated"] == [0, 5, 6]
    assert person.area(project, 6, 7) == 20 * 50
    files.set_input_files(tmp_path / "small.png")
    person.page.get_by_text("small.png: mask of another size than its frame, expected 432x240, got 432x100").wait_for()
    person.problems.clear()  # the refusal, as the browser logs it
    person.page.keyboard.press("Control+z")
    person.settle()
    assert person.api(project)["annotated"] == [0]


def test_after_the_largest_id_of_a_file_objects_get_free_ones(person: Person, tmp_path: Path) -> None:
    project = person.open_demo()
    two = np.zeros((240, 432), np.uint8)
    two[20:60, 30:90], two[100:120, 200:250] = 1, 254
    write_mask(tmp_path / "two.png", two)
    person.page.locator("#masks-input").set_input_files(tmp_path / "two.png")
    person.page.get_by_text("Masks loaded into frame 0").wait_for()
    person.settle()
    person.page.keyboard.press("a")
    person.drag((300, 80), (320, 80))
    assert [o["id"] for o in person.api(project)["objects"]] == [1, 2, 254]


def test_nothing_is_drawn_over_masks_that_are_being_loaded(person: Person, tmp_path: Path) -> None:
    project = person.open_demo()
    two = np.zeros((240, 432), np.uint8)
    two[20:60, 30:90], two[100:120, 200:250] = 1, 7
    write_mask(tmp_path / "two.png", two)
    held = person.hold_back("**/masks", "POST")
    person.page.locator("#masks-input").set_input_files(tmp_path / "two.png")
    held.wait()
    person.page.mouse.move(*person.at(300, 80))
    person.page.mouse.down()
    person.page.mouse.up()
    person.page.get_by_text("still on its way").wait_for()
    held.let_go()
    person.page.get_by_text("Masks loaded into frame 0").wait_for()
    person.settle()
    person.drag((300, 80), (320, 80))
    assert person.area(project, 0, 1) > 40 * 60


def test_unsaved_strokes_stay_their_objects_where_another_page_adds_objects(person: Person, tmp_path: Path) -> None:
    project = person.open_demo()
    held = person.hold_back("**/masks/1")
    person.page.mouse.move(*person.at(50, 50))
    person.page.mouse.down()
    person.page.mouse.move(*person.at(90, 50))
    person.page.mouse.up()
    held.wait()
    for number in (2, 3):
        body = {"runs": [100, 50, 240 * 432 - 150]}
        httpx.put(f"{person.url}api/projects/{project}/frames/5/masks/{number}", json=body).raise_for_status()
    person.page.locator('.objects li[data-id="2"]').click(position={"x": 4, "y": 4})
    person.page.mouse.move(*person.at(200, 90))
    person.page.mouse.down()
    person.page.mouse.up()
    held.let_go()
    person.settle()
    assert 0 < person.area(project, 0, 2) < person.area(project, 0, 1)
    person.page.locator(".objects li").nth(2).wait_for()


def test_an_upload_that_is_cancelled_while_it_is_read_becomes_no_project(
    server: Server, person: Person, tmp_path: Path
) -> None:
    import httpx
    import numpy as np
    from PIL import Image

    for number in range(2):
        Image.fromarray(np.full((48, 64, 3), 60 * number, np.uint8)).save(tmp_path / f"{number}.png")
    page = person.page
    before = len(httpx.get(f"{person.url}api/projects").json())
    page.goto(person.url)
    page.wait_for_selector(".begin-card")
    held = person.hold_back("**/api/projects")
    page.locator("#upload-input").set_input_files(sorted(tmp_path.glob("*.png")))
    held.wait()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="detached")
    held.let_go()
    page.get_by_text("The upload was cancelled.").wait_for()
    assert "project" not in page.url
    assert len(httpx.get(f"{person.url}api/projects").json()) == before
    page.unroute("**/api/projects")


def test_nothing_stays_of_an_upload_that_breaks_off(server: Server, person: Person, tmp_path: Path) -> None:
    for number in range(2):
        write_mask(tmp_path / f"{number}.png", np.zeros((48, 64), np.uint8))
    person.page.goto(person.url)
    person.page.wait_for_selector(".begin-card")
    waiting = server.folder / "projects" / ".uploads"
    before = set(waiting.iterdir())
    person.page.route("**/api/uploads/*name=1.png", lambda route: route.abort())
    person.page.locator("#upload-input").set_input_files(sorted(tmp_path.glob("*.png")))
    person.page.get_by_text("The upload broke off").wait_for()
    person.until(lambda: set(waiting.iterdir()) <= before, "what has come is deleted")
    person.problems.clear()  # the failure, as the browser logs it


def test_files_that_would_be_refused_are_not_sent(person: Person, tmp_path: Path) -> None:
    def told(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, json={**answer.json(), "files": 2})

    page = person.page
    page.route("**/api/server", told)
    page.goto(person.url)
    page.wait_for_selector(".begin-card")
    held = person.hold_back("**/api/uploads")
    refused = {
        "a.png Thumbs.db": "Thumbs.db is neither a video nor a picture.",
        "a.png": "Choose one video, or two or more pictures.",
        "a.png b.mp4": "Choose one video, or two or more pictures.",
        "a.png b.png c.png": "These are 3 files; at most 2 can be uploaded.",
    }
    for names, text in refused.items():
        paths = [tmp_path / name for name in names.split()]
        for path in paths:
            path.write_bytes(b"x")
        page.locator("#upload-input").set_input_files(paths)
        page.get_by_text(text).wait_for()
        page.locator(".toast button").click()
        assert not held.is_asked(0.2)
    page.locator("#upload-input").set_input_files([tmp_path / "a.png", tmp_path / "b.png"])
    held.wait()


def drop(page: Any, path: Path) -> None:
    """Drop a file or folder on the page."""
    control = page.context.new_cdp_session(page)
    data = {"items": [], "files": [str(path)], "dragOperationsMask": 1}
    for kind in ("dragEnter", "dragOver", "drop"):
        control.send("Input.dispatchDragEvent", {"type": kind, "x": 600, "y": 400, "data": data})


def test_a_folder_that_is_dropped_on_the_page_is_told_to_be_one(person: Person, tmp_path: Path) -> None:
    (tmp_path / "frames").mkdir()
    page = person.page
    page.goto(person.url)
    page.wait_for_selector(".begin-card")
    drop(page, tmp_path / "frames")
    page.get_by_text("That is a folder: open it by its path, or drop its pictures.").wait_for()


def test_pictures_of_masks_that_are_dropped_on_a_project_are_loaded(person: Person, tmp_path: Path) -> None:
    mask = np.zeros((240, 432), np.uint8)
    mask[20:60, 30:90] = 1
    write_mask(tmp_path / "mask.png", mask)
    (tmp_path / "clip.mp4").write_bytes(b"no video")
    page = person.page
    project = person.open_demo()
    page.keyboard.press("?")
    drop(page, tmp_path / "mask.png")  # beside what a dialog is about
    page.keyboard.press("Escape")
    person.settle()
    assert person.api(project)["annotated"] == []
    drop(page, tmp_path / "mask.png")
    page.get_by_text("Masks loaded into frame 0").wait_for()
    person.settle()
    assert person.area(project, 0, 1) == 40 * 60
    drop(page, tmp_path / "clip.mp4")
    page.locator(".toast.error").wait_for()
    person.settle()
    assert person.area(project, 0, 1) == 40 * 60
    person.problems.clear()  # the refusal, as the browser logs it


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize(
    "size", [(1366, 768), (1024, 768), (960, 540), (820, 1180), (390, 844), (844, 390), (320, 568)]
)
def test_every_screen_fits(server: Server, browser: Any, size: tuple[int, int], look: str) -> None:
    context = browser.new_context(viewport=dict(zip(("width", "height"), size)), color_scheme=look)
    person = Person(context.new_page(), server.url)
    page = person.page
    page.goto(server.url)
    page.wait_for_selector(".begin-card")
    fits = "document.documentElement.scrollWidth <= innerWidth"
    assert page.evaluate(fits)
    card = page.locator(".card-link").first
    if card.count():
        card.click()
        person.see_project()
    else:
        person.open_demo()
    assert page.evaluate(f"{fits} && document.documentElement.scrollHeight <= innerHeight")
    for tool in "bepxsh":
        page.keyboard.press(tool)
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.tool-options'))"), tool
    page.keyboard.press("s")
    person.drag((60, 100), (90, 100))
    page.get_by_role("button", name="Keep").wait_for()
    if size != (844, 390):  # where they are scrolled
        assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.tool-options'))")
    page.keyboard.press("Escape")
    for part, least in (("tools", 40), ("stage", 100), ("side", 120)):
        assert page.evaluate(f"document.querySelector('.{part}').clientHeight") >= least, part
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.transport'))")
    assert page.evaluate("document.querySelector('.transport').firstChild.getBoundingClientRect().left") >= 0
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, ground[4:-1].split(","))) > 380) == (look == "light")
    page.get_by_role("button", name="Look").click()
    page.keyboard.press("?")
    page.get_by_role("dialog", name="Keyboard and mouse").wait_for()
    assert page.evaluate(fits)
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.querySelector('.dialog-body'))")
    context.close()
    assert person.problems == []


def test_a_message_is_seen_above_an_open_dialog_and_outlives_it(person: Person) -> None:
    page = person.page
    page.goto(person.url)
    page.get_by_role("button", name="Open a video").click()
    page.get_by_role("textbox", name="Path").fill("/etc")
    page.locator("ul.files li").first.wait_for()
    page.get_by_role("textbox", name="Path").press("Enter")
    message = page.locator(".toast", has_text="outside the folders that may be opened")
    message.get_by_role("button", name="Close").click(trial=True)  # nothing lies above it
    page.get_by_role("button", name="Close").first.click()
    page.get_by_role("dialog").wait_for(state="detached")
    page.locator("body > #toasts").wait_for(state="attached")  # where later messages are seen; this one is soon gone
    person.problems.clear()  # the refusal, as the browser logs it


def test_keys_in_the_middle_of_a_stroke_take_it_to_no_other_frame(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    page.mouse.move(*person.at(60, 116))
    page.mouse.down()
    page.mouse.move(*person.at(100, 116), steps=5)
    for key in ("ArrowRight", "End", "a", "e", "Control+z"):
        page.keyboard.press(key)
    page.mouse.move(*person.at(120, 116), steps=5)
    page.mouse.up()
    person.settle()
    assert person.api(project)["annotated"] == [0]
    drawn = person.area(project, 0, 1)
    assert drawn > 800
    page.keyboard.press("x")
    page.mouse.move(*person.at(222, 78))
    page.mouse.down()
    page.mouse.move(*person.at(365, 205), steps=5)
    page.keyboard.press("Escape")
    page.mouse.up()
    page.wait_for_timeout(1000)
    person.settle()
    assert person.area(project, 0, 1) == drawn


def test_shortcuts_are_found_on_keyboards_of_any_script(person: Person) -> None:
    rows = {
        ("з", "KeyP", ""): "polygon",
        ("נ", "KeyB", ""): "brush",
        ("لا", "KeyB", ""): "brush",  # one key, two letters
        ("ζ", "KeyZ", "metaKey"): "undo",
        ("Я", "KeyZ", "ctrlKey shiftKey"): "redo",
        ("х", "BracketLeft", ""): "smaller",
        ("ю", "Period", ""): "after",
        ("۲", "Digit2", ""): "second",
        # Latin letters are what they are, wherever they lie.
        ("z", "KeyY", "ctrlKey"): "undo",
        ("è", "KeyT", ""): None,
        ("ü", "BracketLeft", ""): None,
        # Brackets of Macs and of AltGr.
        ("[", "Digit5", "altKey"): "smaller",
        ("]", "Minus", "altKey shiftKey"): "larger",
        ("[", "Digit8", "altKey ctrlKey"): "smaller",
        ("b", "KeyB", "altKey"): None,
    }
    person.page.goto(person.url)
    person.page.evaluate(
        """async () => {
          const { listenToKeys } = await import("/static/js/keys.js");
          const does = (name) => () => { window.done = name; };
          listenToKeys({
            control: new AbortController(), stage: {}, tool: {}, brush: 10,
            objects: () => [{ id: "first" }, { id: "second" }],
            setTool: (name) => does(name)(), setBrush: (size) => does(size < 10 ? "smaller" : "larger")(),
            select: (id) => does(id)(), goToMark: (step) => does(step < 0 ? "before" : "after")(),
            undo: does("undo"), redo: does("redo"), track: does("track"),
          });
        }"""
    )
    press = """(given) => {
        window.done = null;
        document.body.dispatchEvent(new KeyboardEvent("keydown", { bubbles: true, ...given }));
        return window.done;
    }"""
    for (key, code, held), done in rows.items():
        given = {"key": key, "code": code, **dict.fromkeys(held.split(), True)}
        assert person.page.evaluate(press, given) == done, given


def test_two_fingers_take_no_corner_and_no_scribble_away_and_leave_no_dot(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    control = page.context.new_cdp_session(page)

    def pinch() -> None:
        left, right = person.at(150, 60), person.at(250, 60)
        first, second = ({**dict(zip("xy", at)), "id": number} for number, at in enumerate((left, right)))
        for kind, points in (("touchStart", [first]), ("touchStart", [first, second]), ("touchEnd", [])):
            control.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
        page.wait_for_timeout(300)

    page.keyboard.press("p")
    for point in ((200, 20), (300, 20), (250, 60)):
        page.mouse.click(*person.at(*point))
    pinch()
    page.keyboard.press("Enter")
    person.settle()
    polygon = person.area(project, 0, 1)
    assert polygon == pytest.approx(2000, rel=0.1)
    page.keyboard.press("b")
    pinch()
    page.keyboard.press("e")
    person.drag((20, 220), (30, 220))
    assert person.area(project, 0, 1) == polygon
    page.keyboard.press("s")
    person.drag((270, 140), (330, 140))
    pinch()
    page.get_by_role("button", name="Keep").click()
    person.settle()
    assert person.area(project, 0, 1) > polygon


def test_the_frame_that_is_told_is_the_one_that_is_shown(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    number, title = page.get_by_role("spinbutton", name="Frame number"), page.locator(".panel h2").nth(1)
    for typed, frame in (("999", "39"), ("", "39"), ("7", "7")):
        number.fill(typed)
        number.press("Enter")
        assert (number.input_value(), title.inner_text()) == (frame, f"Frame {frame}")
    first = page.get_by_role("spinbutton", name="First frame")
    first.fill("2.6")
    first.press("Enter")
    assert first.input_value() == "3"
    # Played from the end, and paused before the next frame is due: both keys in one turn of the page, as a busy
    # machine may show a frame between two that are pressed.
    number.press("Escape")
    page.keyboard.press("End")
    assert title.inner_text() == "Frame 39"
    page.evaluate("""() => {
        const key = () => new KeyboardEvent("keydown", { key: " ", bubbles: true, cancelable: true });
        document.body.dispatchEvent(key());
        document.body.dispatchEvent(key());
    }""")
    person.settle()
    assert title.inner_text() == "Frame 0"
    person.drag((60, 116), (120, 116))
    assert person.api(project)["annotated"] == [0]


def test_scribbles_are_kept_by_whoever_exports_or_goes_to_the_projects(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    page.keyboard.press("s")
    person.drag((270, 140), (330, 140))
    page.get_by_role("button", name="Export").click()
    person.settle()
    turtle = person.area(project, 0, 1)
    assert turtle > 1000
    page.keyboard.press("Escape")
    page.keyboard.press("a")
    page.keyboard.press("s")
    person.drag((60, 116), (120, 116))
    page.get_by_role("link", name="All projects").click()
    page.wait_for_selector(".begin-card")
    person.until(lambda: person.area(project, 0, 2) > 500, "the scribble became a mask")


def test_what_is_chosen_and_how_far_things_are_is_told_to_those_who_do_not_see(person: Person) -> None:
    page = person.page
    person.open_demo()
    page.get_by_role("heading", level=1, name="Demo: fish and turtle").wait_for()
    page.keyboard.press("s")
    for chosen in ("Background", "Object"):
        page.get_by_role("button", name=chosen, exact=True).click()
        page.get_by_role("button", name=chosen, exact=True, pressed=True).wait_for()
    page.keyboard.press("x")
    page.get_by_role("button", name="Replace", pressed=True).wait_for()
    page.locator(".option").get_by_role("button", name="Add", exact=True, pressed=False).wait_for()
    box(person, TURTLE)
    page.keyboard.press("t")
    page.get_by_role("progressbar", name="Steps of tracking").wait_for()
    page.get_by_role("button", name="Track", exact=True).wait_for(timeout=120_000)


def test_the_keyboard_keeps_its_place_in_the_list_of_objects_and_the_chosen_one_is_in_sight(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    runs = [2000, 100, 432 * 240 - 2100]
    for number in range(1, 10):
        page.request.put(f"{person.url}api/projects/{project}/frames/0/masks/{number}", data={"runs": runs})
    page.locator(".objects li").nth(8).wait_for()
    focused = "document.activeElement.getAttribute('aria-label')"
    page.locator(".objects li").nth(1).get_by_role("button", name="Hide object 2").focus()
    page.keyboard.press("Enter")
    assert page.evaluate(focused) == "Show object 2"
    name = page.locator(".objects li input.name").nth(2)
    name.fill("swan")
    page.keyboard.press("Tab")
    page.get_by_label("Colour of swan").wait_for()
    assert page.evaluate(focused) == "Hide swan"
    page.get_by_role("button", name="Remove swan from the whole video").wait_for()
    for key in ("9", "a"):
        page.keyboard.press(key)
        assert page.evaluate(
            "(r => r.bottom <= document.querySelector('.objects').getBoundingClientRect().bottom + 1)"
            "(document.querySelector('.objects li.selected').getBoundingClientRect())"
        ), key


def test_escape_gives_up_what_is_typed_into_a_field(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    fields = {"Name of the object": "object 1", "Name of the project": "Demo: fish and turtle", "Frame number": "0"}
    for label, before in fields.items():
        field = page.get_by_label(label, exact=True)
        for kept in (before, "7"):  # what was entered before stays, too
            field.fill(kept)
            field.press("Enter")
            person.settle()
            field.fill("12")
            field.press("Escape")
            person.settle()
            assert field.input_value() == kept, label
    state = person.api(project)
    assert (state["name"], state["objects"][0]["name"]) == ("7", "7")
    assert page.locator("h2", has_text="Frame 7").count() == 1
    assert page.get_by_label("Name of the object").get_attribute("title") == "7"
    assert page.get_by_label("Name of the project").get_attribute("title") == "7"


def test_after_enter_in_a_field_keys_are_shortcuts_again(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    for label in ("Frame number", "First frame", "Last frame", "Name of the project", "Name of the object"):
        field = page.get_by_label(label, exact=True)
        field.fill("7")
        field.press("Enter")
        for key, tool in (("e", "eraser"), ("b", "brush")):
            page.keyboard.press(key)
            person.wait(f"document.querySelector('.tools [data-tool={tool}]').matches('.on')", 5)
        assert field.input_value() == "7"
    person.settle()
    assert person.api(project)["name"] == "7"


def test_nothing_is_drawn_while_all_masks_are_hidden(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    before = person.area(project, 0, 1)
    page.keyboard.press("b")
    page.keyboard.press("v")
    person.drag((20, 20), (90, 20))
    page.get_by_text("All masks are hidden: show them first (V).").wait_for()
    assert person.area(project, 0, 1) == before
    page.keyboard.press("v")
    person.drag((20, 20), (90, 20))
    assert person.area(project, 0, 1) > before


def test_a_hidden_object_keeps_its_pixels_whatever_is_drawn_over_it(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    before = person.area(project, 0, 1)
    page.keyboard.press("a")
    page.get_by_role("button", name="Hide object 1").click()
    page.keyboard.press("b")
    left, top, right, bottom = TURTLE
    person.drag((left, top), (right, bottom))
    page.get_by_text("Hidden objects keep their pixels").wait_for()
    person.settle()
    assert person.area(project, 0, 1) == before
    page.get_by_role("button", name="Show object 1").click()
    person.drag((left, top), (right, bottom))
    person.settle()
    assert person.area(project, 0, 1) < before


def test_space_plays_after_a_click_and_presses_the_button_that_the_keyboard_chose(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    box(person, TURTLE)
    person.track()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("Undone: the tracking run. Redo brings it back.").wait_for()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Pause").wait_for()
    person.settle()
    assert person.area(project, 0, 1) > 0
    page.keyboard.press("Space")
    page.get_by_role("button", name="Play").wait_for()
    page.get_by_role("button", name="Redo").focus()
    page.keyboard.press("Space")
    page.get_by_text("Redone: the tracking run.").wait_for()


def test_pictures_fetched_ahead_while_playing_are_not_given_up_and_fetched_again(person: Person) -> None:
    project = person.open_demo()
    left = person.page.evaluate(
        """async (project) => {
          const { AHEAD, Pictures } = await import("/static/js/media.js");
          const pictures = new Pictures(`/api/projects/${project}`, 40, 432 * 240);
          pictures.prefetch(0, 1, AHEAD);
          const asked = [...pictures.kept.map.values()];
          pictures.focus(0);
          const left = pictures.kept.map.size;
          await Promise.all(asked.map((entry) => entry.promise));
          return [left, AHEAD];
        }""",
        project,
    )
    assert left == [12, 12]


def test_playing_ends_at_a_frame_that_cannot_be_shown_which_is_said_and_goes_on_after_it(person: Person) -> None:
    page, asked = person.page, list[Any]()
    person.open_demo()

    def refuse(route: Any) -> None:
        asked.append(route)
        route.fulfill(status=400, json={"error": "torn"})

    page.route("**/frames/5", refuse)
    page.keyboard.press("Space")
    page.get_by_text("torn").wait_for()
    page.get_by_role("button", name="Play").wait_for()
    page.locator("h2", has_text="Frame 5").wait_for()
    page.wait_for_timeout(500)
    page.locator(SHOWN).wait_for()  # nothing more is on its way
    assert len(asked) == 2  # ahead, and to say what is wrong with it
    page.keyboard.press("Space")
    person.wait("Number(document.querySelector('.frame-number input').value) > 7")
    person.problems.clear()  # the refusals, as the browser logs them


def test_an_overlay_coloured_where_masks_changed_is_the_one_coloured_everywhere(person: Person) -> None:
    person.page.goto(person.url)
    different = person.page.evaluate(
        """async () => {
          const { Stage } = await import("/static/js/stage.js");
          const { encodeRuns } = await import("/static/js/runs.js");
          const [height, width] = [40, 60];
          const objects = [1, 2].map((id) => ({ id, colour: [90 * id, 30, 200], visible: true }));
          let seed = 1;
          const random = (most) => { seed = (seed * 48271) % 2147483647; return seed % most; };
          const rectangle = () => {
            const mask = new Uint8Array(height * width);
            const [left, top, right, bottom] = [random(width), random(height), random(width), random(height)];
            for (let y = top; y <= bottom; y++) for (let x = left; x <= right; x++) mask[y * width + x] = 1;
            return { runs: encodeRuns(mask) };
          };
          const stage = new Stage([height, width]);
          const wrong = [];
          for (let round = 0; round < 60; round++) {
            // Empty ones and absent ones, one that wraps around from row to row, strokes that no answer knows.
            const masks = random(4) ? { 1: rectangle(), 2: rectangle() } : {};
            if (round % 9 === 5) masks[1] = { runs: [width + 7, 3 * width, width * height - 4 * width - 7] };
            stage.setMasks(masks, objects, 1 + random(2));
            if (round % 3 === 1) stage.paint({ x: random(width), y: random(height) }, { x: 9, y: 9 }, 3, false);
            if (round % 7 === 2) stage.view.scale = 0.3 + random(3);
            if (round % 7 === 3) stage.rescaled();
            if (round % 7 === 2) continue;
            const whole = new Stage([height, width]);
            whole.view.scale = stage.view.scale;
            whole.labels.set(stage.labels);
            [whole.slots, whole.selected] = [stage.slots, stage.selected];
            whole.renderOverlay();
            if (whole.pixels.some((pixel, i) => pixel !== stage.pixels[i])) wrong.push(round);
            whole.close();
          }
          stage.close();
          return [wrong, stage.pixels.some((pixel) => pixel)];
        }"""
    )
    assert different == [[], True]


def test_a_large_video_is_played_in_smaller_pictures_and_stands_in_full(server: Server, person: Person) -> None:
    page, asked = person.page, list[str]()
    with VideoWriter(server.folder / "large.mp4", Fraction(10), (1200, 64)) as writer:
        for step in range(20):
            writer.write(np.full((1200, 64, 3), 10 * step, np.uint8))
    made = httpx.post(server.url + "api/projects", json={"path": str(server.folder / "large.mp4")}, timeout=60).json()
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{server.url}#/project/{made['id']}")
    person.see_project()
    page.evaluate(
        """() => {
          const drawImage = CanvasRenderingContext2D.prototype.drawImage;
          CanvasRenderingContext2D.prototype.drawImage = function (image, ...where) {
            if (image instanceof ImageBitmap) window.shown = image.height;
            return drawImage.call(this, image, ...where);
          };
        }"""
    )
    page.keyboard.press("Space")
    person.wait("Number(document.querySelector('.frame-number input').value) > 6")
    assert page.evaluate("window.shown") == 1080
    page.keyboard.press("Space")
    person.wait("window.shown === 1200")
    frames = [url.rpartition("/frames/")[2] for url in asked if "/frames/" in url and not url.endswith("/masks")]
    assert {"5?height=1080", "6?height=1080"} <= set(frames)
    assert "5" not in frames, "nothing is fetched in full while it plays"


def test_a_project_that_takes_anothers_name_shows_its_own_pictures(server: Server, person: Person) -> None:
    from PIL import Image

    page, home = person.page, server.folder / "projects" / "again"
    shades = []
    for shade in (40, 200):
        folder = server.folder / f"shade {shade}"
        folder.mkdir()
        for number in range(2):
            Image.new("RGB", (64, 48), (shade,) * 3).save(folder / f"{number}.png")
        Session(folder, folder=home).close()
        page.goto(f"{person.url}#/project/again")
        person.see_project()
        shades.append(
            page.evaluate(
                """() => {
                  const canvas = document.querySelector(".stage-canvas");
                  return canvas.getContext("2d").getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data[0];
                }"""
            )
        )
        page.goto(person.url)
        page.wait_for_selector(".begin-card")
        assert page.request.delete(f"{person.url}api/projects/again").ok
    assert shades == pytest.approx([40, 200], abs=3)


def test_text_that_is_chosen_beyond_a_dialogs_edge_does_not_close_it(person: Person) -> None:
    page = person.page
    page.goto(person.url)
    page.get_by_role("button", name="Open a video").click()
    field = page.get_by_role("textbox", name="Path").bounding_box()
    page.mouse.move(field["x"] + 40, field["y"] + field["height"] / 2)
    page.mouse.down()
    page.mouse.move(10, field["y"] + field["height"] / 2, steps=5)
    page.mouse.up()
    page.wait_for_timeout(200)
    assert page.get_by_role("dialog").count() == 1
    page.mouse.click(10, 10)
    page.get_by_role("dialog").wait_for(state="detached")


def test_the_keyboard_keeps_its_place_among_the_exported_files(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    runs = [2000, 100, 432 * 240 - 2100]
    address = f"{person.url}api/projects/{project}"
    page.request.put(f"{address}/frames/0/masks/1", data={"runs": runs})

    def export(format: str) -> str:
        name = page.request.post(f"{address}/exports", data={"format": format}).json()["name"]
        person.until(lambda: not person.api(project)["exports"]["running"], "the export is done")
        return name

    focused = "document.activeElement.getAttribute('aria-label')"
    sheet = export("sheet")
    page.get_by_role("button", name="Export").click()
    page.get_by_role("button", name=f"Delete {sheet}").focus()
    coco = export("coco")
    page.get_by_role("button", name=f"Delete {coco}").wait_for()
    assert page.evaluate(focused) == f"Delete {sheet}"
    page.keyboard.press("Enter")
    page.get_by_role("button", name=f"Delete {sheet}").wait_for(state="detached")
    assert page.evaluate(focused) == f"Delete {coco}"
    page.keyboard.press("Enter")
    page.get_by_role("button", name=f"Delete {coco}").wait_for(state="detached")
    assert page.evaluate("document.activeElement.textContent") == "Export"


def test_an_export_that_is_being_written_can_be_stopped(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    running = {**person.api(project)["exports"], "running": "demo.mp4", "done": 3, "total": 40}
    news = tell(person, project, exports=running)
    page.get_by_role("button", name="Export").click()
    asked = person.hold_back("**/exports/*", "DELETE")
    stop = page.get_by_role("dialog").get_by_role("button", name="Stop")
    stop.click()
    route = asked.take()
    assert route.request.url.endswith(f"/{project}/exports/demo.mp4")
    route.fulfill(json=None)
    news.let_go()  # nothing is written any more
    stop.wait_for(state="hidden")
    assert page.evaluate("document.activeElement.textContent") == "Export"


def test_classes_are_numbered_as_the_person_writes_them(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    runs = [2000, 100, 432 * 240 - 2100]
    page.request.put(f"{person.url}api/projects/{project}/frames/0/masks/1", data={"runs": runs})
    page.get_by_role("button", name="Export").click()
    page.locator(".format", has_text="COCO").click()
    page.get_by_text("39 of 40 frames have no masks yet: they are written empty.").wait_for()
    (own,) = (one["name"] for one in person.api(project)["objects"])
    page.get_by_label("Classes").fill(f"crab, {own}")
    page.locator("form.export button[type=submit]").click()
    link = page.locator(".file-link").first
    link.wait_for(timeout=60_000)
    with page.expect_download() as download:
        link.click()
    with open(download.value.path(), encoding="utf-8") as file:
        assert [c["name"] for c in json.load(file)["categories"]] == ["crab", own]


@pytest.mark.skipif(sys.platform != "linux", reason="other file systems have no such names")
def test_a_folder_whose_name_is_no_utf8_is_entered_and_its_video_opened(server: Server, person: Person) -> None:
    folder = os.fsencode(server.folder) + b"/caf\xe9"
    os.mkdir(folder)
    with VideoWriter(Path(os.fsdecode(folder)) / "short.mp4", Fraction(25), (48, 64)) as writer:
        for level in range(0, 250, 50):
            writer.write(np.full((48, 64, 3), level, np.uint8))
    page = person.page
    page.goto(person.url)
    page.get_by_role("button", name="Open a video").click()
    page.get_by_role("button", name="caf").click()
    page.get_by_role("button", name="short.mp4").click()
    person.see_project()
    assert page.locator(".facts").inner_text() == "64×48 · 25 fps · 5 frames"


def test_a_refused_stroke_is_not_called_saved(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    page.route("**/masks/1", lambda route: route.fulfill(status=507, json={"error": "the disk is full"}))
    page.mouse.move(*person.at(60, 116))
    page.mouse.down()
    page.mouse.up()
    page.get_by_text("the disk is full").wait_for()
    person.wait("document.querySelector('.saved').textContent === 'Not saved'")
    page.unroute("**/masks/1")
    person.drag((60, 116), (120, 116))
    assert person.area(project, 0, 1) > 500
    person.problems.clear()  # the refusal, as the browser logs it
