"""Interlaced videos: whole pictures under the frames' own numbers."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest

from data.fields import H, W, moment, write_fields, write_woven
from jointformer.data import video_index
from jointformer.data.stream import InputSettings, open_stream
from jointformer.data.video_container import open_container
from jointformer.data.video_fields import whole_pictures
from jointformer.data.video_file import VideoFile
from jointformer.errors import DataError
from jointformer.types import UInt8Array

COUNT = 20


def count_openings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that videos open from now on."""
    opened: list[Path] = []
    real = open_container

    def noted(path: Path) -> Any:
        opened.append(path)
        return real(path)

    monkeypatch.setattr("jointformer.data.video_file.open_container", noted)
    return opened


def far_from(image: UInt8Array, time: float) -> float:
    """How far a picture is from a moment, on average, where the bar may be."""
    return float(np.abs(image.astype(int) - moment(time)).mean())


@pytest.mark.parametrize(
    ("codec", "name", "top_first"),
    [
        ("libx264", "a.mp4", True),
        ("libx264", "a.ts", False),
        ("mpeg2video", "a.ts", True),
        ("mpeg2video", "a.mpg", False),
    ],
)
def test_an_interlaced_frame_is_a_whole_picture_of_its_first_field_in_any_order(
    codec: str, name: str, top_first: bool, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_woven(tmp_path / name, codec, COUNT, top_first=top_first)
    video = VideoFile(path)
    frames = list(video.iter_frames())
    assert len(video) == len(frames) == COUNT
    for number, frame in enumerate(frames):
        assert far_from(frame, number) < 3
        rows = frame.astype(int).mean(-1)
        assert np.abs(np.diff(rows[8:56], axis=0)).max() < 40  # half of the rows were 140 off at the bar's edges
    for number in (12, 11, 0, 19, 6, 7):
        np.testing.assert_array_equal(VideoFile(path).frame(number), frames[number])
        np.testing.assert_array_equal(next(video.iter_frames(number)), frames[number])
        np.testing.assert_array_equal(video.frame(number), frames[number])
    assert caplog.messages == [f"{path}: an interlaced video, read as whole pictures, each of its frame's first field"]


def test_frames_that_are_not_interlaced_stay_as_they_are(tmp_path: Path) -> None:
    path = write_woven(tmp_path / "a.ts", "mpeg2video", COUNT, plain=9)
    frames = list(VideoFile(path).iter_frames())
    assert [far_from(frame, number) < 3 for number, frame in enumerate(frames)] == [True] * COUNT
    with av.open(str(path)) as container:
        decoded = [(frame.interlaced_frame, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    assert [said for said, _ in decoded] == [False] * 9 + [True] * 11
    np.testing.assert_array_equal(frames[:9], [picture for _, picture in decoded[:9]])
    for number in (12, 9, 8):  # an interlaced key frame, of which nothing is known yet
        np.testing.assert_array_equal(VideoFile(path).frame(number), frames[number])


def test_a_piped_interlaced_video_gives_the_frames_of_the_file(tmp_path: Path) -> None:
    path = write_woven(tmp_path / "a.ts", "mpeg2video", COUNT)
    with path.open("rb") as file, open_stream(f"/dev/fd/{file.fileno()}", InputSettings("mpegts")) as stream:
        streamed = list(stream.frames())
    assert [frame.index for frame in streamed] == list(range(COUNT))
    for one, other in zip(streamed, VideoFile(path).iter_frames(), strict=True):
        np.testing.assert_array_equal(one.picture, other)


def test_hevc_whose_frames_are_single_fields_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        film = container.add_stream("libx265", rate=50, options={"x265-params": "interlace=tff:log-level=none"})
        film.width, film.height, film.pix_fmt = W, H, "yuv420p"
        for k in range(6):
            container.mux(film.encode(av.VideoFrame.from_ndarray(moment(k), format="rgb24")))
        container.mux(film.encode())
    with av.open(str(path)) as container:
        decoded = [(frame.interlaced_frame, frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    for frame, (said, alone) in zip(VideoFile(path).iter_frames(), decoded, strict=True):
        assert said
        np.testing.assert_array_equal(frame, alone)
    assert caplog.messages == []


def test_piped_dv_has_the_rate_of_its_frames_not_of_its_clock(tmp_path: Path) -> None:
    path = tmp_path / "a.dv"
    with av.open(str(path), "w") as container:
        film = container.add_stream("dvvideo", rate=25)
        film.width, film.height, film.pix_fmt = 720, 576, "yuv420p"
        for _ in range(2):
            container.mux(film.encode(av.VideoFrame(720, 576, "yuv420p")))
    with path.open("rb") as file, open_stream(f"/dev/fd/{file.fileno()}", InputSettings("dv")) as stream:
        assert stream.fps == 25


def test_an_error_between_interlaced_frames_keeps_its_place(tmp_path: Path) -> None:
    with av.open(str(write_woven(tmp_path / "a.ts", "mpeg2video", 6))) as container:
        decoded: list[Any] = list(container.decode(video=0))
        decoded[3] = DataError("damaged")
        made = list(whole_pictures(enumerate(decoded), container.streams.video[0]))
    assert [number for number, _ in made] == list(range(6))
    assert made[3][1] is decoded[3]


@pytest.mark.parametrize("timed", [False, True])
def test_fields_that_come_one_by_one_are_counted_as_frames(
    timed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = VideoFile(write_fields(tmp_path / "a.ts", 18, timed=timed))
    assert (len(video), video.size, video.fps) == (18, (H, W), Fraction(25))
    assert [float(video.time(k)) for k in (1, 17)] == [0.04, 0.68]
    shades = [frame[H // 2, W // 2, 0] for frame in video.iter_frames()]
    assert list(np.diff(np.array(shades, int)) > 2) == [True] * 17
    opened = count_openings(monkeypatch)
    for number in (14, 5, 12, 8):
        assert video.frame(number)[H // 2, W // 2, 0] == shades[number]
    assert len(opened) == 4  # each was found at once


def test_a_field_is_completed_by_the_next_one_alone() -> None:
    for pts, dts, duration, completes in (
        (120, 120, 20, True),
        (None, None, 20, True),
        (129, 129, 20, True),
        (130, 130, 20, False),  # the second field is lost, and this is the next frame's first
        (100, 100, 20, False),
        (80, 80, 20, False),
        (120, 120, 40, False),
        (None, 120, 20, False),
        (None, None, 40, False),
    ):
        packet = SimpleNamespace(pts=pts, dts=dts, duration=duration)
        assert video_index._completes(packet, SimpleNamespace(pts=100, duration=20)) == completes, packet


def test_packets_of_half_a_frames_time_are_fields_where_the_codec_sends_such() -> None:
    def is_field(duration: int | None, name: str = "h264", framerate: int = 25) -> bool:
        packet = SimpleNamespace(duration=duration, time_base=Fraction(1, 200))
        return video_index._is_field(packet, SimpleNamespace(name=name, framerate=framerate))

    assert [is_field(duration) for duration in (4, 5, 6, 8)] == [True, True, False, False]
    assert not any((is_field(None), is_field(0), is_field(4, "mpeg2video"), is_field(4, framerate=0)))
