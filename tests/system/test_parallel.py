"""Work shared out to processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

KILLED = """
import os
import signal
import sys
import threading
import time
from pathlib import Path

from jointformer.system.parallel import parallel_map


def work(marker):
    marker.touch()
    time.sleep(600)


def kill_this_process_once_all_work():
    while not all(marker.exists() for marker in markers):
        time.sleep(0.01)
    os.kill(os.getpid(), int(sys.argv[1]))


if __name__ == "__main__":
    markers = [Path(__file__).with_name(name) for name in ("a", "b")]
    threading.Thread(target=kill_this_process_once_all_work, daemon=True).start()
    list(parallel_map(work, markers, workers=2, files=1000))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this signal is a matter of POSIX")
@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM"])
def test_workers_end_with_a_parent_that_is_killed(name: str, tmp_path: Path) -> None:
    """They hold its standard output: whoever reads it waits for them."""
    (tmp_path / "killed.py").write_text(KILLED)
    number = getattr(signal, name)
    command = [sys.executable, str(tmp_path / "killed.py"), str(int(number))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert process.wait(60) == -number
        output, _ = process.communicate(timeout=20)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # the workers, too, which are to have gone
    assert output == b""
