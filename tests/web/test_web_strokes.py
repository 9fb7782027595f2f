"""Strokes belong to the frame and the object that they were begun in, whatever else happens, in a real Chromium."""

from __future__ import annotations

from typing import Any

import httpx
import numpy as np
import pytest

from jointformer.web.runs import encode_runs
from web.browser import IN_BROWSER, Person

pytestmark = IN_BROWSER
LEFT, RIGHT = (40, 20, 120, 60), (300, 150, 360, 200)  # left, top, right, bottom of two objects' masks


def give(person: Person, project: str, frame: int, object_id: int, part: tuple[int, int, int, int]) -> None:
    """Draw a rectangle by another program."""
    mask = np.zeros((240, 432), bool)
    mask[part[1] : part[3], part[0] : part[2]] = True
    address = f"{person.url}api/projects/{project}/frames/{frame}/masks/{object_id}"
    httpx.put(address, json={"runs": encode_runs(mask)}).raise_for_status()


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


def chosen(person: Person) -> str:
    return person.page.locator(".objects li.selected input.name").input_value()


def size(part: tuple[int, int, int, int]) -> int:
    return (part[2] - part[0]) * (part[3] - part[1])


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
    page.get_by_text("object 1 was removed, and what you were drawing with it.").wait_for()
    page.mouse.up()
    page.keyboard.press("Enter")
    page.wait_for_timeout(300)
    person.settle()
    assert [row["id"] for row in person.api(project)["objects"]] == [2]
    assert person.area(project, 0, 2) == size(RIGHT)
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
    person.settle()
    assert [row["id"] for row in person.api(project)["objects"]] == [2]
    assert person.area(project, 0, 2) == size(RIGHT)


def test_a_stroke_on_its_way_does_not_bring_an_object_back(person: Person) -> None:
    page = person.page
    project = with_two_objects(person)
    held: list[Any] = []
    page.route("**/objects/2", lambda route: held.append(route))
    name = page.get_by_role("textbox", name="Name of the object").nth(1)
    name.fill("swan")
    name.press("Enter")
    person.until(lambda: held, "the request")
    page.keyboard.press("1")
    hold(person, (150, 80), (200, 120))
    page.mouse.up()
    httpx.delete(f"{person.url}api/projects/{project}/objects/1").raise_for_status()
    page.locator(".objects li").nth(1).wait_for(state="detached")
    held[0].continue_()
    page.get_by_text("object 1 was removed, and what you have drawn with it.").wait_for()
    person.settle()
    assert [row["id"] for row in person.api(project)["objects"]] == [2]
    assert person.area(project, 0, 2) == size(RIGHT)


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
