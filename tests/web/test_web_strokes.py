"""Strokes belong to the frame and the object that they were begun in, whatever else happens, in a real Chromium."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jointformer.data.masks import write_mask
from jointformer.web.runs import encode_runs
from web.browser import IN_BROWSER, Held, Person

pytestmark = IN_BROWSER
LEFT, RIGHT = (40, 20, 120, 60), (300, 150, 360, 200)  # left, top, right, bottom of two objects' masks
CUT, AGAIN = (150, 80, 200, 130), (60, 40, 160, 70)  # of what is cut out


def give(person: Person, project: str, frame: int, object_id: int, part: tuple[int, int, int, int]) -> None:
    """Draw a rectangle by another program."""
    address = f"{person.url}api/projects/{project}/frames/{frame}/masks/{object_id}"
    httpx.put(address, json={"runs": rectangle(part)}).raise_for_status()


def with_two_objects(person: Person) -> str:
    """Return the id of a project of the demo with two objects in its first frame, the first one chosen."""
    project = person.open_demo()
    for object_id, part in enumerate((LEFT, RIGHT), 1):
        give(person, project, 0, object_id, part)
    person.page.locator(".objects li").nth(1).wait_for()
    person.page.get_by_text("your mask", exact=True).nth(1).wait_for()
    return project


def hold(person: Person, *points: tuple[float, float]) -> None:
    """Draw, and do not let go."""
    person.page.mouse.move(*person.at(*points[0]))
    person.page.mouse.down()
    for point in points[1:]:
        person.page.mouse.move(*person.at(*point), steps=6)


def stroke_on_its_way(person: Person) -> Held:
    """Draw a stroke of object 1, which the server has not got yet."""
    held = person.hold_back("**/masks/1")
    hold(person, (150, 100), (180, 100))
    person.page.mouse.up()
    held.wait()
    return held


def rectangle(part: tuple[int, int, int, int]) -> list[int]:
    """Return the runs of a mask."""
    mask = np.zeros((240, 432), bool)
    mask[part[1] : part[3], part[0] : part[2]] = True
    return encode_runs(mask)


class CutOuts:
    """The page's questions for cut-outs, answered when a test says so."""

    def __init__(self, person: Person) -> None:
        self._held = person.hold_back("**/cutout*")
        self.is_asked, self.wait = self._held.is_asked, self._held.wait

    def answer(self, part: tuple[int, int, int, int] | None) -> None:
        """Answer the oldest question with a rectangle, or with nothing."""
        runs = [240 * 432] if part is None else rectangle(part)
        self._held.take().fulfill(json={"runs": runs})


def cut_out(person: Person) -> None:
    """Scribble, and see what that cuts out, which is not kept yet."""
    cuts = CutOuts(person)
    person.page.keyboard.press("s")
    hold(person, (160, 100), (190, 100))
    person.page.mouse.up()
    cuts.answer(CUT)
    person.page.get_by_role("button", name="Keep").wait_for()


def chosen(person: Person) -> str:
    return person.page.locator(".objects li.selected input.name").input_value()


def size(part: tuple[int, int, int, int]) -> int:
    return (part[2] - part[0]) * (part[3] - part[1])


def only_the_right_object_is_there(person: Person, project: str) -> None:
    """Object 1 is gone for good, and object 2 has the mask that it was given."""
    person.settle()
    assert [row["id"] for row in person.api(project)["objects"]] == [2]
    assert person.area(project, 0, 2) == size(RIGHT)


@pytest.mark.parametrize("tool", ["b", "p", "x"])
def test_what_is_drawn_of_an_object_that_another_page_removes_becomes_no_other_objects(
    person: Person, tool: str
) -> None:
    page = person.page
    project = with_two_objects(person)
    page.keyboard.press(tool)
    if tool == "p":
        for point in ((200, 100), (260, 100), (230, 140)):
            page.mouse.click(*person.at(*point))
    else:
        hold(person, (150, 80), (200, 120))
    httpx.delete(f"{person.url}api/projects/{project}/objects/1").raise_for_status()
    page.get_by_text("object 1 was removed; what you were drawing is gone with it.").wait_for()
    page.mouse.up()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    only_the_right_object_is_there(person, project)
    # What is drawn next is of the object that is chosen now.
    page.keyboard.press("b")
    person.drag((200, 20), (230, 20))
    assert chosen(person) == "object 2"
    assert person.area(project, 0, 2) > size(RIGHT)


def test_scribbles_on_an_object_that_is_removed_become_no_other_objects_mask(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    page.keyboard.press("s")
    person.drag((60, 40), (100, 40))
    page.get_by_role("button", name="Remove object 1 from the whole video").click()
    page.locator(".objects li").nth(1).wait_for(state="detached")
    page.locator(".stage-canvas").focus()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    only_the_right_object_is_there(person, project)


def test_a_stroke_on_its_way_does_not_bring_an_object_back(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    held = person.hold_back("**/objects/2")
    name = page.get_by_role("textbox", name="Name of the object").nth(1)
    name.fill("swan")
    name.press("Enter")
    held.wait()
    page.keyboard.press("1")
    hold(person, (150, 80), (200, 120))
    page.mouse.up()
    httpx.delete(f"{person.url}api/projects/{project}/objects/1").raise_for_status()
    page.locator(".objects li").nth(1).wait_for(state="detached")
    held.let_go()
    page.get_by_text("object 1 was removed; what you have drawn is gone with it.").wait_for()
    only_the_right_object_is_there(person, project)


def test_another_pointer_takes_a_stroke_to_no_other_frame_object_or_tool(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    hold(person, (150, 100), (180, 100))
    for button in (
        ".transport [aria-label^='One frame on']",
        ".tools [data-tool=eraser]",
        ".objects li:nth-child(2)",
        ".transport [aria-label^='Last frame']",
    ):
        page.locator(button).dispatch_event("click")
    line = page.locator(".timeline-canvas").bounding_box()
    finger = {"pointerId": 77, "pointerType": "touch", "bubbles": True, "isPrimary": False}
    place = {"clientX": line["x"] + line["width"] / 2, "clientY": line["y"] + 40}
    page.evaluate("Element.prototype.setPointerCapture = () => {}")  # of a pointer that only the test knows
    for kind in ("pointerdown", "pointermove", "pointerup"):
        page.locator(".timeline-canvas").dispatch_event(kind, {**finger, **place})
    page.mouse.move(*person.at(210, 100), steps=6)
    page.mouse.up()
    person.settle()
    assert person.api(project)["annotated"] == [0]
    assert person.area(project, 0, 1) > size(LEFT) + 500
    assert person.area(project, 0, 2) == size(RIGHT)
    # Afterwards they work.
    page.locator(".transport [aria-label^='One frame on']").click()
    page.locator("h2", has_text="Frame 1").wait_for()


@pytest.mark.parametrize("then", ["Enter", "ArrowRight", "b", "2"])
def test_scribbles_that_are_kept_before_they_are_cut_out_become_their_objects_mask(person: Person, then: str) -> None:
    page = person.page
    project = with_two_objects(person)
    cuts = CutOuts(person)
    page.keyboard.press("s")
    hold(person, (160, 100), (190, 100))
    page.mouse.up()
    cuts.wait()
    page.keyboard.press(then)
    page.wait_for_timeout(300)
    assert person.area(project, 0, 1) == size(LEFT)
    cuts.answer(CUT)
    person.settle()
    assert person.area(project, 0, 1) == size(CUT)
    assert person.area(project, 0, 2) == size(RIGHT)
    assert person.api(project)["annotated"] == [0]


def test_scribbles_on_a_new_object_are_kept_as_soon_as_they_are_cut_out_and_undone_at_once(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    cuts = CutOuts(person)
    page.keyboard.press("s")
    hold(person, (160, 100), (190, 100))
    page.mouse.up()
    cuts.wait()
    page.keyboard.press("Enter")
    cuts.answer(CUT)
    person.settle()
    assert person.area(project, 0, 1) == size(CUT)
    page.keyboard.press("Control+z")
    person.settle()
    assert person.area(project, 0, 1) == 0


@pytest.mark.parametrize("early", [False, True])
def test_scribbles_that_cut_nothing_out_keep_nothing(person: Person, early: bool) -> None:
    page = person.page
    project = with_two_objects(person)
    give(person, project, 5, 1, LEFT)
    cuts = CutOuts(person)
    page.keyboard.press("s")
    for number, part in enumerate((CUT, None)):
        hold(person, (160, 100 + 20 * number), (190, 100 + 20 * number))
        page.mouse.up()
        if early and part is None:
            cuts.wait()
            page.keyboard.press("ArrowRight")
        cuts.answer(part)
        page.wait_for_timeout(300)
    page.get_by_text("Nothing stood out there").wait_for()
    page.keyboard.press("ArrowRight")
    person.settle()
    state = person.api(project)
    assert (person.area(project, 0, 1), state["annotated"]) == (size(LEFT), [0, 5])
    assert state["undo"] == "masks"
    httpx.post(f"{person.url}api/projects/{project}/undo", json={}).raise_for_status()
    assert person.api(project)["annotated"] == [0]  # the newest edit was that of frame 5


@pytest.mark.parametrize("adds", [False, True])
def test_a_box_is_cut_out_for_the_frame_and_object_that_it_was_drawn_in(person: Person, adds: bool) -> None:
    page = person.page
    project = with_two_objects(person)
    cuts = CutOuts(person)
    page.keyboard.press("x")
    page.locator(".option").get_by_role("button", name="Add" if adds else "Replace", exact=True).click()
    hold(person, AGAIN[:2], AGAIN[2:])
    page.mouse.up()
    cuts.wait()
    page.keyboard.press("2")
    hold(person, (200, 20), (240, 60))
    page.mouse.up()
    page.get_by_text("The cut-out is still on its way.").wait_for()
    page.keyboard.press("End")
    cuts.answer(AGAIN)
    person.settle()
    both = size(AGAIN) + size(LEFT) - (LEFT[2] - AGAIN[0]) * (LEFT[3] - AGAIN[1])
    assert person.area(project, 0, 1) == (both if adds else size(AGAIN))
    assert person.api(project)["annotated"] == [0]
    page.keyboard.press("Home")
    page.get_by_text("your mask", exact=True).nth(1).wait_for()
    # Drawing goes on from there.
    hold(person, (200, 20), (240, 60))
    page.mouse.up()
    cuts.answer(CUT)
    person.settle()
    assert person.area(project, 0, 2) == size(CUT) + (size(RIGHT) if adds else 0)


def test_frames_that_arrive_while_a_box_is_cut_out_are_not_followed(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    cuts = CutOuts(person)
    page.keyboard.press("x")
    page.keyboard.press("t")
    number = page.get_by_role("spinbutton", name="Frame number")
    person.until(lambda: number.input_value() != "0", "frames are followed")
    for _ in range(20):
        hold(person, (150, 80), (200, 120))  # nothing is followed while somebody draws, either
        page.wait_for_timeout(300)
        frame = int(number.input_value())
        page.mouse.up()
        if cuts.is_asked():  # a box that was begun while the frame changed is none
            break
    done = person.api(project)["tracking"]["done"]
    person.until(lambda: person.api(project)["tracking"].get("done", 99) > done + 2, "more frames arrive")
    page.wait_for_timeout(300)
    assert int(number.input_value()) == frame
    cuts.answer(CUT)
    person.settle()
    assert person.area(project, frame, 1) == size(CUT)
    assert frame in person.api(project)["annotated"]


def test_an_object_whose_first_stroke_is_undone_is_the_one_that_is_drawn_next(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    page.keyboard.press("a")
    name = page.get_by_role("textbox", name="Name of the object").nth(2)
    name.fill("swan")
    name.press("Enter")
    person.drag((150, 100), (180, 100))
    row = person.api(project)["objects"][2]
    page.keyboard.press("Control+z")
    page.get_by_text("not drawn yet").wait_for()
    person.settle()
    assert [row["id"] for row in person.api(project)["objects"]] == [1, 2]
    assert chosen(person) == "swan"
    person.drag((150, 100), (180, 100))
    assert person.area(project, 0, 1) == size(LEFT)
    assert person.area(project, 0, 3) > 300
    assert person.api(project)["objects"][2] == row


def test_undo_reaches_what_is_not_saved_yet(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    page.keyboard.press("Control+z")
    page.get_by_text("Nothing to undo.").wait_for()
    page.keyboard.press("Control+y")
    page.get_by_text("Nothing to redo.").wait_for()
    held = stroke_on_its_way(person)
    page.keyboard.press("Control+z")
    held.let_go()
    person.settle()
    state = person.api(project)
    assert (state["objects"], state["redo"]) == ([], "masks")


def test_on_a_screen_with_finer_pixels_strokes_stay_where_they_are_drawn(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    control = page.context.new_cdp_session(page)
    screen = {"width": 1366, "height": 768, "mobile": False, "deviceScaleFactor": 2}
    control.send("Emulation.setDeviceMetricsOverride", screen)
    person.drag((150, 100), (180, 100))
    # The brush's blob is seen where the pointer was.
    x, y = person.at(165, 100)
    seen = page.evaluate(
        """([x, y]) => {
          const canvas = document.querySelector(".stage-canvas");
          const box = canvas.getBoundingClientRect();
          const ratio = canvas.width / box.width;
          const context = canvas.getContext("2d");
          const at = (x, y) => [...context.getImageData((x - box.x) * ratio, (y - box.y) * ratio, 1, 1).data];
          return [ratio, at(x, y), at(x, y - 60)];
        }""",
        [x, y],
    )
    assert person.area(project, 0, 1) > 300
    assert seen[0] == pytest.approx(2, abs=0.01)
    assert seen[1] != seen[2]


def test_masks_that_come_late_take_no_stroke_along_that_was_drawn_meanwhile(person: Person) -> None:
    project = person.open_demo()
    person.drag((100, 100), (140, 100))
    held = person.hold_back("**/frames/0/masks")
    person.drag((100, 160), (140, 160))
    person.page.wait_for_timeout(500)
    come = held.answer_late()
    person.drag((100, 200), (140, 200))
    person.page.wait_for_timeout(500)
    drawn = person.area(project, 0, 1)
    come()
    person.page.wait_for_timeout(500)
    person.drag((200, 100), (240, 100))
    assert person.area(project, 0, 1) == pytest.approx(drawn * 4 / 3, abs=60)


def test_masks_are_cleared_in_the_frame_that_was_shown(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    give(person, project, 1, 1, LEFT)
    held = stroke_on_its_way(person)
    page.keyboard.press("Delete")
    page.keyboard.press("ArrowRight")
    held.let_go()
    person.settle()
    assert (person.area(project, 0, 1), person.area(project, 1, 1)) == (0, size(LEFT))


@pytest.mark.parametrize(("key", "asked"), [("Control+z", r"/undo$"), ("Delete", r"/masks\?object=1$")])
def test_a_stroke_drawn_before_an_undo_is_answered_does_not_take_it_back(person: Person, key: str, asked: str) -> None:
    page = person.page
    project = with_two_objects(person)
    person.drag((150, 100), (180, 100))
    held = person.hold_back(re.compile(asked))
    page.keyboard.press(key)
    held.wait()
    hold(person, (300, 40), (330, 40))
    page.mouse.up()
    page.get_by_text("still on its way").wait_for()
    held.let_go()
    person.settle()
    before = size(LEFT) if key == "Control+z" else 0
    assert person.area(project, 0, 1) == before
    person.drag((300, 40), (330, 40))
    assert before + 300 < person.area(project, 0, 1) < before + 900


def test_a_polygon_that_was_begun_ends_with_a_redo(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    person.drag((150, 100), (180, 100))
    drawn = person.area(project, 0, 1)
    page.keyboard.press("Control+z")
    person.settle()
    page.keyboard.press("p")
    for point in ((200, 100), (260, 100)):
        page.mouse.click(*person.at(*point))
    page.keyboard.press("Control+y")
    person.settle()
    page.mouse.click(*person.at(230, 140))
    page.keyboard.press("Enter")
    person.settle()
    assert person.area(project, 0, 1) == drawn


def test_a_polygon_that_ends_where_the_person_goes_on_is_said_to_be_gone(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    page.keyboard.press("p")
    gone = page.get_by_text("The polygon that was begun is gone: Enter closes it first.")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowLeft")
    page.get_by_text("your mask", exact=True).nth(1).wait_for()
    assert gone.count() == 0
    for point in ((200, 100), (260, 100), (230, 140)):
        page.mouse.click(*person.at(*point))
    page.keyboard.press("ArrowRight")
    gone.wait_for()
    person.settle()
    assert (person.area(project, 0, 1), person.area(project, 1, 1)) == (size(LEFT), 0)


def test_whoever_leaves_the_page_with_scribbles_that_are_not_kept_is_asked(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    asked: list[str] = []

    def leave(dialog: Any) -> None:
        asked.append(dialog.type)
        dialog.accept()

    page.on("dialog", leave)
    cut_out(person)
    page.reload()
    assert asked == ["beforeunload"]
    person.see_project()
    assert person.area(project, 0, 1) == size(LEFT)
    person.drag((150, 100), (180, 100))
    page.reload()
    assert asked == ["beforeunload"]  # all is kept


def test_scribbles_are_kept_before_masks_are_loaded_which_stay(person: Person, tmp_path: Path) -> None:
    page = person.page
    project = with_two_objects(person)
    cut_out(person)
    page.wait_for_timeout(300)
    white = np.zeros((240, 432), np.uint8)
    white[AGAIN[1] : AGAIN[3], AGAIN[0] : AGAIN[2]] = 255
    write_mask(tmp_path / "white.png", white)
    page.locator("#masks-input").set_input_files(tmp_path / "white.png")
    page.get_by_text("Masks loaded into frame 0").wait_for()
    person.settle()
    page.keyboard.press("ArrowRight")
    person.settle()
    assert person.area(project, 0, 1) == size(AGAIN)
    page.keyboard.press("Control+z")
    person.settle()
    assert person.area(project, 0, 1) == size(CUT)


def test_an_object_is_told_absent_before_its_frames_masks_have_come_and_the_others_keep_theirs(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    held = person.hold_back("**/frames/0/masks")
    page.reload()
    page.locator(".objects li").nth(1).wait_for()
    held.wait()
    page.get_by_role("button", name="Absent").click()
    person.wait_until_saved()
    assert (person.area(project, 0, 1), person.area(project, 0, 2)) == (0, size(RIGHT))
    assert 0 in person.api(project)["annotated"]
    page.unroute("**/frames/0/masks")


def test_scribbles_given_up_while_a_stroke_is_on_its_way_do_not_take_it_along(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    cuts = CutOuts(person)
    held = stroke_on_its_way(person)
    page.keyboard.press("s")
    hold(person, (160, 200), (190, 200))
    page.mouse.up()
    cuts.answer(CUT)
    page.wait_for_timeout(300)
    page.keyboard.press("Escape")
    page.keyboard.press("b")
    page.wait_for_timeout(300)
    hold(person, (300, 40), (330, 40))
    page.mouse.up()
    page.get_by_text("still on its way").wait_for()
    held.let_go()
    page.unroute("**/masks/1")
    person.settle()
    stroke = person.area(project, 0, 1) - size(LEFT)
    person.drag((300, 40), (330, 40))
    assert person.area(project, 0, 1) == pytest.approx(size(LEFT) + 2 * stroke, abs=60)


def objects(person: Person, project: str) -> list[tuple[int, str]]:
    return [(row["id"], row["name"]) for row in person.api(project)["objects"]]


def test_a_new_object_is_one_while_its_first_stroke_is_on_its_way(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    held = stroke_on_its_way(person)
    name = page.get_by_role("textbox", name="Name of the object")
    name.fill("swan")
    name.press("Enter")
    # Another page's edit tells objects without it.
    httpx.patch(f"{person.url}api/projects/{project}", json={"name": "birds"}).raise_for_status()
    page.get_by_role("heading", level=1, name="birds").wait_for()
    page.keyboard.press("a")
    hold(person, (300, 150), (330, 150))
    page.mouse.up()
    held.let_go()
    person.settle()
    assert objects(person, project) == [(1, "swan"), (2, "object 2")]
    assert person.area(project, 0, 1) == pytest.approx(person.area(project, 0, 2), abs=60)
    assert page.locator(".objects li").count() == 2


def test_a_new_object_is_removed_also_while_its_first_stroke_is_on_its_way(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    held = stroke_on_its_way(person)
    page.get_by_role("button", name="Remove object 1 from the whole video").click()
    held.let_go()
    page.get_by_text("not drawn yet").wait_for()
    person.settle()
    assert objects(person, project) == []


def test_a_new_object_of_which_nothing_is_cut_out_is_not_drawn_yet(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    cuts = CutOuts(person)
    page.keyboard.press("x")
    hold(person, CUT[:2], CUT[2:])
    page.mouse.up()
    cuts.wait()
    page.get_by_text("not drawn yet").wait_for(state="detached")
    cuts.answer(None)
    page.get_by_text("not drawn yet").wait_for()
    hold(person, CUT[:2], CUT[2:])
    page.mouse.up()
    cuts.answer(CUT)
    person.settle()
    assert objects(person, project) == [(1, "object 1")]
    assert person.area(project, 0, 1) == size(CUT)


def test_scribbles_on_a_new_object_are_kept_before_another_is_added(person: Person) -> None:
    page = person.page
    project = person.open_demo()
    cuts = CutOuts(person)
    page.keyboard.press("s")
    hold(person, (160, 100), (190, 100))
    page.mouse.up()
    cuts.answer(CUT)
    page.wait_for_timeout(300)
    page.keyboard.press("a")
    person.settle()
    assert chosen(person) == "object 2"
    assert person.area(project, 0, 1) == size(CUT)


def test_an_object_that_the_server_took_and_lost_before_it_told_it_is_gone(person: Person) -> None:
    person.page.goto(person.url)
    left = person.page.evaluate(
        """async () => {
          const { Objects } = await import("/static/js/objects.js");
          const begun = [{ id: 1 }, { id: 2, version: 5 }, { id: 3, version: 5 }];
          const page = Object.assign(new Objects(), { begun });
          return [4, 5].map((version) => {
            page.state = { version, objects: version < 5 ? [] : [{ id: 3 }] };
            page.settleObjects();
            return page.objects().map(({ id }) => id);
          });
        }"""
    )
    assert left == [[1, 2, 3], [3, 1]]
