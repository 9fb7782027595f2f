"""A newcomer's phone video, from opening to the exported overlay, in a real Chromium on a real server process."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from jointformer.data.video_file import VideoFile
from jointformer.model.storage import save_weights
from seeded import MINI, seeded_model
from web.browser import IN_BROWSER, Person, Server, launch
from web.phone import SECONDS, facts, make_phone_video, work_through

pytestmark = IN_BROWSER


def test_a_phone_video_becomes_an_overlay_that_stands_upright_with_its_sound(tmp_path: Path) -> None:
    from playwright.sync_api import sync_playwright

    video = make_phone_video(tmp_path / "phone.mp4", (320, 180))
    before = facts(video)
    assert (before["size"], abs(before["rotation"])) == ((320, 180), 90)
    assert VideoFile(video).size == (320, 180)  # height, width: upright
    server = Server(tmp_path, save_weights(seeded_model(MINI), tmp_path / "mini.safetensors"), "120", video=video)
    try:
        with sync_playwright() as control:
            browser = launch(control)
            context = browser.new_context(viewport={"width": 1366, "height": 768})
            person = Person(context.new_page(), server.url)
            project, overlay = work_through(person, server.start_url(), last=12)
            after = facts(overlay)
            assert person.api(project)["annotated"][0] == 0
            assert len(person.api(project)["annotated"]) == 2
            browser.close()
            assert person.problems == []
    finally:
        server.stop()
    assert (after["size"], after["rotation"], after["codec"]) == ((180, 320), 0, "h264")
    assert (after["frames"], after["rate"]) == (30 * SECONDS, Fraction(30))
    assert after["seconds"] == pytest.approx(SECONDS, abs=0.05)
    ((codec, seconds),) = after["sound"]
    assert codec == "aac"
    assert seconds == pytest.approx(SECONDS, abs=0.1)
    assert np.abs(after["first"][4:20].mean((0, 1)) - (200, 40, 40)).max() < 16  # the red bar is at the top
    assert after["first"][100:].mean((0, 1))[0] < 140
