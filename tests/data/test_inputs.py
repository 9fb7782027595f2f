"""What is read is never written over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from jointformer.data.inputs import refuse_inputs, refuse_obstacles, refuse_results
from jointformer.errors import OutputError


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The present folder: a video, a first mask, frames, a folder of masks, earlier results."""
    for name in ("video.mp4", "first.png", "frames/0.png", "masks/0.png", "out/masks/0.png", "out/overlay.mp4"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_bytes(b"")
    (tmp_path / "link").symlink_to("masks")
    (tmp_path / "alias").symlink_to(".")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        ("video.mp4", ["video.mp4"]),
        ("./masks", ["frames", "masks"]),
        ("masks", ["masks/0.png"]),
        ("masks", ["out/../link"]),
        ("link", ["masks"]),
        ("alias/out/masks", ["alias/alias/out/masks/0.png"]),
        ("out", ["out/masks"]),
        ("masks/0.png", ["masks"]),
        ("alias/frames/new.png", ["frames"]),
    ],
)
def test_a_target_that_is_or_holds_an_input_is_refused(here: Path, target: str, inputs: list[str]) -> None:
    for base in ("", here):
        path = Path(base, target)
        line = rf"^{re.escape(str(path))}: cannot be written: .*, got \S+; choose another output$"
        with pytest.raises(OutputError, match=line):
            refuse_inputs(["new", path], ["rtsp://x/" + "y" * 300, "nothing", *inputs])


@pytest.mark.parametrize(
    ("target", "inputs"),
    [
        ("out/masks", ["video.mp4", "masks"]),
        ("out/overlay.mp4", ["video.mp4", "first.png"]),
        ("overlay.mp4", ["frames", "first.png"]),
        ("masks/masks", ["masks"]),
        ("frames/overlay.mp4", ["frames"]),
        ("sheet.png", ["first.png"]),
        ("out", ["/dev/stdin", "first.png"]),
        (".", ["http://out/masks"]),
        ("out", ["out/nothing"]),
    ],
)
def test_results_beside_and_inside_inputs_are_allowed(here: Path, target: str, inputs: list[str]) -> None:
    refuse_inputs([target, here / target], inputs)


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("link", "a link is in the way"),
        ("nowhere", "a link is in the way"),
        ("video.mp4", "a file is in the way"),
        ("out/masks", None),
        ("new/masks", None),
    ],
)
def test_a_folder_takes_the_place_of_a_folder_or_of_nothing(here: Path, target: str, said: str | None) -> None:
    (here / "nowhere").symlink_to("nothing")
    if said is None:
        refuse_obstacles([Path(target)], [])
        return
    with pytest.raises(OutputError, match=f"^{target}: cannot be written: {said}; remove it or choose another"):
        refuse_obstacles([Path(target)], [])


def test_a_file_takes_the_place_of_a_file_or_a_link(here: Path) -> None:
    (here / "nowhere").symlink_to("nothing")
    refuse_obstacles([], map(Path, ("video.mp4", "nowhere", "new/video.mp4")))
    with pytest.raises(OutputError, match=r"^out: cannot be written: a folder is in the way; "):
        refuse_obstacles([], [Path("out")])


def test_a_link_to_nothing_is_an_earlier_result_too(here: Path) -> None:
    (here / "nowhere").symlink_to("nothing")
    with pytest.raises(OutputError, match=r"^nowhere: the results already exist; --overwrite replaces them$"):
        refuse_results([Path("nowhere")], overwrite=False)
    refuse_results([Path("nowhere")], overwrite=True)
