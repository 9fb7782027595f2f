"""What a page does, as plain calls."""

from __future__ import annotations

import threading
import time
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.segmentation import Segmentation
from jointformer.web.models import SharedSession
from jointformer.web.runs import decode_runs, encode_runs
from session.scripted import H, SquareTracker, W

with warnings.catch_warnings():
    # Starlette 1.0 would like httpx2; both are fine here.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

__all__ = ["HOST", "GatedTracker", "ScriptedShared", "TestClient", "Tool"]

HOST = "http://127.0.0.1:8765"


class GatedTracker(SquareTracker):
    """The scripted tracker, which waits before each step for a permit where there is a gate."""

    gate: ClassVar[threading.Semaphore | None] = None

    def step(self, frame: FrameLike, masks: MasksLike | None = None, **settings: Any) -> Segmentation:
        if self.gate is not None:
            self.gate.acquire()
        return super().step(frame, masks, **settings)


class ScriptedShared(SharedSession):
    """A session of the server's whose tracker is the scripted one."""

    def _new_tracker(self) -> GatedTracker:
        return GatedTracker()


class Tool:
    """A server seen from a page."""

    def __init__(self, client: TestClient) -> None:
        self.client = client
        self.project = ""

    def ask(self, method: str, path: str, body: Any = None, *, status: int = 200, **more: Any) -> Any:
        """Return the JSON answer of an address of the project."""
        answer = self.client.request(method, f"/api/projects/{self.project}{path}", json=body, **more)
        assert answer.status_code == status, answer.text
        return answer.json()

    def open(self, path: str = "square") -> Any:
        """Begin a project."""
        answer = self.client.post("/api/projects", json={"path": path})
        assert answer.status_code == 200, answer.text
        self.project = answer.json()["id"]
        return answer.json()

    def draw(self, frame: int, object_id: int, mask: np.ndarray, **more: Any) -> None:
        self.ask("PUT", f"/frames/{frame}/masks/{object_id}", {"runs": encode_runs(mask), **more})

    def masks(self, frame: int) -> dict[int, np.ndarray]:
        rows = self.ask("GET", f"/frames/{frame}/masks")["masks"]
        return {int(i): decode_runs(row["runs"], (H, W)) for i, row in rows.items()}

    def state(self) -> Any:
        return self.ask("GET", "")

    def begin_to_track(self, **wanted: Any) -> threading.Semaphore:
        """Track the first few frames and return the gate that the others wait at."""
        GatedTracker.gate = gate = threading.Semaphore(5)
        self.ask("POST", "/track", wanted)
        self.until(lambda state: state["tracking"].get("done", 0) >= 3)
        return gate

    def track(self, **wanted: Any) -> Any:
        """Track to the end and return how it ended."""
        self.ask("POST", "/track", wanted)
        return self.until(lambda state: state["tracking"]["state"] == "idle")["tracking"]["outcome"]

    def until(self, good: Callable[[Any], bool], seconds: float = 120.0) -> Any:
        """Return the state as soon as it is good."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            state = self.state()
            if good(state):
                return state
            time.sleep(0.01)
        raise AssertionError(f"never: {state}")

    def statuses(self) -> list[int]:
        data = self.client.get(f"/api/projects/{self.project}/timeline").content
        return list(data[: len(data) // 2])

    def export(self, format: str, **options: Any) -> bytes:
        """Return an exported file's bytes."""
        name = self.ask("POST", "/exports", {"format": format, "options": options})["name"]
        exports = self.until(lambda state: not state["exports"]["running"])["exports"]
        assert exports["failure"] is None
        assert exports["files"][0]["name"] == name
        answer = self.client.get(f"/api/projects/{self.project}/exports/{name}")
        assert f'filename="{name}"' in answer.headers["content-disposition"]
        return answer.content
