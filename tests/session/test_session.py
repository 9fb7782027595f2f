"""What a session promises to the person who corrects."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from jointformer.data.masks import write_mask
from jointformer.errors import ConfigError, DataError, WeightsError
from jointformer.session import ObjectInfo, Session
from jointformer.session.exporting import SessionSource
from jointformer.session.plan import Direction
from jointformer.session.result import STATUSES
from jointformer.track import TrackerConfig
from jointformer.track.frames import FrameLike, MasksLike
from jointformer.track.segmentation import Segmentation
from session.scripted import (
    SIDE,
    H,
    ScriptedSession,
    SquareTracker,
    W,
    damaged_video,
    number_of,
    position,
    square,
    video,
)

PICTURES: Any = [Image.new("RGB", (W, H))]  # of another kind than a session takes


def track(session: Session, *args: Any, **kwargs: Any) -> list[int]:
    return [frame for frame, _ in session.propagate(*args, **kwargs)]


def bytes_of(session: Session, frames: Iterable[int]) -> list[bytes]:
    return [session.result(t).label_map.tobytes() + repr(session.confidence(t)).encode() for t in frames]


def test_masks_are_tracked_from_the_frame_where_they_are_given(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    assert track(session) == list(range(1, 30))
    for t in range(30):
        assert np.array_equal(session.result(t).masks[1], square(t))
    assert session.status(0) == "annotated"
    assert session.status(29) == "tracked"


@pytest.mark.parametrize(
    ("direction", "first", "before", "held"), [("forward", 0, 9, [1, 1]), ("backward", 29, 12, [2])]
)
def test_damaged_frames_have_the_masks_of_the_one_before_and_a_run_goes_on_behind_them(
    direction: Direction,
    first: int,
    before: int,
    held: list[int],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ScriptedSession(damaged_video(tmp_path / "film", 10, 11)) as session:
        session.add_masks(first, {1: square(first)})
        run = session.propagate(direction=direction)
        assert 10 in (frame for frame, _ in run)
        run.close()  # the next run begins beside a frame that it cannot read
        track(session, direction=direction)
        for t in range(30):
            assert np.array_equal(session.result(t).masks[1], square(before if t in (10, 11) else t))
    said = "film: {} frames could not be read: each has the masks of the frame beside it"
    assert caplog.messages == [said.format(count) for count in held]


def test_a_damaged_frame_that_is_tracked_from_both_sides_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with ScriptedSession(damaged_video(tmp_path / "film", 10)) as session:
        session.add_masks(0, {1: square(0)})
        session.add_masks(20, {1: square(20)})
        assert set(track(session)) == {*range(1, 20), *range(21, 30)}
    assert [message.partition(" could")[0] for message in caplog.messages] == ["film: 1 frames"]


def test_a_damaged_frame_with_a_mask_of_the_users_is_not_tracked(tmp_path: Path) -> None:
    with ScriptedSession(damaged_video(tmp_path / "film", 10)) as session:
        session.add_masks(0, {1: square(0)})
        session.add_masks(10, {1: square(10)})
        with pytest.raises(DataError, match=r"10\.png"):
            track(session)


def test_one_corrected_frame_mends_the_following_frames_and_leaves_the_rest_byte_equal(
    session: Session,
) -> None:
    """The planted failure: at frame 12 the tracker jumps to the double; the correction is given at 14."""
    SquareTracker.lost = {12}
    session.add_masks(0, {1: square(0)})
    session.add_masks(25, {1: square(25)})
    session.add_masks(8, {1: square(8)})
    track(session)
    wrong = [t for t in range(30) if not np.array_equal(session.result(t).masks[1], square(t))]
    assert wrong
    assert set(wrong) <= set(range(9, 25))
    before = bytes_of(session, range(30))
    session.add_masks(14, {1: square(14)})
    assert [t for t in range(30) if session.status(t) == "stale"] == [*range(9, 14), *range(15, 25)]
    SquareTracker.calls = []
    seen = track(session)
    assert set(seen) == {*range(9, 14), *range(15, 25)}
    after = bytes_of(session, range(30))
    untouched = [*range(9), *range(25, 30)]
    assert [before[t] for t in untouched] == [after[t] for t in untouched]
    for t in range(14, 30):
        assert np.array_equal(session.result(t).masks[1], square(t))


def test_a_correction_at_the_open_end_mends_everything_behind_it(session: Session) -> None:
    SquareTracker.lost = {12}
    session.add_masks(0, {1: square(0)})
    track(session)
    frame = session.next_frame_to_fix()
    assert frame is not None
    assert frame >= 12
    assert session.confidence(11)[1] > 0.9 > session.confidence(12)[1] > session.confidence(20)[1]
    session.add_masks(13, {1: square(13)})
    track(session)
    assert all(np.array_equal(session.result(t).masks[1], square(t)) for t in range(13, 30))


def test_frames_between_two_annotated_ones_are_joined_from_both_sides_alike_in_either_direction(
    session: Session,
) -> None:
    """The tracker is lost at 11, whichever way it comes: on either side of it the nearer, surer side wins."""
    SquareTracker.lost = {11}
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    there, back = [*range(1, 20)], [*range(19, 0, -1)]
    assert track(session, end=20) == [*back, *there]
    assert [t for t in range(21) if not np.array_equal(session.result(t).masks[1], square(t))] == [11]
    forward = [(session.result(t).label_map.tolist(), session.confidence(t)[1]) for t in there]
    assert track(session, end=20, direction="backward", again=True) == [*there, *back]
    for t, (label_map, confidence) in zip(there, forward):
        assert session.result(t).label_map.tolist() == label_map
        assert session.confidence(t)[1] == pytest.approx(confidence, abs=0.02)


def test_the_timeline_says_of_every_frame_what_its_status_and_confidence_say(session: Session) -> None:
    seen = set()

    def compare() -> None:
        status, confidence = session.timeline()
        for t in range(30):
            assert STATUSES[status[t]] == session.status(t) == session.result(t).status
            drawn = session.result(t).drawn
            results = session._book.results(t)
            old = {i for i, result in results.items() if session._book.is_stale(t, i, result.edit)}
            old = old if session.status(t) == "annotated" else set()  # among masks of the user's these do not count
            tracked = [c for i, c in session.confidence(t).items() if i not in drawn | old]
            assert np.isnan(confidence[t]) if not tracked else confidence[t] == pytest.approx(min(tracked))
            seen.add(session.status(t))

    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    list(session.propagate(end=8))
    compare()
    session.add_masks(20, {1: square(20)})
    compare()
    run = session.propagate()
    for _ in range(4):  # of the first of two sides
        next(run)
    run.close()
    compare()
    list(session.propagate())
    session.add_masks(24, {2: square(24, 14)})
    compare()
    list(session.propagate())
    session.add_masks(26, {3: square(26, 9)})
    compare()
    assert seen == set(STATUSES) - {"held"}


def test_frames_without_a_result_of_an_object_that_was_drawn_earlier_are_partial(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    list(session.propagate())
    session.add_masks(10, {2: square(10, 14)})
    assert [session.status(t) for t in (9, 10, 11, 29)] == ["tracked", "annotated", "partial", "partial"]
    list(session.propagate())
    assert session.status(29) == "tracked"


def test_the_next_frame_to_fix_may_be_one_where_another_object_is_drawn(session: Session) -> None:
    SquareTracker.lost = {12}
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    list(session.propagate())
    frame = session.next_frame_to_fix()
    assert frame is not None
    session.add_masks(frame, {2: square(frame, 14)})
    assert session.status(frame) == "annotated"
    assert session.next_frame_to_fix() == frame
    session.add_masks(frame, {1: square(frame)})
    assert session.next_frame_to_fix() != frame


def test_held_frames_are_not_sure_and_are_tracked_again_when_they_can_be_read(tmp_path: Path) -> None:
    film = damaged_video(tmp_path / "film", 10, 11)
    with ScriptedSession(film, folder=tmp_path / "kept") as session:
        session.add_masks(0, {1: square(0)})
        list(session.propagate())
        status, lowest = session.timeline()
        assert [STATUSES[status[t]] for t in (9, 10, 11, 12)] == ["tracked", "held", "held", "tracked"]
        assert session.status(10) == session.result(10).status == "held"
        assert session.confidence(10) == {1: 0.0}
        assert np.isnan(lowest[10])
        assert session.next_frame_to_fix() not in (10, 11)
        assert not session.plan().steps()  # trying again would help nobody
        shutil.copy(film / "09.png", film / "10.png")
    with ScriptedSession.load(tmp_path / "kept") as session:
        assert session.plan().steps() == 2
        assert track(session) == [10, 11]
        assert [session.status(t) for t in (10, 11)] == ["tracked", "held"]


def test_a_run_ends_where_the_video_is_gone(tmp_path: Path) -> None:
    film = damaged_video(tmp_path / "film")
    with ScriptedSession(film) as session:
        session.add_masks(0, {1: square(0)})
        run = session.propagate()
        assert [next(run)[0] for _ in range(3)] == [1, 2, 3]
        film.rename(tmp_path / "elsewhere")
        with pytest.raises(DataError, match=r"film.0\d\.png"):
            list(run)
        assert session.status(29) == "none"


def test_clearing_one_objects_mask_leaves_the_others_and_is_undone_alone(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    session.clear_masks(0, 1)
    assert session.result(0).drawn == {2}
    assert np.array_equal(session.result(0).masks[2], square(0, 14))
    with pytest.raises(DataError, match="no mask of the user's in frame 0"):
        session.clear_masks(0, 1)
    assert session.undo() == "clear"
    assert session.result(0).drawn == {1, 2}
    session.clear_masks(0)
    assert session.annotated_frames == ()


@pytest.mark.parametrize("how", ["edit", "undo"])
def test_what_an_interrupted_join_has_seen_is_forgotten_with_the_mask_that_it_came_from(
    session: Session, how: str
) -> None:
    session.add_masks(0, {1: square(0)})
    for top in (14, 4) if how == "undo" else (4,):
        session.add_masks(20, {1: square(20, top)})
    run = session.propagate()
    for _ in range(4):  # frames 19 to 16, seen from frame 20 alone
        next(run)
    run.close()
    if how == "edit":
        session.add_masks(20, {1: square(20, 14)})
    else:
        assert [session.undo(), session.undo()] == ["track", "masks"]
    list(session.propagate())
    with ScriptedSession(video()) as anew:
        anew.add_masks(0, {1: square(0)})
        anew.add_masks(20, {1: square(20, 14)})
        list(anew.propagate())
        assert bytes_of(session, range(30)) == bytes_of(anew, range(30))


def test_a_corrected_object_is_held_against_its_correction_while_others_are_tracked_on(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 18)})
    session.add_masks(10, {1: square(10, 0) | square(10, 6)})  # twice as large
    list(session.propagate())
    assert session.confidence(12)[1] > 0.9
    assert session.confidence(8)[1] < session.confidence(2)[1]


def test_confidence_in_a_mask_from_one_side_is_the_same_beside_an_object_from_the_other(session: Session) -> None:
    SquareTracker.lost = {15}
    session.add_masks(28, {2: square(28)})
    track(session, direction="both")
    alone = [session.confidence(t)[2] for t in range(1, 28)]
    assert min(alone) < 0.8 < max(alone)
    session.undo()
    session.add_masks(0, {1: np.roll(square(0, 14), 30, axis=1)})
    track(session, direction="both")
    assert [session.confidence(t)[2] for t in range(1, 28)] == pytest.approx(alone)


def test_an_object_with_an_empty_mask_is_never_called_sure(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    session.add_masks(10, {3: np.ones((H, W), bool)})  # covers the others there
    session.add_masks(0, {2: np.zeros((H, W), bool)})
    track(session)
    for t, ids in ((5, [2]), (10, [1, 2]), (20, [2])):
        for i in ids:
            assert not session.result(t).masks[i].any()
            assert session.confidence(t)[i] <= 0.5


def test_a_single_frame_between_two_masks_is_joined(session: Session) -> None:
    session.add_masks(4, {1: square(4)})
    session.add_masks(6, {1: square(6)})
    assert track(session, 4, 6) == [5, 5]
    assert np.array_equal(session.result(5).masks[1], square(5))


def test_joined_results_stay_until_both_sides_have_seen_the_frame_again(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    track(session, end=20)
    before = bytes_of(session, range(21))
    SquareTracker.lost = {12}
    run = session.propagate(end=20, again=True)
    assert [next(run)[0] for _ in range(19)][-1] == 1  # seen from one side
    run.close()
    assert bytes_of(session, range(21)) == before
    track(session, end=20, again=True)
    assert bytes_of(session, range(21)) != before


def test_tracking_again_replaces_results_on_both_sides_of_a_mask(session: Session) -> None:
    SquareTracker.lost = {5, 15}
    session.add_masks(10, {1: square(10)})
    track(session, direction="both")
    assert not np.array_equal(session.result(2).masks[1], square(2))
    SquareTracker.lost = set()
    track(session, direction="both", again=True)
    assert all(np.array_equal(session.result(t).masks[1], square(t)) for t in range(30))


def test_the_users_mask_is_never_overwritten(session: Session) -> None:
    drawn = square(7, 14)
    session.add_masks(0, {1: square(0)})
    session.add_masks(7, {1: drawn})
    track(session)
    track(session, again=True, direction="both")
    assert np.array_equal(session.result(7).masks[1], drawn)
    assert session.confidence(7) == {1: 1.0}


def test_a_tracked_object_never_covers_what_the_user_drew(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(10, {2: square(10)})
    track(session)
    assert np.array_equal(session.result(10).masks[2], square(10))
    assert not session.result(10).masks[1].any()


def test_an_object_drawn_later_in_the_video_joins_the_run_of_the_others(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(10, {2: square(10, 14)})
    session.add_masks(20, {1: np.zeros((H, W), bool)})  # and one may leave it
    track(session)
    for t in range(1, 10):
        assert np.array_equal(session.result(t).masks[1], square(t))
    for t in range(11, 30):
        assert np.array_equal(session.result(t).masks[2], square(t, 14))
    assert not any(session.result(t).masks[1].any() for t in range(20, 30))


def test_objects_of_two_runs_never_share_a_pixel(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session, end=20)
    session.add_masks(20, {2: square(20)})
    track(session, direction="backward")
    result = session.result(10)
    assert set(result.masks) == {1, 2}
    assert not (result.masks[1] & result.masks[2]).any()
    for i in result.ids:
        np.testing.assert_array_equal(result.masks[i], result.label_map == i)
    np.testing.assert_array_equal(result.label_map, 2 * square(10))  # both claim it: the last object has it


def test_probabilities_of_objects_that_a_later_run_does_not_track_stay() -> None:
    with ScriptedSession(video(), keep_soft=True) as session:
        session.add_masks(0, {1: square(0)})
        track(session)
        before = session.soft_maps(10)
        session.add_masks(20, {2: square(20, 14)})
        track(session, direction="backward")
        maps = session.soft_maps(10)
        assert before is not None
        assert maps is not None
        assert set(maps.ids) == {1, 2}
        np.testing.assert_array_equal(maps.maps[maps.ids.index(1)], before.maps[0])
        session.undo()
        left = session.soft_maps(10)
        assert left is not None
        assert left.ids == (1,)


def test_soft_exports_give_the_users_masks_their_pixels(tmp_path: Path) -> None:
    with ScriptedSession(video(), keep_soft=True) as session:
        session.add_masks(0, {1: square(0), 2: square(0, 14)})
        list(session.propagate())
        session.add_masks(5, {1: square(5, 12)})  # over a part of the other
        list(session.propagate())
        prob = SessionSource(session).prob(5)
        assert prob is not None
        assert not prob[2][square(5, 12)].any()
        assert prob[2][square(5, 14) & ~square(5, 12)].min() > 0.5


def test_exports_say_what_is_out_of_date_and_what_is_missing(
    session: Session, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session.add_masks(0, {1: square(0)})
    list(session.propagate())
    session.add_masks(20, {1: square(20)})
    session.export("coco", tmp_path / "a.json")
    session.export("coco", tmp_path / "b.json", start=15, end=20)
    session.undo()
    session.add_masks(10, {2: square(10, 14)})
    session.export("coco", tmp_path / "c.json")
    assert caplog.messages == [
        "28 of 30 frames are out of date: track them first",
        "5 of 6 frames are out of date: track them first",
        "19 of 30 frames lack an object that was drawn in an earlier frame: track it first",
    ]


@pytest.mark.parametrize(("format", "options"), [("soft", {}), ("rgba", {"soft": True})])
def test_soft_exports_say_how_many_frames_have_no_masks(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, format: str, options: dict[str, bool]
) -> None:
    with ScriptedSession(video(), keep_soft=True) as session:
        session.add_masks(0, {1: square(0)})
        track(session, end=9)
        session.export(format, tmp_path / "out", **options)
    assert "20 of 30 frames have no masks" in caplog.text


def test_the_direction_decides_about_the_open_ends(session: Session) -> None:
    session.add_masks(10, {1: square(10)})
    assert track(session, direction="backward") == list(range(9, -1, -1))
    assert session.status(11) == "none"
    assert track(session, direction="both") == list(range(11, 30))


def test_a_new_object_changes_nothing_before_its_frame(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session)
    before = bytes_of(session, range(15))
    session.add_masks(15, {2: square(15, 14)})
    assert track(session) == list(range(16, 30))
    assert bytes_of(session, range(15)) == before
    assert set(session.result(20).ids) == {1, 2}
    assert np.array_equal(session.result(20).masks[2], square(20, 14))


def test_correcting_one_object_keeps_the_others_mask_in_that_frame_tracked(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session)
    session.add_masks(12, {1: square(12)})
    track(session)
    assert np.array_equal(session.result(12).masks[2], square(12, 14))
    assert np.array_equal(session.result(20).masks[2], square(20, 14))
    assert session.result(12).drawn == {1}


def test_an_object_may_be_absent(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(10, {1: np.zeros((H, W), bool)})
    track(session)
    assert session.result(3).masks[1].any()
    assert not any(session.result(t).masks[1].any() for t in range(10, 30))


def test_nothing_is_tracked_twice(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session)
    assert track(session) == []
    assert session.plan().steps() == 0
    assert len(track(session, again=True)) == 29


def test_a_range_is_tracked_from_the_nearest_annotated_frame(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    assert track(session, 5, 8) == list(range(1, 9))
    assert track(session, 8, 10) == [9, 10]
    assert track(session, 20, 22) == list(range(11, 23))


def test_a_range_that_ends_before_the_next_mask_is_tracked_once_and_joined_with_the_whole(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    assert track(session, 0, 8) == list(range(1, 9))
    assert track(session, 0, 8) == []
    assert session.status(4) == "half"
    assert track(session, 0, 20) == [*range(19, 0, -1), *range(1, 20)]
    assert session.status(4) == "tracked"


def test_closing_the_iterator_keeps_what_is_finished_and_the_next_call_goes_on(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    assert [next(run)[0] for _ in range(5)] == [1, 2, 3, 4, 5]
    run.close()
    assert session.status(5) == "tracked"
    assert session.status(6) == "none"
    assert track(session) == list(range(6, 30))


def test_an_interrupted_join_goes_on_where_it_stopped(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    run = session.propagate(end=20)
    assert [next(run)[0] for _ in range(8)] == list(range(19, 11, -1))
    run.close()
    assert session.status(15) == "half"
    assert track(session, end=20) == [*range(11, 0, -1), *range(1, 20)]
    assert session.status(15) == "tracked"


@pytest.mark.parametrize("seen", [8, 19, 25])
def test_a_run_of_all_again_that_was_broken_off_goes_on_since_its_edit_or_begins_anew(
    session: Session, seen: int
) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    everything = track(session, end=20)
    before = session.edit
    run = session.propagate(end=20, again=True)
    assert [next(run)[0] for _ in range(seen)] == everything[:seen]
    run.close()
    assert session.edit == before + 1
    assert track(session, end=20, again=True, since=before + 1) == everything[seen:]
    assert track(session, end=20, again=True, since=before + 1) == []
    run = session.propagate(end=20, again=True)
    next(run)
    run.close()
    assert track(session, end=20, again=True) == everything  # nothing that was seen before is taken up


def test_halves_seen_with_other_masks_are_not_joined(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    session.add_masks(20, {1: square(20, 14)})
    run = session.propagate(end=20)
    for _ in range(8):
        next(run)
    run.close()
    assert session.status(15) == "half"
    assert (session.undo(), session.status(15)) == ("track", "none")
    assert session.undo() == "masks"
    track(session, end=20)
    assert np.array_equal(session.result(19).masks[1], square(19))


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_an_object_is_found_before_a_frame_where_it_is_out_of_sight_though_another_is_tracked_past_it(
    session: Session, monkeypatch: pytest.MonkeyPatch, direction: str
) -> None:
    class Finder(SquareTracker):
        """Knows at once again where its objects are."""

        def step(self, frame: FrameLike, masks: MasksLike | None = None, **settings: Any) -> Segmentation:
            self.at = number_of(frame)
            self.masks = {i: square(self.at, 4 if i == 1 else 14) for i in self.masks}
            return super().step(frame, masks, **settings)

    monkeypatch.setattr(ScriptedSession, "_new_tracker", lambda self: Finder())
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    session.add_masks(20, {1: np.zeros((H, W), bool)})
    session.add_masks(29, {2: square(29, 14)})
    track(session, direction=direction)
    for t in range(1, 20):
        assert np.array_equal(session.result(t).masks[1], square(t))
        assert session.confidence(t)[1] > 0.9
    assert np.array_equal(session.result(24).masks[2], square(24, 14))


@pytest.mark.parametrize("direction", ["forward", "backward", "both"])
def test_an_object_that_lacks_a_single_frame_is_tracked_in_that_one(session: Session, direction: str) -> None:
    low = np.roll(square(5), 10, axis=0)
    begin = 10 if direction == "backward" else 0
    session.add_masks(begin, {1: square(begin)})
    session.add_masks(5, {2: low})
    session.add_masks(7, {2: np.roll(low, 2, axis=1)})
    track(session, 0, 10, direction)
    assert np.array_equal(session.result(6).masks[2], np.roll(low, 1, axis=1))
    assert np.array_equal(session.result(6).masks[1], square(6))


def test_only_one_propagation_runs_at_a_time(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    next(run)
    with pytest.raises(DataError, match="tracked already"):
        next(session.propagate())
    run.close()
    assert track(session)


def test_an_edit_ends_the_running_propagation(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    next(run)
    session.add_masks(20, {1: square(20)})
    assert list(run) == []
    assert set(track(session)) == {*range(2, 20), *range(21, 30)} | {1}


def test_what_changes_nothing_is_no_edit_and_ends_no_run(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    run = session.propagate()
    next(run)
    session.add_masks(0, session.result(0).label_map)
    session.set_object(1, name=session.objects[0].name, colour=session.objects[0].colour)
    assert [frame for frame, _ in run] == [*range(2, 30)]
    assert session.undo() == "track"
    assert session.redo() == "track"
    session.add_masks(0, session.result(0).label_map)
    assert session.undo() == "track"
    session.set_object(2, colour=session.objects[1].colour)
    assert session.redo() == "track"
    assert session.status(29) == "tracked"


def test_of_a_frames_whole_label_map_only_the_masks_that_differ_put_results_out_of_date(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    session.add_masks(8, {1: square(8), 2: square(8, 14)})
    list(session.propagate())
    session.add_masks(8, {1: square(8), 2: square(9, 14)})
    assert session.status(20) == "stale"
    session.remove_object(2)
    assert session.status(20) == "tracked"


def test_a_name_and_a_colour_end_no_run_and_are_undone_alone(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    next(run)
    session.set_object(1, name="cat", colour=(1, 2, 3))
    assert [frame for frame, _ in run] == [*range(2, 30)]
    assert session.undo() == "object"
    assert session.objects[0].name == "object 1"
    assert session.status(29) == "tracked"
    assert session.undo() == "track"
    assert session.status(1) == "none"
    assert session.redo() == "track"
    assert session.redo() == "object"
    assert session.objects[0].name == "cat"
    assert session.status(29) == "tracked"


def test_a_new_object_in_the_frame_that_comes_next_ends_the_running_propagation(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    next(run)
    session.add_masks(2, {2: square(2, 14)})
    assert list(run) == []


def test_an_edit_while_the_network_is_loaded_ends_the_propagation(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(self: ScriptedSession) -> SquareTracker:
        self.clear_masks(20)
        return SquareTracker()

    monkeypatch.setattr(ScriptedSession, "_new_tracker", load)
    for frame in (0, 10, 20):
        session.add_masks(frame, {1: square(frame)})
    assert track(session, 0, 10) == []


def test_an_edit_in_the_place_of_an_undone_run_ends_it(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate()
    next(run)
    assert session.undo() == "track"
    session.add_masks(20, {1: square(20)})
    assert list(run) == []
    assert session.undo() == "masks"
    assert session.annotated_frames == (0,)


@pytest.mark.parametrize("back_and_forth", [("undo", "redo"), ("add_masks", "undo")])
def test_an_edit_and_its_undoing_end_the_running_propagation(session: Session, back_and_forth: tuple[str, str]) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {1: square(20)})
    run = session.propagate(end=20)
    assert [next(run)[0] for _ in range(22)] == [*range(19, 0, -1), 1, 2, 3]
    for name in back_and_forth:
        getattr(session, name)(*((25, {1: square(25)}) if name == "add_masks" else ()))
    assert list(run) == []  # what it had seen from the other side is gone
    assert session.status(10) == "half"
    track(session, end=20)
    assert session.status(10) == "tracked"


def test_a_run_goes_on_with_what_it_has_seen_where_there_was_nothing_to_redo(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(20, {2: square(20, 14)})
    run = session.propagate(direction="both")
    assert [next(run)[0] for _ in range(21)] == [*range(19, -1, -1), 1]  # object 2, then object 1
    assert session.redo() is None
    list(run)
    assert all(np.array_equal(session.result(t).masks[2], square(t, 14)) for t in range(20))


def test_what_is_tracked_is_settled_when_the_first_frame_is_asked_for(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    run = session.propagate()
    session.remove_object(1)
    session.add_masks(10, {2: square(10, 14)})
    assert [frame for frame, _ in run] == [*range(9, 0, -1), *range(1, 10), *range(11, 30)]
    session.add_masks(20, {1: square(20)})
    assert 1 not in session.result(5).masks


def test_undo_and_redo_bring_back_masks_and_results(session: Session) -> None:
    SquareTracker.lost = {12}
    session.add_masks(0, {1: square(0)})
    track(session)
    first = bytes_of(session, range(30))
    session.add_masks(13, {1: square(13)})
    track(session)
    second = bytes_of(session, range(30))
    assert session.history == ("track", None)
    assert session.undo() == "track"
    assert session.status(20) == "stale"
    assert session.undo() == "masks"
    assert bytes_of(session, range(30)) == first
    assert session.status(20) == "tracked"
    assert session.annotated_frames == (0,)
    assert [session.redo(), session.redo(), session.redo()] == ["masks", "track", None]
    assert bytes_of(session, range(30)) == second
    assert [session.undo() for _ in range(5)] == ["track", "masks", "track", "masks", None]
    assert session.objects == ()


def test_every_run_is_undone_by_itself(session: Session) -> None:
    session.add_masks(10, {1: square(10)})
    track(session)
    track(session, direction="backward")
    SquareTracker.lost = {15}
    track(session, again=True)
    assert session.result(20).masks[1][12:].any()
    assert session.undo() == "track"
    assert np.array_equal(session.result(20).masks[1], square(20))
    assert session.undo() == "track"
    assert [session.status(t) for t in (5, 10, 20)] == ["none", "annotated", "tracked"]
    assert [session.undo(), session.undo()] == ["track", "masks"]


def test_a_run_that_found_nothing_is_nothing_to_undo(session: ScriptedSession, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: ScriptedSession) -> SquareTracker:
        raise WeightsError("no such weights")

    session.add_masks(0, {1: square(0)})
    session.add_masks(5, {1: square(5)})
    session.undo()
    monkeypatch.setattr(ScriptedSession, "_new_tracker", fail)
    with pytest.raises(WeightsError):
        track(session)
    assert session.history == ("masks", "masks")


def test_a_new_edit_forgets_what_was_undone(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.undo()
    session.add_masks(0, {2: square(0)})
    assert session.redo() is None
    assert [o.id for o in session.objects] == [2]
    track(session)
    assert [session.undo(), session.undo()] == ["track", "masks"]
    assert session.annotated_frames == ()
    assert session.objects == ()


def test_a_mask_that_was_undone_puts_no_result_out_of_date_by_a_later_edit(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session)
    session.add_masks(13, {1: square(13)})
    session.undo()
    session.set_object(1, name="fish")
    assert session.status(20) == "tracked"


def test_removing_an_object_leaves_the_others_as_they_are(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session)
    session.remove_object(2)
    assert session.result(9).ids == (1,)
    assert session.status(9) == "tracked"
    assert track(session) == []
    session.undo()
    assert session.result(9).ids == (1, 2)
    with pytest.raises(DataError, match="no object 7, expected one of"):
        session.remove_object(7)


def test_clearing_a_frames_masks_lets_it_be_tracked(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(10, {1: square(10, 14)})
    track(session)
    session.clear_masks(10)
    assert session.annotated_frames == (0,)
    track(session)
    assert np.array_equal(session.result(10).masks[1], square(10))
    with pytest.raises(DataError, match="no mask of the user's in frame 4"):
        session.clear_masks(4)


def test_objects_have_names_and_colours(session: Session) -> None:
    session.add_masks(0, {3: square(0)})
    assert session.objects[0].name == "object 3"
    session.set_object(3, name="Katze 🐈", colour=(1, 2, 3))
    assert (session.objects[0].name, session.objects[0].colour) == ("Katze 🐈", (1, 2, 3))
    session.set_object(3, colour=[4, 5, 6])  # type: ignore[arg-type]  # JSON knows no tuples
    assert (session.objects[0].name, session.objects[0].colour) == ("Katze 🐈", (4, 5, 6))
    session.undo()
    session.undo()
    assert session.objects[0].name == "object 3"
    for wrong in ({"name": "a\nb"}, {"name": "x" * 300}, {"colour": (0, 0, 256)}, {"colour": (1, 2)}, {"colour": 7}):
        with pytest.raises(ConfigError, match="of object 3"):
            session.set_object(3, **wrong)


def test_names_may_be_of_any_script_and_hold_no_control_characters(session: Session) -> None:
    session.add_masks(0, {3: square(0)})
    for name in ("猫\u3000左", "می\u200cخواهم", "👨\u200d👩\u200d👧", "a\u00a0b"):
        assert session.set_object(3, name=name).name == name
    for name in ("a\nb", "a\tb", "\u202egnp", "a\0", "\udce9"):
        with pytest.raises(ConfigError, match="name of object 3, expected printable text"):
            session.set_object(3, name=name)


def test_masks_of_one_call_do_not_overlap_and_later_calls_win(session: Session) -> None:
    everything = np.ones((H, W), bool)
    session.add_masks(0, {2: everything, 1: square(0)})
    assert np.array_equal(session.result(0).masks[1], square(0))
    assert not (session.result(0).masks[2] & square(0)).any()
    session.add_masks(0, {3: square(0)})
    assert not session.result(0).masks[1].any()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: s.add_masks(30, {1: square(0)}), "no such frame, expected 0 to 29, got 30"),
        (lambda s: s.add_masks(0, np.zeros((H, W), np.uint8)), "the mask has no object"),
        (lambda s: s.add_masks(0, np.zeros((3, 3), np.uint8)), "another size"),
        (lambda s: s.add_masks(0, {1: np.zeros((H, W), bool)}), "new object 1 is empty"),
        (lambda s: s.add_masks(0, {1: square(0) * 0.5}), r"new object 1 has no value above 0\.5"),
        (lambda s: s.add_masks(0, {1: square(0), 2: square(0) * 0.9}), "new object 2 is empty"),
        (lambda s: list(s.propagate()), "no masks to track from"),
        (lambda s: s.propagate(5, 3), "expected start <= end within 0 to 29, got 5 to 3"),
        (lambda s: s.propagate(True), "expected start <= end within 0 to 29, got True to 29"),
        (lambda s: s.propagate(1.0), "expected start <= end within 0 to 29, got 1.0 to 29"),
        (lambda s: s.propagate("1"), "expected start <= end within 0 to 29, got 1 to 29"),
        (lambda s: s.propagate(direction="up"), "direction, expected forward"),
        (lambda s: s.result(-1), "no such frame"),
        (lambda s: s.result(True), "no such frame, expected 0 to 29, got True"),
        (lambda s: s.export("gif", "x"), "format"),
        (lambda s: ScriptedSession(PICTURES), r"frame 0, expected uint8 \(H, W, 3\), got Image"),
        (lambda s: ScriptedSession(np.zeros(4, np.uint8)), r"frame 0, expected uint8 \(H, W, 3\), got uint8"),
        (lambda s: ScriptedSession(np.zeros((3, 0, 5, 3), np.uint8)), "without pixels, .*got frames of 5x0"),
        (lambda s: ScriptedSession([np.zeros((5, 0, 3), np.uint8)]), "without pixels, .*got frames of 0x5"),
        (lambda s: ObjectInfo.default(10**20), "object id, expected an integer"),
        (lambda s: ObjectInfo.default(0), "object id, expected an integer"),
    ],
)
def test_mistakes_are_told_in_one_line(session: Session, call: Callable[[Session], object], message: str) -> None:
    with pytest.raises((DataError, ConfigError), match=message) as error:
        call(session)
    assert "\n" not in str(error.value)


def test_a_range_without_masks_on_the_right_side_is_refused(session: Session) -> None:
    session.add_masks(20, {1: square(20)})
    with pytest.raises(DataError, match=r"no masks to track forward from.* got frame 20's"):
        session.propagate(3, 9)
    with pytest.raises(DataError, match=r"no masks to track backward from.* got frame 20's"):
        session.propagate(22, 29, "backward")


def test_frames_may_be_numpys_numbers(session: Session) -> None:
    frame: Any = np.argmax(np.arange(4))
    session.add_masks(frame, {1: square(3)})
    assert session.annotated_frames == (3,)
    assert type(session.result(frame).frame) is int
    session.clear_masks(frame)
    assert session.status(frame) == "none"


def test_a_part_of_the_timeline_may_be_asked_for(session: Session) -> None:
    session.add_masks(5, {1: square(5)})
    track(session, end=7)
    status, confidence = session.timeline(4, 8)
    assert [STATUSES[number] for number in status] == ["none", "annotated", "tracked", "tracked"]
    assert np.isnan(confidence).tolist() == [True, True, False, False]


def test_the_timeline_tells_every_frame_at_once(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session, end=9)
    status, confidence = session.timeline()
    assert status.tolist() == [1] + [2] * 9 + [0] * 20
    assert np.isnan(confidence[0])
    assert confidence[5] == pytest.approx(session.confidence(5)[1])


def test_annotated_frames_near_by_are_pinned_as_memory(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(10, {1: square(10)})
    SquareTracker.calls = []
    track(session, end=10)
    assert {frame for kind, frame in SquareTracker.calls if kind == "pin"} == {0, 10}


@pytest.mark.parametrize(("memory_frames", "pinned"), [(0, [20, 0]), (3, []), (4, [20]), (5, [20, 0]), (20, [20, 0])])
def test_pinned_frames_leave_two_places_of_the_memory_to_what_is_tracked(memory_frames: int, pinned: list[int]) -> None:
    with ScriptedSession(video(), config=TrackerConfig(max_memory_frames=memory_frames)) as session:
        for frame in (0, 10, 20):
            session.add_masks(frame, {1: square(frame)})
        SquareTracker.calls = []
        track(session, 11, 19)
        assert [frame for kind, frame in SquareTracker.calls if kind == "pin"] == pinned


@pytest.mark.parametrize(("other", "pinned"), [(None, [25, 0]), (3, [25])])
def test_frames_that_a_run_is_first_shown_count_among_the_pinned_but_not_the_result_that_it_goes_on_from(
    session: Session, other: int | None, pinned: list[int]
) -> None:
    for frame in (0, 1, 25):
        session.add_masks(frame, {1: square(frame)})
    if other is not None:
        session.add_masks(other, {2: square(other, 14)})
    track(session, end=9, direction="forward")
    SquareTracker.calls = []
    track(session, 10, 12, direction="forward")
    assert [frame for kind, frame in SquareTracker.calls if kind == "pin"] == pinned


def test_what_was_tracked_is_given_to_go_on_from_and_not_as_a_mask_of_the_user(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session, end=9)
    SquareTracker.calls = []
    track(session, 10, 12)
    assert [i for kind, i in SquareTracker.calls if kind == "go on"] == [1, 2]
    session.add_masks(4, {1: square(4)})
    SquareTracker.calls = []
    track(session, 5, 12, direction="forward")
    assert [i for kind, i in SquareTracker.calls if kind == "go on"] == [2]


def test_confidence_goes_on_as_if_a_run_had_not_been_stopped(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    class Doubter(SquareTracker):
        """Sure of nothing before frame 10, and of everything from there on."""

        def step(self, frame: FrameLike, masks: MasksLike | None = None, **settings: Any) -> Segmentation:
            seen = super().step(frame, masks, **settings)
            objects = seen.prob[1:] * (0.6 if number_of(frame) < 10 else 1)
            return replace(seen, prob=torch.cat([1 - objects.sum(0, keepdim=True), objects]))

    monkeypatch.setattr(ScriptedSession, "_new_tracker", lambda self: Doubter())
    session.add_masks(0, {1: square(0)})
    track(session)
    whole = [session.confidence(t)[1] for t in range(13, 30)]
    assert whole[0] < 0.9  # of a run that begins in frame 12 it would be 0.97
    session.undo()
    track(session, end=12)
    track(session)
    assert [session.confidence(t)[1] for t in range(13, 30)] == pytest.approx(whole, abs=0.04)


@pytest.mark.parametrize(("drawn", "nearest"), [(square(5), 5), (np.zeros((H, W), bool), 0)])
def test_a_run_that_begins_at_a_result_is_first_shown_the_nearest_frame_with_the_object_drawn(
    session: Session, drawn: np.ndarray, nearest: int
) -> None:
    session.add_masks(0, {1: square(0)})
    session.add_masks(5, {1: drawn})
    track(session, end=9)
    SquareTracker.calls = []
    assert track(session, 10, 12) == [10, 11, 12]
    assert [frame for kind, frame in SquareTracker.calls if kind == "step"] == [nearest, 9, 10, 11, 12]


def test_an_object_is_tracked_on_through_the_masks_that_correct_it_beside_others(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    for frame in (10, 11):
        session.add_masks(frame, {1: square(frame)})
    SquareTracker.calls = []
    track(session)
    assert not [call for call in SquareTracker.calls if call[0] == "remove"]
    assert (session.result(20).masks[1] == square(20)).all()


def test_objects_go_on_from_what_the_users_masks_leave_of_theirs(session: Session) -> None:
    """The scripted tracker refuses masks that share a pixel."""
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session)
    half = square(6, 14) & (np.arange(W) < position(6) + SIDE // 2)
    session.add_masks(6, {1: square(6) | half})
    track(session)
    assert session.result(6).masks[2].sum() == SIDE * SIDE // 2
    assert session.result(20).masks[2].sum() == SIDE * SIDE // 2


def test_a_range_without_results_of_one_object_begins_at_that_objects_mask(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session)
    session.add_masks(3, {1: square(3)})
    assert session.plan(5).steps() == 26
    assert track(session, 5) == list(range(4, 30))
    assert all(session.status(frame) == "tracked" for frame in range(4, 30))


def test_a_range_with_half_results_of_one_object_is_finished_from_that_objects_mask(session: Session) -> None:
    session.add_masks(0, {1: square(0)})
    track(session)
    for frame in (3, 20):
        session.add_masks(frame, {2: square(frame, 14)})
    run = session.propagate(8, 20)
    for _ in range(14):
        next(run)
    run.close()
    assert "half" in {session.status(frame) for frame in range(8, 20)}
    assert track(session, 8, 20)
    assert {session.status(frame) for frame in range(8, 20)} == {"tracked"}
    assert session.plan(8, 20).steps() == 0


@pytest.mark.parametrize("top", [4, 14])
def test_probabilities_are_kept_of_frames_that_only_one_side_sees(top: int) -> None:
    with ScriptedSession(video(), keep_soft=True) as session:
        session.add_masks(5, {1: square(5)})
        track(session, direction="backward")
        session.add_masks(5, {1: square(5, top)})
        track(session, direction="both")
        for frame in (0, 3, 9):
            soft = session.soft_maps(frame)
            assert soft is not None
            assert np.array_equal(soft.maps[0] > 127, session.result(frame).masks[1])


def test_results_go_with_an_objects_last_mask_and_come_back_with_it(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    track(session)
    session.clear_masks(0, 1)
    assert session.status(5) == "tracked"
    assert session.result(5).ids == (2,)
    assert session.next_frame_to_fix() is not None
    session.undo()
    assert session.result(5).ids == (1, 2)


def test_results_go_with_the_last_mask_that_shows_an_object(session: Session) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    session.add_masks(10, {1: np.zeros((H, W), bool)})
    track(session)
    before = bytes_of(session, range(30))
    session.clear_masks(0, 1)
    assert session.annotated_frames == (0, 10)
    assert {session.result(t).ids for t in (5, 20)} == {(2,)}
    session.undo()
    assert bytes_of(session, range(30)) == before


def test_an_id_that_is_too_large_is_refused_and_ends_no_run(session: ScriptedSession) -> None:
    session.add_masks(0, {1: square(0)})
    run = session.propagate(end=3)
    next(run)
    with pytest.raises(DataError, match=f"object id, expected an integer from 1 to {2**63 - 1}, got {2**63}"):
        session.add_masks(9, {2**63: square(9)})
    assert [frame for frame, _ in run] == [2, 3]
    assert session.annotated_frames == (0,)


def test_a_session_without_a_folder_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with ScriptedSession(video()) as session:
        assert session.folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_mask_files_are_one_edit_with_the_files_colours(session: Session, tmp_path: Path) -> None:
    palette = np.zeros((256, 3), np.uint8)
    palette[3] = 10, 20, 30
    both = np.where(square(0), 1, 0) + np.where(square(0, 14), 3, 0)
    write_mask(tmp_path / "00000.png", both, palette)
    write_mask(tmp_path / "7.png", np.where(square(7), 1, 0), palette)
    write_mask(tmp_path / "9.png", np.zeros((H, W), np.uint8), palette)
    assert session.add_mask_files(tmp_path) == [0, 7]
    assert [(o.id, o.colour) for o in session.objects][1] == (3, (10, 20, 30))
    assert session.annotated_frames == (0, 7)
    np.testing.assert_array_equal(session.result(0).label_map, both)
    assert session.undo() == "masks"
    assert not session.objects
    assert not session.annotated_frames


def test_a_mask_file_is_of_the_frame_that_is_named(session: Session, tmp_path: Path) -> None:
    write_mask(tmp_path / "m.png", np.where(square(4), 255, 0))
    assert session.add_mask_files(tmp_path / "m.png", frame=4) == [4]
    assert [o.id for o in session.objects] == [255]
    assert session.add_mask_files(tmp_path / "m.png", frame=5, white=2) == [5]
    assert session.result(5).masks[2].sum() == square(4).sum()
    write_mask(tmp_path / "two.png", np.where(square(4), 1, 0) + np.where(square(4, 14), 2, 0))
    assert session.add_mask_files(tmp_path / "two.png", frame=6, white=9) == [6]
    assert [o.id for o in session.objects] == [1, 2, 255]


@pytest.mark.parametrize("kind", ["grey", "palette", "RGB", "one bit"])
def test_white_masks_are_of_the_named_object_however_stored(kind: str, session: Session, tmp_path: Path) -> None:
    session.add_masks(0, {1: square(0, 14)})
    image = Image.fromarray(np.where(square(0), 255, 0).astype(np.uint8))
    if kind == "palette":
        image = Image.fromarray(square(0).astype(np.uint8))
        image.putpalette([0, 0, 0, 255, 255, 255])
    image.convert({"grey": "L", "palette": "P", "RGB": "RGB", "one bit": "1"}[kind]).save(tmp_path / "m.png")
    session.add_mask_files(tmp_path / "m.png", white=2)
    np.testing.assert_array_equal(session.result(0).label_map, np.where(square(0), 2, 0) + square(0, 14))


def test_mask_files_put_the_results_of_all_their_objects_out_of_date(session: Session, tmp_path: Path) -> None:
    session.add_masks(0, {1: square(0), 2: square(0, 14)})
    list(session.propagate())
    write_mask(tmp_path / "m.png", np.where(square(8), 1, 0) + np.where(square(8, 14), 2, 0))
    session.add_mask_files(tmp_path / "m.png", frame=8)
    session.remove_object(1)
    assert session.status(20) == "stale"


def test_empty_masks_before_an_object_appears_are_passed_over(session: Session, tmp_path: Path) -> None:
    for t in range(6):
        Image.fromarray(np.where(square(t) & (t > 2), 255, 0).astype(np.uint8)).save(tmp_path / f"{t:05}.png")
    assert session.add_mask_files(tmp_path) == [3, 4, 5]
    assert session.result(3).masks[255].sum() == SIDE * SIDE


def test_a_frame_that_is_refused_takes_those_before_it_back(session: Session) -> None:
    with pytest.raises(DataError, match="object 2 is empty"):
        session._edits.add_frames([(0, {1: square(0)}), (1, {2: np.zeros((H, W), bool)})])
    assert not session.objects
    assert session.undo() is None


def test_mask_files_that_do_not_fit_change_nothing(session: Session, tmp_path: Path) -> None:
    session.add_masks(0, {1: square(0)})
    write_mask(tmp_path / "00001.png", np.where(square(1), 2, 0))
    write_mask(tmp_path / "00002.png", np.ones((H, W + 1), np.uint8))
    with pytest.raises(DataError, match="another size"):
        session.add_mask_files(tmp_path)
    (tmp_path / "00002.png").rename(tmp_path / "30.png")
    with pytest.raises(DataError, match=r"30\.png: no frame has this name"):
        session.add_mask_files(tmp_path)
    with pytest.raises(DataError, match="no such frame"):
        session.add_mask_files(tmp_path / "00001.png", frame=30)
    assert [o.id for o in session.objects] == [1]
    assert session.undo() == "masks"
    assert session.undo() is None
