"""A newcomer with a phone video: open it, draw, track a few seconds, correct, export, look at the result.

By hand, with another installation's command and pictures of every screen:
python tests/web/phone.py FOLDER [--command PATH/jointformer] [--size 1280x720] [--last 40]
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from export.clips import turn
from web.browser import Person, Server, launch

FPS, SECONDS = 30, 30
Shoot = Callable[[str], None]


def upright(frame: int, height: int, width: int, ground: np.ndarray) -> np.ndarray:
    """One (H, W, 3) picture as the person saw it: a red bar at the top, a checkered ball that rolls over grass."""
    picture = ground.copy()
    picture[: height // 12] = (200, 40, 40)
    cx, cy, radius = ball(frame, height, width)
    top, left = int(cy) - radius, int(cx) - radius
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    checks = (x // (radius // 3) + y // (radius // 3)) % 2
    part = picture[top : top + 2 * radius + 1, left : left + 2 * radius + 1]
    inside = (x**2 + y**2 < radius**2)[..., None]
    np.copyto(part, np.where(checks[..., None], (250, 220, 60), (40, 60, 190)), where=inside, casting="unsafe")
    return picture


def ball(frame: int, height: int, width: int) -> tuple[float, float, int]:
    """(x, y, radius) of the ball."""
    x = width * (0.5 + 0.25 * np.sin(frame / 40))
    y = height * (0.55 + 0.15 * np.sin(frame / 25))
    return float(int(x)), float(int(y)), width // 6


def make_phone_video(path: Path, size: tuple[int, int], seconds: int = SECONDS) -> Path:
    """An H.264 mp4 with AAC sound as an upright phone stores it: lying down (width, height), with a rotation flag."""
    width, height = size
    grass = np.random.default_rng(0).integers(0, 255, (width // 8, height // 8, 3), dtype=np.uint8)
    ground = cv2.resize(cv2.GaussianBlur(grass, (0, 0), 1), (height, width)) // 2 + np.array([40, 90, 40], np.uint8)
    plain = path.with_name("plain.mp4")
    with av.open(str(plain), "w") as container:
        video = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "crf": "23"})
        video.width, video.height, video.pix_fmt = width, height, "yuv420p"
        sound = container.add_stream("aac", rate=44_100, layout="mono")
        for t in range(FPS * seconds):
            lying = np.ascontiguousarray(np.rot90(upright(t, width, height, ground)))
            container.mux(video.encode(av.VideoFrame.from_ndarray(lying, format="rgb24")))
        container.mux(video.encode())
        wave = np.sin(np.arange(44_100 * seconds) * 0.06).astype(np.float32)[None] * 0.2
        for start in range(0, wave.shape[1], 1024):
            tone = av.AudioFrame.from_ndarray(np.ascontiguousarray(wave[:, start : start + 1024]), "fltp", "mono")
            tone.rate, tone.pts, tone.time_base = 44_100, start, Fraction(1, 44_100)
            container.mux(sound.encode(tone))
        container.mux(sound.encode())
    turn(plain, path)
    plain.unlink()
    return path


def work_through(person: Person, url: str, last: int, shoot: Shoot = lambda name: None) -> tuple[str, Path]:
    """Return (project, exported overlay): the whole way, as a person would go it in the page."""
    page = person.page
    began = time.monotonic()

    def took(what: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {what}", file=sys.stderr)

    page.goto(url)
    project = person.see_project()
    state = person.api(project)
    height, width = state["height"], state["width"]
    person.frame_size = (width, height)
    took(f"opened: {page.locator('.facts').inner_text()}")
    shoot("1-opened")
    cx, cy, radius = ball(0, height, width)
    page.keyboard.press("x")
    person.drag((cx - radius - 6, cy - radius - 6), (cx + radius + 6, cy + radius + 6))
    took("drew a box")
    end = page.get_by_role("spinbutton", name="Last frame")
    end.fill(str(last))
    end.press("Enter")
    page.locator(".estimate", has_text=f"{last} steps").wait_for()
    took(f"the tool expects: {page.locator('.estimate').inner_text()}")
    shoot("2-drawn")
    page.get_by_role("button", name="Track", exact=True).click()
    page.get_by_role("button", name="Stop").wait_for()
    person.wait("document.querySelector('.track-running progress').value >= 3", 900)
    told = [page.locator(f".track-running {part}").first.inner_text() for part in (".progress-text", ".quiet")]
    took(f"while tracking: {', '.join(told)}")
    shoot("3-tracking")
    page.get_by_role("button", name="Track", exact=True).wait_for(timeout=900_000)
    took("tracked")
    page.get_by_role("button", name="Frame to fix next").click()
    page.wait_for_timeout(1500)
    shoot("4-fix")
    frame = int(page.get_by_role("spinbutton", name="Frame number").input_value())
    assert 0 < frame <= last
    cx, cy, radius = ball(frame, height, width)
    page.keyboard.press("x")
    person.drag((cx - radius - 6, cy - radius - 6), (cx + radius + 6, cy + radius + 6))
    page.locator(".badge.mine").wait_for()
    took(f"corrected frame {frame}; now: {page.locator('.estimate').inner_text()}")
    shoot("5-corrected")
    page.get_by_role("button", name="Track", exact=True).click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_role("button", name="Track", exact=True).wait_for(timeout=900_000)
    took("tracked again")
    page.get_by_role("button", name="Export").click()
    shoot("6-export")
    page.locator("form.export button[type=submit]").click()
    page.wait_for_timeout(1000)
    shoot("7-writing")
    link = page.locator(".file-link").first
    link.wait_for(timeout=900_000)
    took("exported")
    shoot("8-exported")
    with page.expect_download() as download:
        link.click()
    return project, Path(download.value.path())


def facts(path: Path) -> dict[str, Any]:
    """What a player makes of a video: size, seconds, rate, rotation, sound, the first picture."""
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        first = next(container.decode(video))
        return {
            "size": (first.width, first.height),
            "rotation": first.rotation,
            "frames": video.frames,
            "rate": video.average_rate,
            "codec": video.codec_context.name,
            "seconds": float(video.duration * video.time_base),
            "sound": [(a.codec_context.name, float(a.duration * a.time_base)) for a in container.streams.audio],
            "first": first.to_ndarray(format="rgb24"),
        }


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--command", default=str(Path(sys.executable).with_name("jointformer")))
    parser.add_argument("--size", default="1280x720")
    parser.add_argument("--last", type=int, default=40)
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    width, height = (int(v) for v in args.size.split("x"))
    video = folder / "phone.mp4"
    if not video.exists():
        make_phone_video(video, (width, height))
    server = Server(folder, command=[args.command], video=video)
    print((folder / "server.log").read_text(), file=sys.stderr)
    try:
        with sync_playwright() as control:
            browser = launch(control)
            context = browser.new_context(viewport={"width": 1366, "height": 768}, color_scheme="light")
            person = Person(context.new_page(), server.url)

            def shoot(name: str) -> None:
                person.page.wait_for_timeout(400)
                person.page.screenshot(path=folder / f"{name}.png")

            _, overlay = work_through(person, server.start_url(), args.last, shoot)
            found = facts(overlay)
            cv2.imwrite(str(folder / "9-first.png"), found.pop("first")[..., ::-1])
            print(found, overlay.stat().st_size)
            browser.close()
            assert person.problems == [], person.problems
    finally:
        server.stop()


if __name__ == "__main__":
    main()
