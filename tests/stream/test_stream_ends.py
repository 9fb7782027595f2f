"""How streams end and fail: late frames, Ctrl-C, readers that have gone, sources that are no streams."""

from __future__ import annotations

import io
import json
import os
import queue
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import av
import numpy as np
import pytest

from jointformer.data import stream, stream_pipe, stream_writer, video_container
from jointformer.data.masks import write_mask
from jointformer.data.prefetch import NewestQueue, prefetch
from jointformer.data.stream import InputSettings, Stream, open_stream
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.stream import QueueSettings, StreamReport
from jointformer.track import Tracker
from jointformer.track.segmentation import Segmentation
from stream.conftest import LENGTH, H, W, frames, label_map, masks_in


def raw(count: int = LENGTH) -> bytes:
    return frames()[:count].tobytes()


RAW = ("--input-format", "rgb24", "--input-size", f"{W}x{H}")


def test_a_full_queue_drops_its_oldest_frame_but_none_with_a_mask() -> None:
    waiting: NewestQueue[int] = NewestQueue(3, keep=lambda item: item == 1)
    for item in range(6):
        waiting.put(item, timeout=1)
    assert [waiting.get() for _ in range(3)] == [1, 4, 5]
    assert waiting.dropped == 3


def test_a_queue_of_frames_with_masks_waits_as_any_other() -> None:
    waiting: NewestQueue[int] = NewestQueue(2, keep=lambda item: True)
    waiting.put(0)
    waiting.put(1)
    with pytest.raises(queue.Full):
        waiting.put(2, timeout=0.01)
    assert waiting.dropped == 0


def test_what_is_late_is_dropped_while_the_consumer_is_busy() -> None:
    made, taken = threading.Semaphore(0), threading.Event()

    def source() -> Iterator[int]:
        yield 0
        assert taken.wait(60)  # the consumer has 0 and is busy
        yield from range(1, 10)
        made.release()

    newest: NewestQueue[int] = NewestQueue(2, keep=lambda item: False)
    items = prefetch(source(), through=newest)
    assert next(items) == 0
    taken.set()
    assert made.acquire(timeout=60)
    got = list(items)
    assert got[-2:] == [8, 9]
    assert newest.dropped == 10 - 1 - len(got)


def test_the_queue_is_short_and_drops_for_live_sources_only() -> None:
    live, recorded = (cast(Stream, SimpleNamespace(live=live)) for live in (True, False))
    assert QueueSettings.suited(live, None, None) == QueueSettings("drop", 1)
    assert QueueSettings.suited(live, "wait", 7) == QueueSettings("wait", 7)
    assert QueueSettings.suited(recorded, None, None) == QueueSettings("wait", 4)
    with pytest.raises(ConfigError, match="--when-late"):
        QueueSettings("later")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="--queue"):
        QueueSettings.suited(recorded, None, 0)


def test_the_report_is_of_bounded_size() -> None:
    report = StreamReport(QueueSettings())
    for _ in range(20_000):
        report.add(0.0)
    assert report.figures()["frames"] == 20_000
    assert len(report._delays) == 10_000


def interrupted_at(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Ctrl-C comes in the middle of a step."""
    step, seen = Tracker.step, iter(range(1000))

    def interrupted(self: Tracker, *args: Any, **kwargs: Any) -> Segmentation:
        if next(seen) == number:
            raise KeyboardInterrupt
        return step(self, *args, **kwargs)

    monkeypatch.setattr(Tracker, "step", interrupted)


def test_ctrl_c_ends_a_recording_properly_and_tells_the_figures(
    tmp_path: Path,
    track: Callable[..., int],
    pipe_in: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    pipe_in(raw(), then_wait=True)
    interrupted_at(monkeypatch, 4)
    figures = tmp_path / "figures.json"
    assert track("-", tmp_path / "out.nut", *RAW, "--output-format", "nut", "--json", str(figures)) == 130
    with av.open(str(tmp_path / "out.nut")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 4
    assert json.loads(figures.read_text())["frames"] == 4
    assert "4 frames (0 dropped)" in capfd.readouterr().err
    assert not [path for path in tmp_path.iterdir() if "part" in path.name]


def test_ctrl_c_while_ffmpeg_writes_is_not_lost_and_the_packet_is_whole(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, seen = stream_writer._WriteOnly.write, iter(range(1000))

    def interrupted(self: stream_writer._WriteOnly, data: bytes) -> int:
        if next(seen) == 3:
            signal.raise_signal(signal.SIGINT)
        return write(self, data)

    monkeypatch.setattr(stream_writer._WriteOnly, "write", interrupted)
    pipe_in(raw(), then_wait=True)
    figures = tmp_path / "figures.json"
    assert track("-", tmp_path / "out.nut", *RAW, "--output-format", "nut", "--json", str(figures)) == 130
    with av.open(str(tmp_path / "out.nut")) as container:
        written = sum(1 for _ in container.decode(video=0))
    assert json.loads(figures.read_text())["frames"] == written - 1  # counted where writing has returned
    assert 1 < written < LENGTH


def interrupted_writing(
    monkeypatch: pytest.MonkeyPatch, *, signals: int = 1, read_on: bool = False
) -> tuple[bytes, np.ndarray]:
    """The file and its frame, which no pipe holds whole: Ctrl-C comes (so often) while nobody reads, then a reader."""
    labels = np.random.default_rng(0).integers(0, 255, (600, 800)).astype(np.uint8)
    looks = stream_writer.StreamLooks(labels.shape, Fraction(25), np.zeros((256, 3), np.uint8))
    reading, writing = os.pipe()
    blocked = threading.Event()
    got: list[bytes] = []

    def select_(*args: Any) -> tuple[list[int], list[int], list[int]]:
        ready = select.select(*args)
        if not ready[1]:
            blocked.set()
        return ready

    def interrupt() -> None:
        for _ in range(signals):
            assert blocked.wait(60)
            blocked.clear()
            os.kill(os.getpid(), signal.SIGINT)
        with open(reading, "rb", closefd=False) as file:
            got.append(file.read() if read_on else b"")

    monkeypatch.setattr(stream_writer, "select", SimpleNamespace(select=select_))
    thread = threading.Thread(target=interrupt)
    thread.start()
    with io.TextIOWrapper(os.fdopen(writing, "wb")) as output:
        monkeypatch.setattr("sys.stdout", output)
        with stream_writer.open_writer("-", "nut", looks) as writer, pytest.raises(KeyboardInterrupt):
            writer.write("00000", Fraction(0), np.zeros((*labels.shape, 3), np.uint8), labels)
    thread.join()
    os.close(reading)
    return got[0], labels


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")
def test_a_reader_that_pauses_and_reads_on_gets_the_end_after_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_writer, "_PATIENCE", 60.0)
    data, labels = interrupted_writing(monkeypatch, read_on=True)
    with av.open(io.BytesIO(data)) as container:
        (frame,) = container.decode(video=0)
    assert np.array_equal(frame.to_ndarray(format="gray"), labels)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")
@pytest.mark.parametrize(("signals", "setting"), [(1, "_PATIENCE"), (2, "_SECOND_WISH")])
def test_ctrl_c_does_not_wait_for_a_reader_that_never_comes(
    monkeypatch: pytest.MonkeyPatch, signals: int, setting: str
) -> None:
    for name in ("_PATIENCE", "_SECOND_WISH"):
        monkeypatch.setattr(stream_writer, name, 0.0 if name == setting else 1e9)
    interrupted_writing(monkeypatch, signals=signals)


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")
@pytest.mark.parametrize("data", [b"", raw(1)], ids=["before the first frame", "while waiting for more"])
def test_ctrl_c_while_ffmpeg_reads_is_not_lost(
    pipe_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    def select_(*args: Any) -> tuple[list[int], list[int], list[int]]:
        ready = select.select(*args)
        if not ready[0]:
            signal.raise_signal(signal.SIGINT)
        return ready

    pipe_in(data, then_wait=True)
    monkeypatch.setattr(stream_pipe, "select", SimpleNamespace(select=select_))
    count = 0
    with pytest.raises(KeyboardInterrupt), open_stream("-", InputSettings("rgb24", (H, W))) as stream:  # noqa: PT012
        for _ in stream.frames():
            count += 1
    assert count == len(data) // len(raw(1))


@pytest.fixture
def silent_address() -> Iterator[tuple[str, socket.socket]]:
    """An address where somebody listens and never answers, and its socket."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}/camera", server


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")
def test_ctrl_c_on_a_silent_address_is_not_lost(silent_address: tuple[str, socket.socket]) -> None:
    address, server = silent_address

    def interrupt() -> None:
        caller, _ = server.accept()
        with caller:
            caller.recv(1)  # FFmpeg has asked and waits
            os.kill(os.getpid(), signal.SIGINT)
            interrupted.wait(30)

    interrupted = threading.Event()
    threading.Thread(target=interrupt, daemon=True).start()
    begin = time.monotonic()
    with pytest.raises(KeyboardInterrupt), open_stream(address):
        pass
    interrupted.set()
    assert time.monotonic() - begin < 10


def test_a_silent_address_is_said_to_be_silent(
    silent_address: tuple[str, socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stream, video_container):
        monkeypatch.setattr(module, "PATIENCE", 0.2)
    with pytest.raises(DataError, match=r"/camera: nothing arrived for 0\.2 seconds"), open_stream(silent_address[0]):
        pass


def test_a_reader_that_has_gone_ends_it_with_141(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for format in ("raw", "nut"):
        pipe_in(raw())
        reading, writing = os.pipe()
        os.close(reading)
        with io.TextIOWrapper(os.fdopen(writing, "wb")) as output:
            monkeypatch.setattr("sys.stdout", output)
            assert track("-", "-", *RAW, "--output-format", format) == 141


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is full")
@pytest.mark.parametrize("flags", [(), ("--output-format", "nut")])
def test_a_full_disk_behind_a_pipe_is_one_line(
    flags: tuple[str, ...], track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    pipe_in(raw(3))
    assert track("-", "/dev/full", *RAW, *flags) == 2
    assert "/dev/full: cannot be written: the disk is full" in capfd.readouterr().err.strip().splitlines()[-1]


def test_a_stream_that_breaks_off_keeps_what_was_written(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    pipe_in(raw(3) + b"half a frame")
    assert track("-", tmp_path / "out", *RAW) == 2
    assert list(masks_in(tmp_path / "out")) == ["00000", "00001", "00002"]
    assert "standard input: the stream ends inside a frame" in capfd.readouterr().err


def test_a_frame_that_cannot_be_read_may_be_passed_over(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    pipe_in(raw(3) + b"half a frame")
    assert track("-", tmp_path / "out", *RAW, "--on-bad-frame", "hold") == 0
    found = masks_in(tmp_path / "out")
    assert list(found) == ["00000", "00001", "00002", "00003"]
    assert np.array_equal(found["00003"], found["00002"])
    assert "1 could not be read" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("data", "flags", "message"),
    [
        (b"", (), "standard input: nothing arrived, expected a video"),
        (b"no video at all" * 100, (), "cannot be opened, got invalid data found when processing input; raw"),
        (b"\0\0\0\x18ftypisom" + bytes(5000), (), "an mp4 whose index is at its end needs a file"),
        (b"", RAW, "no frame arrived, expected a video or whole raw frames"),
        (b"short", RAW, "no frame arrived"),
        (raw(2), ("--input-format", "rgb24"), "add --input-size WxH to rgb24"),
        (raw(2), ("--input-size", f"{W}x{H}"), "--input-size is for raw frames and devices"),
        (raw(2), ("--input-format", "hls"), "--input-format, expected rgb24"),
        (raw(2), ("--input-format", "rgb24", "--input-size", "16x16"), "another size than its frame, expected 16x16"),
        (raw(2), (*RAW, "--when-late", "never"), "--when-late, expected wait or drop, got 'never'"),
        (raw(2), (*RAW, "--queue", "0"), "--queue, expected 1 to 1024 frames, got 0"),
        (raw(2), (*RAW, "--output-format", "gif"), "--output-format, expected folder, raw, png"),
        (raw(2), (*RAW, "--start", "5"), "the stream ended before frame 5, which has the first mask"),
        (raw(2), (*RAW, "--start", "5", "--end", "4"), "--start/--end"),
        (raw(2), (*RAW, "--memory-budget", "2GB"), "--memory-budget is not for streams"),
    ],
    ids=["nothing", "text", "mp4", "no bytes", "less than a frame", "no size", "size of a film", "playlist",
         "mask size", "policy", "queue", "format", "before the mask", "range", "budget"],
)  # fmt: skip
def test_a_bad_stream_is_one_line_and_exit_code_2(
    data: bytes,
    flags: tuple[str, ...],
    message: str,
    tmp_path: Path,
    track: Callable[..., int],
    pipe_in: Callable[..., None],
    capfd: pytest.CaptureFixture[str],
) -> None:
    pipe_in(data)
    assert track("-", tmp_path / "out", *flags) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]
    assert not list((tmp_path / "out").rglob("*.png"))


@pytest.mark.parametrize(
    ("source", "flags", "message"),
    [
        ("file:///etc/hostname", (), "an address of another kind, expected http, https"),
        ("concat://a|b", (), "an address of another kind"),
        ("rtsp://127.0.0.1:1/camera", (), "the stream cannot be opened, got connection refused"),
        ("/nowhere/camera", ("--input-format", "v4l2"), "/nowhere/camera: the stream cannot be opened"),
        ("/nowhere/raw", RAW, "/nowhere/raw: cannot be read, got no such file or directory"),
        ("/nowhere/film.mp4", ("--queue", "3"), "--queue is for streams"),
    ],
)
def test_a_bad_source_is_one_line_and_exit_code_2(
    source: str,
    flags: tuple[str, ...],
    message: str,
    tmp_path: Path,
    track: Callable[..., int],
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert track(source, tmp_path / "out", *flags) == 2
    lines = capfd.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert message in lines[0]


def test_earlier_results_are_not_overwritten_unasked(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out" / "masks").mkdir(parents=True)
    (tmp_path / "out" / "masks" / "00009.png").write_bytes(b"")
    pipe_in(raw(2))
    assert track("-", tmp_path / "out", *RAW) == 2
    assert "--overwrite" in capfd.readouterr().err
    pipe_in(raw(2))
    assert track("-", tmp_path / "out", *RAW, "--overwrite") == 0
    assert list(masks_in(tmp_path / "out")) == ["00000", "00001"]


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is a signal on POSIX")
@pytest.mark.parametrize("data", [b"", raw()], ids=["before the first frame", "while waiting for more"])
def test_ctrl_c_on_a_silent_pipe_ends_the_program(tmp_path: Path, mini_weights: Path, mask: Path, data: bytes) -> None:
    command = [sys.executable, "-m", "jointformer", "track", "-", *RAW, "--masks", str(mask), "-o", "-", "--size", "-1"]
    with subprocess.Popen(
        [*command, "--quiet", "--model", str(mini_weights)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            process.stdin.write(data)
            process.stdin.flush()
            if data:
                assert len(process.stdout.read(H * W * LENGTH)) == H * W * LENGTH  # all that came is tracked
            else:
                wait_until_it_reads(process.pid)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 130, err
    assert err.decode().strip().endswith("interrupted: the stream was ended by hand")
    assert b"Traceback" not in err


def wait_until_it_reads(pid: int) -> None:
    """Wait until the program has its own copy of standard input, which it makes just before it reads."""
    for _ in range(1200):
        try:
            links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
        except FileNotFoundError:
            links = []
        if len([link for link in links if link == os.readlink(f"/proc/{pid}/fd/0")]) > 1:
            return
        time.sleep(0.1)
    raise AssertionError("the program never read its input")


def test_a_stream_takes_masks_of_its_own_size_only(
    tmp_path: Path, track: Callable[..., int], pipe_in: Callable[..., None], capfd: pytest.CaptureFixture[str]
) -> None:
    write_mask(tmp_path / "wide.png", np.pad(label_map(), ((0, 0), (0, 2))))
    pipe_in(raw(2))
    assert track("-", tmp_path / "out", *RAW, masks=tmp_path / "wide.png") == 2
    assert f"expected {W}x{H}" in capfd.readouterr().err
