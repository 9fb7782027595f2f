"""Frames as they come, from a pipe or a file, through to the results of `jointformer track -`.

The network is left out: every pixel is object 1. Where a stream comes from, what becomes of its bad frames and how
results are written is decided by its bytes, so that an input is always read in the same way.
"""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

import av
import numpy as np
import torch

from fuzz.table import Seeds, reader
from trees import HEIGHT, WIDTH, draw_frame

_FRAMES = 8
_LABELLED = 2**18  # pixels; of larger frames only the reading is tried


def _encoded(container: str, codec: str, pix_fmt: str = "yuv420p", **options: str) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container, options=options) as target:
        stream = target.add_stream(codec, rate=Fraction(10))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pix_fmt
        for step in range(5):
            target.mux(stream.encode(av.VideoFrame.from_ndarray(draw_frame(step), format="rgb24")))
        target.mux(stream.encode())
    return file.getvalue()


def _streams() -> Seeds:
    return {
        "a.mkv": _encoded("matroska", "libx264"),
        "a.ts": _encoded("mpegts", "mpeg2video"),
        "a.nut": _encoded("nut", "ffv1"),
        "a.flv": _encoded("flv", "libx264"),
        "a.avi": _encoded("avi", "mpeg4"),
        "a.webm": _encoded("webm", "libvpx-vp9"),
        "a.y4m": _encoded("yuv4mpegpipe", "rawvideo"),
        "a.mjpeg": _encoded("mjpeg", "mjpeg", "yuvj420p"),
        "a.h264": _encoded("h264", "libx264"),
        "parts.mp4": _encoded("mp4", "libx264", movflags="frag_keyframe+empty_moov"),
        "pictures.png": _encoded("image2pipe", "png", "rgb24"),
        "a.rgb24": b"".join(draw_frame(step).tobytes() for step in range(3)),
        "a.yuv420p": draw_frame(0).tobytes(),
    }


class _Everything:
    """A tracker to which every pixel is object 1."""

    object_ids = (1,)
    device = torch.device("cpu")

    def step(self, frame: Any, masks: Any = None, *, last: bool = False) -> Any:
        """Return the frame's segmentation."""
        from jointformer.track.segmentation import Segmentation

        return Segmentation((1,), torch.tensor([0.0, 1.0])[:, None, None].expand(2, 2, 2), frame.shape[:2])


@contextmanager
def _source(path: Path, way: int) -> Iterator[str]:
    """What the command would be told: standard input, which is a pipe of the bytes or the file, or the file's name."""
    if way == 2:
        yield str(path)
        return
    if way == 1:
        with path.open() as file, patch("sys.stdin", file):
            yield "-"
        return
    reading, writing = os.pipe()

    def write() -> None:
        with suppress(BrokenPipeError), os.fdopen(writing, "wb") as file:  # broken: the reader has seen enough
            file.write(path.read_bytes())

    thread = threading.Thread(target=write)
    thread.start()
    try:
        with os.fdopen(reading) as file, patch("sys.stdin", file):
            yield "-"
    finally:
        thread.join()


@reader("streams", _streams)
def _read_stream(path: Path) -> object:
    from jointformer.data.masks import write_mask
    from jointformer.data.stream import RAW_FORMATS, InputSettings, open_stream
    from jointformer.evaluation.stream import QueueSettings, StreamReport, find_stream_masks, label_stream

    raw = path.suffix.removeprefix(".")
    settings = InputSettings(raw, (HEIGHT, WIDTH), Fraction(10)) if raw in RAW_FORMATS else InputSettings()
    chance = zlib.crc32(path.read_bytes())
    ways = 2 if path.suffix == ".png" else 3  # as a file it is no video
    with _source(path, chance // 15 % ways) as source, open_stream(source, settings) as stream:
        if stream.size[0] * stream.size[1] > _LABELLED:
            return list(islice(stream.frames(), _FRAMES))
        mask = path.parent / "masks.png"
        write_mask(mask, np.ones(stream.size, np.uint8))
        label_stream(
            _Everything(),
            stream,
            find_stream_masks(mask, stream, 0, _FRAMES),
            str(path.parent / "result"),
            ("raw", "png", "nut", "overlay", "overlay-mpegts")[chance % 5],
            StreamReport(QueueSettings.suited(stream, None, None)),
            end=_FRAMES,
            on_bad_frame=("stop", "skip", "hold")[chance // 5 % 3],
            progress=False,
        )
    return None
