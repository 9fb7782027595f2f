"""Which process this is among all that share a folder, and whether such a one still lives."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import uuid
import zlib
from pathlib import Path

#: Where Linux says which start of which machine this is, and in which space of process numbers this process lives.
_BOOT, _NUMBERS = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
_WINDOWS = sys.platform == "win32"
#: Of Windows' processes: the right to wait for one, the error for one of somebody else's, the answer while one runs.
_SYNCHRONIZE, _ACCESS_DENIED, _STILL_RUNS = 0x100000, 5, 0x102


def this_process() -> str:
    """A name that no other process has while this one lives, on any machine: letters and digits, a dash, its number."""
    return f"{_machine()}-{os.getpid()}"


def is_alive(name: str) -> bool | None:
    """Whether the process whose `this_process` a name begins with lives; None where only another machine knows."""
    machine, _, rest = name.partition("-")
    pid = rest.split("-", 1)[0]
    if machine != _machine() or not pid.isdecimal():
        return None
    return _has_number_on_windows(int(pid)) if _WINDOWS else _has_number(int(pid))


def _machine() -> str:
    """Where this process's number means something: one start of one machine, one space of numbers (a container's).

    The host name alone would not do: folders are shared by machines of one name, and by containers that have their
    host's. Two that were taken for one would find each other's living processes dead.
    """
    try:
        place = f"{_BOOT.read_text()} {_NUMBERS.stat().st_ino}"
    except OSError:
        place = str(uuid.getnode())  # no Linux: its network card, or else a number that no other process has
    return f"{zlib.crc32(f'{platform.node()} {place}'.encode()):08x}"


def _has_number(pid: int) -> bool:
    """Whether a process has the number, where signal 0 is none."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _has_number_on_windows(pid: int) -> bool:
    """Whether a process has the number; `os.kill` ends it there, or sends it Ctrl-C, whatever the signal."""
    if pid.bit_length() > 32:
        return False
    kernel = ctypes.WinDLL("kernel32", use_last_error=True)  # type: ignore[attr-defined]
    kernel.OpenProcess.restype = ctypes.c_void_p
    process = kernel.OpenProcess(_SYNCHRONIZE, False, pid)
    if not process:
        return bool(ctypes.get_last_error() == _ACCESS_DENIED)  # type: ignore[attr-defined]
    try:  # one that has ended keeps its number while somebody looks at it
        return bool(kernel.WaitForSingleObject(ctypes.c_void_p(process), 0) == _STILL_RUNS)
    finally:
        kernel.CloseHandle(ctypes.c_void_p(process))
