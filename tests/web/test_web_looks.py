"""What can be seen: contrasts of the two looks, where the keyboard is, what low windows show, objects' colours."""

from __future__ import annotations

import re

import pytest

from jointformer.web.app import STATIC
from web.browser import Person, in_browser

_RUNS = [2000, 100, 432 * 240 - 2100]


def luminance(colour: str) -> float:
    """The relative luminance of "#rrggbb", as WCAG defines it."""
    channels = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("look", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "least"), [("line-strong", 3.0), ("text", 4.5), ("quiet", 4.5), ("accent", 4.5), ("danger", 4.5)]
)
def test_borders_of_fields_and_texts_stand_out_from_every_ground(look: str, name: str, least: float) -> None:
    style = (STATIC / "css" / "base.css").read_text("utf-8")
    pairs = dict(re.findall(r"--([a-z-]+): light-dark\((#\w{6}, #\w{6})\)", style))
    colours = {key: value.split(", ")[look == "dark"] for key, value in pairs.items()}
    for ground in ("surface", "raised", "ground"):
        dark, bright = sorted(luminance(colours[key]) for key in (name, ground))
        assert (bright + 0.05) / (dark + 0.05) >= least, ground


@in_browser
def test_the_keyboards_place_is_seen_everywhere(person: Person) -> None:
    # An outline is cut off by whatever around it shows no more than it holds.
    cut = """(() => {
      const at = document.activeElement;
      const style = getComputedStyle(at);
      if (at === document.body || style.outlineStyle === "none") return "";
      const out = parseFloat(style.outlineOffset) + parseFloat(style.outlineWidth);
      const box = at.getBoundingClientRect();
      for (let around = at.parentElement; around !== document.body; around = around.parentElement) {
        if (getComputedStyle(around).overflow === "visible") continue;
        const edge = around.getBoundingClientRect();
        const sides = [edge.left - box.left, edge.top - box.top, box.right - edge.right, box.bottom - edge.bottom];
        if (sides.filter((side) => side + out > 0.5).length > 1) return at.outerHTML.slice(0, 100);
      }
      return "";
    })()"""
    page = person.page
    person.open_demo()
    for screen in ("project", "projects", "files"):
        if screen == "projects":
            page.get_by_role("link", name="All projects").click()
            page.locator(".card").first.wait_for()
        if screen == "files":
            page.get_by_role("button", name="Open a video").click()
            page.locator(".files button").first.wait_for()
        for _ in range({"project": 40, "projects": 8, "files": 4}[screen]):
            page.keyboard.press("Tab")
            assert page.evaluate(cut) == "", screen


@in_browser
@pytest.mark.parametrize("size", [(683, 384), (844, 390), (390, 640)])
def test_a_format_can_be_chosen_in_a_low_window_that_lists_exports(size: tuple[int, int], person: Person) -> None:
    page = person.page
    project = person.open_demo()
    page.request.put(f"{person.url}api/projects/{project}/frames/0/masks/1", data={"runs": _RUNS})
    for format in ("coco", "burst", "youtube-vis", "sheet"):
        page.request.post(f"{person.url}api/projects/{project}/exports", data={"format": format})
        person.until(lambda: not person.api(project)["exports"]["running"], format)
    page.set_viewport_size({"width": size[0], "height": size[1]})
    page.get_by_role("button", name="Export").click()
    for name in ("Overlay video", "Cut-outs"):
        page.get_by_role("radio", name=name).click(timeout=5000)  # which other parts must not cover


@in_browser
def test_many_objects_have_colours_of_their_own(person: Person) -> None:
    page = person.page
    person.open_demo()
    colours = page.evaluate(
        """async () => {
          const { Drawing } = await import("/static/js/drawing.js");
          const drawing = new Drawing();
          drawing.state = { objects: [] };
          while (drawing.state.objects.length < 254) drawing.state.objects.push(drawing.newObject());
          return drawing.state.objects.map((object) => object.colour);
        }"""
    )
    assert len({tuple(colour) for colour in colours}) == 254
    assert all(0 <= channel <= 255 for colour in colours for channel in colour)
