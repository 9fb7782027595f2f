from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from jointformer.session import Session
from jointformer.track import TrackerConfig
from session.scripted import ScriptedSession, SquareTracker, square, video


@pytest.fixture
def session() -> Iterator[Session]:
    """A scripted session of 30 frames, the square given in frame 0, nothing tracked yet."""
    SquareTracker.lost, SquareTracker.calls = set(), []
    with ScriptedSession(video()) as opened:
        yield opened
    SquareTracker.lost, SquareTracker.calls = set(), []


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """The folder of a closed session with tracked results and a name."""
    SquareTracker.lost = set()
    config = TrackerConfig(max_memory_frames=7)
    with ScriptedSession(video(), folder=tmp_path / "kept", model="tiny", config=config) as session:
        session.add_masks(0, {1: square(0)})
        list(session.propagate(end=20))
        session.set_object(1, name="cat")
    return tmp_path / "kept"
