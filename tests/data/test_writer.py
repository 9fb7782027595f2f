"""Finished folders, zips and frames made ahead."""

from __future__ import annotations

import errno
import os
import shutil
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from jointformer.data import masks, writer
from jointformer.data.masks import read_mask_file, read_scores
from jointformer.data.prefetch import prefetch
from jointformer.data.published import published_on, published_rows
from jointformer.data.writer import ResultWriter, clean_up, is_finished, make_zip
from jointformer.errors import OutputError

IDS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_video_is_finished_when_its_folder_has_its_name(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, "dog", scores_root=tmp_path / "Scores") as results:
        for k in range(40):
            ids = IDS + k
            results.write(f"{k:05d}", ids)
            ids[:] = 0  # the caller's array is the caller's
            results.write_scores(f"{k:05d}", np.full((1, 3, 4), 0.5, np.float32), (k + 1,))
        assert not is_finished(tmp_path, "dog")
    assert is_finished(tmp_path, "dog")
    assert sorted(p.name for p in (tmp_path / "dog").iterdir()) == [f"{k:05d}.png" for k in range(40)]
    np.testing.assert_array_equal(read_mask_file(tmp_path / "dog" / "00007.png").ids, IDS + 7)
    assert read_scores(tmp_path / "Scores" / "dog" / "00007.npz")[0] == (8,)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["Scores", "dog"]


def test_a_video_that_fails_leaves_the_old_result(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, "dog") as results:
        results.write("old", IDS)
    with pytest.raises(KeyboardInterrupt), ResultWriter(tmp_path, "dog") as results:  # noqa: PT012
        results.write("new", IDS)
        raise KeyboardInterrupt
    assert [p.name for p in (tmp_path / "dog").iterdir()] == ["old.png"]
    with ResultWriter(tmp_path, "dog") as results:
        results.write("new", IDS)
    assert [p.name for p in (tmp_path / "dog").iterdir()] == ["new.png"]
    assert [p.name for p in tmp_path.iterdir()] == ["dog"]


def test_a_full_disk_is_one_line_and_finished_videos_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with ResultWriter(tmp_path, "cat") as results:
        results.write("0", IDS)
    real, written = masks.encode_mask, []

    def encode(ids: np.ndarray, palette: np.ndarray | None = None) -> bytes:
        written.append(1)
        return real(ids, palette)

    def full(*args: object) -> None:
        if len(written) > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(masks, "encode_mask", encode)
    monkeypatch.setattr(os, "replace", _after(os.replace, full))
    with pytest.raises(OutputError, match=r"dog/\d+\.png: cannot be written: the disk is full"):  # noqa: PT012, SIM117
        with ResultWriter(tmp_path, "dog", backlog=2) as results:
            for k in range(50):
                results.write(str(k), IDS)
    assert [p.name for p in tmp_path.iterdir()] == ["cat"]


def _after(real: object, check: object) -> object:
    def replace(*args: object) -> None:
        check(*args)  # type: ignore[operator]
        real(*args)  # type: ignore[operator]

    return replace


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_a_folder_without_permission_is_one_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission to write"), ResultWriter(tmp_path, "dog"):
        pass


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.EACCES, "no permission to write"), (errno.EROFS, "read-only"), (errno.ESTALE, "the network mount is gone")],
)
def test_a_folder_that_cannot_be_made_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: str
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(OutputError, match=reason), ResultWriter(tmp_path / "out", "dog"):
        pass


def test_an_output_path_through_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("")
    with pytest.raises(OutputError, match=r"out: cannot be written: a file"), ResultWriter(tmp_path / "out", "dog"):
        pass


def test_a_video_whose_folder_somebody_removed_is_not_finished(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="dog: cannot be written: its folder is gone"):  # noqa: PT012, SIM117
        with ResultWriter(tmp_path, "dog") as results:
            results.write("0", IDS)
            results._pending[0].result()
            shutil.rmtree(results._folder)
            results.write("1", IDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["", "Scores"])
def test_a_video_that_lost_a_file_is_not_finished(root: str, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="dog: files are gone that were written, expected 3, got 2"):  # noqa: PT012, SIM117
        with ResultWriter(tmp_path, "dog", scores_root=tmp_path / "Scores") as results:
            for name in "0112":
                results.write(name, IDS)
                results.write_scores(name, np.full((1, 3, 4), 0.5, np.float32), (1,))
            for pending in results._pending:
                pending.result()
            next((tmp_path / root).glob(".*/1.*")).unlink()
    assert not is_finished(tmp_path, "dog")


def test_half_written_folders_of_dead_runs_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results = ResultWriter(tmp_path / "Annotations", "dog").__enter__()
    results.write("0", IDS)
    results._pool.shutdown()
    assert clean_up(tmp_path) == 0  # this process lives
    monkeypatch.setattr(os, "kill", _no_such_process)
    assert clean_up(tmp_path) == 1
    assert list((tmp_path / "Annotations").iterdir()) == []


def _no_such_process(*_: object) -> None:
    raise ProcessLookupError


def test_a_zip_is_the_same_bytes_every_time(tmp_path: Path) -> None:
    for video in ("b10", "b2"):
        with ResultWriter(tmp_path / "Annotations", video) as results:
            for k in (11, 2):
                results.write(f"{k:05d}", IDS)
    names = ["b10", "b2"]
    first = make_zip(tmp_path / "a.zip", tmp_path / "Annotations", names, inside="Annotations").read_bytes()
    time.sleep(0.01)
    for path in (tmp_path / "Annotations").rglob("*.png"):
        path.touch()
    assert (
        make_zip(tmp_path / "a.zip", tmp_path / "Annotations", names[::-1], inside="Annotations").read_bytes() == first
    )
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == [f"Annotations/{v}/{k:05d}.png" for v in ("b2", "b10") for k in (2, 11)]
        assert archive.testzip() is None
    make_zip(tmp_path / "b.zip", tmp_path / "Annotations", ["b2"])
    with zipfile.ZipFile(tmp_path / "b.zip") as archive:
        assert archive.namelist() == ["b2/00002.png", "b2/00011.png"]


def test_a_zip_holds_nothing_that_a_system_put_beside_the_masks(tmp_path: Path) -> None:
    with ResultWriter(tmp_path, "dog") as results:
        results.write("0", IDS)
    for name in (".DS_Store", "._0.png", "Thumbs.db"):
        (tmp_path / "dog" / name).write_bytes(b"a system's")
    (tmp_path / "dog" / "@eaDir").mkdir()
    with zipfile.ZipFile(make_zip(tmp_path / "a.zip", tmp_path, ["dog"])) as archive:
        assert archive.namelist() == ["dog/0.png"]


def test_a_zip_of_unfinished_videos_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"not finished: a, b, c and 1 more; run them before zipping"):
        make_zip(tmp_path / "a.zip", tmp_path, ["a", "b", "c", "d"])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_items_made_ahead_come_in_order_and_errors_in_their_place(depth: int) -> None:
    def source() -> Iterator[int]:
        yield from range(5)
        raise ValueError("the sixth")

    seen: list[int] = []
    with pytest.raises(ValueError, match="the sixth"):
        seen.extend(prefetch(source(), depth))
    items = prefetch(source(), depth)
    assert [next(items) for _ in range(5)] == list(range(5))
    with pytest.raises(ValueError, match="the sixth"):
        next(items)


def test_no_more_is_made_ahead_than_asked_for() -> None:
    made = []

    def source() -> Iterator[int]:
        for k in range(100):
            made.append(k)
            yield k

    items = prefetch(source(), 3)
    next(items)
    time.sleep(0.05)
    assert len(made) <= 5
    items.close()


def test_leaving_early_stops_the_thread_and_closes_the_source() -> None:
    closed = threading.Event()

    def source() -> Iterator[int]:
        try:
            k = 0
            while True:
                yield k
                k += 1
        finally:
            closed.set()

    items = prefetch(source(), 2)
    assert next(items) == 0
    items.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]


def test_the_published_rows_are_33_with_their_settings() -> None:
    assert len(published_rows()) == 33
    (row,) = [row for row in published_on("D17", "val") if row.weights == "s012"]
    assert (row.max_memory_frames, row.topk_num, row.published["J&F"]) == (1, 60, 90.1)
    assert row.masks_url.endswith("/s012-d17_val.zip")
    assert {r.split for r in published_on("D17", "test")} == {"test"}
    assert published_on("D16", "val") == ()
    assert writer.SCORES == "Scores"
