"""A release page on this machine, mini weights under a published name, trees with their whole truth."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jointformer.data.masks import write_mask
from jointformer.model.config import ModelConfig
from jointformer.model.storage import save_weights
from jointformer.ops.rle import encode_rle
from seeded import seeded_model
from trees import HEIGHT, WIDTH, Tree, draw_ids, make_tree
from weights.conftest_weights import Server, home, server

__all__ = ["home", "server"]

#: Heads of 64 channels, as a bare .pth is read.
MINI = ModelConfig("mini", (16, 24, 192), (1, 1, 2), heads=3)


@pytest.fixture(scope="session")
def mini_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of seeded mini weights in the published form."""
    return save_weights(seeded_model(MINI), tmp_path_factory.mktemp("mini") / "mini.pth").read_bytes()


@pytest.fixture
def release(server: Server, mini_bytes: bytes, home: Path) -> Server:
    """The release page with a mini network under three published names, and an empty cache."""
    for name in ("s012", "s24", "s5"):
        server.files[f"jointformer_{name}.pth"] = mini_bytes
    return server


def labels(tree: Tree, name: str, step: int) -> np.ndarray:
    """The truth of a frame: all objects of the video that have appeared by then."""
    video = tree.videos[name]
    ids = {i for frame, given in video.masks.items() if video.frames.index(frame) <= step for i in given} - {9, 255}
    if tree.key == "BURST":
        ids = {i for frame, given in video.masks.items() if video.frames.index(frame) <= step for i in given}
    return draw_ids(tuple(sorted(ids)), step)


@pytest.fixture
def whole_tree(tmp_path: Path) -> Callable[..., Tree]:
    """A function that makes a tree with the truth of every frame."""

    def make(key: str, split: str = "val", **options: Any) -> Tree:
        tree = make_tree(tmp_path / "data", key, split, **options)
        if key == "BURST":
            _burst_truth(tree)
            return tree
        truth = tree.masks.parent / "Annotations" if key == "LVOS" else tree.masks
        for name, video in tree.videos.items():
            for step, frame in enumerate(video.frames):
                write_mask(truth / name / f"{frame}.png", labels(tree, name, step))
        return tree

    return make


def _burst_truth(tree: Tree) -> None:
    content = json.loads((tree.root / f"BURST/{tree.split}/first_frame_annotations.json").read_text())
    for entry, (name, video) in zip(content["sequences"], tree.videos.items(), strict=True):
        frames = [labels(tree, name, video.frames.index(frame)) for frame in video.saved]
        entry["track_category_ids"] = {str(i): 95 for given in video.masks.values() for i in given}
        entry["segmentations"] = [
            {str(i): {"rle": encode_rle(frame == i)} for i in np.unique(frame) if i} for frame in frames
        ]
    (tree.root / f"BURST/{tree.split}/all_classes.json").write_text(json.dumps(content))


@pytest.fixture
def masks_zip() -> Callable[..., bytes]:
    """A function that gives a zip of a tree's truth as if it were a published prediction."""

    def pack(tree: Tree, inside: str = "", shift: int = 0) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, video in tree.videos.items():
                for frame in video.saved:
                    label_map = np.roll(labels(tree, name, video.frames.index(frame)), shift, 1)
                    archive.writestr(f"{inside}{name}/{frame}.png", _png(label_map))
        return buffer.getvalue()

    return pack


def _png(label_map: np.ndarray) -> bytes:
    from jointformer.data.masks import encode_mask

    assert label_map.shape == (HEIGHT, WIDTH)
    return encode_mask(label_map)
