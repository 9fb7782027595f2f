"""The benchmarks' json files, as they are and as nobody would want them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from jointformer.data.burst import burst_frames
from jointformer.data.metas import is_plain_name, listed_frames, lvos_frames, youtube_objects
from jointformer.errors import DataError

Reader = Callable[[Path], dict[str, list[str]]]

_LEAF = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8)
_ANY = st.recursive(_LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner))
_KEYS = st.sampled_from(
    [
        "videos",
        "objects",
        "frames",
        "frame_range",
        "start",
        "end",
        "sequences",
        "dataset",
        "seq_name",
        "annotated_image_paths",
        "height",
        "width",
        "segmentations",
        "a",
        "../b",
    ]
)
_LIKELY = st.recursive(_LEAF, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner), max_leaves=30)


def youtube_frames(path: Path) -> dict[str, list[str]]:
    return listed_frames(youtube_objects(path))


def test_the_frames_of_all_objects_are_saved_once(tmp_path: Path) -> None:
    objects = {"1": {"frames": ["00005", "00000"]}, "2": {"frames": ["00005", "00010"]}}
    path = _write(tmp_path, {"videos": {"v": {"objects": objects}, "w": {"objects": {}}}})
    assert youtube_frames(path) == {"v": ["00000", "00005", "00010"], "w": []}


def test_lvos_counts_by_five_from_the_smallest_to_the_largest_number(tmp_path: Path) -> None:
    objects = {"1": {"frame_range": {"start": "11", "end": "21"}}, "4": {"frame_range": {"start": 6, "end": 16}}}
    path = _write(tmp_path, {"videos": {"v": {"objects": objects}}})
    assert lvos_frames(path) == {"v": ["00000006", "00000011", "00000016", "00000021"]}


def test_burst_names_frames_without_their_suffix(tmp_path: Path) -> None:
    sequence = {"dataset": "HACS", "seq_name": "a.b_c", "height": 4, "width": 6, "segmentations": [{}, {}]}
    sequence["annotated_image_paths"] = ["frame0001.jpg", "x/frame.2.png"]
    path = _write(tmp_path, {"sequences": [sequence]})
    assert burst_frames(path) == {"HACS_-_a.b_c": ["frame0001", "frame.2"]}
    sequence["annotated_image_paths"] = ["x/.."]
    with pytest.raises(DataError, match=r"with something that is not a file name: 'x/\.\.'"):
        burst_frames(_write(tmp_path, {"sequences": [sequence]}))


def _lvos(*numbers: object) -> dict[str, object]:
    """LVOS's json of a video whose objects are seen from and to these numbers."""
    objects = {str(k): {"frame_range": {"start": number, "end": number}} for k, number in enumerate(numbers)}
    return {"videos": {"v": {"objects": objects}}}


def test_lvos_stops_at_the_last_number(tmp_path: Path) -> None:
    assert lvos_frames(_write(tmp_path, _lvos(6, "20"))) == {"v": ["00000006", "00000011", "00000016"]}
    assert lvos_frames(_write(tmp_path, _lvos(99_999_999))) == {"v": ["99999999"]}
    assert lvos_frames(_write(tmp_path, _lvos(0))) == {"v": ["00000000"]}
    assert len(lvos_frames(_write(tmp_path, _lvos(0, 5_400_000)))["v"]) == 1_080_001


_BURST = {"dataset": "HACS", "seq_name": "a", "height": 4, "width": 6, "segmentations": [{}]}


@pytest.mark.parametrize(
    ("reader", "value", "said"),
    [
        (lvos_frames, _lvos(), "videos.v has no objects"),
        (lvos_frames, _lvos(0, 5_400_001), "videos.v spans 5400001 frames"),
        (lvos_frames, _lvos(100_000_000), "videos.v.objects.0.frame_range.start is no frame number"),
        (lvos_frames, _lvos(-1), "is no frame number, expected 0..99999999, got -1"),
        (lvos_frames, _lvos(True), "is no frame number, expected 0..99999999, got True"),
        (lvos_frames, _lvos("0" * 20), "is no frame number"),
        (lvos_frames, _lvos("x" * 999), "got 'xxx"),
        (
            burst_frames,
            {"sequences": [_BURST | {"annotated_image_paths": [5]}]},
            "sequence 0 has annotated_image_paths with something that is not a file name: 5",
        ),
    ],
)
def test_what_is_wrong_in_a_json_is_one_short_line(tmp_path: Path, reader: Reader, value: object, said: str) -> None:
    path = _write(tmp_path, value)
    with pytest.raises(DataError) as error:
        reader(path)
    assert said in str(error.value)
    assert len(str(error.value)) < len(str(path)) + 160


def test_a_json_that_is_not_there_or_a_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"meta\.json: no such file$"):
        youtube_frames(tmp_path / "meta.json")
    with pytest.raises(DataError, match=f"{tmp_path.name}: the file cannot be read: [a-zA-Z ]+$"):
        youtube_frames(tmp_path)


@pytest.mark.parametrize("reader", [youtube_frames, lvos_frames, burst_frames])
@given(value=_ANY | _LIKELY)
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_json_gives_names_inside_the_folder_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, reader: Reader, value: object
) -> None:
    path = _write(tmp_path_factory.mktemp("fuzz"), value)
    with suppress(DataError):
        for video, frames in reader(path).items():
            assert is_plain_name(video)
            assert all(map(is_plain_name, frames))


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a\0b"])
def test_names_that_leave_their_folder_are_refused(name: str) -> None:
    assert not is_plain_name(name)


def _write(folder: Path, value: object) -> Path:
    path = folder / "meta.json"
    path.write_text(json.dumps(value))
    return path
