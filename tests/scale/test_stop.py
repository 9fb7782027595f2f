"""Ctrl-C at any moment: one line that says how to go on, exit code 130, nothing stray, the same bytes after."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from pkgutil import resolve_name
from types import FrameType
from typing import Any

import pytest

from jointformer.evaluation.scale.claims import RunFolder
from jointformer.system import stop
from jointformer.system.stop import (
    GO_ON,
    Interrupted,
    at_once,
    catch_signals,
    delay_signals,
    note_signals,
    raise_if_asked,
    stop_on_signal,
)
from scale.scale_helpers import Runs, leftovers, make_videos
from watched import masks

COUNTED = r"interrupted: (\d) of (\d) videos are finished; the same command goes on from there"


def ctrl_c() -> None:
    signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("heard_hang_ups")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_waits_until_it_is_asked_for_and_is_not_lost_at_the_end(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    seen = []

    def work() -> None:
        with stop_on_signal() as asked:
            seen.append(asked())
            signal.raise_signal(number)
            seen.append(asked())

    with pytest.raises(Interrupted):
        work()
    assert seen == [False, True]
    assert signal.getsignal(number) is before


def test_a_closed_terminal_ends_nothing_that_nohup_began() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    noted: list[bool] = []
    try:
        with stop_on_signal() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert not asked()
        with note_signals(lambda: noted.append(True)):
            signal.raise_signal(signal.SIGHUP)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert not noted


def test_inside_a_command_blocks_may_follow_and_hold_each_other() -> None:
    with catch_signals():
        with stop_on_signal(), stop_on_signal() as asked:
            assert not asked()
        with at_once(), pytest.raises(Interrupted, match=GO_ON):
            ctrl_c()
        with pytest.raises(Interrupted), at_once():
            pytest.fail("it was asked to stop before")


def test_work_that_cannot_ask_ends_at_once_within_a_block_that_waits() -> None:
    reached = []

    def work() -> None:
        with stop_on_signal():
            with at_once():
                ctrl_c()
            reached.append(True)

    with pytest.raises(Interrupted):
        work()
    assert not reached


def twice() -> None:
    with stop_on_signal() as asked:
        ctrl_c()
        ctrl_c()
        assert asked()


def test_an_echo_of_the_first_wish_changes_nothing_and_a_second_one_ends_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stop, "_SAME_WISH", 1e9)
    with pytest.raises(Interrupted):
        twice()
    monkeypatch.setattr(stop, "_SAME_WISH", 0.0)
    with pytest.raises(KeyboardInterrupt, match="the same command goes on") as caught:
        twice()
    assert not isinstance(caught.value, Interrupted)


def test_another_error_is_not_hidden_by_a_signal() -> None:
    def work() -> None:
        with stop_on_signal():
            ctrl_c()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()


def test_a_signal_is_noted_at_once_and_comes_behind_the_block_that_delays_it() -> None:
    before = signal.getsignal(signal.SIGINT)
    told: list[str] = []

    def work(block: str) -> None:
        with delay_signals(lambda: told.append(f"noted in {block}")):
            ctrl_c()
            told.append(f"end of {block}")
        told.append("lost")

    with pytest.raises(KeyboardInterrupt):
        work("one")
    with catch_signals(), at_once(), pytest.raises(Interrupted):
        work("another")
    assert told == ["noted in one", "end of one", "noted in another", "end of another"]
    assert signal.getsignal(signal.SIGINT) is before


def test_what_a_callback_swallowed_is_asked_for() -> None:
    raise_if_asked()
    with catch_signals(), at_once():
        raise_if_asked()
        with pytest.raises(Interrupted):
            ctrl_c()
        with pytest.raises(Interrupted):
            raise_if_asked()


def test_outside_of_the_main_thread_nobody_is_asked() -> None:
    told = []

    def work() -> None:
        with catch_signals(), at_once(), delay_signals(ctrl_c), stop_on_signal() as asked:
            told.append(asked())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [False]


def test_a_signal_after_the_last_line_comes_too_late() -> None:
    code = (
        "import signal, sys; from jointformer.cli import main as m\n"
        "sys.argv = ['jointformer', 'reproduce', '--list']\n"  # of the long runs the one that takes no PyTorch for it
        "code = m.main(); signal.raise_signal(signal.SIGINT); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "d17-val/s012" in done.stdout


class Interrupting:
    """A function that is interrupted as it begins, or when it is done, the first time that it is called."""

    def __init__(self, original: Callable[..., Any], *, before: bool) -> None:
        self.original = original
        self.before = before
        self.calls = 0

    def __call__(self, *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.before and self.calls == 1:
            ctrl_c()
        result = self.original(*args, **options)
        if not self.before and self.calls == 1:
            ctrl_c()
        return result


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, mini_weights: Path) -> tuple[Runs, dict[str, bytes]]:
    """Runs over two videos, and the masks of an undisturbed one."""
    runs = Runs(make_videos(tmp_path_factory.mktemp("short") / "tree", [2, 3]), mini_weights)
    output = tmp_path_factory.mktemp("short") / "out"
    assert runs.here(output, "--threads", "1") == 0
    return runs, masks(output)


#: Moments of a run by the function that is on at the time, with the number of videos that are finished then; None
#: where that is not known.
MOMENTS = {
    "the command line is read": ("jointformer.cli.evaluate:add_arguments", None),
    "data is looked at": ("jointformer.data.benchmarks:open_benchmark", None),
    "weights are loaded": ("jointformer.model.weights:load_model", None),
    "weights are hashed": ("jointformer.evaluation.scale.manifest:weights_hash", 0),
    "the manifest is begun": ("jointformer.evaluation.scale.run:join_run", 0),
    "a file is written": ("jointformer.system.files:json_bytes", 0),
    "memory is planned": ("jointformer.evaluation.scale.run:plan_videos", 0),
    "a video is begun": ("jointformer.evaluation.scale.label:BenchmarkWork.label_claimed", 0),
    "a frame is tracked": ("jointformer.track.loop:frame_size", 0),
    "a video's record is written": ("jointformer.evaluation.scale.label:make_record", 1),
    "a video gets its name": ("jointformer.data.writer:commit_dir", 1),
    "the manifest is made up": ("jointformer.evaluation.scale.run:fold", 2),
    "leftovers are removed": ("jointformer.evaluation.scale.run:clean_up", 2),
    "the zip is made": ("jointformer.evaluation.scale.run:zip_if_finished", 2),
    "figures are printed": ("jointformer.cli.running:report_run", None),
}


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize("moment", MOMENTS)
def test_ctrl_c_says_how_to_go_on_whatever_is_going_on(
    moment: str,
    before: bool,
    short: tuple[Runs, dict[str, bytes]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    runs, undisturbed = short
    where, finished = MOMENTS[moment]
    if moment == "a video is begun" and not before:
        finished = 1
    output = tmp_path / "out"
    interrupting = Interrupting(resolve_name(where), before=before)
    with monkeypatch.context() as patch:
        patch.setattr(where.replace(":", "."), lambda *args, **options: interrupting(*args, **options))
        code = runs.here(output, "--threads", "1", "--memory-budget", "64GB")
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert (code, interrupting.calls > 0) == (130, True), line
    if finished is None:
        assert line == f"jointformer evaluate: {GO_ON}"
    else:
        match = re.fullmatch(f"jointformer evaluate: {COUNTED}", line)
        assert match, line
        assert (int(match[1]), int(match[2])) == (finished, 2)
        assert len(list(output.glob("v*"))) == finished
    assert not strays(output)
    assert runs.here(output, "--threads", "1") == 0
    assert masks(output) == undisturbed
    assert leftovers(output) == []


def strays(output: Path) -> list[str]:
    """Return what is half-written in an output folder."""
    return [name for name in leftovers(output) if ".jointformer-" in name]


class Line:
    """Counts the lines of our own code as they run, and is told Ctrl-C at one of them."""

    def __init__(self, at: int = -1) -> None:
        self.at = at
        self.count = 0

    def __call__(self, frame: FrameType, event: str, _: object) -> Line | None:
        if event == "call" and "/jointformer/" not in frame.f_code.co_filename:
            return None
        if event == "line":
            self.count += 1
            if self.count == self.at:
                ctrl_c()
        return self

    def run(self, runs: Runs, output: Path) -> int:
        """Return the exit code of a run with this line watched."""
        before = sys.gettrace()
        sys.settrace(self)
        try:
            return runs.here(output, "--threads", "1")
        finally:
            sys.settrace(before)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ctrl_c_at_any_line_leaves_nothing_stray_and_the_run_goes_on(
    short: tuple[Runs, dict[str, bytes]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs, undisturbed = short
    counting, chance = Line(), random.Random(7)
    assert counting.run(runs, tmp_path / "out") == 0
    late = too_late = 0
    for number in range(30):
        at = int(counting.count * (number + chance.random()) / 30) + 1
        output = tmp_path / f"out{number}"
        capsys.readouterr()
        code = Line(at).run(runs, output)
        lines = capsys.readouterr().err.strip().splitlines()
        if code == 0 and lines[-1].startswith(f"{output}: 2 videos"):
            too_late += 1  # the command had said its last word, or took fewer lines this time
            continue
        assert code == 130, (at, lines)
        assert lines[-1].endswith("the same command goes on from there"), (at, lines)
        assert not strays(output), at
        late += (output / "v1").is_dir()
        assert runs.here(output, "--threads", "1") == 0
        assert masks(output) == undisturbed, at
    assert too_late <= 1
    print(f"30 of {counting.count} lines; {late} of them after the first video, {too_late} after the end")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("workers", "number", "everybody"),
    [("1", signal.SIGINT, False), ("2", signal.SIGINT, True), ("2", signal.SIGTERM, True)],
    ids=["one process", "Ctrl-C to the whole group", "SIGTERM to the whole group"],
)
@pytest.mark.parametrize("moment", ["workers start", "videos are labelled"])
def test_a_real_signal_ends_a_run_with_one_line(
    workers: str,
    number: signal.Signals,
    everybody: bool,
    moment: str,
    runs: Runs,
    undisturbed: dict[str, bytes],
    tmp_path: Path,
) -> None:
    output = tmp_path / "out"
    # One video is taken by somebody else, so the run cannot be over before the signal comes, however slow we are.
    with RunFolder(output).claim("v2") as mine:
        assert mine
        command = runs.command(output, "--workers", workers, "--threads", "1")
        with subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, env=runs.env, start_new_session=True
        ) as process:
            begun = "run.json" if moment == "workers start" else "v*"
            while not list(output.glob(begun)) and process.poll() is None:
                time.sleep(0.01)
            (os.killpg if everybody else os.kill)(process.pid, number)
            _, text = process.communicate(timeout=600)
    assert process.returncode == 130, text
    match = re.fullmatch(f"jointformer evaluate: {COUNTED}\n", text)
    assert match, text
    assert int(match[1]) == len(list(output.glob("v*"))) <= 5
    assert not strays(output)
    assert runs.here(output, "--threads", "1") == 0
    assert masks(output) == undisturbed
    assert leftovers(output) == []
