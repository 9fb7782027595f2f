"""Exported ONNX files: the program of the guide tracks as `Tracker` does, and nothing is kept that is not right."""

from __future__ import annotations

import importlib.util
import json
import logging
import math
import os
import re
import shlex
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from jointformer.cli.main import main
from jointformer.errors import ConfigError, OutputError, UserError
from jointformer.model import onnx_export
from jointformer.model.config import STD
from jointformer.model.network import JointFormer
from jointformer.model.onnx_graphs import GraphConfig, Memorize, Segment
from jointformer.ops.padding import unpad
from jointformer.system.files import temporary_name
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.frames import prepare_frame
from jointformer.types import LabelMap, UInt8Array
from seeded import MINI, seeded_model

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "onnx.md"
H, W = 52, 70  # no multiples of 16
SIZE = GraphConfig(H, W, topk=8)

needs_onnx = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in onnx_export.PACKAGES), reason="needs the extra: onnx"
)


def make_frames(folder: Path, height: int = H, width: int = W, count: int = 6) -> tuple[list[UInt8Array], LabelMap]:
    """Write pictures, which OpenCV and Pillow read alike; return them and the first label map, of objects 2 and 7."""
    folder.mkdir()
    base = np.random.default_rng(0).integers(0, 255, (height + 20, width + 20, 3), dtype=np.uint8)
    frames = [base[t : t + height, t : t + width] for t in range(count)]
    for t, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{t}.png")
    first = np.zeros((height, width), np.uint8)
    first[8:30, 10:30] = 2
    first[20:44, 36:60] = 7
    return frames, first


@needs_onnx
@pytest.mark.slow
def test_the_guides_program_tracks_as_the_tracker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = seeded_model(MINI)
    monkeypatch.setattr("jointformer.model.weights.load_for_export", lambda name, dtype, **_: model)
    frames, first = make_frames(tmp_path / "frames")
    Image.fromarray(first).save("first.png")
    commands, _, loop, longer_loop = programs()
    command = shlex.split(commands.replace("--size 480x854", f"--size {H}x{W} --topk {SIZE.topk}").splitlines()[1])
    assert main([*command[1:], "--quiet"]) == 0
    names = run_program(loop, {})
    tracker = Tracker(model, TrackerConfig(max_memory_frames=1, topk=SIZE.topk, size=-1))
    assert_tracked_as(tracker, names["label_maps"], frames, {0: first})
    appear = {0: first, 2: another_object(first)}
    given = {index: np.pad(label_map, margins(names)) for index, label_map in appear.items()}
    names = run_program(
        longer_loop.replace("{0: first}", "given").replace("= 5, 5", "= 2, 2"), names | {"given": given}
    )
    tracker = Tracker(model, TrackerConfig(max_memory_frames=2, memory_every=2, topk=SIZE.topk, size=-1))
    assert_tracked_as(tracker, names["label_maps"], frames, appear)


@pytest.mark.parametrize(("most", "every"), [(1, 5), (2, 5), (3, 2), (0, 3)])
def test_the_longer_program_remembers_what_the_tracker_does(
    most: int, every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = without_onnx(monkeypatch)
    frames, first = make_frames(tmp_path / "frames", count=14)
    Image.fromarray(first).save("first.png")
    *_, loop, longer_loop = programs()
    assert "most, every = 5, 5\n" in longer_loop
    names = run_program(loop, {})
    two = np.zeros_like(first)
    two[30:50, 4:20], two[2:28, 24:52] = 5, 9
    appear = {0: first, 3: two, 7: another_object(first)}
    given = {index: np.pad(label_map, margins(names)) for index, label_map in appear.items()}
    longer_loop = longer_loop.replace("{0: first}", "given").replace("= 5, 5", f"= {most}, {every}")
    names = run_program(longer_loop, names | {"given": given})
    tracker = Tracker(model, TrackerConfig(max_memory_frames=most, memory_every=every, topk=SIZE.topk, size=-1))
    assert_tracked_as(tracker, names["label_maps"], frames, appear)


@pytest.mark.parametrize("scale", [0.5, 1.5, 2])
def test_the_program_scales_frames_and_masks_as_the_tracker_does(
    scale: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = without_onnx(monkeypatch)
    frames, first = make_frames(tmp_path / "frames", int(H * scale), int(W * scale))
    Image.fromarray(first).save("first.png")
    names = run_program(programs()[2], {})
    tracker = Tracker(model, TrackerConfig(max_memory_frames=1, topk=SIZE.topk, size=H))
    result = tracker.step(frames[0], first)
    seen = np.array([0, *result.ids])[result.prob.argmax(dim=0).numpy()]
    assert np.array_equal(seen, names["label_maps"][0])
    graph = Segment(model, SIZE)
    for frame, scaled in zip(frames, names["read_frames"]("frames/%d.png"), strict=True):
        off = unpad(graph.image(torch.from_numpy(scaled))[0], SIZE.padding) - prepare_frame(frame, H, model.device)
        assert off.abs().max() < 1 / 255 / min(STD)  # the program's pixels are whole numbers


def programs() -> list[str]:
    """Return the guide's blocks: commands, the export in Python, the program, the loop for objects appearing later."""
    return re.findall(r"^```\w+\n(.*?)^```", GUIDE.read_text(), re.DOTALL | re.MULTILINE)


def run_program(text: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return the names that a program of the guide leaves behind; it reads `frames` instead of a video."""
    exec(compile(text.replace("video.mp4", "frames/%d.png"), "onnx.md", "exec"), names)
    return names


def margins(names: dict[str, Any]) -> tuple[tuple[int, int], tuple[int, int]]:
    return (names["top"], names["bottom"]), (names["left"], names["right"])


def another_object(first: LabelMap) -> LabelMap:
    """Return the label map of an object 1 that lies partly on one of those in `first`."""
    label_map = np.zeros_like(first)
    label_map[40:50, 40:66] = 1
    return label_map


def assert_tracked_as(
    tracker: Tracker, label_maps: list[LabelMap], frames: list[UInt8Array], given: dict[int, LabelMap]
) -> None:
    assert len(label_maps) == len(frames) >= 6
    for t, frame in enumerate(frames):
        result = tracker.step(frame, given.get(t))
        assert np.mean(result.label_map == label_maps[t]) > 0.999
        assert len(np.unique(label_maps[t])) > 1


def without_onnx(monkeypatch: pytest.MonkeyPatch) -> JointFormer:
    """Return a network that `onnxruntime` runs by PyTorch from now on, the files being those of the guide."""
    model = seeded_model(MINI)
    graphs = {f"tiny-onnx/{graph.name}.onnx": graph(model, SIZE).eval() for graph in (Segment, Memorize)}

    class InferenceSession:
        def __init__(self, path: str) -> None:
            self.graph = graphs[path]

        def run(self, outputs: None, inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
            with torch.inference_mode():
                results = self.graph(**{name: torch.from_numpy(array) for name, array in inputs.items()})
            return [tensor.numpy() for tensor in results]

    monkeypatch.setitem(sys.modules, "onnxruntime", types.SimpleNamespace(InferenceSession=InferenceSession))
    Path("tiny-onnx").mkdir()
    Path("tiny-onnx/model.json").write_text(json.dumps(onnx_export._description(model, SIZE)))
    return model


@needs_onnx
@pytest.mark.slow
@pytest.mark.parametrize("topk", [8, None])
def test_both_types_agree_with_the_network_and_name_nothing_of_this_computer(topk: int | None, tmp_path: Path) -> None:
    model = seeded_model(MINI).to(torch.float16 if topk is None else torch.float32)
    steps: list[str] = []
    off = onnx_export.export_onnx(model, tmp_path / "new", GraphConfig(H, W, topk), progress=steps.append)
    assert tuple(steps) == onnx_export.STEPS
    assert max(off.values()) < (1e-2 if topk is None else 1e-4)
    assert names(tmp_path / "new") == FILES
    about = json.loads((tmp_path / "new" / "model.json").read_text())
    assert about["memory_frame"] == [3, 2, "objects", 2, 20, 24]
    assert about["type"] == str(model.dtype).removeprefix("torch.")
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    assert (tmp_path / "new" / "weights.bin").stat().st_size > 0.9 * size  # MINI's smaller tensors are in the graphs
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


@pytest.fixture
def _made_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports take no time: of a graph there is a file, but nothing in it."""

    def save(converted: object, path: Path, weights: onnx_export._Weights) -> None:
        weights.place(path.name.encode())
        path.touch()

    monkeypatch.setattr(onnx_export, "PACKAGES", ())
    monkeypatch.setattr(onnx_export, "_convert", lambda graph: graph)
    monkeypatch.setattr(onnx_export, "_save", save)
    monkeypatch.setattr(onnx_export, "_check", lambda graph, path: 0.0)


FILES = {"segment.onnx", "memorize.onnx", "weights.bin", "model.json"}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.usefixtures("_made_up")
@pytest.mark.parametrize("where", ["new", "missing/parents/new", "empty", "link", "."])
def test_new_and_empty_folders_get_the_files(where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    if where in ("empty", "link"):
        (here / "empty").mkdir()
    if where == "link":
        (here / "link").symlink_to("empty")
    before = here.stat().st_ino
    onnx_export.export_onnx(seeded_model(MINI), where, SIZE)
    assert names(Path(where)) == FILES
    assert here.stat().st_ino == before  # a shell that is in it still is
    assert (here / "link").is_symlink() == (where == "link")
    assert not any(path.name.startswith(".") for path in tmp_path.rglob("*"))


@pytest.mark.usefixtures("_made_up")
@pytest.mark.parametrize(
    ("where", "step"),
    [*((where, step) for where in ("new", "empty") for step in onnx_export.STEPS), ("empty", "the end")],
)
def test_an_interrupt_leaves_nothing(where: str, step: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()

    def progress(doing: str) -> None:
        if doing == step:
            raise KeyboardInterrupt

    replace = os.replace

    def late(source: Path, target: Path) -> None:
        replace(source, target)
        if target.name == "model.json" and target.parent == tmp_path / where:
            raise KeyboardInterrupt

    if step == "the end":
        monkeypatch.setattr(os, "replace", late)
        monkeypatch.setattr(Path, "iterdir", lambda path: iter(sorted(path / name for name in os.listdir(path))))
    with pytest.raises(KeyboardInterrupt):
        onnx_export.export_onnx(seeded_model(MINI), tmp_path / where, SIZE, progress=progress)
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]


@pytest.mark.usefixtures("_made_up")
@pytest.mark.parametrize("where", ["new", "empty"])
def test_what_a_killed_export_left_is_removed(where: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path, tmp_path / "empty"):
        left = folder / temporary_name("x").name.replace(f"-{os.getpid()}-", "-999999999-")
        left.mkdir()
        (left / "weights.bin").write_bytes(b"large")
    onnx_export.export_onnx(seeded_model(MINI), tmp_path / where, SIZE)
    assert names(tmp_path / where) == FILES
    assert not any(path.name.startswith(".") for path in (tmp_path if where == "new" else tmp_path / where).iterdir())


@pytest.mark.usefixtures("_made_up")
def test_what_comes_into_the_folder_meanwhile_stays(tmp_path: Path) -> None:
    def progress(doing: str) -> None:
        (tmp_path / "new").mkdir(exist_ok=True)
        (tmp_path / "new" / "notes.txt").write_text("mine")

    with pytest.raises(OutputError, match="there is something already"):
        onnx_export.export_onnx(seeded_model(MINI), tmp_path / "new", SIZE, progress=progress)
    assert names(tmp_path) == {"new"}
    assert names(tmp_path / "new") == {"notes.txt"}


@pytest.mark.usefixtures("_made_up")
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("file", "there is something already"),
        ("loose", "there is something already"),
        ("file/new", "cannot be written"),
        ("y" * 300, "the name is too long"),
    ],
)
def test_a_folder_that_cannot_be_is_refused_before_weights_are_fetched(
    where: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    Path("loose").symlink_to("nowhere")

    def fetch(*_: object, **__: object) -> JointFormer:
        pytest.fail("fetched for nothing")

    monkeypatch.setattr("jointformer.model.weights.load_for_export", fetch)
    assert main(["weights", "onnx", "tiny", where]) == 2
    assert said in capsys.readouterr().err
    assert names(tmp_path) == {"file", "loose"}


def test_a_path_that_onnx_runtime_cannot_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="ONNX Runtime opens no file of this path, expected UTF-8"):
        onnx_export.check_export(tmp_path / os.fsdecode(b"x\xff") / "new")


@pytest.mark.usefixtures("_made_up")
def test_the_description_says_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = seeded_model(MINI)
    model.weights_file = Path("/somewhere/mine.pth")
    monkeypatch.setattr("jointformer.model.weights.load_for_export", lambda name, dtype, **_: model.to(dtype))
    options = ["--size", "51x69", "--topk", "0", "--dtype", "float16", "--quiet"]
    assert main(["weights", "onnx", "mine.pth", str(tmp_path / "new"), *options]) == 0
    about = json.loads((tmp_path / "new" / "model.json").read_text())
    assert (about["height"], about["width"], about["topk"], about["type"]) == (51, 69, None, "float16")
    assert about["padding"] == {"left": 5, "right": 6, "top": 6, "bottom": 7}
    assert (about["network"], about["weights"]) == ("mini", "mine.pth")
    assert str(tmp_path) not in json.dumps(about)


def test_a_few_objects_at_a_time_are_remembered_as_all_at_once() -> None:
    graph = Memorize(seeded_model(MINI), SIZE).eval()
    inputs = graph.example(3, 1)
    with torch.inference_mode():
        memory, tokens = graph(**inputs)
        for i in range(3):
            own = {name: tensor if name == "frame" else tensor[i : i + 1] for name, tensor in inputs.items()}
            one, token = graph(**own)
            torch.testing.assert_close(one[:, :, 0], memory[:, :, i])
            torch.testing.assert_close(token[0], tokens[i])


@pytest.mark.parametrize(("factor", "limit"), [(1.0, True), (0.99, False), (math.nan, False)])
def test_one_and_several_objects_and_frames_are_checked(
    factor: float, limit: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = Segment(seeded_model(MINI), SIZE).eval()
    shapes = []

    def run(outputs: list[str], inputs: dict[str, np.ndarray[Any, Any]]) -> list[np.ndarray[Any, Any]]:
        frames, objects = (inputs["memory"].shape[axis] for axis in (0, 3))
        shapes.append((objects, frames))
        assert frames == 1 or not np.allclose(inputs["memory"][0], inputs["memory"][1])
        with torch.inference_mode():
            results = graph(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        return [tensor.numpy() * (factor if objects > 1 else 1) for tensor in results]

    session = types.SimpleNamespace(run=run)
    runtime = types.SimpleNamespace(InferenceSession=lambda path, providers: session)
    monkeypatch.setitem(sys.modules, "onnxruntime", runtime)
    if limit:
        assert onnx_export._check(graph, Path("segment.onnx")) == 0
    else:
        with pytest.raises(UserError, match=r"something else than the network from segment\.onnx"):
            onnx_export._check(graph, Path("segment.onnx"))
    assert {n > 1 for n, _ in shapes} == {n > 1 for _, n in shapes} == {True, False}


def test_equal_tensors_are_in_the_weights_once_at_a_pages_start(tmp_path: Path) -> None:
    weights = onnx_export._Weights(tmp_path / "weights.bin")
    places = [weights.place(data) for data in (b"a" * 5000, b"b" * 10, b"a" * 5000, b"c")]
    assert places == [0, 8192, 0, 12288]
    assert (tmp_path / "weights.bin").read_bytes() == b"a" * 5000 + bytes(3192) + b"b" * 10 + bytes(4086) + b"c"


def test_the_exporters_log_is_quiet_for_a_while_only() -> None:
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    with onnx_export._quiet():
        assert logger.level == logging.ERROR != before
    assert logger.level == before


def test_what_is_no_number_is_a_difference() -> None:
    nan = torch.tensor([1.0, math.nan])
    assert onnx_export._difference(nan, torch.ones(2)) == math.inf
    assert onnx_export._difference(torch.ones(2), nan) == math.inf
    assert onnx_export._difference(nan, nan) == math.inf  # of a network that overflows float16, too
    assert onnx_export._difference(torch.ones(2), torch.ones(1)) == math.inf
    assert onnx_export._difference(torch.tensor([1.0, -3.0]), torch.tensor([1.0, -4.0])) == 0.25


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
    with pytest.raises(ConfigError, match=r"float32 or float16, got torch\.bfloat16; .*precision=\"float32\"\)$"):
        onnx_export.export_onnx(seeded_model(MINI).bfloat16(), tmp_path / "new", SIZE)


def test_the_guides_export_in_python_is_that_of_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    monkeypatch.setattr(onnx_export, "export_onnx", lambda *given: seen.extend(given))
    run_program(programs()[1], {})
    model, folder, config = seen
    assert (str(model.device), model.dtype, folder) == ("cpu", torch.float32, "tiny-onnx")
    assert config == GraphConfig(480, 854)
