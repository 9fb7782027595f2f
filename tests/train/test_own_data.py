"""One's own videos, checked before anything runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from train_helpers import clip_plan, write_video

from jointformer.errors import DataError
from jointformer.train.own_data import OWN, check_videos
from jointformer.train.video_clips import VideoClips


def test_own_videos_are_checked_and_every_problem_is_named(tmp_path: Path) -> None:
    images, masks = tmp_path / "JPEGImages", tmp_path / "Annotations"
    for name in ("good", "late", "empty", "small", "once", "turned"):
        write_video(images / name, masks / name)
    write_video(images / "short", masks / "short", length=2)
    (images / "lonely").mkdir()
    (masks / "unfilmed").mkdir()
    write_video(images / "cut", masks / "cut")
    half = images / "cut/00003.jpg"
    Image.open(half.with_suffix(".png")).save(half)
    half.with_suffix(".png").unlink()
    half.write_bytes(half.read_bytes()[: half.stat().st_size // 2])  # its header says the right size
    write_video(images / "named", masks / "named")
    for path in (masks / "named").iterdir():
        path.rename(path.with_name(f"mask_{path.name}"))
    blank = Image.fromarray(np.zeros((60, 80), np.uint8))
    blank.save(masks / "late/00000.png")
    for path in (masks / "empty").iterdir():
        blank.save(path)
    Image.fromarray(np.zeros((30, 40), np.uint8)).save(masks / "small/00003.png")
    Image.new("RGB", (60, 80)).save(images / "turned/00004.png")
    extra = np.zeros((60, 80), np.uint8)
    extra[:20, :20], extra[:20, 60:] = 9, 255
    Image.fromarray(extra).save(masks / "once/00002.png")
    check = check_videos(tmp_path, 3)
    assert [video.name for video in check.videos] == ["good", "late", "once"]
    text = "\n".join(check.problems)
    for words in ("late/00000.png: the first annotated frame is empty", "empty: all masks are empty",
                  "small/00003.png: mask of another size than its frame, expected 80x60, got 40x30",
                  "short: too short",
                  "lonely",
                  "turned/00004.png: the frame size changes, expected 80x60 as the first frame, got 60x80",
                  "named: no mask has a frame's name, expected 00000.png for the frame 00000.jpg",
                  "once: ids [9] are in one frame only", "JPEGImages/unfilmed: no such folder",
                  "cut/00003.jpg"):  # fmt: skip
        assert words in text, words
    assert check.summary().startswith("3 videos, 18 annotated frames")


def test_masks_without_a_frame_are_named_and_the_others_used(tmp_path: Path) -> None:
    write_video(tmp_path / "JPEGImages/a", tmp_path / "Annotations/a")
    (tmp_path / "JPEGImages/a/00002.png").unlink()
    check = check_videos(tmp_path, 3)
    assert check.problems == [f"{tmp_path / 'Annotations/a'}: 1 masks without a frame of their name (00002.png)"]
    assert check.frames == 5


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
    clips = [VideoClips(check.videos, 0)._attempt(check.videos[0], clip_plan(), rng) for _ in range(40)]
    maps = [clip.label_maps for clip in clips if clip is not None]
    assert maps
    assert any(each[1:].any() for each in maps) == (ids == {255})  # the others are in one frame alone


def test_a_white_object_in_one_frame_alone_is_named_as_any_other_is(tmp_path: Path) -> None:
    write_video(tmp_path / "JPEGImages/a", tmp_path / "Annotations/a", ids=(255,))
    for t in range(1, 6):
        Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / f"Annotations/a/{t:05d}.png")
    (problem,) = check_videos(tmp_path, 3).problems
    assert "ids [255] are in one frame only" in problem


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


def test_a_folder_without_a_usable_video_says_what_is_wrong_with_the_first(tmp_path: Path) -> None:
    write_video(tmp_path / "JPEGImages/a", tmp_path / "Annotations/a", length=2)
    with pytest.raises(DataError, match="no usable video; first problem: a: too short"):
        check_videos(tmp_path, 3)
    assert [video.name for video in check_videos(tmp_path, 2).videos] == ["a"]
