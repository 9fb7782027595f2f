from __future__ import annotations

from collections.abc import Iterator

import pytest

from jointformer.session import Session
from session.scripted import ScriptedSession, SquareTracker, video


@pytest.fixture
def session() -> Iterator[Session]:
    """A scripted session of 30 frames, the square given in frame 0, nothing tracked yet."""
    SquareTracker.lost, SquareTracker.calls = set(), []
    with ScriptedSession(video()) as opened:
        yield opened
    SquareTracker.lost, SquareTracker.calls = set(), []
