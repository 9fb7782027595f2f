"""The guides' Python snippets, run page by page as a reader would: each in the place of the one before it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
H, W, LENGTH = 48, 64, 12
#: Pages, and what stands in a snippet for something that cannot be had here.
PAGES = {
    "README.md": {},
    "docs/quickstart.md": {},
    "docs/correcting.md": {},
    "docs/own-videos.md": {},
    "docs/exports.md": {},
    "docs/python-api.md": {},
    "docs/streams.md": {
        "rtsp://camera/stream": "video.mp4",
        "islice(camera, 1000)": "islice(camera, 3)",
        'print(f"{address}: {error}")': "return",  # the thread ends with the test's folder
    },
}


def snippets(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def frames() -> np.ndarray:
    """(T, H, W, 3): a bright thing that moves over a dark ground."""
    clip = np.full((LENGTH, H, W, 3), 60, np.uint8)
    for t in range(LENGTH):
        clip[t, 10:30, 12 + t : 30 + t] = (250, 180, 40)
    return clip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the snippets read, as the current one."""
    monkeypatch.chdir(tmp_path)
    with av.open("video.mp4", "w") as target:
        stream = target.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for picture in frames():
            target.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        target.mux(stream.encode())
    first = np.zeros((H, W), np.uint8)
    first[10:30, 12:30] = 1
    Image.fromarray(first).save("first.png")
    return tmp_path


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_a_pages_snippets_run(page: str, place: Path) -> None:
    from jointformer import Session
    from jointformer.cli.main import main

    first = np.array(Image.open("first.png"))
    if page == "docs/exports.md":
        with Session("video.mp4", folder="my-session") as session:
            session.add_masks(0, first)
    if page == "docs/streams.md":
        for name in ("masks.raw", "masks.nut"):
            format = name.rpartition(".")[2]
            flags = ["--masks", "first.png", "-o", name, "--output-format", format, "--quiet"]
            assert main(["track", "video.mp4", *flags]) == 0
    names: dict[str, Any] = {"frames": frames(), "masks": first}
    found = snippets(page)
    assert found
    for code in found:
        for told, here in PAGES[page].items():
            code = code.replace(told, here)
        exec(compile(code, page, "exec"), names)


def test_every_snippet_is_python() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for code in snippets(str(page.relative_to(ROOT))):
            compile(code, str(page), "exec")
