"""How a session finds its video, model and settings again; what a stored session says is not trusted."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

from jointformer.data.video import VideoReader, open_video
from jointformer.data.video_file import DEFAULT_FPS
from jointformer.errors import DataError
from jointformer.model.network import JointFormer
from jointformer.session.source import VideoLike, as_video
from jointformer.session.store import FILE, Store
from jointformer.track import TrackerConfig

#: The one setting that a session does not keep: it says what the process may take, wherever the session is opened.
_OF_THE_PROCESS = "memory_limit"


@dataclass(frozen=True)
class OpenedVideo:
    """A reader, and the path from which it can be opened again (None: frames in memory)."""

    reader: VideoReader
    path: Path | None

    @staticmethod
    def open(video: VideoLike) -> OpenedVideo:
        """Return the opened video. Raises DataError."""
        reader = as_video(video)
        path = video if isinstance(video, str | Path) else getattr(reader, "path", None)
        return OpenedVideo(reader, None if path is None else Path(path).resolve())

    def facts(self) -> dict[str, Any]:
        """What must be the same when the session is opened again."""
        height, width = self.reader.size
        return {"frames": len(self.reader), "height": height, "width": width, "fps": str(self.reader.fps)}


def describe(opened: OpenedVideo, model: str | None, config: TrackerConfig, keep_soft: bool) -> dict[str, Any]:
    """Return what a session notes about its surroundings."""
    return {
        "video": None if opened.path is None else str(opened.path),
        "facts": opened.facts(),
        "model": model,
        "config": {name: value for name, value in asdict(config).items() if name != _OF_THE_PROCESS},
        "keep_soft": keep_soft,
    }


def model_name(model: JointFormer | str | Path) -> str | None:
    """Return the name under which a model is found again: embedded and published ones have one, files do not."""
    text = str(model) if isinstance(model, str) else ""
    return text if text and _is_bare(text) else None


def stored_video(folder: str | Path) -> Path | None:
    """Return where a stored session says its video lies, without opening it. Raises DataError."""
    store = Store(Path(folder) / FILE, create=False, thorough=False)  # asked of many at once
    try:
        return _video_path(store)
    finally:
        store.close()


def find_video(store: Store, video: VideoLike | None) -> OpenedVideo:
    """Return the video given, else the one the session names; DataError unless it is the session's."""
    facts = store.meta("facts")
    if facts is None:
        raise DataError("no session here", where=store.path.parent, got="one whose process died beginning it")
    if video is None:
        video = _video_path(store)
        if video is None or not video.exists():
            got = "frames in memory" if video is None else f"nothing at {video}"
            raise DataError("the session's video is not there", where=store.path.parent, got=got, hint="give video=")
    if isinstance(video, str | Path) and Path(video).is_dir():
        video = open_video(video, fps=_rate(facts))  # pictures do not tell the rate that they were given
    opened = OpenedVideo.open(video)
    if facts != opened.facts():
        raise DataError("a session of another video", where=store.path.parent, expected=facts, got=opened.facts())
    return opened


def stored_config(store: Store) -> tuple[TrackerConfig, bool, str | None]:
    """Return a stored session's (settings, keep_soft, model's name). Raises DataError, ConfigError."""
    values, soft, name = store.meta("config"), store.meta("keep_soft"), store.meta("model")
    names = {field.name for field in fields(TrackerConfig)} - {_OF_THE_PROCESS}
    if not isinstance(values, dict) or set(values) != names or not isinstance(soft, bool):
        raise DataError("a session with damaged settings", where=store.path)
    for key in ("topk_range", "topk_blocks"):
        if not isinstance(values[key], str):
            raise DataError("a session with damaged settings", where=store.path, got=key)
    if name is not None and not (isinstance(name, str) and _is_bare(name)):
        raise DataError("a session whose model has no plain name", where=store.path, got=repr(name)[:80])
    return TrackerConfig(**values), soft, name


def _video_path(store: Store) -> Path | None:
    text = store.meta("video")
    if text is not None and (not isinstance(text, str) or "\0" in text):
        raise DataError("a session with a damaged path", where=store.path)
    return None if text is None else Path(text)


def _rate(facts: Any) -> Fraction:
    """The rate that a session notes; the default where that is none, and then it is no session of the video."""
    text = facts.get("fps") if isinstance(facts, dict) else None
    if isinstance(text, str) and re.fullmatch(r"[1-9]\d{0,9}(/[1-9]\d{0,9})?", text):
        return Fraction(text)
    return DEFAULT_FPS


def _is_bare(name: str) -> bool:
    return name.replace("_", "").isalnum() and len(name) < 64
