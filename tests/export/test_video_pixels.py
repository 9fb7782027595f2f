"""The same pictures give the same video, whatever lies beside their rows in memory."""

from __future__ import annotations

from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from jointformer.data import video_pixels
from jointformer.data.video_pixels import encoder_frame
from jointformer.data.video_writer import VideoWriter


def picture(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(width).integers(0, 255, (height, width, channels), dtype=np.uint8)


def planes(frame: av.VideoFrame) -> list[np.ndarray]:
    """What of a frame's planes is picture (8 bits)."""
    return [
        np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    ]


def dirty(value: int) -> SimpleNamespace:
    """PyAV, whose new frames hold a value in all bytes beside the picture's rows."""

    def from_ndarray(array: np.ndarray, format: str) -> av.VideoFrame:
        frame = av.VideoFrame.from_ndarray(array, format=format)
        (plane,) = frame.planes
        rows = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size).copy()
        rows[:, array.shape[1] * array.shape[2] :] = value
        plane.update(rows.tobytes())
        return frame

    new: Any = partial(av.VideoFrame)
    new.from_ndarray = from_ndarray
    return SimpleNamespace(VideoFrame=new)


@pytest.mark.parametrize("width", [16, 18, 50, 62, 66, 100])
@pytest.mark.parametrize(("channels", "pixels"), [(3, "yuv420p"), (4, "yuva420p")])
def test_a_frame_is_what_a_wider_pictures_conversion_says(width: int, channels: int, pixels: str) -> None:
    one = picture(32, width, channels)
    wide = np.pad(one, ((0, 0), (0, 128 - width), (0, 0)), mode="edge")
    for got, expected in zip(planes(encoder_frame(one, pixels)), planes(encoder_frame(wide, pixels))):
        assert np.array_equal(got, expected[:, : got.shape[1]])


@pytest.mark.parametrize("size", [(33, 49), (34, 50), (32, 62)])
def test_an_overlays_bytes_do_not_depend_on_memory_beside_its_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: tuple[int, int]
) -> None:
    written = []
    for value in (0, 255):
        monkeypatch.setattr(video_pixels, "av", dirty(value))
        with VideoWriter(tmp_path / "out.mp4", Fraction(25), size) as writer:
            for _ in range(3):
                writer.write(picture(*size))
        written.append((tmp_path / "out.mp4").read_bytes())
    assert written[0] == written[1]


def test_the_encoder_gives_the_same_frames_the_same_bytes(tmp_path: Path) -> None:
    coarse = np.random.default_rng(0).integers(0, 255, (10, 10, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    found = set()
    for number in range(12):
        with VideoWriter(tmp_path / f"{number}.mp4", Fraction(25), (64, 64)) as video:
            for step in range(6):
                video.write(np.ascontiguousarray(coarse[step : step + 64, step : step + 64]))
        found.add((tmp_path / f"{number}.mp4").read_bytes())
    assert len(found) == 1
