"""Tiny trees of every benchmark's layout: two short videos of moving squares, with the oddities each layout has."""

from __future__ import annotations

import json
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from jointformer.data.benchmark_rows import find_benchmark
from jointformer.data.masks import write_mask
from jointformer.types import UInt8Array

HEIGHT, WIDTH, LENGTH = 24, 32, 6
#: Object id -> (row, column) of its 6x6 square in frame 0; squares move one pixel right per frame.
PLACES = {1: (2, 2), 3: (2, 16), 7: (14, 4), 9: (14, 18), 255: (9, 10)}


@dataclass
class TreeVideo:
    """What a video in a tree holds: frame names, the ids in each mask file, the names of frames to save."""

    frames: list[str]
    masks: dict[str, tuple[int, ...]]
    saved: list[str]
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tree:
    """A tree on disk: its root, which is --data_root (for G: --generic_path), and what it holds."""

    root: Path
    key: str
    split: str
    videos: dict[str, TreeVideo]
    images: Path
    masks: Path


def make_tree(root: Path, key: str, split: str = "val", *, full_resolution: str | None = None) -> Tree:
    """A tree of a benchmark below `root`.

    `full_resolution`: the name of a second folder of DAVIS frames, twice as large; masks are in 480p only.
    """
    row = find_benchmark(key, split)
    videos = _VIDEOS[key](split)
    tree = Tree(root, key, split, videos, root / row.images[-1], root / row.masks[0])
    for name, video in videos.items():
        _write_frames(tree.images / name, video, 1)
        _write_masks(tree.masks / name, video)
        if full_resolution is not None:
            _write_frames(Path(str(tree.images).replace("480p", full_resolution)) / name, video, 2)
    if row.video_list is not None:
        path = root / row.video_list
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{name}\n" for name in videos))
    if row.metas:
        path = root / row.metas[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(_META[key](videos)))
    return tree


def draw_ids(ids: tuple[int, ...], step: int, scale: int = 1) -> UInt8Array:
    """The (HEIGHT, WIDTH) label map of squares at a step."""
    label_map = np.zeros((HEIGHT, WIDTH), np.uint8)
    for number in ids:
        row, column = PLACES[number]
        label_map[row : row + 6, column + step : column + step + 6] = number
    return label_map.repeat(scale, 0).repeat(scale, 1)


def draw_frame(step: int, scale: int = 1) -> UInt8Array:
    """The (HEIGHT, WIDTH, 3) frame with all squares at a step."""
    ids = draw_ids(tuple(PLACES), step)
    return np.stack([ids * 7 + 40, ids * 31 + 90, ids * 13 + 160], 2).astype(np.uint8).repeat(scale, 0).repeat(scale, 1)


def write_grey(path: Path, label_map: UInt8Array, bits: int) -> None:
    """Write labels as a grey PNG of 1, 2, 4 or 8 bits per pixel, which Pillow reads but does not write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = b""
    for row in label_map:
        each = np.unpackbits(row[:, None], axis=1)[:, 8 - bits :]
        rows += b"\0" + np.packbits(each.reshape(-1)).tobytes()
    height, width = label_map.shape
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def _write_frames(folder: Path, video: TreeVideo, scale: int) -> None:
    folder.mkdir(parents=True)
    for step, name in enumerate(video.frames):
        Image.fromarray(draw_frame(step, scale)).save(folder / f"{name}.jpg", quality=95)


def _write_masks(folder: Path, video: TreeVideo) -> None:
    folder.mkdir(parents=True)
    for name, ids in video.masks.items():
        label_map = draw_ids(ids, video.frames.index(name))
        if ids == (255,):  # DAVIS 2016: grey, white on black
            Image.fromarray(label_map).save(folder / f"{name}.png")
        else:
            write_mask(folder / f"{name}.png", label_map)


def _numbers(start: int = 0, step: int = 1, digits: int = 5, count: int = LENGTH) -> list[str]:
    return [f"{start + step * k:0{digits}d}" for k in range(count)]


def _davis16(split: str) -> dict[str, TreeVideo]:
    names = _numbers()
    return {name: TreeVideo(names, dict.fromkeys(names, (255,)), names) for name in ("swan", "bike")}


def _davis17(split: str) -> dict[str, TreeVideo]:
    names = _numbers()
    # Fully annotated, with a gap in the ids; the object 9 that comes later must not be read.
    gap = TreeVideo(names, {names[0]: (1, 3), names[2]: (1, 3, 9)}, names)
    return {"gap": gap, "one": TreeVideo(names, {names[0]: (1,)}, names)}


def _vost(split: str) -> dict[str, TreeVideo]:
    names = [f"frame{number}" for number in _numbers(12, 12)]
    void = TreeVideo(names, {names[0]: (1, 255), names[1]: (1, 255)}, names)
    return {"1_cut_apple": void, "2_break_egg": TreeVideo(names, {names[0]: (3,)}, names)}


def _visor(split: str) -> dict[str, TreeVideo]:
    names = [f"P01_107_frame_{number}" for number in _numbers(500, 37, 10, 2)]
    return {f"P01_107_seq_0000{k}": TreeVideo(names, {names[0]: (1, 7)}, names) for k in (1, 2)}


def _mose(split: str) -> dict[str, TreeVideo]:
    names = _numbers()
    return {name: TreeVideo(names, {names[0]: (1, 3)}, names) for name in ("0a1b2c3d", "4e5f6a7b")}


def _youtube(split: str) -> dict[str, TreeVideo]:
    names = _numbers()
    # The first object comes at frame 1, another with a gap in the ids at frame 3; its mask repeats the first.
    late = TreeVideo(
        names,
        {names[1]: (1,), names[3]: (1, 7)},
        [names[1], names[3], names[5]],
        {"1": {"category": "cat", "frames": [names[1], names[5]]}, "7": {"frames": [names[3], names[5]]}},
    )
    plain = TreeVideo(names, {names[0]: (1,)}, names[::5], {"1": {"frames": names[::5]}})
    return {"0062f687f1": plain, "00f88c4f0a": late}


def _lvos(split: str) -> dict[str, TreeVideo]:
    names = _numbers(1, 5, 8)
    ranges = {
        "1": {"frame_range": {"start": "6", "end": "21", "frame_nums": "4"}},
        "3": {"frame_range": {"start": 11, "end": 26, "frame_nums": 4}},
    }
    late = TreeVideo(names, {names[1]: (1,), names[2]: (3,)}, names[1:], ranges)
    whole = {"1": {"frame_range": {"start": 1, "end": 27, "frame_nums": 6}}}  # end: one past the last frame
    return {"0tCWPOrc": late, "1mXL5fA7": TreeVideo(names, {names[0]: (1,)}, names, whole)}


def _burst(split: str) -> dict[str, TreeVideo]:
    names = [f"frame{number}" for number in _numbers(1, 1, 4)]
    return {
        "AVA_-_clip_1": TreeVideo(names, {names[0]: (1,), names[2]: (3,)}, names[::2]),
        "LaSOT_-_dog-2": TreeVideo(names, {names[0]: (9,)}, names),
    }


def _generic(split: str) -> dict[str, TreeVideo]:
    # Numbers without leading zeros, a mask that comes late, names beyond ASCII.
    names = [str(number) for number in range(6, 12)]
    return {
        "jízda na kole": TreeVideo(names, {names[1]: (3, 7)}, names),
        "b": TreeVideo(names, {names[0]: (1,), names[4]: (1, 9)}, names),
    }


def _youtube_meta(videos: dict[str, TreeVideo]) -> dict[str, Any]:
    return {"videos": {name: {"objects": video.meta} for name, video in videos.items()}}


def _burst_meta(videos: dict[str, TreeVideo]) -> dict[str, Any]:
    return {
        "split": "val",
        "sequences": [
            {
                "dataset": name.split("_-_")[0],
                "seq_name": name.split("_-_")[1],
                "width": WIDTH,
                "height": HEIGHT,
                "annotated_image_paths": [f"{frame}.jpg" for frame in video.saved],
                "segmentations": [{} for _ in video.saved],
            }
            for name, video in videos.items()
        ],
    }


_VIDEOS = {
    "D16": _davis16,
    "D17": _davis17,
    "Y18": _youtube,
    "Y19": _youtube,
    "VOST": _vost,
    "MOSE": _mose,
    "VISOR": _visor,
    "LVOS": _lvos,
    "BURST": _burst,
    "G": _generic,
}
_META = {"Y18": _youtube_meta, "Y19": _youtube_meta, "LVOS": _youtube_meta, "BURST": _burst_meta}
