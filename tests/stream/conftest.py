"""A small film, mini weights, and both ends of the command's pipes."""

from __future__ import annotations

import io
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from jointformer.cli.main import main
from jointformer.data.masks import read_mask_file, write_mask

H, W, LENGTH = 34, 50, 7


def frames() -> np.ndarray:
    """(T, H, W, 3): a textured picture that moves."""
    base = np.random.default_rng(0).integers(0, 255, (H + 20, W + 20, 3), dtype=np.uint8)
    base = cv2.normalize(cv2.GaussianBlur(base, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
    return np.stack([base[t : t + H, t : t + W] for t in range(LENGTH)])


def label_map() -> np.ndarray:
    ids = np.zeros((H, W), np.uint8)
    ids[4:16, 5:20], ids[18:30, 25:40] = 3, 7
    return ids


@pytest.fixture
def mask(tmp_path: Path) -> Path:
    """The first frame's mask."""
    write_mask(tmp_path / "first.png", label_map())
    return tmp_path / "first.png"


def encode(file: object, container: str, *, aspect: Fraction = Fraction(1), **options: str) -> None:
    """Writes the frames as H.264 with B-frames and a variable rate; aspect: a pixel's width by its height."""
    with av.open(file, "w", format=container, options=options) as target:
        stream = target.add_stream("libx264", rate=25, options={"bf": "2", "g": "4"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        stream.codec_context.time_base = Fraction(1, 1000)
        stream.codec_context.sample_aspect_ratio = aspect
        for t, picture in enumerate(frames()):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
            frame.pts, frame.time_base = 40 * t + 11 * (t % 2), Fraction(1, 1000)
            target.mux(stream.encode(frame))
        target.mux(stream.encode())


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Matroska file of the frames."""
    path = tmp_path_factory.mktemp("film") / "film.mkv"
    encode(str(path), "matroska")
    return path


@pytest.fixture
def pipe_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """A function that makes bytes (and with `then_wait` silence after them) standard input."""
    ends: list[int] = []
    inputs: list[io.TextIOWrapper] = []

    def feed(data: bytes, *, then_wait: bool = False) -> None:
        reading, writing = os.pipe()
        inputs.append(io.TextIOWrapper(os.fdopen(reading, "rb")))
        monkeypatch.setattr("sys.stdin", inputs[-1])

        def write() -> None:
            with suppress(BrokenPipeError), os.fdopen(copy, "wb") as file:  # broken: the command has seen enough
                file.write(data)

        copy = os.dup(writing)
        threading.Thread(target=write, daemon=True).start()
        if then_wait:
            ends.append(writing)
        else:
            os.close(writing)

    yield feed
    for end in ends:
        os.close(end)
    for file in inputs:
        file.close()


@pytest.fixture
def track(mini_weights: Path, mask: Path) -> Callable[..., int]:
    """A function that runs the command on a source, to OUT, with more flags; returns its exit code."""

    def run(source: object, output: object, *more: str, masks: Path = mask) -> int:
        return main(
            ["track", str(source), "--masks", str(masks), "-o", str(output), "--model", str(mini_weights),
             "--size", "-1", "--precision", "float32", "--quiet", *more]
        )  # fmt: skip

    return run


def masks_in(folder: Path) -> dict[str, np.ndarray]:
    """{frame name: label map} of an output folder."""
    return {path.stem: read_mask_file(path).ids for path in sorted((folder / "masks").iterdir())}
