"""What a session costs on a long video, without the network: peak memory, disk and time per frame.

    python benchmarks/long_session.py --minutes 20

Makes a synthetic 854x480 H.264 video (B-frames, a key frame every 10 s), tracks it from its first frame with a stand-in
for the network that follows the object exactly, gives two corrections and tracks again. Everything else is the real
thing: decoding, joining from both sides, confidence, run lengths, SQLite. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
from fractions import Fraction
from pathlib import Path
from time import perf_counter

import av
import numpy as np
import torch

from jointformer.session import Session
from jointformer.track.segmentation import Segmentation

H, W, FPS = 480, 854, 25


def centre(frame: int) -> tuple[int, int]:
    """Where the object is: it wanders about the picture."""
    return int(H / 2 + H / 3 * np.sin(frame / 97)), int(W / 2 + W / 3 * np.sin(frame / 61))


def disc(frame: int) -> np.ndarray:
    """The object's (H, W) mask."""
    y, x = np.ogrid[:H, :W]
    cy, cx = centre(frame)
    return (y - cy) ** 2 + (x - cx) ** 2 < 60**2


def make_video(path: Path, frames: int) -> None:
    """Writes the video; each frame's number stands in 16 squares of black or white at its top."""
    background = np.random.default_rng(0).integers(0, 255, (H // 8, W // 7 + 1, 3), np.uint8)
    background = background.repeat(8, 0).repeat(7, 1)[:H, :W]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "250", "bf": "2"})
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for t in range(frames):
            picture = background.copy()
            picture[disc(t)] = (230, 60, 40)
            for bit in range(16):
                picture[:16, 16 * bit : 16 * bit + 16] = 255 * (t >> bit & 1)
            for packet in stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")):
                container.mux(packet)
        for packet in stream.encode(None):
            container.mux(packet)


def number(picture: np.ndarray) -> int:
    """The frame's number, read from its squares."""
    return sum(1 << bit for bit in range(16) if picture[8, 16 * bit + 8].mean() > 127)


class Oracle:
    """Stands in for the tracker: knows where the disc is, with soft edges."""

    steps = 0

    def __init__(self) -> None:
        self.ids: list[int] = []

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.ids)

    def step(self, frame: np.ndarray, masks: dict | None = None, *, last: bool = False) -> Segmentation:
        type(self).steps += 1
        self.ids += [i for i in (masks or {}) if i not in self.ids]
        y, x = torch.arange(H)[:, None], torch.arange(W)[None]
        cy, cx = centre(number(frame))
        objects = torch.sigmoid((60 - ((y - cy) ** 2 + (x - cx) ** 2).float().sqrt()) * 2)[None]
        return Segmentation(tuple(self.ids), torch.cat([1 - objects, objects]), (H, W))

    def add_memory(self, frame: np.ndarray, masks: dict) -> None:
        pass

    def remove_object(self, object_id: int) -> None:
        self.ids.remove(object_id)


class OracleSession(Session):
    """A session whose tracker is the stand-in."""

    def _new_tracker(self) -> Oracle:
        return Oracle()


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    frames = int(parser.parse_args().minutes * 60 * FPS)
    torch.set_num_threads(1)
    figures: dict[str, float] = {"frames": frames}
    with tempfile.TemporaryDirectory() as folder:
        video = Path(folder) / "video.mp4"
        make_video(video, frames)
        figures["video_mb"] = video.stat().st_size / 1e6
        figures["peak_mb_before"] = peak()
        start = perf_counter()
        session = OracleSession(video, folder=Path(folder) / "session")
        figures["open_s"] = perf_counter() - start
        assert session.video.fps == Fraction(FPS)
        session.add_masks(0, {1: disc(0)})
        track(session, figures, "first")
        for at in (frames // 3, 2 * frames // 3):
            session.add_masks(at, {1: disc(at)})
        track(session, figures, "corrected")
        start = perf_counter()
        status, _ = session.timeline()
        figures["timeline_s"] = perf_counter() - start
        assert set(status) == {1, 2}
        for at in range(0, frames, max(1, frames // 50)):
            assert number(session.frame(at)) == at
            assert (session.result(at).masks[1] ^ disc(at)).mean() < 0.002
        session.close()
        figures["disk_mb"] = sum(f.stat().st_size for f in (Path(folder) / "session").iterdir()) / 1e6
        start = perf_counter()
        Session.load(Path(folder) / "session").close()
        figures["load_s"] = perf_counter() - start
    figures["peak_mb"] = peak()
    json.dump({name: round(value, 2) for name, value in figures.items()}, sys.stdout, indent=2)
    print()


def track(session: Session, figures: dict[str, float], name: str) -> None:
    """Propagate and note the time per step of the tracker."""
    start, before = perf_counter(), Oracle.steps
    for _ in session.propagate():
        pass
    figures[f"{name}_s"] = perf_counter() - start
    figures[f"{name}_steps"] = Oracle.steps - before
    figures[f"{name}_ms_per_step"] = 1000 * figures[f"{name}_s"] / figures[f"{name}_steps"]


def peak() -> float:
    """This process's largest resident size in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
