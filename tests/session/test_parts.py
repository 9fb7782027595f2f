"""The parts of a session by themselves: run lengths, plans, the frame cache, confidence."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from jointformer.data.video_file import VideoFile
from jointformer.data.video_writer import VideoWriter, h264
from jointformer.errors import DataError
from jointformer.session.confidence import Trust, combined, soft_jaccard, steadiness
from jointformer.session.packing import SoftMaps, pack_mask, unpack_mask
from jointformer.session.plan import BACKWARD, FORWARD, JOINED, Direction, Known, distance_weight, make_plan
from jointformer.session.source import ArrayVideo, FrameCache, as_video
from jointformer.types import UInt8Array

SIZES = st.tuples(st.integers(1, 40), st.integers(1, 40))


@settings(max_examples=60, deadline=None)
@given(SIZES, st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_masks_survive_run_lengths(size: tuple[int, int], share: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random(size) < share
    counts = pack_mask(mask)
    assert np.array_equal(unpack_mask(counts, size), mask)


def test_large_masks_survive_run_lengths() -> None:
    y, x = np.mgrid[:1080, :1920]
    mask = (x - 900) ** 2 + (y - 500) ** 2 < 450**2
    assert np.array_equal(unpack_mask(pack_mask(mask), mask.shape), mask)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=60), SIZES)
def test_strange_bytes_are_a_mask_or_one_line(data: bytes, size: tuple[int, int]) -> None:
    try:
        mask = unpack_mask(data, size)
    except DataError:
        return
    assert mask.shape == size


def test_run_lengths_are_cocos() -> None:
    mask = np.zeros((20, 30), bool)
    mask[3:9, 5:17] = True
    assert pack_mask(mask) == coco.encode(np.asfortranarray(mask, np.uint8))["counts"]


def test_soft_maps_survive_packing_and_nothing_else_does() -> None:
    maps = SoftMaps((3, 900), np.random.default_rng(0).integers(0, 255, (2, 7, 5), np.uint8))
    packed = maps.pack()
    again = SoftMaps.unpack(packed, 2)
    assert again.ids == maps.ids
    assert np.array_equal(again.maps, maps.maps)
    bomb = struct.pack("<HHI", 16000, 16000, 1)
    for data in (
        b"",
        packed[:9],
        packed[:-3],
        b"\xff" * 30,
        bomb + packed[8:],
        packed[:2] + b"\x01\x00" + packed[4:],
    ):
        with pytest.raises(DataError, match="damaged probabilities"):
            SoftMaps.unpack(data, 10)
    with pytest.raises(DataError, match="damaged probabilities"):
        SoftMaps.unpack(packed, 1)


@pytest.mark.parametrize("shape", [(1, 16, 20_000), (2, 65_535, 1)])
def test_soft_maps_of_long_strips_survive_packing(shape: tuple[int, int, int]) -> None:
    maps = SoftMaps(tuple(range(shape[0])), np.full(shape, 7, np.uint8))
    assert SoftMaps.unpack(maps.pack(), 2).maps.shape == shape


def known(*drawn: int, done: dict[int, int] | None = None, length: int = 20) -> Known:
    sides = np.zeros(length, np.uint8)
    for frame, bits in (done or {}).items():
        sides[frame] = bits
    return Known(tuple(drawn), sides)


def test_open_ends_follow_the_direction_and_gaps_are_joined() -> None:
    plan = make_plan({1: known(5, 10)}, 20, None, None, "forward", again=False)
    assert plan.needs[1].tolist() == [0] * 6 + [JOINED] * 4 + [0] + [FORWARD] * 9
    plan = make_plan({1: known(5, 10)}, 20, None, None, "backward", again=False)
    assert plan.needs[1].tolist() == [BACKWARD] * 5 + [0] + [JOINED] * 4 + [0] * 10


def test_only_what_is_missing_is_planned() -> None:
    done = dict.fromkeys(range(6, 10), JOINED) | dict.fromkeys(range(11, 15), FORWARD)
    plan = make_plan({1: known(5, 10, done=done)}, 20, None, None, "forward", again=False)
    assert plan.blocks == ((15, 19),)
    assert plan.steps() == 5


@pytest.mark.parametrize(
    ("renewed", "blocks"), [({}, ((6, 9), (11, 19))), ({6: JOINED, 9: FORWARD}, ((7, 9), (11, 19)))]
)
def test_again_everything_is_planned_but_what_was_renewed(
    renewed: dict[int, int], blocks: tuple[tuple[int, int], ...]
) -> None:
    done = dict.fromkeys(range(6, 10), JOINED) | dict.fromkeys(range(11, 20), FORWARD)
    object_ = replace(known(5, 10, done=done), renewed=known(done=renewed).done)
    assert make_plan({1: object_}, 20, None, None, "forward", again=True).blocks == blocks
    assert make_plan({1: object_}, 20, None, None, "forward", again=False).blocks == ()


def test_one_sided_results_between_two_masks_are_joined_later() -> None:
    done = dict.fromkeys(range(6, 10), FORWARD)
    plan = make_plan({1: known(5, 10, done=done)}, 20, 5, 10, "forward", again=False)
    assert plan.blocks == ((6, 9),)
    assert plan.steps() == 8


def test_a_range_is_a_video_of_its_own() -> None:
    """A mask behind the range's end is not waited for: the frames before it are tracked from one side."""
    plan = make_plan({1: known(0, 15)}, 20, 0, 6, "forward", again=False)
    assert plan.needs[1].tolist() == [0] + [FORWARD] * 6 + [0] * 13


@pytest.mark.parametrize(
    ("drawn", "bit", "done", "start", "end", "direction"),
    [
        ((0, 15), FORWARD, range(1, 7), 0, 6, "forward"),
        ((0, 15), FORWARD, range(1, 7), 0, 6, "both"),
        ((4, 19), BACKWARD, range(12, 19), 12, 19, "backward"),
        ((4, 19), BACKWARD, range(12, 19), 12, 19, "both"),
    ],
)
def test_a_result_at_a_ranges_end_stands_in_for_the_side_it_comes_from_and_no_other(
    drawn: tuple[int, ...], bit: int, done: range, start: int, end: int, direction: Direction
) -> None:
    """Else the range is never up to date, and its frames are called joined with a mask that none of them has seen."""
    objects = {1: known(*drawn, done=dict.fromkeys(done, bit))}
    assert make_plan(objects, 20, start, end, direction, again=False).blocks == ()
    whole = make_plan(objects, 20, None, None, "both", again=False)
    assert all(whole.needs[1][frame] == JOINED for frame in done)


@pytest.mark.parametrize(
    ("objects", "direction", "start", "end", "blocks"),
    [
        ({1: known(0, 5)}, "forward", 8, 10, ((6, 10),)),  # from the nearest mask, not from the first
        ({1: known(10, 15)}, "backward", 3, 5, ((3, 9),)),
        ({1: known(0, 5)}, "forward", 3, 10, ((1, 4), (6, 10))),  # a mask inside is no beginning for frames before it
        ({1: known(12, 19)}, "backward", 10, 15, ((10, 11), (13, 18))),
        ({1: known(0, 5)}, "both", 3, 10, ((3, 4), (6, 10))),
        ({1: known(0, done=dict.fromkeys(range(1, 10), FORWARD))}, "forward", 8, 12, ((9, 12),)),  # 8 stands in for 0
        ({1: known(19, done=dict.fromkeys(range(10, 19), BACKWARD))}, "backward", 8, 12, ((8, 11),)),
        ({1: known(0, 15)}, "backward", 3, 5, ((3, 14),)),
        ({1: known(3)}, "both", 3, 6, ((4, 6),)),  # masks at the range's own ends are masks inside
        ({1: known(6)}, "both", 3, 6, ((3, 5),)),
        (
            {1: known(0, done=dict.fromkeys(range(1, 10), FORWARD)), 2: known(1, done=dict.fromkeys(range(2, 13), 1))},
            "both",
            8,
            12,
            ((9, 12),),
        ),
        (
            {
                1: known(19, done=dict.fromkeys(range(10, 19), BACKWARD)),
                2: known(18, done=dict.fromkeys(range(8, 18), 2)),
            },
            "both",
            8,
            12,
            ((8, 11),),
        ),
        # what stands in for one object's mask does not for another's
        ({1: known(0, done=dict.fromkeys(range(1, 10), FORWARD)), 2: known(1)}, "both", 8, 12, ((2, 12),)),
        ({1: known(19, done=dict.fromkeys(range(10, 19), BACKWARD)), 2: known(18)}, "both", 8, 12, ((8, 17),)),
        ({1: known(0, done=dict.fromkeys(range(1, 10), FORWARD)), 2: known(5)}, "forward", 8, 12, ((6, 12),)),
        ({1: known(0, done=dict.fromkeys(range(1, 10), FORWARD)), 2: known(14)}, "forward", 8, 12, ((9, 12),)),
    ],
)
def test_a_range_begins_at_the_nearest_mask_or_at_a_result_that_stands_in_for_it(
    objects: dict[int, Known], direction: Direction, start: int, end: int, blocks: tuple[tuple[int, int], ...]
) -> None:
    assert make_plan(objects, 20, start, end, direction, again=True).blocks == blocks


def test_a_frames_objects_are_those_that_need_it_from_that_side() -> None:
    plan = make_plan({1: known(0), 2: known(0, 10), 3: known(12)}, 20, None, None, "forward", again=False)
    assert [plan.ids(5), plan.ids(5, FORWARD), plan.ids(5, BACKWARD), plan.pair(5)] == [[1, 2], [1, 2], [2], {2}]
    assert [plan.ids(10), plan.ids(15), plan.pair(15)] == [[1], [1, 2, 3], set()]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.integers(0, 19), min_size=1, max_size=4, unique=True),
    st.lists(st.integers(0, 19), max_size=3, unique=True),
    st.sampled_from(["forward", "backward", "both"]),
)
def test_every_piece_begins_beside_a_frame_whose_masks_are_known(
    first: list[int], second: list[int], direction: Direction
) -> None:
    objects = {1: known(*sorted(first)), 2: known(*sorted(second))}
    plan = make_plan(objects, 20, None, None, direction, again=False)
    drawn = set(first) | set(second)
    for block in plan.blocks:
        for bit, step in ((FORWARD, -1), (BACKWARD, 1)):
            for piece in plan.pieces(block, bit):
                edge = (piece[0] if bit == FORWARD else piece[-1]) + step
                assert edge in drawn
    for i, k in objects.items():
        assert all(plan.needs[i][f] == 0 for f in k.drawn)


def test_weights_fall_with_the_distance() -> None:
    assert [distance_weight((0, 10), t) for t in (1, 5, 9)] == [0.9, 0.5, 0.1]
    assert [distance_weight((0, 10, 14, 18), t) for t in (11, 13, 15)] == [0.75, 0.25, 0.75]
    assert distance_weight((0,), 5) == distance_weight((9,), 5) == 0.5


class Counting(ArrayVideo):
    decoded = 0

    def iter_frames(self, start: int = 0, end: int | None = None) -> Iterator[UInt8Array]:
        for frame in super().iter_frames(start, end):
            self.decoded += 1
            yield frame


def grey(frame: UInt8Array | DataError) -> int:
    assert not isinstance(frame, DataError)
    return int(frame[0, 0, 0])


def test_going_backwards_decodes_every_frame_once_within_the_budget() -> None:
    clip = np.arange(40, dtype=np.uint8)[:, None, None, None] * np.ones((1, 4, 4, 3), np.uint8)
    video = Counting(clip)
    cache = FrameCache(video, budget=4 * 4 * 3 * 10)
    seen = [(t, grey(frame)) for t, frame in cache.iter(range(30, 2, -1))]
    assert seen == [(t, t) for t in range(30, 2, -1)]
    assert video.decoded == 28
    assert [grey(frame) for _, frame in cache.iter(range(3, 6))] == [3, 4, 5]
    for t in range(40):
        assert cache[t][0, 0, 0] == t
    assert len(cache._kept) <= 10
    with pytest.raises(ValueError, match="read-only"):
        cache[3][0] = 1
    clip[0] = 1  # the caller's own frames stay writable


def test_steps_back_in_a_video_file_are_decoded_together_and_a_damaged_frame_stops_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, begun = tmp_path / "grey.mp4", list[int]()
    with VideoWriter(path, Fraction(24), (16, 16), codec=h264(12)) as writer:
        for t in range(40):
            writer.write(np.full((16, 16, 3), 6 * t, np.uint8))
    video, decode, frame = VideoFile(path), VideoFile._decode, VideoFile.frame

    def damaged(self: VideoFile, index: int) -> UInt8Array:
        if index == 33:
            raise DataError("frame 33 cannot be decoded")
        return frame(self, index)

    def noted(self: VideoFile, start: int) -> Iterator[tuple[int, UInt8Array | DataError]]:
        begun.append(start)
        return decode(self, start)

    monkeypatch.setattr(VideoFile, "_decode", noted)
    monkeypatch.setattr(VideoFile, "frame", damaged)
    cache = FrameCache(video)
    for t in (39, *range(38, 33, -1)):
        assert abs(int(cache[t].mean()) - 6 * t) < 4
    with pytest.raises(DataError, match="frame 33"):
        cache[33]
    for t in range(32, 26, -1):
        assert abs(int(cache[t].mean()) - 6 * t) < 4
    assert begun == [39, 27]
    with ThreadPoolExecutor(8) as pool:  # as a page that plays asks ahead
        ahead = list(pool.map(lambda t: int(cache[t].mean()), range(20)))
    assert np.abs(np.subtract(ahead, np.arange(0, 120, 6))).max() < 4


@pytest.mark.parametrize("kind", [list, deque])
def test_a_sequence_of_frames_is_a_video_whatever_becomes_of_it_later(kind: Callable[..., Any]) -> None:
    frames = kind(np.full((4, 4, 3), t, np.uint8) for t in range(3))
    video = as_video(frames)
    frames.extend(np.zeros((2, 8, 8, 3), np.uint8))
    frames.reverse()
    assert [int(frame[0, 0, 0]) for frame in video.iter_frames()] == [0, 1, 2]
    assert len(video) == 3


@pytest.mark.parametrize("thing", [torch.zeros(2, 4, 4, 3, dtype=torch.uint8), iter(()), None])
def test_what_is_no_video_is_refused_in_one_line(thing: Any) -> None:
    with pytest.raises(DataError, match=f"not a video, expected .*, got {type(thing).__name__}$"):
        as_video(thing)


def test_confidence_is_the_expected_jaccard() -> None:
    prob = torch.zeros(3, 8, 8)
    prob[1, :4], prob[2, 4:, :2] = 0.9, 0.6
    prob[0] = 1 - prob[1:].sum(0)
    confidence, shares = soft_jaccard(prob)
    assert confidence == pytest.approx([0.9, 0.6])
    assert shares == pytest.approx([0.5, 0.125])
    doubtful = prob.clone()
    doubtful[1, 6:, 4:] = 0.3
    assert soft_jaccard(doubtful)[0][0] < 0.9


def test_an_absent_object_is_never_sure() -> None:
    prob = torch.zeros(2, 4, 4)
    prob[0], prob[1] = 0.98, 0.02
    assert soft_jaccard(prob)[0] == pytest.approx([0.49])
    prob[0, 1, 2], prob[1, 1, 2] = 0.6, 0.4  # it may be there
    assert soft_jaccard(prob)[0] == pytest.approx([0.3])
    assert soft_jaccard(prob[:1]) == ([], [])


def test_a_changed_area_and_doubtful_predecessors_lower_the_confidence() -> None:
    assert steadiness(0.1, 0.1) == steadiness(0.0, 0.0) == 1
    assert steadiness(0.1, 0.4) == steadiness(0.4, 0.1) == pytest.approx(0.5)
    assert steadiness(0.0, 0.4) == 0
    trust = Trust(0.1)
    assert trust.update(0.9, 0.1) == pytest.approx(0.9)
    assert trust.level == pytest.approx(0.99)
    assert combined(trust.update(0.8, 0.4), trust.level) == pytest.approx((0.4 * trust.level) ** 0.5)
    for _ in range(100):
        trust.update(0.6, 0.1)
    assert trust.level == pytest.approx(0.6, abs=1e-3)


def test_probabilities_that_are_no_numbers_are_no_certainty() -> None:
    prob = torch.full((2, 4, 6), torch.nan)
    assert soft_jaccard(prob)[0] == [0.0]
