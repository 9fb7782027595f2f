"""A real server process and a real Chromium."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
    "--disable-sync", "--no-first-run",
]  # fmt: skip
CHROMIUM = next(
    (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), None
)

#: The picture once it is that of the chosen frame, with its masks.
SHOWN = ".stage-canvas[aria-busy=false]"

#: The marks of tests in a browser.
IN_BROWSER = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium (apt-get install chromium)"),
    pytest.mark.skipif(find_spec("playwright") is None, reason="needs playwright (pip install playwright)"),
]


def in_browser(test: Callable[..., None]) -> Callable[..., None]:
    """A test that is one in a browser."""
    for mark in IN_BROWSER:
        test = mark(test)
    return test


def launch(playwright: Any) -> Any:
    return playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, headless=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """`jointformer ui` as a process; it can be killed and started again on the same folders and port."""

    def __init__(
        self,
        folder: Path,
        weights: Path | None = None,
        size: str = "240",
        *,
        video: Path | None = None,
        command: list[str] | None = None,
    ) -> None:
        model = [] if weights is None else ["--model", str(weights), "--size", size]
        self._arguments = ([] if video is None else [str(video)]) + [*model, "--device", "cpu"]
        self._command = command or [sys.executable, "-m", "jointformer"]
        self.folder, self.port = folder, free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        self.start()

    def start(self) -> None:
        command = [*self._command, "ui", "--no-browser", "--port", str(self.port)]
        places = ["--projects", str(self.folder / "projects"), "--folder", str(self.folder)]
        with open(self.folder / "server.log", "ab") as log:
            self.process = subprocess.Popen([*command, *places, *self._arguments], stderr=log, cwd=self.folder)
        end = time.monotonic() + 90
        while time.monotonic() < end:
            try:
                if httpx.get(self.url + "api/server").status_code == 200:
                    return
            except httpx.TransportError:
                time.sleep(0.1)
            if self.process.poll() is not None:
                break
        pytest.fail((self.folder / "server.log").read_text())

    def start_url(self) -> str:
        """The address that the command tells, with the project of the video it was given."""
        return re.findall(r"http://\S+", (self.folder / "server.log").read_text())[-1]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class Person:
    """Somebody at a page."""

    def __init__(self, page: Any, url: str) -> None:
        self.page, self.url = page, url
        self.frame_size = (432, 240)  # the demo clip's
        self.problems: list[str] = []
        page.on("console", lambda message: self.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("request", lambda request: self._check(request.url))

    def _check(self, url: str) -> None:
        if not url.startswith((self.url, "blob:", "data:")):
            self.problems.append(f"a request to elsewhere: {url}")

    def open_demo(self) -> str:
        """Begin a project of the demo clip and return its id."""
        self.page.goto(self.url)
        self.page.get_by_role("button", name="Try the demo").click()
        return self.see_project()

    def see_project(self) -> str:
        self.page.wait_for_selector(".editor", timeout=240_000)
        self.wait("document.querySelector('.badge').textContent !== ''")
        self.page.locator(SHOWN).wait_for()
        return self.page.url.rpartition("/")[2]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the frame is on the page (fitted into the stage)."""
        width, height = self.frame_size
        box = self.page.locator(".stage-canvas").bounding_box()
        scale = min((box["width"] - 24) / width, (box["height"] - 24) / height)
        left, top = (box["width"] - width * scale) / 2, (box["height"] - height * scale) / 2
        return box["x"] + left + x * scale, box["y"] + top + y * scale

    def drag(self, *points: tuple[float, float], button: str = "left") -> None:
        self.page.mouse.move(*self.at(*points[0]))
        self.page.mouse.down(button=button)
        for point in points[1:]:
            self.page.mouse.move(*self.at(*point), steps=6)
        self.page.mouse.up(button=button)
        self.settle()

    def settle(self) -> None:
        """Wait until everything is saved, and the picture and the masks of the frame are shown."""
        self.wait_until_saved()
        self.page.locator(SHOWN).wait_for()

    def wait_until_saved(self) -> None:
        self.page.wait_for_timeout(100)
        self.wait("document.querySelector('.saved').textContent === 'Saved'")

    def wait(self, expression: str, seconds: float = 60) -> None:
        """Wait until something is true in the page (Playwright's own way needs eval, which the page forbids)."""
        self.until(lambda: self.page.evaluate(expression), expression, seconds)

    def until(self, good: Callable[[], Any], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not good():
            assert time.monotonic() < end, f"never: {what}"
            self.page.wait_for_timeout(50)

    def hold_back(self, address: str | re.Pattern[str], method: str | None = None) -> Held:
        """Keep what the page asks for at such addresses (by such a method) from the server."""
        return Held(self, address, method)

    def api(self, path: str) -> Any:
        return httpx.get(f"{self.url}api/projects/{path}", timeout=30).json()

    def area(self, project: str, frame: int, object_id: int) -> int:
        row = self.api(f"{project}/frames/{frame}/masks")["masks"].get(str(object_id))
        return 0 if row is None else sum(row["runs"][1::2])

    def track(self) -> None:
        self.page.get_by_role("button", name="Track", exact=True).click()
        self.page.get_by_role("button", name="Stop").wait_for()
        self.page.get_by_role("button", name="Track", exact=True).wait_for(timeout=120_000)


class Held:
    """Requests of the page that have not reached the server yet."""

    def __init__(self, person: Person, address: str | re.Pattern[str], method: str | None) -> None:
        self._person, self._routes, self._ended = person, list[Any](), False

        def keep(route: Any) -> None:
            if not self._ended and method in (None, route.request.method):
                self._routes.append(route)
            else:
                route.continue_()

        person.page.route(address, keep)

    def wait(self, count: int = 1) -> None:
        self._person.until(lambda: len(self._routes) >= count, f"{count} requests")

    def is_asked(self, seconds: float = 1.0) -> bool:
        """Whether there is one within so many seconds."""
        end = time.monotonic() + seconds
        while not self._routes and time.monotonic() < end:
            self._person.page.wait_for_timeout(50)
        return bool(self._routes)

    def take(self) -> Any:
        """The oldest one, which is held no more."""
        self.wait()
        return self._routes.pop(0)

    def answer_late(self) -> Callable[[], None]:
        """Let the server answer them now, and hold none back any more.

        The page gets the answers when the function that is returned is called.
        """
        self.wait()
        self._ended = True
        late = [(route, route.fetch()) for route in self._routes]

        def come() -> None:
            for route, answer in late:
                route.fulfill(response=answer)

        return come

    def let_go(self) -> None:
        self.take().continue_()
