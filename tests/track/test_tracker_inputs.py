"""What a tracker takes, in which forms, and what it refuses."""

from __future__ import annotations

import copy
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from jointformer import BENCHMARKS, Session, evaluate
from jointformer.data.benchmarks import Dataset
from jointformer.data.frames import read_frame
from jointformer.errors import ConfigError, DataError, NoMemoryError, UserError
from jointformer.model.config import MEAN, STD
from jointformer.model.network import JointFormer
from jointformer.ops.resize import network_size, resize_bilinear
from jointformer.track import Tracker, TrackerConfig
from jointformer.track.ensemble import EnsembleTracker, View
from jointformer.track.frames import prepare_frame
from track.short_videos import CONFIG, H, W, box, run, video

#: An opened benchmark without videos.
DATASET = Dataset(BENCHMARKS["D17", "val"], Path("nowhere"), ())


def test_inputs_are_never_changed(model: JointFormer) -> None:
    frames, masks = video(4), {1: box(2, 2), 4: box(20, 30)}
    before = copy.deepcopy((frames, masks))
    tracker = Tracker(model, CONFIG)
    for t, frame in enumerate(frames):
        tracker.step(frame, masks if t == 0 else None)
    for a, b in zip(frames, before[0]):
        assert np.array_equal(a, b)
    assert all(np.array_equal(masks[i], before[1][i]) for i in masks)


def test_frames_may_be_arrays_pictures_or_tensors(model: JointFormer) -> None:
    frame = video(1)[0]
    tensor = torch.from_numpy(frame).permute(2, 0, 1).float() / 255
    forms = (frame, Image.fromarray(frame), tensor)
    results = [Tracker(model, CONFIG).step(f, box(2, 2).astype(np.uint8)) for f in forms]
    assert all(torch.equal(results[0].prob, r.prob) for r in results)


def test_a_picture_is_looked_up_as_the_arithmetic_has_it_to_the_bit_and_none_of_it_is_done() -> None:
    size = 96, 128
    values = np.arange(3 * size[0] * size[1]).reshape(*size, 3) * 7 % 256  # every value in every channel
    frame = np.flip(values.astype(np.uint8), axis=1)
    frame.flags.writeable = False
    mean, std = (torch.tensor(numbers)[:, None, None] for numbers in (MEAN, STD))
    expected = (torch.from_numpy(frame.copy()).permute(2, 0, 1).contiguous().float() / 255 - mean) / std
    prepare_frame(frame, 32, torch.device("cpu"))  # makes the table
    work = _Work()
    with work:
        whole, small = (prepare_frame(frame, side, torch.device("cpu")) for side in (-1, 32))
    assert torch.equal(whole, expected)
    assert torch.equal(small, resize_bilinear(expected[None], 32, 42)[0])
    assert work.numbers == small.numel()


class _Work(TorchDispatchMode):
    """Counts the numbers that PyTorch's operations compute: of a 4K frame each of them takes a third of a step."""

    numbers = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and not func.is_view:
            self.numbers += result.numel()
        return result


def sixteen_bits(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(frame[..., 0].astype(np.uint16) * 257)


def half_transparent(frame: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([frame, np.linspace(0, 255, H * W).reshape(H, W).astype(np.uint8)]))


def palette_with_transparency(frame: np.ndarray) -> Image.Image:
    picture = Image.fromarray(frame).quantize(64)
    picture.info["transparency"] = bytes(range(0, 256, 4))
    return picture


@pytest.mark.parametrize("make", [sixteen_bits, half_transparent, palette_with_transparency])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_picture_is_seen_as_its_file_is_read(
    model: JointFormer, tmp_path: Path, make: Callable[[np.ndarray], Image.Image], flipped: bool
) -> None:
    make(video(1)[0]).save(tmp_path / "frame.png")
    seen = []
    with Image.open(tmp_path / "frame.png") as picture:
        for frame in (picture, read_frame(tmp_path / "frame.png")):
            tracker = EnsembleTracker(model, CONFIG, [View(-1, flipped)])
            tracker.step(frame, box(2, 2))
            seen.append(tracker.step(frame).prob)
    assert torch.equal(*seen)


@pytest.mark.parametrize("dtype", [torch.bool, torch.int64, torch.float32, torch.bfloat16])
def test_masks_may_be_tensors_of_any_type(model: JointFormer, dtype: torch.dtype) -> None:
    given = {1: torch.from_numpy(box(2, 2)).to(dtype)}
    np.testing.assert_array_equal(Tracker(model, CONFIG).step(video(1)[0], given).masks[1], box(2, 2))


@pytest.mark.parametrize(("dtype", "least"), [(np.uint8, 1), (np.int64, 1), (np.float32, 0.51)])
def test_an_object_is_where_integers_are_above_0_and_floats_above_a_half(
    model: JointFormer, dtype: type[np.generic], least: float
) -> None:
    given = {1: np.where(box(2, 2), least, least - 0.5).astype(dtype)}
    np.testing.assert_array_equal(Tracker(model, CONFIG).step(video(1)[0], given).masks[1], box(2, 2))


def test_the_networks_size_has_the_shorter_side_asked_for() -> None:
    assert [network_size(100, 177, 48), network_size(177, 100, 48)] == [(48, 84), (84, 48)]  # of 84.96
    assert [network_size(50, 50, 48), network_size(177, 100, -1)] == [(48, 48), (177, 100)]


def test_a_frame_of_another_size_is_refused_and_nothing_is_lost(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))
    with pytest.raises(DataError, match="frame size changed within the video, expected 56x40, got 30x40"):
        tracker.step(frames[1][:, :30])
    assert tracker.step(frames[1]).ids == (1,)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        (np.zeros((H, W), np.uint8), "the mask has no object"),
        (np.zeros((H, W + 1), np.uint8), "another size than its frame"),
        (np.zeros((H, W), np.float32), "expected a 2-D array of integers"),
        (np.full((H, W), -1, np.int32), "expected ids of 0 and above, got -1"),
        ({0: np.ones((H, W), bool)}, "object id"),
        ({1: np.ones((H, W), bool), "2": np.ones((H, W), bool)}, "object id, expected an integer"),
        ({}, "the mapping has no object"),
        ({3: np.zeros((H, W), bool)}, "new object 3 is empty"),
        ({3: np.full((H, W), 0.5)}, r"new object 3 has no value above 0\.5, expected at least one pixel"),
        ({3: torch.full((H, W), 0.25).bfloat16()}, r"new object 3 has no value above 0\.5"),
        (
            {3: cv2.GaussianBlur(box(2, 2) * np.uint8(255), (9, 9), 0)},
            r"^mask of object 3: an anti-aliased .* matte > 127",
        ),
    ],
)
def test_unusable_masks_are_refused_with_one_line(model: JointFormer, masks: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        Tracker(model, CONFIG).step(video(1)[0], masks)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("masks", [np.zeros((H, W), np.float32), np.full((H, W), -1, np.int32), "first.png"])
def test_a_refused_label_map_is_named_once(model: JointFormer, masks: Any) -> None:
    with pytest.raises(DataError, match=r"^label map: ") as error:
        Tracker(model, CONFIG).step(video(1)[0], masks)
    assert str(error.value).count("label map") == 1


@pytest.mark.parametrize(
    "frame",
    [np.zeros((H, W), np.uint8), np.zeros((H, W, 3)), torch.zeros(H, W, 3), "frame", Image.new("RGB", (0, 0))],
)
def test_things_that_are_no_frames_are_refused(model: JointFormer, frame: Any) -> None:
    with pytest.raises(DataError, match="not a frame"):
        Tracker(model, CONFIG).step(frame, box(2, 2))


@pytest.mark.parametrize(
    ("value", "got"),
    [(float("nan"), "nan to nan"), (float("inf"), "0.5 to inf"), (255.0, "0.5 to 255"), (-9, "-9 to 0.5")],
)
def test_a_tensor_that_is_no_picture_is_refused_before_it_is_remembered(
    model: JointFormer, value: float, got: str
) -> None:
    tracker, frame = Tracker(model, CONFIG), torch.full((3, H, W), 0.5)
    tracker.step(frame, box(2, 2))
    bad = frame.clone()
    bad[1, 3, 4] = value
    with pytest.raises(DataError, match=rf"not a frame, .* in \[0, 1\], got values from {got}"):
        tracker.step(bad)
    with pytest.raises(DataError, match="not a frame"):
        tracker.add_memory(bad, box(2, 2))
    frame[0, 0, :2] = torch.tensor([-0.2, 1.2])  # as a bicubic filter leaves behind
    assert torch.isfinite(tracker.step(frame).prob).all()


@pytest.mark.parametrize(
    "setting",
    [
        {"max_memory_frames": -1},
        {"memory_every": 0},
        {"topk": 0},
        {"topk_range": "some"},
        {"topk_blocks": "all"},
        {"size": 3},
        {"size": 100000},
        {"objects_per_pass": 0},
        {"memory_limit": 0},
        {"topk": True},
        {"token_topk": "N"},
        {"include_last": "false"},
        {"compile": "no"},
    ],
)
def test_settings_out_of_range_are_named(setting: dict[str, Any]) -> None:
    name = next(iter(setting)).replace("topk_blocks", "topk blocks").replace("topk_range", "topk range")
    with pytest.raises(ConfigError, match=name):
        TrackerConfig(**setting)


def test_a_name_in_the_place_of_a_network_is_refused() -> None:
    name: Any = "tiny"
    nothing: Any = None
    for call in (lambda: Tracker(name), lambda: evaluate(name, nothing, "nowhere")):
        with pytest.raises(ConfigError, match=r"^model, expected a network, as load_model returns one, got 'tiny'$"):
            call()


def test_a_name_in_the_place_of_a_dataset_is_refused(model: JointFormer, tmp_path: Path) -> None:
    name: Any = "D17"
    with pytest.raises(ConfigError, match=r"^dataset, expected an opened .*got 'D17'; open it with open_benchmark$"):
        evaluate(model, name, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_mapping_in_the_place_of_settings_is_refused(model: JointFormer, tmp_path: Path) -> None:
    nothing: Any = {}  # which is no wish for the defaults either
    kind: Any
    for kind in ({"size": 240}, nothing, "tiny"):
        got = re.escape(repr(kind))
        said = rf"^config, expected a TrackerConfig, such as TrackerConfig\(size=240\), got {got}$"
        for call in (
            lambda kind=kind: Tracker(model, kind),
            lambda kind=kind: EnsembleTracker(model, kind, [View(-1)]),
            lambda kind=kind: Session(video(1), config=kind, folder=tmp_path / "out"),
            lambda kind=kind: evaluate(model, DATASET, tmp_path / "out", config=kind),
        ):
            with pytest.raises(ConfigError, match=said):
                call()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("argument", "said"),
    [
        ({"views": [480]}, "views, expected a list of View, such as [View(480), View(480, flipped=True)], got 480"),
        ({"views": View(480)}, "views, expected a list of View, got View(size=480, flipped=False)"),
        ({"videos": "bear"}, "videos, expected a list of names, got 'bear'"),
        ({"scale": 4}, "scale, expected a Scale, such as Scale(workers=4), got 4"),
        (
            {"memory_budget": "2GB"},
            "memory_budget, expected a whole number of bytes, such as 2 * 10**9, or None, got '2GB'",
        ),
        (
            {"memory_budget": True},
            "memory_budget, expected a whole number of bytes, such as 2 * 10**9, or None, got True",
        ),
    ],
)
def test_an_argument_of_another_kind_is_one_line_before_anything_is_written(
    model: JointFormer, tmp_path: Path, argument: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError) as error:
        evaluate(model, DATASET, tmp_path / "out", **argument)
    assert str(error.value) == said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("values", [{"size": "480"}, {"size": 3}, {"size": True}, {"size": 480, "flipped": "no"}])
def test_a_view_is_checked_when_it_is_made(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"^{list(values)[-1]}, expected .*, got {list(values.values())[-1]!r}$"):
        View(**values)
    size: Any = np.int64(480)
    assert json.dumps(asdict(View(size))) == '{"size": 480, "flipped": false}'


@pytest.mark.parametrize("name", ["size", "topk", "max_memory_frames"])
def test_a_setting_of_another_kind_is_shown_as_what_it_is(name: str) -> None:
    with pytest.raises(ConfigError, match="got '480'"):
        TrackerConfig(**{name: "480"})  # type: ignore[arg-type]


def test_settings_may_be_integers_of_numpy() -> None:
    numbers: dict[str, Any] = {"max_memory_frames": np.int32(1), "topk": np.int64(60), "size": np.uint16(240)}
    config = TrackerConfig(**numbers)
    assert config == TrackerConfig(max_memory_frames=1, topk=60, size=240)
    assert json.dumps(asdict(config)) == json.dumps(asdict(TrackerConfig(max_memory_frames=1, topk=60, size=240)))
    with pytest.raises(ConfigError, match="size, expected 16 to 8192 pixels"):
        TrackerConfig(**{**numbers, "size": np.int64(3)})


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (KeyboardInterrupt("no more"), KeyboardInterrupt),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB. 1 GiB is free. Else"), NoMemoryError),
        (RuntimeError("no more"), RuntimeError),
    ],
)
def test_a_tracker_whose_step_broke_off_says_so_instead_of_going_on_with_half_of_it(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch, error: BaseException, seen: type[BaseException]
) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))

    def breaks(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(model.convmae.blocks3[-1], "write_last", breaks)
        with pytest.raises(seen, match=r"^no more$|^no memory left on the GPU, got .* 1 GiB is free; fewer objects at"):
            tracker.step(frames[1])
    for call in (
        lambda: tracker.step(frames[1]),
        lambda: tracker.add_memory(frames[1], box(2, 2)),
        lambda: tracker.remove_object(1),
    ):
        with pytest.raises(UserError, match=r"broke off.*use a new Tracker"):
            call()


def test_a_tracker_called_from_a_second_thread_within_a_step_says_so(
    model: JointFormer, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(2)
    tracker.step(frames[0], box(2, 2))
    said: list[str] = []
    step = tracker._engine.step

    def slow(*args: Any, **kwargs: Any) -> torch.Tensor:
        with pytest.raises(UserError) as error:
            tracker.step(frames[1])
        said.append(str(error.value))
        return step(*args, **kwargs)

    monkeypatch.setattr(tracker._engine, "step", slow)
    tracker.step(frames[1])
    assert "another thread is within one" in said[0]


@pytest.mark.parametrize("masks", [[None, None], [{1: box(2, 2)}, None], [{1: box(2, 2)}, {7: box(20, 30)}]])
def test_a_tracker_whose_video_was_ended_says_so(model: JointFormer, masks: list[dict[int, np.ndarray] | None]) -> None:
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], masks[0])
    with pytest.raises(DataError):  # what is refused does not end it
        tracker.step(frames[1], {9: np.zeros((H, W), bool)}, last=True)
    tracker.step(frames[1], masks[1], last=True)
    for call in (
        lambda: tracker.step(frames[2]),
        lambda: tracker.step(frames[2], {8: box(20, 2)}),
        lambda: tracker.add_memory(frames[1], box(2, 2)),
        lambda: tracker.remove_object(1),
    ):
        with pytest.raises(UserError, match=r"ended.*last=True.*use a new Tracker"):
            call()


def test_bad_input_leaves_a_tracker_as_it_was(model: JointFormer) -> None:
    expected = run(model, {0: {1: box(2, 2)}}, frames=3)
    tracker = Tracker(model, CONFIG)
    frames = video(3)
    tracker.step(frames[0], box(2, 2))
    for frame, masks in ((frames[1][:-1], None), (frames[1], {2: np.zeros((H, W), bool)}), (frames[1], box(2, 2)[:-1])):
        with pytest.raises(DataError):
            tracker.step(frame, masks)
    damaged = io.BytesIO()
    Image.fromarray(frames[1]).save(damaged, "JPEG")
    with pytest.raises(OSError, match="truncated"):  # Pillow decodes a picture when it is used
        tracker.step(Image.open(io.BytesIO(damaged.getvalue()[:-200])))
    assert torch.equal(tracker.step(frames[1]).prob, expected[1].prob)
    assert torch.equal(tracker.step(frames[2]).prob, expected[2].prob)
