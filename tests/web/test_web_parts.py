"""The parts below the addresses."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import numpy as np
import pytest

from jointformer.errors import DataError, OutputError
from jointformer.web import uploads as uploads_module
from jointformer.web.config import WebConfig
from jointformer.web.cutout import Stroke, cut_out
from jointformer.web.events import Broadcaster
from jointformer.web.models import SharedModel
from jointformer.web.pace import Pace
from jointformer.web.runs import decode_runs, encode_runs
from jointformer.web.server import address, listen
from jointformer.web.uploads import Uploads
from seeded import MINI, seeded_model


@pytest.mark.parametrize("seed", range(5))
def test_runs_bring_masks_back(seed: int) -> None:
    mask = np.random.default_rng(seed).random((7, 11)) < seed / 4
    assert np.array_equal(decode_runs(encode_runs(mask), (7, 11)), mask)


@pytest.mark.parametrize("runs", [[True, 76], [76.0, 1], None, [10**30, 1], [1] * 200])
def test_runs_that_are_none_are_refused(runs: object) -> None:
    with pytest.raises(DataError):
        decode_runs(runs, (7, 11))


def scene() -> tuple[np.ndarray, np.ndarray]:
    """A red disc on a noisy green ground, and its mask."""
    random = np.random.default_rng(0)
    frame = random.normal((40, 140, 60), 12, (120, 160, 3))
    y, x = np.mgrid[:120, :160]
    disc = (x - 90) ** 2 + (y - 60) ** 2 < 28**2
    frame[disc] = random.normal((200, 50, 40), 12, (int(disc.sum()), 3))
    return frame.clip(0, 255).astype(np.uint8), disc


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def test_a_box_around_an_object_cuts_it_out() -> None:
    frame, disc = scene()
    assert jaccard(cut_out(frame, box=(55, 25, 125, 95)), disc) > 0.93


def test_scribbles_cut_an_object_out_and_mend_a_mask() -> None:
    frame, disc = scene()
    inside = Stroke(((75, 60), (105, 60)), 4, True)
    outside = Stroke(((20, 15), (140, 15)), 4, False)
    assert jaccard(cut_out(frame, strokes=[inside, outside]), disc) > 0.93
    half = disc.copy()
    half[:, 95:] = False
    assert jaccard(cut_out(frame, strokes=[inside], known=half), disc) > 0.93


def test_the_widest_scribble_covers_the_frame_and_wider_ones_are_refused() -> None:
    frame, _ = scene()
    value = {"points": [[5, 5], [9e4, -9e4]], "radius": 16_383, "inside": True}
    assert cut_out(frame, strokes=[Stroke.parse(value)]).all()
    for radius in (16_383.5, 9e4, float("nan"), 0):
        with pytest.raises(DataError, match="a radius above 0, at most 16383"):
            Stroke.parse({**value, "radius": radius})


def test_a_picture_of_one_colour_gives_the_box_itself() -> None:
    mask = cut_out(np.full((60, 80, 3), 99, np.uint8), box=(20, 20, 40, 40))
    assert mask[22:38, 22:38].mean() in (0.0, 1.0)


def test_other_objects_pixels_are_never_taken() -> None:
    frame, disc = scene()
    others = disc.copy()
    others[:, 90:] = False
    assert not (cut_out(frame, box=(55, 25, 125, 95), others=others) & others).any()


@pytest.mark.parametrize("side", [slice(None), slice(None, None, -1)], ids=["left", "right"])
def test_an_object_is_cut_out_up_to_another_one_beside_it_in_a_large_frame(side: slice) -> None:
    frame = np.random.default_rng(0).normal((40, 90, 40), 6, (450, 760, 3)).clip(0, 255).astype(np.uint8)
    others, wanted = np.zeros((2, 450, 760), bool)
    others[100:300, 80:280], wanted[100:300, 280:580] = True, True
    frame[others | wanted] = (210, 40, 40)
    frame, others, wanted = frame[:, side], others[:, side], wanted[:, side]
    left = int(np.flatnonzero(wanted.any(0))[0])
    found = cut_out(frame, box=(left - 20, 80, left + 320, 320), others=others)
    assert (wanted & ~found).sum() < 20  # of 200 in a column


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield bytes(100_000)
        await asyncio.sleep(0)


def test_the_limit_holds_for_files_that_come_at_once_and_what_is_refused_gives_its_room_back(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2**20)
    upload = uploads.begin()

    async def send(*names: str, count: int) -> list[object]:
        sent = (uploads.receive(upload, name, pieces(count)) for name in names)
        return await asyncio.gather(*sent, return_exceptions=True)

    answers = asyncio.run(send(*(f"{number}.png" for number in range(8)), count=6))
    files = list((tmp_path / ".uploads" / upload).iterdir())
    assert [path.stat().st_size for path in files] == [600_000]
    assert sum(isinstance(answer, DataError) for answer in answers) == 7
    assert isinstance(asyncio.run(send("rest.png", count=5))[0], DataError)
    assert asyncio.run(send("rest.png", count=4)) == [{"name": "rest.png", "bytes": 400_000}]


def test_two_files_of_one_name_that_come_at_once_do_not_replace_each_other(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2**20)
    upload = uploads.begin()

    async def send() -> list[object]:
        sent = (uploads.receive(upload, "a.png", pieces(count)) for count in (3, 2))
        return await asyncio.gather(*sent, return_exceptions=True)

    first, second = asyncio.run(send())
    assert first == {"name": "a.png", "bytes": 300_000}
    assert "two files of one name" in str(second)


def test_an_upload_is_taken_once_and_not_before_all_of_it_has_come(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path, 2**20)
    early, whole = uploads.begin(), uploads.begin()

    async def taken_meanwhile() -> AsyncIterator[bytes]:
        yield b"x"
        with pytest.raises(DataError, match="one video"), uploads.take(early):
            pass
        yield b"y"

    with pytest.raises(OutputError):
        asyncio.run(uploads.receive(early, "a.mp4", taken_meanwhile()))
    asyncio.run(uploads.receive(whole, "a.mp4", pieces(1)))
    with uploads.take(whole) as folder:
        assert [path.name for path in folder.iterdir()] == ["a.mp4"]
        with pytest.raises(DataError, match="no such upload"), uploads.take(whole):
            pass
    assert list((tmp_path / ".uploads").iterdir()) == []


def test_an_upload_is_deleted_when_its_page_gives_it_up_or_nothing_comes_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads = Uploads(tmp_path, 2**20)
    given_up, silent, sent = (uploads.begin() for _ in range(3))
    asyncio.run(uploads.receive(given_up, "a.mp4", pieces(1)))
    for _ in range(2):
        uploads.drop(given_up)
    time.sleep(0.1)
    asyncio.run(uploads.receive(sent, "a.mp4", pieces(1)))
    monkeypatch.setattr(uploads_module, "_SILENT", 0.1)
    uploads.drop_silent()
    assert [path.name for path in (tmp_path / ".uploads").iterdir()] == [sent]
    with pytest.raises(DataError, match="no such upload"), uploads.take(silent):
        pass


def test_every_listener_hears_what_is_published_from_any_thread() -> None:
    async def hear() -> list[list[str]]:
        broadcaster = Broadcaster()
        streams = [broadcaster.listen(": hello\n\n") for _ in range(2)]
        heard = [[await anext(stream)] for stream in streams]
        assert broadcaster.listeners == 2
        await asyncio.to_thread(broadcaster.publish, "state", lambda: {"a": 1})
        broadcaster.close()
        for stream, texts in zip(streams, heard):
            texts += [text async for text in stream]
        assert broadcaster.listeners == 0
        return heard

    assert asyncio.run(hear()) == [[": hello\n\n", 'event: state\ndata: {"a": 1}\n\n']] * 2


def test_streams_can_be_ended_while_news_is_being_made() -> None:
    async def hear() -> list[str]:
        broadcaster = Broadcaster()
        stream = broadcaster.listen("")
        await anext(stream)
        broadcaster.publish("state", broadcaster.close)  # as a signal may interrupt it
        return [text async for text in stream]

    assert asyncio.run(hear()) == []


def test_a_page_that_reads_too_slowly_is_told_to_begin_afresh() -> None:
    async def hear() -> list[str]:
        broadcaster = Broadcaster()
        stream = broadcaster.listen("")
        await anext(stream)
        for _ in range(2001):
            broadcaster.publish("frame", lambda: 0)
        await asyncio.sleep(0)
        broadcaster.close()
        return [text async for text in stream]

    assert asyncio.run(hear())[0] == "event: reload\ndata: {}\n\n"


def test_the_pace_is_the_median_of_the_last_steps(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace.json")
    assert pace.seconds("a", 400, 1) is None
    for seconds in (9.0, 1.0, 1.0, 2.0, 1.0):
        pace.note("a", 400, 1, seconds)
    assert pace.seconds("a", 400, 1) == 1.0
    pace.save()
    assert Pace(tmp_path / "pace.json").seconds("a", 400, 1) == 1.0


def test_other_sizes_and_numbers_of_objects_are_estimated_from_the_nearest(tmp_path: Path) -> None:
    pace = Pace(tmp_path / "pace.json")
    pace.note("a", 400, 1, 1.0)
    pace.note("a", 4000, 2, 6.0)
    assert pace.seconds("a", 400, 3) == 2.0
    assert pace.seconds("a", 800, 1) == 2.0
    assert pace.seconds("a", 2000, 2) == 3.0
    assert pace.seconds("b", 400, 1) is None


def test_a_step_that_was_never_measured_is_guessed_from_the_machines_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    model = SharedModel("mini", "cpu", "float32")
    network = seeded_model(MINI)
    monkeypatch.setattr("jointformer.web.models.load_model", lambda *_: network)
    assert model.guess(48, 64, 1, 2) is None
    warm = threading.Event()
    model.warm(warm.set)
    assert warm.wait(120)
    one, two = model.guess(48, 64, 1, 2), model.guess(40, 60, 2, 2)
    assert one is not None
    assert two is not None
    assert 0 < one < two
    model.warm(pytest.fail)  # once is enough


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {"b": [1]}}', '{"a": {"9 1": ["x"]}}', '{"a": {"0 1": [1]}}']
)
def test_a_damaged_pace_file_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "pace.json").write_text(text)
    assert Pace(tmp_path / "pace.json").seconds("a", 400, 1) is None


def test_a_taken_port_gives_another_one_or_one_line(tmp_path: Path) -> None:
    from jointformer.errors import ConfigError

    first, config = listen(WebConfig(tmp_path, (tmp_path,), port=0), any_port=False)
    with first:
        with pytest.raises(ConfigError, match="cannot listen"):
            listen(config, any_port=False)
        second, other = listen(config, any_port=True)
        second.close()
    assert other.port != config.port
    assert address(other) == f"http://127.0.0.1:{other.port}/"


def test_answers_are_sent_at_once_and_do_not_wait_for_the_page_to_have_read_their_headers(tmp_path: Path) -> None:
    bound, config = listen(WebConfig(tmp_path, (tmp_path,), port=0), any_port=False)
    seen: asyncio.Queue[int] = asyncio.Queue()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.put_nowait(writer.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def ask() -> int:
        async with await asyncio.start_server(answer, sock=bound):
            _, writer = await asyncio.open_connection("127.0.0.1", config.port)
            writer.close()
            return await asyncio.wait_for(seen.get(), 10)

    assert asyncio.run(ask()) != 0


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--max-upload", "nan"], "--max-upload, expected a number of MiB, got nan"),
        (["--max-upload", "inf"], "--max-upload, expected a number of MiB, got inf"),
        (["--max-upload", "1e305"], "--max-upload, expected a number of MiB"),
        (["--model", "nope"], "nope: no such weights"),
        (["--device", "bogus"], "device, expected auto, cpu"),
        (["--precision", "int8"], "precision, expected auto, float32"),
        (["--masks", "m.png"], "--masks is given without VIDEO, expected the video whose masks they are"),
    ],
)
def test_a_wrong_setting_is_told_before_anything_is_served(
    flags: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from jointformer.cli.main import main
    from jointformer.web import server

    monkeypatch.setattr(server, "serve", lambda *_: pytest.fail("it is served"))
    assert main(["ui", "--folder", str(tmp_path), "--projects", str(tmp_path), "--port", "0", *flags]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_a_session_given_as_a_video_is_told_how_to_be_opened(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from jointformer.cli.main import main

    (tmp_path / "work/a").mkdir(parents=True)
    (tmp_path / "work/a/session.db").touch()
    assert main(["ui", str(tmp_path / "work/a"), "--no-browser"]) == 2
    hint = f"open its folder of sessions with --projects {(tmp_path / 'work').resolve()}"
    assert capsys.readouterr().err == f"jointformer ui: {tmp_path / 'work/a'}: a session, not a video; {hint}\n"


@pytest.mark.parametrize(
    ("surroundings", "opened", "forwarded"),
    [
        ({"DISPLAY": ":0"}, True, False),
        ({"WAYLAND_DISPLAY": "wayland-0"}, True, False),
        ({"TERM": "xterm"}, False, False),  # a browser of text would be taken, and waited for
        ({"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22"}, False, True),
        ({"SSH_CONNECTION": "10.0.0.1 5 10.0.0.2 22", "BROWSER": "editor/browser.sh"}, True, True),
    ],
)
def test_a_browser_is_opened_only_where_it_would_be_seen(
    surroundings: dict[str, str], opened: bool, forwarded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    from jointformer.cli.main import main
    from jointformer.web import server

    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SSH_CONNECTION", "BROWSER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in surroundings.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", "linux")
    pages: list[str] = []
    monkeypatch.setattr(webbrowser, "open", pages.append)

    def serve(config: WebConfig, bound: socket.socket, ready: Callable[[object], None]) -> None:
        bound.close()
        ready(None)

    monkeypatch.setattr(server, "serve", serve)
    assert main(["ui", "--folder", str(tmp_path), "--projects", str(tmp_path), "--port", "0"]) == 0
    said = capsys.readouterr().err
    port = re.search(r"http://127\.0\.0\.1:(\d+)/", said)
    assert port is not None
    assert pages == ([port[0]] if opened else [])
    assert (f"ssh -L {port[1]}:localhost:{port[1]} …" in said) is forwarded


def test_published_weights_are_not_fetched_before_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jointformer.cli.main import main
    from jointformer.model import weights
    from jointformer.web import server

    served = []
    monkeypatch.setattr(weights, "download", lambda *_, **__: pytest.fail("it is fetched"))

    def serve(config: WebConfig, bound: socket.socket, ready: object) -> None:
        served.append(config.model)
        bound.close()

    monkeypatch.setattr(server, "serve", serve)
    flags = ["--folder", str(tmp_path), "--projects", str(tmp_path), "--port", "0", "--model", "s012"]
    assert main(["ui", *flags]) == 0
    assert served == ["s012"]


def test_every_command_of_the_guide_is_understood() -> None:
    from pathlib import Path

    from jointformer.cli.main import build_parser

    guide = (Path(__file__).resolve().parents[2] / "docs" / "web-tool.md").read_text("utf-8")
    commands = [line.split()[2:] for line in guide.splitlines() if line.strip().startswith("jointformer ui")]
    assert len(commands) >= 5
    parser, _ = build_parser("ui")
    for command in commands:
        assert parser.parse_args(command)
