"""Exported ONNX files: the program of the guide tracks as `Tracker` does, and nothing is kept that is not right."""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from jointformer.cli.main import main
from jointformer.errors import ConfigError, UserError
from jointformer.model import onnx_export
from jointformer.model.onnx_graphs import GraphConfig, Segment
from jointformer.track import Tracker, TrackerConfig
from jointformer.types import LabelMap, UInt8Array
from seeded import MINI, seeded_model

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
H, W = 52, 70  # no multiples of 16
SIZE = GraphConfig(H, W, topk=8)

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_export.PACKAGES), reason="needs the extra: onnx"
)


def make_frames(folder: Path) -> tuple[list[UInt8Array], LabelMap]:
    """Write pictures, which OpenCV and Pillow read alike; return them and the first label map, of objects 2 and 7."""
    folder.mkdir()
    base = np.random.default_rng(0).integers(0, 255, (H + 20, W + 20, 3), dtype=np.uint8)
    frames = [base[t : t + H, t : t + W] for t in range(6)]
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t}.png")
    first = np.zeros((H, W), np.uint8)
    first[8:30, 10:30] = 2
    first[20:44, 36:60] = 7
    return frames, first


@needs_onnx
@pytest.mark.slow
def test_the_guides_program_tracks_as_the_tracker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = seeded_model(MINI)
    monkeypatch.setattr("jointformer.model.weights.load_for_export", lambda name, dtype: model)
    frames, first = make_frames(tmp_path / "frames")
    Image.fromarray(first).save("first.png")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)
    command = shlex.split(blocks[0][1].replace("--size 480x854", f"--size {H}x{W} --topk {SIZE.topk}").splitlines()[1])
    assert main([*command[1:], "--quiet"]) == 0
    names: dict[str, Any] = {}
    exec(compile(blocks[1][1].replace("video.mp4", "frames/%d.png"), "onnx.md", "exec"), names)

    tracker = Tracker(model, TrackerConfig(max_memory_frames=1, topk=SIZE.topk, size=-1))
    assert len(names["label_maps"]) == len(frames) == 6
    for t, frame in enumerate(frames):
        result = tracker.step(frame, first if t == 0 else None)
        assert np.mean(result.label_map == names["label_maps"][t]) > 0.999
        assert len(np.unique(names["label_maps"][t])) > 1


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("topk", [8, None])
def test_both_types_agree_with_the_network_and_name_nothing_of_this_computer(topk: int | None, tmp_path: Path) -> None:
    model = seeded_model(MINI).to(torch.float16 if topk is None else torch.float32)
    steps: list[str] = []
    off = onnx_export.export_onnx(model, tmp_path / "new", GraphConfig(H, W, topk), progress=steps.append)
    assert tuple(steps) == onnx_export.STEPS
    assert max(off.values()) < (1e-2 if topk is None else 1e-4)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "segment.onnx", "memorize.onnx", "weights.bin", "model.json",
    }  # fmt: skip
    about = json.loads((tmp_path / "new" / "model.json").read_text())
    assert about["memory_frame"] == [3, 2, "objects", 2, 20, 24]
    assert about["type"] == str(model.dtype).removeprefix("torch.")
    here = str(Path(onnx_export.__file__).parent).encode()
    assert not any(here in (tmp_path / "new" / f"{name}.onnx").read_bytes() for name in ("segment", "memorize"))


@needs_onnx
@pytest.mark.slow
def test_nothing_is_kept_of_files_that_compute_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = Segment.forward

    def other(self: Segment, frame: Tensor, memory: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        prob, tokens = forward(self, frame, memory, tokens)
        return (prob if torch.compiler.is_exporting() else prob * 0.9), tokens

    monkeypatch.setattr(Segment, "forward", other)
    with pytest.raises(UserError, match=r"^ONNX Runtime computes something else .* from segment.onnx, expected"):
        onnx_export.export_onnx(seeded_model(MINI), tmp_path / "new", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_files_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    assert main(["weights", "onnx", "tiny", str(tmp_path)]) == 2
    assert "there is something already, expected a new or an empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ((8, 64, 60), "16 pixels or more on each side, got 8x64"),
        ((96, 160, 60), "less than the 60 keys of one memory frame of this size, got 60; 0 keeps all keys"),
        ((96, 160, 0), "1 or more, or None"),
    ],
)
def test_settings_that_no_file_can_have_are_refused(settings: tuple[int, int, int], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        GraphConfig(*settings)


def test_frames_of_any_size_are_padded_as_the_tracker_pads_them() -> None:
    graph = Segment(seeded_model(MINI), SIZE)
    frame = graph.example(1, 1)["frame"]
    assert frame.shape == (H, W, 3)
    assert frame.dtype == torch.uint8
    assert graph.image(frame).shape == (1, 3, 64, 80)
    assert SIZE.tokens == 20


def test_bfloat16_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"float32 or float16, got torch\.bfloat16"):
        onnx_export.export_onnx(seeded_model(MINI).bfloat16(), tmp_path / "new", SIZE)
