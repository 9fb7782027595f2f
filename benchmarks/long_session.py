"""What a session costs on a long video, without the network: peak memory, disk and time per frame.

    python benchmarks/long_session.py

Makes a synthetic 854x480 H.264 video (B-frames, a key frame every 10 s), tracks it from its first frame with a stand-in
for the network that follows the object exactly (at the 240 rows that the embedded weights see), gives two corrections
and tracks again. Everything else is the real thing: decoding, joining from both sides, confidence, run lengths, SQLite.
Prints JSON. All lies in --folder until it has finished: interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import sys
from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from time import perf_counter, process_time

import av
import numpy as np
import torch

from jointformer.session import Session
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.segmentation import Segmentation

H, W = 480, 854
h, w = 240, 427  # what the stand-in sees


def centre(frame: int) -> tuple[int, int]:
    """Where the object is: it wanders about the picture."""
    return int(H / 2 + H / 3 * np.sin(frame / 97)), int(W / 2 + W / 3 * np.sin(frame / 61))


def disc(frame: int) -> np.ndarray:
    """The object's (H, W) mask."""
    y, x = np.ogrid[:H, :W]
    cy, cx = centre(frame)
    return (y - cy) ** 2 + (x - cx) ** 2 < 60**2


def make_video(path: Path, frames: int, fps: int) -> None:
    """Writes the video; each frame's number stands in 16 squares of black or white at its top."""
    background = np.random.default_rng(0).integers(0, 255, (H // 8, W // 7 + 1, 3), np.uint8)
    background = background.repeat(8, 0).repeat(7, 1)[:H, :W]
    partial = path.with_name("partial.mp4")
    with av.open(str(partial), "w") as container:
        options = {"preset": "ultrafast", "g": str(10 * fps), "bf": "2"}
        stream = container.add_stream("libx264", rate=fps, options=options)
        stream.width, stream.height, stream.pix_fmt = W, H, "yuv420p"
        for t in range(frames):
            picture = background.copy()
            picture[disc(t)] = (230, 60, 40)
            for bit in range(16):
                picture[:16, 16 * bit : 16 * bit + 16] = 255 * (t >> bit & 1)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    os.replace(partial, path)


def number(picture: np.ndarray) -> int:
    """The frame's number, read from its squares."""
    return sum(1 << bit for bit in range(16) if picture[8, 16 * bit + 8].mean() > 127)


class Oracle:
    """Stands in for the tracker: knows where the disc is, with soft edges."""

    device = torch.device("cpu")
    steps = 0

    def __init__(self) -> None:
        self.ids: list[int] = []

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.ids)

    def step(self, frame: FrameLike, masks: MasksLike | None = None, **settings: object) -> Segmentation:
        type(self).steps += 1
        assert isinstance(frame, np.ndarray)
        if isinstance(masks, Mapping):
            self.ids += [i for i in masks if i not in self.ids]
        cy, cx = centre(number(frame))
        y = torch.arange(0.5, h)[:, None] * (H / h) - cy
        x = torch.arange(0.5, w)[None] * (W / w) - cx
        objects = torch.sigmoid(60 - (y**2 + x**2).sqrt())[None]
        return Segmentation(tuple(self.ids), torch.cat([1 - objects, objects]), (H, W))

    def add_memory(self, frame: FrameLike, masks: MasksLike) -> None:
        pass

    def remove_object(self, object_id: int) -> None:
        self.ids.remove(object_id)


class OracleSession(Session):
    """A session whose tracker is the stand-in."""

    def _new_tracker(self) -> Oracle:
        return Oracle()


class Progress:
    """The figures so far, in the folder: they survive an interruption, times add up over the runs."""

    def __init__(self, folder: Path, settings: dict[str, float]) -> None:
        self._path = folder / "progress.json"
        self.figures: dict[str, float] = dict(settings)
        if self._path.exists():
            self.figures = json.loads(self._path.read_text())
            if any(self.figures[name] != value for name, value in settings.items()):
                sys.exit(f"{folder}: begun with other settings ({self.figures}); remove it or choose another --folder")

    def add(self, name: str, value: float) -> None:
        self.figures[name] = self.figures.get(name, 0) + value

    def save(self) -> None:
        self.figures["peak_mb"] = max(self.figures.get("peak_mb", 0), peak())
        self._path.with_suffix(".part").write_text(json.dumps(self.figures))
        os.replace(self._path.with_suffix(".part"), self._path)


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--fps", type=int, default=12, help="25: as many frames as a film, twice the time")
    parser.add_argument("--folder", type=Path, default=Path("build/long-session"), help="kept until it has finished")
    args = parser.parse_args()
    frames = int(args.minutes * 60 * args.fps)
    torch.set_num_threads(1)
    args.folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(args.folder, {"frames": frames, "fps": args.fps})
    video = args.folder / "video.mp4"
    if not video.exists():
        make_video(video, frames, args.fps)
        progress.figures |= {"video_mb": video.stat().st_size / 1e6, "peak_mb_before": peak()}
        progress.save()
    session = opened(video, args.folder / "session", progress)
    assert session.video.fps == Fraction(args.fps)
    if not session.annotated_frames:
        session.add_masks(0, {1: disc(0)})
    corrections = (frames // 3, 2 * frames // 3)
    if len(session.annotated_frames) == 1:
        track(session, progress, "first")
    for at in set(corrections) - set(session.annotated_frames):
        session.add_masks(at, {1: disc(at)})
    track(session, progress, "corrected")
    check(session, progress)
    session.close()
    progress.figures["disk_mb"] = sum(f.stat().st_size for f in (args.folder / "session").iterdir()) / 1e6
    start = perf_counter()
    Session.load(args.folder / "session").close()
    progress.figures["load_s"] = perf_counter() - start
    for name in ("first", "corrected"):
        cpu, steps = progress.figures[f"{name}_cpu_s"], progress.figures[f"{name}_steps"]
        progress.figures[f"{name}_cpu_ms_per_step"] = 1000 * cpu / steps
    progress.save()
    json.dump({name: round(value, 2) for name, value in progress.figures.items()}, sys.stdout, indent=2)
    print()
    shutil.rmtree(args.folder)


def opened(video: Path, folder: Path, progress: Progress) -> Session:
    """The session, new or as it was left."""
    start = perf_counter()
    session = OracleSession.load(folder) if (folder / "session.db").exists() else OracleSession(video, folder=folder)
    progress.figures.setdefault("open_s", perf_counter() - start)
    return session


def track(session: Session, progress: Progress, name: str) -> None:
    """Propagate; note clock and processor time and the tracker's steps, every 500 frames."""
    clock, cpu, steps = perf_counter(), process_time(), Oracle.steps

    def note() -> None:
        nonlocal clock, cpu, steps
        progress.add(f"{name}_s", perf_counter() - clock)
        progress.add(f"{name}_cpu_s", process_time() - cpu)
        progress.add(f"{name}_steps", Oracle.steps - steps)
        clock, cpu, steps = perf_counter(), process_time(), Oracle.steps
        progress.save()

    for count, _ in enumerate(session.propagate(), 1):
        if count % 500 == 0:
            note()
            print(f"{name}: {progress.figures[f'{name}_steps']:.0f} steps", file=sys.stderr)
    note()


def check(session: Session, progress: Progress) -> None:
    """Every frame has a result, and 50 of them are sought exactly and have the right mask."""
    start = perf_counter()
    status, _ = session.timeline()
    progress.figures["timeline_s"] = perf_counter() - start
    assert set(status) == {1, 2}
    for at in range(0, len(session), max(1, len(session) // 50)):
        assert number(session.frame(at)) == at
        assert (session.result(at).masks[1] ^ disc(at)).mean() < 0.002


def peak() -> float:
    """This process's largest resident size in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


if __name__ == "__main__":
    main()
