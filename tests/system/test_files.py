"""Whole files or no files."""

from __future__ import annotations

import ctypes
import errno
import functools
import json
import os
import re
import shutil
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace

import pytest

from jointformer.errors import OutputError
from jointformer.system import process
from jointformer.system.files import (
    append_line,
    atomic_path,
    atomic_write,
    check_writable,
    from_anywhere,
    is_temporary,
    output_error,
    remove_temporaries,
    replace_dir,
    temporary_name,
    write_json,
    writing,
)


def test_a_file_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    target = tmp_path / "new" / "a.bin"
    with atomic_write(target) as file:
        file.write(b"whole")
        assert not target.exists()
    assert target.read_bytes() == b"whole"
    assert [p.name for p in target.parent.iterdir()] == ["a.bin"]


def test_what_must_outlast_a_power_cut_is_on_the_device_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    monkeypatch.setattr(os, "fsync", lambda file: seen.append((os.fstat(file).st_size, (tmp_path / "a").exists())))
    for durable in (True, False):
        with atomic_write(tmp_path / "a", durable=durable) as file:
            file.write(b"whole")
    assert seen == [(5, False)]


def test_a_failed_write_leaves_the_old_file_and_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.bin"
    target.write_bytes(b"old")
    with pytest.raises(RuntimeError), atomic_write(target) as file:  # noqa: PT012
        file.write(b"half")
        raise RuntimeError
    assert target.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the disk is full; free some space"), atomic_write(tmp_path / "a"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("small_disk")
def test_a_line_that_the_disk_does_not_take_leaves_the_lines_before_it(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, "é" * 4000)
    with pytest.raises(OutputError, match=f"^{re.escape(str(log))}: cannot be written: the file is too large"):
        append_line(log, "x" * 400)
    append_line(log, "y")
    assert log.read_text(encoding="utf-8").splitlines() == ["é" * 4000, "y"]


def test_whether_a_file_can_be_written_is_known_before_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "folder").mkdir()
    for name, said in (
        ("folder", "a folder is in the way"),
        ("file/x.json", "a part of the path is a file"),
        ("x" * 300, "the name is too long"),
    ):
        path = tmp_path / name
        with pytest.raises(OutputError, match=f"^{re.escape(str(path))}: cannot be written: {said}"):
            check_writable(path)
    for name in ("new", "file", "missing/folders/x.json"):
        check_writable(tmp_path / name)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a matter of POSIX")
@pytest.mark.parametrize("name", ["pipe", "link", "devices/stdout"])
def test_devices_and_pipes_are_not_replaced_by_files(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(os.devnull)
    (tmp_path / "devices").mkdir()
    (tmp_path / "devices/stdout").write_bytes(b"as where it leads to a file")
    monkeypatch.setattr("jointformer.system.files._DEVICES", str((tmp_path / "devices").resolve()))
    path = tmp_path / name
    before = os.lstat(path)
    line = f"^{re.escape(str(path))}: cannot be written: this is a device or a pipe, not a file; name a file, or -"
    with pytest.raises(OutputError, match=line):
        check_writable(path)
    with pytest.raises(OutputError, match=line), atomic_write(path):
        raise AssertionError("not reached")
    assert os.path.samestat(os.lstat(path), before)


def test_a_link_to_a_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    write_json(tmp_path / "link", 1)
    assert (tmp_path / "file").read_bytes() == b"old"
    assert (tmp_path / "link").read_bytes() == b"1\n"


def test_a_name_that_is_too_long_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="name is too long"), atomic_write(tmp_path / ("x" * 300)) as file:
        file.write(b"")
    assert list(tmp_path.iterdir()) == []


def test_a_name_at_the_limit_is_writable(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    with atomic_write(target) as file:
        file.write(b"1")
    assert target.exists()


def test_a_path_for_other_processes_does_not_lead_through_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a/b").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "a/b")
    monkeypatch.chdir(tmp_path / "link")
    here = tmp_path.resolve() / "a/b"
    found = {
        name: from_anywhere(name) for name in ("x", ".", "../x", "../../x/../y", "..", str(tmp_path / "link/../x"))
    }
    assert list(found.values()) == [
        here / "x", here, here.parent / "x", here.parents[1] / "x/../y", here.parent, tmp_path / "link/../x",
    ]  # fmt: skip
    assert from_anywhere("/".join([".."] * 99)) == Path(here.anchor)


def test_a_file_where_a_folder_should_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match="file"), atomic_write(tmp_path / "out" / "a"):
        raise AssertionError("not reached")


def test_an_input_that_vanished_is_not_called_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_write(tmp_path / "o" / "a"):
        (tmp_path / "input" / "missing").read_bytes()


def test_a_folder_takes_the_place_of_the_old_one_whole(tmp_path: Path) -> None:
    target = tmp_path / "a" / "new" / "video"
    with replace_dir(target) as folder:
        (folder / "old.png").write_bytes(b"")
    with replace_dir(target) as folder:
        (folder / "new.png").write_bytes(b"")
        assert (target / "old.png").exists()
    assert [p.name for p in target.iterdir()] == ["new.png"]
    assert [p.name for p in target.parent.iterdir()] == ["video"]


def test_a_folder_takes_the_place_of_another_where_renaming_replaces_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def as_windows(source: Path, target: Path) -> None:
        if target.is_dir():
            raise PermissionError(errno.EACCES, "Access is denied", str(target))
        rename(source, target)

    rename = os.replace
    monkeypatch.setattr("jointformer.system.files.os.replace", as_windows)
    monkeypatch.setattr("jointformer.system.files._TAKEN", {errno.EACCES})
    for name in ("first", "second"):  # an empty folder, then a full one
        (tmp_path / "video").mkdir(exist_ok=True)
        with replace_dir(tmp_path / "video") as folder:
            (folder / name).write_bytes(b"")
    assert [p.name for p in tmp_path.rglob("*")] == ["video", "second"]


def test_a_file_does_not_give_way_to_a_folder(tmp_path: Path) -> None:
    (tmp_path / "video").write_bytes(b"mine")
    with pytest.raises(OutputError, match="a file, not a folder"), replace_dir(tmp_path / "video"):
        pass
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"video": b"mine"}


def test_an_old_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "video").mkdir()
    (tmp_path / "video" / "old.png").write_bytes(b"")
    rename = os.replace

    def replace(source: Path, target: Path) -> None:
        if is_temporary(source) and not (source / "old.png").exists() and not target.exists():
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))
        rename(source, target)

    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(OutputError, match="the network mount is gone"), replace_dir(tmp_path / "video"):
        pass
    assert [p.name for p in tmp_path.rglob("*")] == ["video", "old.png"]


def test_a_failed_folder_leaves_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "video"
    target.mkdir()
    with pytest.raises(KeyboardInterrupt), replace_dir(target) as folder:  # noqa: PT012
        (folder / "new.png").write_bytes(b"")
        raise KeyboardInterrupt
    assert list(target.iterdir()) == []
    assert [p.name for p in tmp_path.iterdir()] == ["video"]


def test_a_file_that_cannot_be_written_in_a_new_folder_is_named_in_its_place(tmp_path: Path) -> None:
    line = rf"^{tmp_path}/video/sub/a: cannot be written: the disk is full; free"
    with pytest.raises(OutputError, match=line), replace_dir(tmp_path / "video") as folder:  # noqa: SIM117
        with atomic_write(folder / "sub" / "a"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert list(tmp_path.iterdir()) == []


def test_a_temporary_folder_that_cannot_be_made_is_told_as_what_is_to_be_made_of_it(tmp_path: Path) -> None:
    temporary = temporary_name(tmp_path / "masks.zip")
    line = rf"^{tmp_path}/masks.zip: cannot be written: the disk is full; free"
    with pytest.raises(OutputError, match=line), writing(tmp_path / "masks.zip", temporary):
        raise output_error(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), temporary)


def test_ffmpegs_names_of_files_are_known(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=f"^{tmp_path}/a: "), atomic_path(tmp_path / "a") as temporary:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"file:{temporary}")


def test_leftovers_of_dead_processes_are_removed_and_living_ones_kept(tmp_path: Path) -> None:
    living = temporary_name(tmp_path / "x")
    dead = tmp_path / living.name.replace(f"-{os.getpid()}-", "-4194999-")
    dead.mkdir()
    (dead / "x").write_bytes(b"")
    living.write_bytes(b"")
    (tmp_path / "result.png").write_bytes(b"")
    assert is_temporary(dead)
    assert is_temporary(living)
    assert not is_temporary("video.part")
    assert not is_temporary(".jointformer-notes")
    assert remove_temporaries(tmp_path) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([living.name, "result.png"])


class _Kernel:
    """Windows' kernel32 with three processes: 11 runs, 12 has ended and is still looked at, 13 is somebody else's."""

    def __init__(self) -> None:
        self.open: list[int | None] = []
        self.error = 0

    def OpenProcess(self, rights: int, inherit: bool, pid: int) -> int | None:
        assert rights == 0x100000
        if pid in (11, 12):
            self.open.append(pid << 32)  # as wide as a pointer
            return pid << 32
        self.error = 5 if pid == 13 else 87
        return None

    def WaitForSingleObject(self, process: ctypes.c_void_p, milliseconds: int) -> int:
        assert milliseconds == 0
        return 0x102 if process.value == 11 << 32 else 0

    def CloseHandle(self, process: ctypes.c_void_p) -> None:
        self.open.remove(process.value)


def test_windows_is_asked_for_processes_without_a_signal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = _Kernel()
    for method in ("OpenProcess", "WaitForSingleObject", "CloseHandle"):
        monkeypatch.setattr(kernel, method, functools.partial(getattr(kernel, method)))  # takes a restype
    stub = SimpleNamespace(
        WinDLL=lambda name, use_last_error: kernel, get_last_error=lambda: kernel.error, c_void_p=ctypes.c_void_p
    )
    monkeypatch.setattr(process, "ctypes", stub)
    monkeypatch.setattr(process, "_WINDOWS", True)
    monkeypatch.setattr(os, "kill", lambda *_: pytest.fail("a signal ends a process on Windows"))
    name = temporary_name(tmp_path / "x").name
    pids = (11, 12, 13, 14, 1 << 40)
    for pid in pids:
        (tmp_path / name.replace(f"-{os.getpid()}-", f"-{pid}-")).write_bytes(b"")
    assert remove_temporaries(tmp_path) == 3
    assert [int(path.name.split("-")[2]) for path in sorted(tmp_path.iterdir())] == [11, 13]
    assert not kernel.open


@pytest.mark.skipif(sys.platform != "win32", reason="asks Windows itself")
def test_windows_knows_this_process() -> None:
    assert process._has_number_on_windows(os.getpid())


def test_a_temporary_of_another_machine_is_removed_only_when_it_is_old(tmp_path: Path) -> None:
    other = tmp_path / ".jointformer-00000000-1-0a0b0c0d.part"
    other.write_bytes(b"")
    assert remove_temporaries(tmp_path) == 0
    os.utime(other, (0, 0))
    assert remove_temporaries(tmp_path) == 1


@pytest.mark.parametrize("other", ["_BOOT", "_NUMBERS"])
def test_numbers_of_another_start_or_another_container_say_nothing_here(
    other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_BOOT", "_NUMBERS"):
        (tmp_path / name).write_text("this one")
        monkeypatch.setattr(process, name, tmp_path / name)
    theirs = _dead(tmp_path / "x")
    (tmp_path / f"other{other}").write_text("another one")
    monkeypatch.setattr(process, other, tmp_path / f"other{other}")
    ours = _dead(tmp_path / "x")
    assert remove_temporaries(tmp_path) == 1
    assert (theirs.exists(), ours.exists()) == (True, False)
    os.utime(theirs, (0, 0))
    assert remove_temporaries(tmp_path) == 1


def test_where_linux_does_not_say_the_network_card_tells_machines_of_one_name_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "_BOOT", tmp_path / "nothing")
    monkeypatch.setattr(uuid, "getnode", lambda: 1)
    theirs = _dead(tmp_path / "x")
    monkeypatch.setattr(uuid, "getnode", lambda: 2)
    ours = _dead(tmp_path / "x")
    assert remove_temporaries(tmp_path) == 1
    assert (theirs.exists(), ours.exists()) == (True, False)


def _dead(path: Path) -> Path:
    """A temporary file of a process that is no more, of what the machine is now."""
    temporary = path.with_name(temporary_name(path).name.replace(f"-{os.getpid()}-", "-4194999-"))
    temporary.write_bytes(b"")
    return temporary


def test_a_container_of_the_same_host_name_leaves_our_folder_in_work(tmp_path: Path) -> None:
    contained = ["unshare", "-Urpf", "--mount-proc", sys.executable, "-c"]
    if shutil.which("unshare") is None or subprocess.run([*contained, ""], capture_output=True).returncode:
        pytest.skip("needs unshare and leave to make spaces of process numbers")
    with replace_dir(tmp_path / "video") as folder:
        (folder / "0.png").write_bytes(b"")
        code = f"from jointformer.system.files import remove_temporaries; print(remove_temporaries({str(tmp_path)!r}))"
        assert subprocess.run([*contained, code], capture_output=True, text=True, check=True).stdout == "0\n"
    assert (tmp_path / "video" / "0.png").exists()


def test_a_temporary_folder_that_somebody_removed_is_not_made_again(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="its folder is gone; see what removed it"):  # noqa: PT012, SIM117
        with replace_dir(tmp_path / "video") as folder:
            write_json(folder / "masks" / "0.json", 0)
            shutil.rmtree(folder)
            write_json(folder / "masks" / "1.json", 1)
    assert list(tmp_path.iterdir()) == []


def test_json_keeps_unicode_readable(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"név": [1, 2]})
    assert "név" in (tmp_path / "a.json").read_text(encoding="utf-8")


def test_json_takes_names_that_are_no_unicode(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {name: name})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {name: name}
