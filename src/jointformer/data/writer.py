"""Results on disk: a finished video is a finished folder; zips for the submission servers."""

from __future__ import annotations

import errno
import zipfile
from collections.abc import Callable, Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from types import TracebackType

import numpy as np

from jointformer.data.frames import is_hidden, natural_key
from jointformer.data.masks import write_mask, write_scores
from jointformer.errors import OutputError
from jointformer.system.files import (
    atomic_write,
    commit_dir,
    is_temporary,
    make_dir,
    remove_temporaries,
    temporary_name,
    writing,
)
from jointformer.system.files import remove as remove_path
from jointformer.types import FloatArray, LabelMap, UInt8Array

#: Where soft scores go, beside the masks' folders.
SCORES = "Scores"

#: Results of a video, masks and scores each counted, that wait in memory to be written.
BACKLOG = 16


def is_finished(root: str | Path, video: str) -> bool:
    """Whether a video's folder has its final name, which it gets when every file is in it; not who made it."""
    try:
        return (Path(root) / video).is_dir()
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:  # then it cannot be there
            return False
        raise


class ResultWriter:
    """Writes one video's masks (and scores) on a thread of its own; `root/video` appears when the block ends well.

    Masks become `root/video/<frame name>.png`, 8-bit palette PNGs; scores `scores_root/video/<frame name>.npz`.
    At most `backlog` results wait in memory. A failing write is raised by the next call, or at the end; then, and
    when the block fails, nothing is left behind. A folder of that name from before is replaced.
    Raises `OutputError` where writing fails.
    """

    def __init__(
        self,
        root: str | Path,
        video: str,
        palette: UInt8Array | None = None,
        *,
        scores_root: str | Path | None = None,
        backlog: int = BACKLOG,
    ) -> None:
        self.target = Path(root) / video
        self.scores_target = None if scores_root is None else Path(scores_root) / video
        self._palette = palette
        self._backlog = backlog
        self._pending: list[Future[None]] = []
        self._files: set[Path] = set()

    def __enter__(self) -> ResultWriter:
        self._folder = self._begin(self.target)
        self._scores = None if self.scores_target is None else self._begin(self.scores_target)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="results")
        return self

    @property
    def keeps_scores(self) -> bool:
        """Whether probabilities are written, too."""
        return self.scores_target is not None

    def write(self, name: str, ids: LabelMap) -> None:
        """Queues the (H, W) label map of a frame (ids 0..255); the caller may change its array afterwards."""
        self._submit(write_mask, self._folder / f"{name}.png", np.array(ids), self._palette)

    def write_scores(self, name: str, prob: FloatArray, ids: Collection[int]) -> None:
        """Queues the (N, H, W) probabilities of a frame's objects, in the order of `ids`."""
        if self._scores is None:
            raise ValueError("this writer was made without scores_root")
        self._submit(write_scores, self._scores / f"{name}.npz", np.array(prob, np.float16), tuple(ids))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._pool.shutdown(wait=True, cancel_futures=kind is not None)
            if kind is None:
                while self._pending:
                    self._finish_one()
                # Masks last: they are what says "finished".
                if self._scores is not None and self.scores_target is not None:
                    self._commit(self._scores, self.scores_target)
                self._commit(self._folder, self.target)
        finally:
            remove_path(self._folder)
            if self._scores is not None:
                remove_path(self._scores)

    def _begin(self, target: Path) -> Path:
        make_dir(target.parent)
        temporary = temporary_name(target)
        with writing(target, temporary):
            temporary.mkdir()
        return temporary

    def _commit(self, folder: Path, target: Path) -> None:
        with writing(target, folder):
            there, written = len(list(folder.iterdir())), sum(path.parent == folder for path in self._files)
            if there < written:  # the folder's name is a promise, and folders may be shared with anybody
                raise OutputError(
                    "files are gone that were written",
                    where=target,
                    expected=written,
                    got=there,
                    hint="see what removed them and run the same command again",
                )
            commit_dir(folder, target)

    def _submit(self, task: Callable[..., None], path: Path, *args: object) -> None:
        while len(self._pending) >= self._backlog or (self._pending and self._pending[0].done()):
            self._finish_one()
        self._files.add(path)
        self._pending.append(self._pool.submit(task, path, *args))

    def _finish_one(self) -> None:
        try:
            self._pending.pop(0).result()
        except OutputError as error:
            # The user knows the folder's final name, not the temporary one.
            name = "" if is_temporary(error.where or "") else Path(error.where or "").name
            raise OutputError(error.what, **{**error.parts, "where": self.target / name}) from error


def clean_up(root: str | Path, spare: Callable[[Path], bool] = lambda path: False) -> int:
    """The number of half-written files and folders of dead runs, none to `spare`, removed from an output folder."""
    root = Path(root)
    return sum(remove_temporaries(root / sub, spare=spare) for sub in ("", "Annotations", SCORES))


def make_zip(path: str | Path, root: str | Path, videos: Iterable[str], *, inside: str = "") -> Path:
    """The zip `path` of the finished videos' folders below `root`, at `inside`/<video>/ in the zip.

    The same files give the same bytes (sorted, fixed dates; PNGs are stored as they are). Hidden files and folders
    (macOS's .DS_Store, a NAS's @eaDir) stay out. It appears when it is complete. Raises `OutputError`, also where a
    video is not finished.
    """
    path, root = Path(path), Path(root)
    names = sorted(videos, key=natural_key)
    missing = [name for name in names if not is_finished(root, name)]
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise OutputError(f"not finished: {', '.join(missing[:3])}{more}", where=root, hint="run them before zipping")
    prefix = f"{inside}/" if inside else ""
    with atomic_write(path) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name in names:
            for source in sorted((root / name).iterdir(), key=lambda p: natural_key(p.name)):
                if not is_hidden(source) and not source.is_dir():
                    archive.writestr(zip_entry(f"{prefix}{name}/{source.name}"), source.read_bytes())
    return path


def zip_entry(name: str) -> zipfile.ZipInfo:
    """A file of a zip, stored as it is, with a fixed date and fixed rights: the same files give the same bytes."""
    entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
    entry.external_attr = 0o644 << 16
    entry.create_system = 3
    return entry
