"""Makes the pictures of docs/web-tool.md: python tests/web/screenshots.py WEIGHTS [MODEL-SIZE].

Only the painted demo clip is ever shown.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from web.browser import Person, Server, launch

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
TURTLE, FISH = ((222, 78), (365, 208)), ((8, 74), (146, 160))


def shoot(person: Person, name: str) -> None:
    """Write a picture, in 256 colours: a tenth of a megabyte instead of half of one."""
    path = IMAGES / f"web-{name}.png"
    person.page.wait_for_timeout(400)
    person.page.screenshot(path=path)
    picture = Image.open(path).convert("RGB")
    picture.quantize(256, kmeans=1, dither=Image.Dither.FLOYDSTEINBERG).save(path, optimize=True)


def name_object(person: Person, number: int, text: str) -> None:
    name = person.page.get_by_role("textbox", name="Name of the object").nth(number)
    name.fill(text)
    name.press("Enter")
    person.settle()


def draw(person: Person) -> None:
    page = person.page
    person.open_demo()
    page.keyboard.press("x")
    page.mouse.move(*person.at(*TURTLE[0]))
    page.mouse.down()
    page.mouse.move(*person.at(*TURTLE[1]), steps=5)
    shoot(person, "box")
    page.mouse.up()
    person.settle()
    name_object(person, 0, "turtle")
    page.keyboard.press("a")
    person.drag(*FISH)
    name_object(person, 1, "fish")
    page.keyboard.press("s")
    person.drag((45, 118), (125, 116))
    page.get_by_role("button", name="Background").click()
    person.drag((20, 190), (160, 190))
    person.drag((60, 60), (150, 75))
    shoot(person, "scribble")
    page.keyboard.press("Enter")
    person.settle()


def track_and_fix(person: Person) -> None:
    page = person.page
    page.keyboard.press("b")
    page.get_by_role("button", name="Track", exact=True).click()
    person.wait("document.querySelector('.track-running progress').value >= 4", 300)
    page.mouse.move(700, 60)
    shoot(person, "tracking")
    page.get_by_role("button", name="Track", exact=True).wait_for(timeout=300_000)
    page.wait_for_timeout(5000)
    page.keyboard.press("n")
    page.wait_for_timeout(6000)
    shoot(person, "fix")


def export(person: Person) -> None:
    page = person.page
    page.get_by_role("button", name="Export").click()
    page.locator("form.export button[type=submit]").click()
    page.locator(".file-link").first.wait_for(timeout=60_000)
    shoot(person, "export")


def main() -> None:
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as control:
        server = Server(Path(folder), Path(sys.argv[1]).resolve(), size=sys.argv[2] if len(sys.argv) > 2 else "240")
        try:
            browser = launch(control)
            context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme="light")
            person = Person(context.new_page(), server.url)
            draw(person)
            track_and_fix(person)
            export(person)
            browser.close()
        finally:
            server.stop()
    assert person.problems == []


if __name__ == "__main__":
    main()
