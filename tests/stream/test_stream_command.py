"""`jointformer track` on frames as they come: the same masks as of the file, wherever they come from and go to."""

from __future__ import annotations

import http.server
import io
import json
import os
import threading
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from jointformer.data.masks import read_mask_file, write_mask
from stream.conftest import LENGTH, H, W, encode, frames, label_map, masks_in


@pytest.fixture
def expected(film: Path, tmp_path: Path, track: Callable[..., int]) -> dict[str, np.ndarray]:
    """The masks that `track` makes of the file."""
    assert track(film, tmp_path / "expected", "--no-overlay") == 0
    masks = masks_in(tmp_path / "expected")
    assert len(masks) == LENGTH
    return masks


def check_same(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(got) == list(expected)
    for name, ids in expected.items():
        assert np.array_equal(got[name], ids), name


def decoded(data: bytes) -> tuple[list[np.ndarray], list[float]]:
    """(label maps, times) of a container with grey frames."""
    with av.open(io.BytesIO(data)) as container:
        found = list(container.decode(video=0))
    return [frame.to_ndarray(format="gray") for frame in found], [float(frame.time) for frame in found]


def test_a_piped_films_masks_are_those_of_the_file(
    film: Path, tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], expected: dict[str, np.ndarray]
) -> None:
    pipe_in(film.read_bytes())
    assert track("-", tmp_path / "out") == 0
    check_same(masks_in(tmp_path / "out"), expected)
    for name in expected:
        one, other = (tmp_path / folder / "masks" / f"{name}.png" for folder in ("out", "expected"))
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("container", ["mpegts", "nut", "mp4"])
def test_other_containers_stream_as_well(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], container: str
) -> None:
    path = tmp_path / "film"
    options: dict[str, Any] = {"movflags": "frag_keyframe+empty_moov"} if container == "mp4" else {}
    encode(str(path), container, **options)
    pipe_in(path.read_bytes())
    assert track("-", tmp_path / "out") == 0
    assert track(path, tmp_path / "same", "--no-overlay") == 0
    check_same(masks_in(tmp_path / "out"), masks_in(tmp_path / "same"))


def test_a_file_as_standard_input_may_have_its_index_at_the_end(
    tmp_path: Path, track: Callable[..., int], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode(str(tmp_path / "film.mp4"), "mp4")
    with open(tmp_path / "film.mp4") as file:
        monkeypatch.setattr("sys.stdin", file)
        assert track("-", tmp_path / "out") == 0
    assert track(tmp_path / "film.mp4", tmp_path / "same", "--no-overlay") == 0
    check_same(masks_in(tmp_path / "out"), masks_in(tmp_path / "same"))


def test_raw_masks_on_standard_output_are_the_files(
    film: Path, track: Callable[..., int], capfdbinary: pytest.CaptureFixture[bytes], expected: dict[str, np.ndarray]
) -> None:
    capfdbinary.readouterr()
    assert track(film, "-") == 0
    out, err = capfdbinary.readouterr()
    assert np.array_equal(np.frombuffer(out, np.uint8).reshape(LENGTH, H, W), np.stack(list(expected.values())))
    assert b"7 frames (0 dropped)" in err
    assert b"latency" in err


def test_pngs_on_standard_output_are_the_files(
    film: Path,
    track: Callable[..., int],
    tmp_path: Path,
    capfdbinary: pytest.CaptureFixture[bytes],
    expected: dict[str, np.ndarray],
) -> None:
    capfdbinary.readouterr()
    assert track(film, "-", "--output-format", "png") == 0
    out = capfdbinary.readouterr().out
    assert out == b"".join((tmp_path / "expected" / "masks" / f"{name}.png").read_bytes() for name in expected)


@pytest.mark.parametrize("format", ["nut", "matroska"])
def test_lossless_video_of_masks_keeps_ids_and_times(
    film: Path,
    tmp_path: Path,
    track: Callable[..., int],
    pipe_in: Callable[..., None],
    capfdbinary: pytest.CaptureFixture[bytes],
    expected: dict[str, np.ndarray],
    format: str,
) -> None:
    pipe_in(film.read_bytes())
    capfdbinary.readouterr()
    assert track("-", "-", "--output-format", format) == 0
    maps, times = decoded(capfdbinary.readouterr().out)
    check_same(dict(zip(expected, maps)), expected)
    assert times == pytest.approx([(40 * t + 11 * (t % 2)) / 1000 for t in range(LENGTH)], abs=0.0011)


@pytest.mark.parametrize(("format", "name"), [("overlay", "matroska,webm"), ("overlay-mpegts", "mpegts")])
def test_an_overlay_stream_plays(film: Path, tmp_path: Path, track: Callable[..., int], format: str, name: str) -> None:
    path = tmp_path / "overlay"
    assert track(film, path, "--output-format", format) == 0
    with av.open(str(path)) as container:
        assert container.format.name == name
        assert container.streams.video[0].codec_context.name == "h264"
        found = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(found) == LENGTH
    tint = found[0].astype(int) - frames()[0]
    assert np.abs(tint[label_map() == 0]).mean() < 12 < np.abs(tint[label_map() > 0]).mean()


@pytest.mark.parametrize("piped", [False, True])
def test_an_overlay_stream_of_pixels_that_are_not_square_plays_like_its_source(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], piped: bool
) -> None:
    path = tmp_path / "dv.mkv"
    encode(str(path), "matroska", aspect=Fraction(4, 3))
    pipe_in(path.read_bytes())
    assert track("-" if piped else path, tmp_path / "out", "--output-format", "overlay", "--end", "1") == 0
    with av.open(str(tmp_path / "out")) as container:
        assert container.streams.video[0].sample_aspect_ratio == Fraction(4, 3)


@pytest.mark.parametrize("format", ["rgb24", "bgr24", "gray", "yuv420p"])
def test_raw_frames_give_the_masks_of_the_same_pictures(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], format: str
) -> None:
    sent, seen = [], tmp_path / "pictures"
    seen.mkdir()
    for t, picture in enumerate(frames()):
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24").reformat(format=format)
        sent.append(frame.to_ndarray().tobytes())
        Image.fromarray(frame.to_ndarray(format="rgb24")).save(seen / f"{t:05d}.png")
    pipe_in(b"".join(sent))
    assert (
        track("-", tmp_path / "out", "--input-format", format, "--input-size", f"{W}x{H}", "--fps", "30000/1001") == 0
    )
    assert track(seen, tmp_path / "same", "--no-overlay") == 0
    check_same(masks_in(tmp_path / "out"), masks_in(tmp_path / "same"))


@pytest.mark.parametrize(("suffix", "given"), [("PNG", []), ("JPEG", ["--input-format", "mjpeg"])])
def test_a_stream_of_pictures_is_a_video(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], suffix: str, given: list[str]
) -> None:
    data = io.BytesIO()
    for picture in frames():
        Image.fromarray(picture).save(data, suffix)
    pipe_in(data.getvalue())
    assert track("-", tmp_path / "out", *given, "--end", "3") == 0
    assert list(masks_in(tmp_path / "out")) == ["00000", "00001", "00002", "00003"]


def test_masks_of_later_frames_correct_and_the_numbers_are_the_streams(
    film: Path, tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None]
) -> None:
    folder = tmp_path / "masks"
    folder.mkdir()
    write_mask(folder / "2.png", np.where(label_map() == 3, 3, 0))
    correction = np.zeros((H, W), np.uint8)
    correction[20:30, 2:12], correction[2:9, 30:40] = 3, 9
    write_mask(folder / "00004.png", correction)
    pipe_in(film.read_bytes())
    assert track("-", tmp_path / "out", masks=folder) == 0
    assert track(film, tmp_path / "same", "--no-overlay", masks=folder) == 0
    found = masks_in(tmp_path / "out")
    assert list(found) == ["00002", "00003", "00004", "00005", "00006"]
    assert np.array_equal(found["00004"], correction)
    check_same(found, masks_in(tmp_path / "same"))


def test_masks_for_a_folder_of_pictures_read_as_a_stream_are_named_as_without_a_stream(
    tmp_path: Path, track: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    pictures, masks = tmp_path / "pictures", tmp_path / "masks"
    pictures.mkdir()
    for number, picture in enumerate(frames()[:4], 1):
        Image.fromarray(picture).save(pictures / f"{number:05d}.png")
    write_mask(masks / "00002.png", label_map())
    assert track(pictures, tmp_path / "same", "--no-overlay", masks=masks) == 0
    assert track(pictures, tmp_path / "out", "--output-format", "folder", masks=masks) == 0
    assert list(masks_in(tmp_path / "out")) == ["00002", "00003", "00004"]
    check_same(masks_in(tmp_path / "out"), masks_in(tmp_path / "same"))
    write_mask(masks / "00005.png", label_map())
    for more in (["--no-overlay"], ["--output-format", "folder"]):
        assert track(pictures, tmp_path / "out", "--overwrite", *more, masks=masks) == 2
        line = f"{masks / '00005.png'}: no frame has this name, expected a frame's name or a number from 0 to 3"
        assert capfd.readouterr().err.endswith(f"jointformer track: {line}\n")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of POSIX")
def test_named_pipes_serve_as_source_and_target(
    film: Path, tmp_path: Path, track: Callable[..., int], expected: dict[str, np.ndarray]
) -> None:
    source, target = tmp_path / "in.fifo", tmp_path / "out.fifo"
    os.mkfifo(source)
    os.mkfifo(target)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: source.write_bytes(film.read_bytes()), daemon=True),
        threading.Thread(target=lambda: got.append(target.read_bytes()), daemon=True),
    ]
    for thread in threads:
        thread.start()
    assert track(source, target) == 0
    for thread in threads:
        thread.join(60)
    assert np.array_equal(np.frombuffer(got[0], np.uint8).reshape(LENGTH, H, W), np.stack(list(expected.values())))


def test_an_address_is_read_and_a_recording_waits(
    film: Path, tmp_path: Path, track: Callable[..., int], expected: dict[str, np.ndarray]
) -> None:
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=film.parent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        url = f"http://127.0.0.1:{server.server_port}/{film.name}"
        figures = tmp_path / "figures.json"
        assert track(url, tmp_path / "out", "--json", str(figures)) == 0
    finally:
        server.shutdown()
        server.server_close()
    check_same(masks_in(tmp_path / "out"), expected)
    told = json.loads(figures.read_text())
    assert (told["frames"], told["dropped"], told["when_late"], told["queue"]) == (LENGTH, 0, "wait", 4)
    assert 0 < told["latency_ms"]["median"] <= told["latency_ms"]["p95"] <= told["latency_ms"]["max"]


@pytest.mark.skipif("lavfi" not in av.formats_available, reason="this PyAV has no generated pictures")
def test_a_device_drops_what_is_late_and_frames_keep_their_numbers(tmp_path: Path, track: Callable[..., int]) -> None:
    figures = tmp_path / "figures.json"
    source = f"testsrc=size={W}x{H}:rate=30:duration=1"
    assert track(source, tmp_path / "out", "--input-format", "lavfi", "--json", str(figures)) == 0
    told = json.loads(figures.read_text())
    assert (told["when_late"], told["queue"]) == ("drop", 1)
    assert told["frames"] + told["dropped"] == 30
    names = list(masks_in(tmp_path / "out"))
    assert len(names) == told["frames"]
    assert names[0] == "00000"
    assert np.array_equal(read_mask_file(tmp_path / "out" / "masks" / "00000.png").ids, label_map())
