"""Streams that are not what they were: pictures of another size among them, clocks that leap."""

from __future__ import annotations

import io
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from jointformer.data.masks import write_mask
from jointformer.data.stream import open_stream
from jointformer.data.stream_pipe import Pipe
from stream.conftest import frames

#: Matroska of three frames at 10 a second, the last at 2^62 ms; found by python -m fuzz.
LEAP = Path(__file__).resolve().parent.parent / "fuzz/corpus/streams/001.mkv"


def test_the_picture_before_stands_for_a_held_frame_of_another_size(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    pictures = list(frames()[:4])
    pictures[2] = np.pad(pictures[2], ((0, 6), (0, 10), (0, 0)))
    file = io.BytesIO()
    for picture in pictures:
        Image.fromarray(picture).save(file, "PNG")
    pipe_in(file.getvalue())
    output = tmp_path / "overlay"
    assert track("-", output, "--output-format", "overlay", "--on-bad-frame", "hold") == 0
    assert "1 could not be read" in capfd.readouterr().err
    with av.open(str(output)) as container:
        shown = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(shown) == 4
    assert np.abs(shown[2] - shown[1]).mean() < 3 < np.abs(shown[3] - shown[1]).mean()


@pytest.mark.parametrize("piped", [True, False], ids=["a pipe", "a file"])
def test_a_clock_that_leaps_beyond_64_bits_is_not_believed(piped: bool, pipe_in: Callable[..., None]) -> None:
    if piped:
        pipe_in(LEAP.read_bytes())
    with open_stream("-" if piped else str(LEAP)) as stream:
        assert [frame.time for frame in stream.frames()] == [Fraction(step, 10) for step in range(3)]


@pytest.mark.parametrize("more", [(), ("--output-format", "nut")], ids=["an overlay", "a stream of masks"])
def test_results_are_written_for_a_clock_that_leaps(
    more: tuple[str, ...], tmp_path: Path, track: Callable[..., int]
) -> None:
    write_mask(tmp_path / "all.png", np.ones((24, 32), np.uint8))
    output = tmp_path / "out"
    assert track(LEAP, output, *more, masks=tmp_path / "all.png") == 0
    with av.open(str(output if more else output / "overlay.mp4")) as container:
        times = [float(frame.time) for frame in container.decode(video=0)]
    assert times == pytest.approx([0, 0.1, 0.2], abs=0.001)


def test_a_source_that_cannot_be_read_is_one_line(
    tmp_path: Path, track: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert track(tmp_path, tmp_path / "out", "--input-format", "mpegts") == 2
    assert capfd.readouterr().err == f"jointformer track: {tmp_path}: the stream cannot be opened, got is a directory\n"


def test_standard_input_that_is_a_file_refuses_a_place_before_its_beginning_as_files_do(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    pipe = Pipe(str(tmp_path / "a"))
    assert pipe.seek(-5) < 0
    assert (pipe.seek(1), pipe.read(9)) == (1, b"bc")
    pipe.close()
