"""Timecodes: the labels of frames, one after the other, and what files of several kinds tell."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from jointformer.data.timecode import later_timecode
from jointformer.data.video_file import VideoFile

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(("fps", "dropped"), [(NTSC, 2), (2 * NTSC, 4)])
def test_dropped_labels_are_the_first_of_each_minute_but_every_tenth(fps: Fraction, dropped: int) -> None:
    every = [
        f"{hour}:{minute:02d}:{second:02d};{frame:02d}"
        for hour in ("23", "00")
        for minute in range(60)
        for second in range(60)
        for frame in range(round(fps))
        if second or frame >= dropped or minute % 10 == 0
    ]
    assert len(every) // 2 == 107_892 * dropped // 2  # as many as frames in an hour
    for number in [*range(0, len(every), 97), *range(len(every) // 2 - 5, len(every) // 2 + 5)]:
        assert later_timecode(every[0], number, fps) == every[number]
    for number in range(round(50 * fps), round(70 * fps)):
        assert later_timecode(every[number], 1, fps) == every[number + 1]


@pytest.mark.parametrize(
    ("text", "fps", "expected"),
    [
        ("01:00:59:23", Fraction(24), "01:01:00:00"),
        ("01:00:59:23", Fraction(24000, 1001), "01:01:00:00"),
        ("10:59:59:24", Fraction(25), "11:00:00:00"),
        ("23:59:59:29", NTSC, "00:00:00:00"),
        ("00:00:59:59", 2 * NTSC, "00:01:00:00"),
        ("00:00:59.29", NTSC, "00:01:00;02"),
        ("00:00:59:119", Fraction(120), "00:01:00:00"),
        ("00:00:00:25", Fraction(25), None),
        ("00:00:00;10", Fraction(25), None),
        ("24:00:00:00", Fraction(25), None),
        ("", Fraction(25), None),
    ],
)
def test_the_timecode_after_one(text: str, fps: Fraction, expected: str | None) -> None:
    assert later_timecode(text, 1, fps) == expected


@pytest.mark.parametrize(
    ("name", "told", "expected"),
    [
        ("a.mov", "00:59:59;28", "00:59:59;28"),
        ("a.mp4", "00:59:59:28", "00:59:59:28"),
        ("a.mkv", "00:59:59;28", "00:59:59;28"),
        ("a.avi", "00:59:59;28", "00:59:59;28"),
        ("a.mxf", "00:59:59;28", "00:59:59;28"),
        ("a.mkv", "an hour", None),
    ],
)
def test_a_file_tells_its_timecode(name: str, told: str, expected: str | None, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream("mpeg2video", rate=NTSC)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.metadata["timecode"] = told
        for _ in range(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8))))
        container.mux(stream.encode())
    assert VideoFile(tmp_path / name).timecode == expected
