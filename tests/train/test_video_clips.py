from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jointformer.data import augment
from jointformer.errors import DataError
from jointformer.train.datasets import (
    STILL_SETS,
    VIDEO_SETS,
    TrainStill,
    TrainVideo,
    VideoSet,
    open_stills,
    open_videos,
    pair_frames,
    require_set,
)
from jointformer.train.image_clips import ImageClips
from jointformer.train.loader import ClipLoader
from jointformer.train.own_data import OWN, check_videos
from jointformer.train.passes import RandomPasses
from jointformer.train.plan import StepPlan
from jointformer.train.video_clips import VideoClips, draw_frames, targets

COLOURS = np.array([(20, 20, 20), (220, 40, 40), (40, 220, 40), (40, 40, 220), (220, 220, 40)], np.uint8)


def plan(**changes: int | bool) -> StepPlan:
    return StepPlan(0, 0.0, 0, 1, **{"frames": 3, "slots": 3, "size": 64, "max_skip": 2, **changes})  # type: ignore[arg-type]


def write_video(
    images: Path, masks: Path, length: int = 6, ids: tuple[int, ...] = (1, 2), size: tuple[int, int] = (60, 80)
) -> None:
    """Objects are vertical bands whose colour says their id."""
    images.mkdir(parents=True)
    masks.mkdir(parents=True)
    for t in range(length):
        labels = np.zeros(size, np.uint8)
        for n, i in enumerate(ids):
            labels[10:50, 8 + 22 * n + t : 24 + 22 * n + t] = i
        Image.fromarray(COLOURS[np.where(labels > 4, 4, labels)]).save(images / f"{t:05d}.png")
        Image.fromarray(labels).save(masks / f"{t:05d}.png")


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
    assert np.array_equal(one.sample(5, plan()).frames, two.sample(5, plan()).frames)
    assert not np.array_equal(one.sample(5, plan()).frames, one.sample(7, plan()).frames)
    passes = RandomPasses(2, 4)
    assert sorted(passes.item(index) for index in (6, 7)) == [0, 1]


def test_masks_follow_their_pictures_through_every_augmentation(davis: Path) -> None:
    clips = VideoClips(open_videos(VIDEO_SETS["davis"], davis, 3), 0)
    seen = 0
    for index in range(12):
        clip = clips.sample(index, plan())
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
        drawn = clips.sample(index, plan(frames=2, max_skip=10, fine_tune=True)).frames[:, 32, 32].astype(float)
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
    maps = VideoClips([video], 0).sample(0, plan(fine_tune=fine_tune)).label_maps
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
    loader.ask(plan())
    loader.ask(StepPlan(1, 0.0, broken, 1, 3, 3, 64))
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            _, batch = loader.next()
            assert batch.label_maps[:, 0].any()
    loader.close()
    assert loader.skipped > 0
    assert str(masks) in caplog.text
    strict = ClipLoader(clips, 0, 1, refuse_broken=True)
    strict.ask(StepPlan(1, 0.0, broken, 1, 3, 3, 64))
    with pytest.raises(DataError, match="no object in the first frame"):
        strict.next()
    strict.close()


def test_a_broken_picture_is_named(davis: Path) -> None:
    images = davis / "DAVIS/2017/trainval/JPEGImages/480p/dog"
    for path in images.iterdir():
        path.write_bytes(path.read_bytes()[:100])
    clips = VideoClips([v for v in open_videos(VIDEO_SETS["davis"], davis, 3) if v.name == "dog"], 0)
    with pytest.raises(DataError, match=r"dog/0000\d\.png"):
        clips.sample(0, plan())


def test_a_still_with_a_mask_becomes_a_clip_of_its_views(tmp_path: Path) -> None:
    folder = tmp_path / "static/fss/apple"
    folder.mkdir(parents=True)
    mask = np.zeros((90, 120), np.uint8)
    mask[20:70, 30:90] = 255
    picture = np.where(mask[..., None] > 0, np.array([200, 30, 30], np.uint8), np.uint8(90))
    Image.fromarray(picture).save(folder / "1.jpg", quality=95)
    Image.fromarray(mask).save(folder / "1.png")
    for name in ("._1.jpg", "._1.png"):  # as macOS leaves them behind
        (folder / name).write_bytes(b"\0\5\x16\7")
    stills = open_stills(STILL_SETS["fss"], tmp_path)
    assert [(still.image.name, still.mask.name) for still in stills] == [("1.jpg", "1.png")]
    clip = ImageClips(stills, 0).sample(3, plan(slots=1))
    assert clip.frames.shape == (3, 64, 64, 3)
    assert set(np.unique(clip.label_maps)) == {0, 1}
    assert not np.array_equal(clip.label_maps[0], clip.label_maps[1])
    with pytest.raises(DataError, match="DUTS-TR"):
        open_stills(STILL_SETS["duts_tr"], tmp_path)


def test_masks_follow_their_stills_and_all_views_of_one_are_flipped_alike(tmp_path: Path) -> None:
    mask = np.zeros((90, 90), np.uint8)
    mask[30:60, 14:36] = 255  # left of the middle
    Image.fromarray(mask).save(tmp_path / "1.png")
    picture = np.where(mask[..., None] > 0, np.array([220, 30, 30], np.uint8), np.array([110, 110, 110], np.uint8))
    Image.fromarray(picture).save(tmp_path / "1.bmp")
    clips, flipped = ImageClips([TrainStill(tmp_path / "1.bmp", tmp_path / "1.png")], 0), set[bool]()
    for index in range(16):
        clip = clips.sample(index, plan(slots=1))
        sides = {bool(np.nonzero(labels)[1].mean() > 31.5) for labels in clip.label_maps}
        assert len(sides) == 1
        flipped |= sides
        coloured = clip.frames.max(axis=3).astype(int) - clip.frames.min(axis=3) > 90
        if coloured.any():  # not a grey clip
            assert (coloured != (clip.label_maps > 0)).mean() < 0.02
    assert flipped == {False, True}


def test_a_still_without_object_or_with_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    still = TrainStill(tmp_path / "1.bmp", tmp_path / "1.png")
    Image.fromarray(np.zeros((40, 50, 3), np.uint8)).save(still.image)
    for size, said in (((40, 50), "no object in the first frame"), ((50, 40), "mask and picture differ in size")):
        Image.fromarray(np.zeros(size, np.uint8)).save(still.mask)
        with pytest.raises(DataError, match=rf"1\.png: {said}"):
            ImageClips([still], 0).sample(0, plan(slots=1))


def test_own_videos_are_checked_and_every_problem_is_named(tmp_path: Path) -> None:
    images, masks = tmp_path / "JPEGImages", tmp_path / "Annotations"
    for name in ("good", "late", "empty", "small", "once"):
        write_video(images / name, masks / name)
    write_video(images / "short", masks / "short", length=2)
    (images / "lonely").mkdir()
    blank = Image.fromarray(np.zeros((60, 80), np.uint8))
    blank.save(masks / "late/00000.png")
    for path in (masks / "empty").iterdir():
        blank.save(path)
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(masks / "small/00003.png")
    extra = np.zeros((60, 80), np.uint8)
    extra[:20, :20] = 9
    Image.fromarray(extra).save(masks / "once/00002.png")
    check = check_videos(tmp_path, 3)
    assert [video.name for video in check.videos] == ["good", "late", "once"]
    text = "\n".join(check.problems)
    for words in ("late/00000.png: the first annotated frame is empty", "empty: all masks are empty",
                  "small/00003.png: mask and frame differ in size", "short: too short", "lonely",
                  "once: ids [9] are in one frame only"):  # fmt: skip
        assert words in text, words
    assert check.summary().startswith("3 videos, 18 annotated frames")


@pytest.mark.parametrize(("first", "ids"), [((), {1, 2}), ((255,), {255})])
def test_255_alone_in_a_later_mask_is_an_object_only_where_it_is_in_the_first(
    tmp_path: Path, first: tuple[int, ...], ids: set[int]
) -> None:
    write_video(tmp_path / "JPEGImages/a", tmp_path / "Annotations/a", ids=first or (1, 2, 255))
    blank, white = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint8)
    white[10:50, 8:24] = 255
    Image.fromarray(blank).save(tmp_path / "Annotations/a/00000.png")
    for t in (2, 3, 4, 5):
        Image.fromarray(white).save(tmp_path / f"Annotations/a/{t:05d}.png")
    check = check_videos(tmp_path, 3)
    assert check.objects == len(ids)
    rng = np.random.default_rng(0)
    clips = [VideoClips(check.videos, 0)._attempt(check.videos[0], plan(), rng) for _ in range(40)]
    maps = [clip.label_maps for clip in clips if clip is not None]
    assert maps
    assert any(each[1:].any() for each in maps) == (ids == {255})  # the others are in one frame alone


def test_a_colour_is_the_same_object_in_all_masks_of_a_video(tmp_path: Path) -> None:
    write_video(tmp_path / "JPEGImages/a", tmp_path / "Annotations/a")
    for t in range(6):
        path = tmp_path / f"Annotations/a/{t:05d}.png"
        ids = np.array(Image.open(path))
        if t >= 3:
            ids[ids == 1] = 0
        Image.fromarray(np.array([(0, 0, 0), (20, 90, 250), (250, 90, 20)], np.uint8)[ids]).save(path)
    (video,) = check_videos(tmp_path, 3).videos
    assert [set(np.unique(video.read_labels(mask))) for _, mask in video.frames] == 3 * [{0, 1, 2}] + 3 * [{0, 2}]


def test_a_folder_of_another_layout_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="JPEGImages/VIDEO"):
        check_videos(tmp_path, 3)
    assert OWN.every == 1


def test_colours_stay_when_nothing_is_changed_and_grey_is_grey() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (8, 8, 3), np.uint8)
    assert np.array_equal(augment.Colours().apply(picture), picture)
    grey = augment.Colours(grey=True).apply(picture)
    assert (grey[..., 0] == grey[..., 1]).all()
    red = np.array([[[200, 0, 0]]], np.uint8)
    assert augment.Colours(hue=1 / 3).apply(red).tolist() == [[[0, 200, 0]]]
    assert augment.Colours(hue=-1 / 3).apply(red).tolist() == [[[0, 0, 200]]]
    assert np.ptp(augment.Colours(saturation=0.0).apply(red)) == 0
    assert np.ptp(augment.Colours(saturation=0.5).apply(red)) == 100
    assert augment.Colours(brightness=0.5).apply(red).tolist() == [[[100, 0, 0]]]
    flat = np.array([[[50, 50, 50], [150, 150, 150]]], np.uint8)
    assert augment.Colours(contrast=0.5).apply(flat)[0, :, 0].tolist() == [75, 125]


def test_a_window_of_the_whole_picture_changes_nothing() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (32, 32, 3), np.uint8)
    same = augment.window(0, 0, 32, 32, 32, flip=False)
    assert np.array_equal(augment.warp_picture(picture, same, 32), picture)
    flipped = augment.window(0, 0, 32, 32, 32, flip=True)
    assert np.array_equal(augment.warp_picture(picture, flipped, 32), picture[:, ::-1])
    assert np.array_equal(augment.warp_labels(picture[..., 0].copy(), flipped, 32), picture[:, ::-1, 0])


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(480, 1130, (245, 0, 640, 480)), (900, 300, (0, 250, 300, 400)), (400, 500, (0, 0, 500, 400))],
)
def test_a_window_that_cannot_be_drawn_is_the_largest_in_the_middle_of_4_to_3_or_3_to_4(
    height: int, width: int, expected: tuple[float, ...]
) -> None:
    too_large = (1.7, 1.8)
    window = augment.draw_crop(np.random.default_rng(0), height, width, too_large)
    np.testing.assert_allclose(window, expected)


def test_a_thin_plate_warp_moves_pixels_a_little() -> None:
    grid = augment.thin_plate_grid(np.random.default_rng(0), 64)
    y, x = np.mgrid[:64, :64]
    moved = np.hypot(grid[..., 0] - x, grid[..., 1] - y)
    assert 0.1 < moved.mean() < 6
