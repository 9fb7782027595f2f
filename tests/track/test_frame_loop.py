"""The frame loop that every driver of a tracker shares."""

from __future__ import annotations

import pytest

from jointformer.errors import ConfigError, DataError, UserError
from jointformer.model.network import JointFormer
from jointformer.track import Tracker
from jointformer.track.loop import BadFramePolicy, Stopwatch, iter_segmentations
from track.short_videos import CONFIG, box, video


@pytest.mark.parametrize("policy", ["skip", "hold"])
def test_frames_of_another_size_are_bad_frames(model: JointFormer, policy: BadFramePolicy) -> None:
    frames = video(4)
    frames[2] = frames[2][:-3]
    watch = Stopwatch()
    seen = iter_segmentations(
        Tracker(model, CONFIG), enumerate(frames), lambda t, _: {1: box(2, 2)} if t == 0 else None,
        watch=watch, on_bad_frame=policy,
    )  # fmt: skip
    assert [t for t, _ in seen] == ([0, 1, 3] if policy == "skip" else [0, 1, 2, 3])
    assert (watch.frames, watch.bad_frames) == (3, 1)
    assert 0 < watch.seconds < 60
    assert watch.fps == 3 / watch.seconds


@pytest.mark.parametrize("policy", ["skip", "hold"])
@pytest.mark.parametrize(("bad", "masked"), [(0, [1]), (2, [0, 2])])
def test_a_frame_that_cannot_be_read_ends_the_video_where_a_mask_is_given_or_was_none_yet(
    model: JointFormer, policy: BadFramePolicy, bad: int, masked: list[int]
) -> None:
    frames = [frame if t != bad else DataError("damaged") for t, frame in enumerate(video(4))]
    given = {t: {n: box(2 + 9 * n, 2)} for n, t in enumerate(masked, 1)}
    seen = iter_segmentations(Tracker(model, CONFIG), enumerate(frames), lambda t, _: given.get(t), on_bad_frame=policy)
    assert [next(seen)[0] for _ in range(bad)] == list(range(bad))
    with pytest.raises(DataError, match="damaged"):
        next(seen)


def test_the_frame_loop_ends_the_video_at_its_last_frame_and_gives_the_size_asked_for(model: JointFormer) -> None:
    tracker = Tracker(model, CONFIG)
    masks = {0: {1: box(2, 2)}}
    seen = iter_segmentations(tracker, enumerate(video(3)), lambda t, _: masks.get(t), last=2, output_size=(20, 28))
    assert [result.label_map.shape for _, result in seen] == [(20, 28)] * 3
    with pytest.raises(UserError, match="the video was ended"):
        tracker.step(video(1)[0])
    with pytest.raises(ConfigError, match="on_bad_frame, expected one of stop, skip, hold, got 'ignore'"):
        next(iter_segmentations(tracker, [], lambda t, _: None, on_bad_frame="ignore"))  # type: ignore[arg-type]
