"""Training sets on disk, and clips from their videos."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_helpers import clip_plan, write_video

from jointformer.errors import DataError
from jointformer.train.datasets import (
    VIDEO_SETS,
    TrainVideo,
    VideoSet,
    open_videos,
    pair_frames,
    require_set,
)
from jointformer.train.loader import ClipLoader
from jointformer.train.passes import RandomPasses
from jointformer.train.plan import IterationPlan
from jointformer.train.video_clips import VideoClips, draw_frames, targets


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    base = tmp_path / "DAVIS/2017/trainval"
    for name in ("bear", "dog"):
        write_video(base / "JPEGImages/480p" / name, base / "Annotations/480p" / name)
    write_video(base / "JPEGImages/480p/short", base / "Annotations/480p/short", length=2)
    (base / "ImageSets/2017").mkdir(parents=True)
    (base / "ImageSets/2017/train.txt").write_text("bear\ndog\nshort\n")
    return tmp_path


def test_a_data_set_lists_its_videos_and_names_those_too_short(davis: Path, caplog: pytest.LogCaptureFixture) -> None:
    videos = open_videos(VIDEO_SETS["davis"], davis, 3)
    assert [(video.name, len(video.frames)) for video in videos] == [("bear", 6), ("dog", 6)]
    assert "short" in caplog.text
    with pytest.raises(DataError, match="MOSE train: no such folder"):
        open_videos(VIDEO_SETS["mose"], davis, 3)


def test_a_list_of_videos_may_have_a_byte_order_mark_and_what_is_wrong_with_one_is_said(davis: Path) -> None:
    names = davis / "DAVIS/2017/trainval/ImageSets/2017/train.txt"
    names.write_bytes("\ufeffbear\r\ndog\r\n".encode())
    require_set("davis", davis)
    assert [video.name for video in open_videos(VIDEO_SETS["davis"], davis, 3)] == ["bear", "dog"]
    for written, said in (
        (b"bear\nd\xffg\n", r"train\.txt: cannot read the list"),
        (b"\n", r"train\.txt: lists no videos"),
        (b"bear\ncat\n", r"480p/cat: DAVIS 2017 train: no such folder; .*train\.txt names it"),
    ):
        names.write_bytes(written)
        with pytest.raises(DataError, match=said):
            require_set("davis", davis)


def test_clips_depend_on_the_index_only_and_every_pass_takes_each_video_once(davis: Path) -> None:
    videos = open_videos(VIDEO_SETS["davis"], davis, 3)
    one, two = VideoClips(videos, 0), VideoClips(videos, 0)
    assert np.array_equal(one.sample(5, clip_plan()).frames, two.sample(5, clip_plan()).frames)
    assert not np.array_equal(one.sample(5, clip_plan()).frames, one.sample(7, clip_plan()).frames)
    passes = RandomPasses(2, 4)
    assert sorted(passes.item(index) for index in (6, 7)) == [0, 1]


def test_masks_follow_their_pictures_through_every_augmentation(davis: Path) -> None:
    clips = VideoClips(open_videos(VIDEO_SETS["davis"], davis, 3), 0)
    seen = 0
    for index in range(12):
        clip = clips.sample(index, clip_plan())
        assert clip.frames.shape == (3, 64, 64, 3)
        coloured = (
            clip.frames.max(axis=3).astype(int) - clip.frames.min(axis=3) > 90
        )  # bands are vivid, all else is grey
        if not coloured.any():
            continue  # a grey clip
        seen += 1
        away = coloured != (clip.label_maps > 0)
        assert away.mean() < 0.05  # only along edges
    assert seen > 6


def test_frames_of_a_clip_are_near_each_other_and_sorted_either_way() -> None:
    rng = np.random.default_rng(0)
    both = set()
    for _ in range(200):
        drawn = draw_frames(rng, 40, 4, 5)
        both.add(drawn == sorted(drawn))
        steps = np.diff(sorted(drawn))
        assert len(set(drawn)) == 4
        assert steps.max() <= 5
    assert both == {True, False}
    assert sorted(draw_frames(rng, 3, 3, 1)) == [0, 1, 2]


@pytest.mark.parametrize(("key", "furthest"), [("mose", 10), ("youtube", 2), ("ovis", 3), ("bl30k", 10)])
def test_frames_lie_as_far_apart_as_the_plan_says_by_how_densely_a_set_is_annotated(
    tmp_path: Path, key: str, furthest: int
) -> None:
    write_video(tmp_path / "images", tmp_path / "masks", length=24, ids=(1,))
    for t in range(24):  # the colour says which frame it is
        Image.fromarray(np.full((60, 80, 3), (190, 40 + 6 * t, 40), np.uint8)).save(tmp_path / f"images/{t:05d}.png")
        Image.fromarray(np.ones((60, 80), np.uint8)).save(tmp_path / f"masks/{t:05d}.png")
    video = TrainVideo("v", VIDEO_SETS[key], pair_frames(tmp_path / "images", tmp_path / "masks"))
    clips, apart = VideoClips([video], 0), set[int]()
    for index in range(120):
        drawn = clips.sample(index, clip_plan(frames=2, max_skip=10, fine_tune=True)).frames[:, 32, 32].astype(float)
        if drawn[0, 0] - drawn[0, 2] > 60:  # not a grey clip
            times = np.rint(25 * (drawn[:, 1] - drawn[:, 2]) / (drawn[:, 0] - drawn[:, 2]))
            apart.add(int(abs(times[0] - times[1])))
    assert apart == set(range(1, furthest + 1))


@pytest.mark.parametrize(
    ("key", "fine_tune", "alike"), [("mose", False, False), ("mose", True, True), ("bl30k", False, True)]
)
def test_frames_are_turned_apart_but_in_the_fine_tune_phase_and_bl30k(
    tmp_path: Path, key: str, fine_tune: bool, alike: bool
) -> None:
    write_video(tmp_path / "images", tmp_path / "masks", ids=(1,))
    unmoved = np.zeros((60, 80), np.uint8)
    unmoved[10:50, 15:65] = 1
    for t in range(6):
        Image.fromarray(unmoved).save(tmp_path / f"masks/{t:05d}.png")
    video = TrainVideo("v", VIDEO_SETS[key], pair_frames(tmp_path / "images", tmp_path / "masks"))
    maps = VideoClips([video], 0).sample(0, clip_plan(fine_tune=fine_tune)).label_maps
    assert np.array_equal(maps[0], maps[1]) == np.array_equal(maps[0], maps[2]) == alike


def video_of(row: VideoSet) -> TrainVideo:
    return TrainVideo("v", row, ((Path("a"), Path("b")),))


def test_at_most_three_objects_of_the_first_frame_are_targets_and_the_rest_is_background() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((2, 16, 16), np.uint8)
    for n, i in enumerate((3, 7, 20, 250)):
        labels[:, 4 * n : 4 * n + 4] = i
    labels[1, 0, 0] = 99
    clip = targets(rng, np.zeros((2, 16, 16, 3), np.uint8), labels, 3, video_of(VIDEO_SETS["davis"]))
    assert clip is not None
    assert clip.num_objects == 3
    assert set(np.unique(clip.label_maps)) == {0, 1, 2, 3}
    assert clip.label_maps[1, 0, 0] == 0
    left_out = set[int]()
    for _ in range(40):
        clip = targets(rng, np.zeros((2, 16, 16, 3), np.uint8), labels, 3, video_of(VIDEO_SETS["davis"]))
        assert clip is not None
        left_out.add(int(labels[0][clip.label_maps[0] == 0][0]))
    assert left_out == {3, 7, 20, 250}


def test_void_stays_void_and_too_much_of_it_is_refused() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((2, 10, 10), np.uint8)
    labels[:, :5] = 4
    labels[:, 9] = 255
    frames = np.zeros((2, 10, 10, 3), np.uint8)
    clip = targets(rng, frames, labels, 3, video_of(VIDEO_SETS["vost"]))
    assert clip is not None
    assert (clip.num_objects, set(np.unique(clip.label_maps))) == (1, {0, 1, 255})
    labels[:, 6:] = 255
    assert targets(rng, frames, labels, 3, video_of(VIDEO_SETS["vost"])) is None


def test_slivers_of_larger_objects_are_no_targets_in_bl30k() -> None:
    rng = np.random.default_rng(0)
    labels = np.zeros((3, 64, 64), np.uint8)
    labels[:, :40, :30] = 1  # large
    labels[:, 45:57, :12] = 2  # 144 pixels, small throughout
    labels[:, 60:, :4] = 3  # 16 pixels: too small
    labels[0, 42:54, 30:42] = 4  # 144 pixels at first ...
    labels[1:, 32:, 32:] = 4  # ... and 1024 later
    clip = targets(rng, np.zeros((3, 64, 64, 3), np.uint8), labels, 8, video_of(VIDEO_SETS["bl30k"]))
    assert clip is not None
    assert clip.num_objects == 2


def test_an_empty_mask_is_named_and_another_clip_taken_or_refused(
    davis: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = davis / "DAVIS/2017/trainval/Annotations/480p/bear"
    for path in masks.iterdir():
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(path)
    clips = VideoClips(open_videos(VIDEO_SETS["davis"], davis, 3), 0)
    broken = next(i for i in range(2) if clips.videos[RandomPasses(2, clips.seed).item(i)].name == "bear")
    loader = ClipLoader(clips, 0, 1)
    loader.ask(clip_plan())
    loader.ask(IterationPlan(1, 0.0, broken, 1, 3, 3, 64))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            _, batch = loader.next()
            assert batch.label_maps[:, 0].any()
    loader.close()
    assert loader.skipped > 0
    assert str(masks) in caplog.text
    strict = ClipLoader(clips, 0, 1, refuse_broken=True)
    strict.ask(IterationPlan(1, 0.0, broken, 1, 3, 3, 64))
    with pytest.raises(DataError, match="no object in the first frame"):
        strict.next()
    strict.close()


def test_clips_that_begin_with_no_object_by_chance_end_no_strict_run(
    davis: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jointformer.train.video_clips.TRIES", 1)
    masks = davis / "DAVIS/2017/trainval/Annotations/480p/bear"
    for path in sorted(masks.iterdir())[3:]:  # of 6
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(path)
    clips = VideoClips([v for v in open_videos(VIDEO_SETS["davis"], davis, 3) if v.name == "bear"], 0)
    loader = ClipLoader(clips, 0, 1, refuse_broken=True)
    loader.ask(IterationPlan(1, 0.0, 0, 8, 3, 3, 64))
    _, batch = loader.next()
    loader.close()
    assert batch.label_maps[:, 0].flatten(1).any(1).all()
    assert loader.skipped > 0


def test_a_broken_picture_is_named(davis: Path) -> None:
    images = davis / "DAVIS/2017/trainval/JPEGImages/480p/dog"
    for path in images.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    clips = VideoClips([v for v in open_videos(VIDEO_SETS["davis"], davis, 3) if v.name == "dog"], 0)
    with pytest.raises(DataError, match=r"dog/0000\d\.png"):
        clips.sample(0, clip_plan())
