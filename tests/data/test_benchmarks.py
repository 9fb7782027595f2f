"""Every layout is read as published, and what is wrong in a tree is found before anything runs."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

from jointformer.cli import published
from jointformer.cli.main import main
from jointformer.data.benchmark_rows import BENCHMARKS, find_benchmark
from jointformer.data.benchmarks import open_benchmark
from jointformer.data.masks import write_mask
from jointformer.data.sources import VideoSource
from jointformer.errors import ConfigError, DataError
from jointformer.evaluation.submit import submitted_benchmarks
from jointformer.metrics.protocols import PROTOCOLS
from jointformer.ops.palette import davis_palette
from trees import HEIGHT, WIDTH, Tree, draw_frame, draw_ids, make_tree

ROWS = sorted(BENCHMARKS)


def open_tree(tree: Tree, **options: object) -> dict[str, VideoSource]:
    generic = tree.root if tree.key == "G" else None
    dataset = open_benchmark(tree.key, tree.split, tree.root, generic_path=generic, **options)  # type: ignore[arg-type]
    return {video.name: video for video in dataset.videos}


@pytest.mark.parametrize(("key", "split"), ROWS)
def test_every_layout_is_read_as_published(tmp_path: Path, key: str, split: str) -> None:
    tree = make_tree(tmp_path, key, split)
    videos = open_tree(tree)
    assert sorted(videos) == sorted(tree.videos)
    for name, expected in tree.videos.items():
        video = videos[name]
        assert list(video.frame_names) == expected.frames
        assert [n for i, n in enumerate(video.frame_names) if i in video.frames_to_save] == expected.saved
        assert video.size == video.output_size == (HEIGHT, WIDTH)
        masks = {video.frame_names[i]: video.read_mask(i) for i in video.masks}
        given = list(expected.masks)[:1] if video.masks_read == "first" else list(expected.masks)
        assert list(masks) == given
        for frame in given:
            ids = expected.masks[frame]
            ids = tuple(i for i in ids if i != 255) or ids
            np.testing.assert_array_equal(masks[frame], draw_ids(ids, expected.frames.index(frame)))
        assert np.abs(video.frame(1).astype(int) - draw_frame(1)).mean() < 12  # the JPEG's loss
        np.testing.assert_array_equal(video.palette, davis_palette())


def test_the_table_has_every_published_benchmark() -> None:
    assert {key for key, _ in ROWS} == {"D16", "D17", "Y18", "Y19", "VOST", "MOSE", "VISOR", "LVOS", "BURST", "G"}
    zipped = {row: benchmark.zip_holds for row, benchmark in BENCHMARKS.items() if benchmark.zip_holds}
    assert zipped == {
        ("D17", "test"): "videos",
        ("MOSE", "val"): "videos",
        ("MOSE", "test"): "videos",
        ("VISOR", "val"): "val.json",
        **{(key, split): "Annotations" for key in ("Y18", "Y19", "LVOS", "BURST") for split in ("val", "test")},
    }
    below = {key for (key, _), benchmark in BENCHMARKS.items() if benchmark.output_folder == "Annotations"}
    assert below == {"Y18", "Y19", "LVOS", "BURST"}


def test_the_commands_help_names_every_benchmark(capsys: pytest.CaptureFixture[str]) -> None:
    def words(*command: str) -> set[str]:
        with pytest.raises(SystemExit):
            main([*command, "--help"])
        return set(re.findall(r"\w+", capsys.readouterr().out))

    every = {key for key, _ in ROWS}
    assert every <= words("evaluate")
    assert every <= set(re.findall(r"\w+", published.build_parser().format_help()))
    for action in ("check", "pack"):
        assert {key for key, _ in submitted_benchmarks()} <= words("submit", action)
    assert {row.benchmark for row in PROTOCOLS} <= words("score")


def test_youtube_prefers_all_frames(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "Y19")
    every = tmp_path / "YouTubeVOS-2019/all_frames/valid_all_frames/JPEGImages"
    shutil.copytree(tree.images, every)
    assert open_tree(tree)["00f88c4f0a"].frames[0].is_relative_to(every)


def test_a_videos_frame_names_are_made_once_however_often_they_are_asked_for(tmp_path: Path) -> None:
    video = VideoSource("a", (tmp_path / "0.jpg",), {}, "first", frozenset([0]), (4, 4), (4, 4))
    assert video.frame_names == ("0",)
    assert video.frame_names is video.frame_names


def test_known_objects_in_a_later_mask_are_not_new(tmp_path: Path) -> None:
    video = open_tree(make_tree(tmp_path, "Y18"))["00f88c4f0a"]
    assert video.first_mask == 1
    assert set(np.unique(video.read_mask(3, known=(1,)))) == {0, 7}


def test_save_all_saves_frames_the_benchmark_does_not_ask_for(tmp_path: Path) -> None:
    for video in open_tree(make_tree(tmp_path, "BURST"), save_all=True).values():
        assert video.frames_to_save == frozenset(range(len(video)))


@pytest.mark.parametrize("folder", ["Full-Resolution", "1080p"])
def test_davis_at_another_size_reads_full_resolution_and_saves_at_480p(tmp_path: Path, folder: str) -> None:
    tree = make_tree(tmp_path, "D17", full_resolution=folder)
    video = open_tree(tree, size=600)["gap"]
    assert video.size == (2 * HEIGHT, 2 * WIDTH) == video.frame(0).shape[:2]
    assert video.output_size == (HEIGHT, WIDTH)
    assert open_tree(tree)["gap"].size == (HEIGHT, WIDTH)


@pytest.mark.parametrize(("key", "name", "ids"), [("D16", "swan", (255,)), ("D17", "gap", (1, 3))])
def test_davis_at_another_size_takes_the_480p_masks_whatever_lies_beside_them(
    tmp_path: Path, key: str, name: str, ids: tuple[int, ...]
) -> None:
    tree = make_tree(tmp_path, key, full_resolution="Full-Resolution")
    for video in tree.videos:
        large = Path(str(tree.masks).replace("480p", "Full-Resolution")) / video
        large.mkdir(parents=True)
        write_mask(large / "00000.png", np.full((2 * HEIGHT, 2 * WIDTH), 9, np.uint8))
    np.testing.assert_array_equal(open_tree(tree, size=720)[name].read_mask(0), draw_ids(ids, 0))
    (tree.images / name / "00000.jpg").unlink()
    with pytest.raises(DataError, match=f"{name}: no picture that tells the size to save at, expected frame 00000"):
        open_tree(tree, size=720)


def test_davis_masks_of_another_size_than_the_480p_frames_are_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "D17", full_resolution="1080p")
    write_mask(tree.masks / "gap" / "00000.png", np.ones((2 * HEIGHT, 2 * WIDTH), np.uint8))
    with pytest.raises(DataError, match=f"00000.png: .*expected {WIDTH}x{HEIGHT}, got {2 * WIDTH}x{2 * HEIGHT}"):
        open_tree(tree, size=720)


def test_davis_without_full_resolution_is_said_to_want_it_at_another_size(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "D17")
    said = r"expected .*Full-Resolution or .*1080p.*; where the size is not 480, its frames are read in full resolution"
    with pytest.raises(DataError, match=said):
        open_tree(tree, size=720)


def test_empty_masks_before_the_first_object_are_no_masks(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "Y19")
    write_mask(tree.masks / "00f88c4f0a" / "00000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    assert open_tree(tree)["00f88c4f0a"].first_mask == 1


def test_rgb_masks_of_a_video_share_one_mapping(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "Y19")
    folder = tree.masks / "00f88c4f0a"
    colours = {1: (200, 10, 30), 7: (20, 100, 250)}
    for name, ids in tree.videos["00f88c4f0a"].masks.items():
        rgb = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        for number in ids:
            rgb[draw_ids((number,), int(name)) > 0] = colours[number]
        Image.fromarray(rgb).save(folder / f"{name}.png")
    video = open_tree(tree)["00f88c4f0a"]
    assert set(np.unique(video.read_mask(1))) == {0, 1}
    assert set(np.unique(video.read_mask(3))) == {0, 1, 2}
    np.testing.assert_array_equal(video.read_mask(3) == 1, draw_ids((1,), 3) > 0)
    assert tuple(video.palette[2]) == colours[7]


def test_a_first_mask_is_decoded_once_when_a_benchmark_is_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = make_tree(tmp_path, "D17", "val")
    decoded: list[PngImageFile] = []
    load = PngImageFile.load_prepare

    def noted(image: PngImageFile) -> None:
        decoded.append(image)
        load(image)

    monkeypatch.setattr(PngImageFile, "load_prepare", noted)
    assert len(open_tree(tree)) == len(decoded)


def test_hidden_files_and_folders_do_not_matter(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "MOSE")
    (tree.images / ".cache").mkdir()
    (tree.images / "__MACOSX").mkdir()
    for name in ("._00000.jpg", "Thumbs.db", ".DS_Store"):
        (tree.images / "0a1b2c3d" / name).write_bytes(b"\0")
        (tree.masks / "0a1b2c3d" / name.replace("jpg", "png")).write_bytes(b"\0")
    assert len(open_tree(tree)["0a1b2c3d"]) == 6


def _no_list(tree: Tree) -> None:
    (tree.root / "DAVIS/2017/trainval/ImageSets/2017/val.txt").unlink()


def _list_of_paths(tree: Tree) -> None:
    (tree.root / "DAVIS/2017/trainval/ImageSets/2017/val.txt").write_text("gap\n../../etc\n")


def _no_video(tree: Tree) -> None:
    shutil.rmtree(tree.images / "gap")


def _no_frames(tree: Tree) -> None:
    for path in (tree.images / "gap").iterdir():
        path.unlink()


def _no_mask_folder(tree: Tree) -> None:
    shutil.rmtree(tree.masks / "gap")


def _empty_mask_folder(tree: Tree) -> None:
    for path in (tree.masks / "gap").iterdir():
        path.unlink()


def _no_first_mask(tree: Tree) -> None:
    (tree.masks / "gap" / "00000.png").unlink()


def _other_size(tree: Tree) -> None:
    write_mask(tree.masks / "gap" / "00000.png", draw_ids((1,), 0, 2))


def _no_object(tree: Tree) -> None:
    write_mask(tree.masks / "gap" / "00000.png", draw_ids((), 0))


def _truncated_mask(tree: Tree) -> None:
    path = tree.masks / "gap" / "00000.png"
    path.write_bytes(path.read_bytes()[:-40])


def _truncated_frame(tree: Tree) -> None:
    path = tree.images / "gap" / "00000.jpg"
    path.write_bytes(path.read_bytes()[:100])


def _no_images(tree: Tree) -> None:
    shutil.rmtree(tree.images)


def _no_masks(tree: Tree) -> None:
    shutil.rmtree(tree.masks)


def _twice(tree: Tree) -> None:
    Image.new("RGB", (WIDTH, HEIGHT)).save(tree.images / "gap" / "00000.png")


def _jpeg_masks(tree: Tree) -> None:
    folder = tree.masks / "gap"
    for path in folder.iterdir():
        path.unlink()
    Image.new("L", (WIDTH, HEIGHT)).save(folder / "00000.jpg")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_list, r"val\.txt: DAVIS 2017 val: the file that lists the videos is missing; .*davischallenge\.org"),
        (_list_of_paths, r"val\.txt: not a video's name, expected one folder name per line, got '\.\./\.\./etc'"),
        (_no_video, r"480p/gap: no such folder; DAVIS 2017 val comes from https"),
        (_no_frames, r"JPEGImages/480p/gap: holds no pictures, expected the frames of a video"),
        (_no_mask_folder, r"Annotations/480p/gap: no folder of masks for a video, expected a mask for frame 00000"),
        (_empty_mask_folder, r"Annotations/480p/gap: no masks for a video, .* got an empty folder"),
        (_no_first_mask, r"gap: no mask for the first frame, expected 00000\.png, got 00002\.png"),
        (_other_size, r"00000\.png: mask of another size than its frame, expected 32x24, got 64x48"),
        (_no_object, r"gap/00000\.png: the mask has no object"),
        (_truncated_mask, r"gap/00000\.png: the picture is damaged"),
        (_truncated_frame, r"gap/00000\.jpg: (not a picture|the picture is damaged)"),
        (_no_images, r"no folder of frames, expected .*JPEGImages/480p, got .*JPEGImages, which is empty"),
        (_no_masks, r"no folder of masks, expected .*Annotations/480p"),
        (_twice, r"gap: two pictures of one frame: 00000\.jpg and 00000\.png; keep one of them"),
        (_jpeg_masks, r"no masks for a video, .* got 1 pictures of formats that cannot hold exact ids"),
    ],
)
def test_a_wrong_davis_tree_is_one_line(tmp_path: Path, spoil: Callable[[Tree], None], message: str) -> None:
    tree = make_tree(tmp_path, "D17")
    spoil(tree)
    with pytest.raises(DataError, match=message) as caught:
        open_tree(tree)
    assert "\n" not in str(caught.value)


def _meta(tree: Tree, text: str) -> None:
    (tree.root / "YouTubeVOS-2019/valid/meta.json").write_text(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not a json file"),
        ("[" * 200_000, "nested too deeply"),
        ("[]", "the file has no 'videos'"),
        ('{"videos": []}', "videos is of the wrong type, expected an object, got"),
        ('{"videos": {"x": {}}}', "videos.x has no 'objects'"),
        ('{"videos": {"../x": {"objects": {}}}}', "videos holds something that is not a file name, got '../x'"),
        ('{"videos": {"x": {"objects": {"1": {"frames": [7]}}}}}', "holds something that is not a file name, got 7"),
        ('{"videos": {"00f88c4f0a": {"objects": {}}}}', "the video 0062f687f1 is not listed"),
    ],
)
def test_a_wrong_meta_json_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    tree = make_tree(tmp_path, "Y19")
    _meta(tree, text)
    with pytest.raises(DataError, match=message):
        open_tree(tree)


@pytest.mark.parametrize("empty", [False, True])
def test_a_video_whose_frames_to_save_all_come_before_its_first_mask_is_one_line(tmp_path: Path, empty: bool) -> None:
    tree = make_tree(tmp_path, "Y19")
    folder = tree.masks / "00f88c4f0a"
    (folder / "00001.png").unlink()
    (folder / "00003.png").rename(folder / "00004.png")
    if empty:  # names no object, so it is none of the video's masks
        write_mask(folder / "00000.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    path = tree.root / "YouTubeVOS-2019/valid/meta.json"
    meta = json.loads(path.read_text())
    meta["videos"]["00f88c4f0a"]["objects"] = {"1": {"category": "cat", "frames": ["00000", "00003"]}}
    path.write_text(json.dumps(meta))
    message = "00f88c4f0a: every frame to be saved comes before .* expected .* 00003 or before, got .* 00004"
    with pytest.raises(DataError, match=message):
        open_tree(tree)
    assert open_tree(tree, save_all=True)["00f88c4f0a"].first_mask == 4
    meta["videos"]["00f88c4f0a"]["objects"]["1"]["frames"].append("00004")
    path.write_text(json.dumps(meta))
    assert open_tree(tree)["00f88c4f0a"].tracked_frames == 1


def test_a_missing_meta_json_says_where_it_was_looked_for(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "LVOS")
    path = tmp_path / "LVOS/valid/valid_meta.json"
    moved = tmp_path / "LVOS/valid_meta.json"
    path.rename(moved)
    assert len(open_tree(tree)) == 2
    moved.unlink()
    with pytest.raises(DataError, match=r"expected .*valid/valid_meta.json or .*LVOS/valid_meta.json"):
        open_tree(tree)


@pytest.mark.parametrize("number", ['"x"', "-1", "1e9", "true", "9" * 5000, "null", "[1]"])
def test_lvos_numbers_that_are_none_are_one_line(tmp_path: Path, number: str) -> None:
    tree = make_tree(tmp_path, "LVOS")
    path = tmp_path / "LVOS/valid/valid_meta.json"
    path.write_text(path.read_text().replace('"start": 1,', f'"start": {number},'))
    with pytest.raises(DataError, match=r"no frame number|not a json file"):
        open_tree(tree)


@pytest.mark.parametrize("end", [26, 31])
def test_an_lvos_range_may_end_with_its_last_frame_or_one_past_it(tmp_path: Path, end: int) -> None:
    tree = make_tree(tmp_path, "LVOS")
    path = tmp_path / "LVOS/valid/valid_meta.json"
    before = path.read_text()
    assert '"end": 27' in before
    expected = {name: video.frames_to_save for name, video in open_tree(tree).items()}
    path.write_text(before.replace('"end": 27', f'"end": {end}'))
    assert {name: video.frames_to_save for name, video in open_tree(tree).items()} == expected


def test_an_lvos_video_whose_last_frames_are_missing_is_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "LVOS")
    name, video = next(iter(tree.videos.items()))
    for frame in video.frames[3:]:
        (tree.images / name / f"{frame}.jpg").unlink()
    with pytest.raises(DataError, match=rf"{name}: 3 frames .* are missing, .* no {', '.join(video.saved[-3:])}; "):
        open_tree(tree)


def test_an_lvos_range_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "LVOS")
    path = tmp_path / "LVOS/valid/valid_meta.json"
    path.write_text(path.read_text().replace('"end": 27', '"end": 99999999'))
    with pytest.raises(DataError, match="spans 99999998 frames"):
        open_tree(tree)


@pytest.mark.parametrize("place", ["annotations/val", "val/annotations", "annotations"])
def test_burst_finds_its_json_in_several_places(tmp_path: Path, place: str) -> None:
    tree = make_tree(tmp_path, "BURST")
    folder = tmp_path / "BURST" / place
    folder.mkdir(parents=True)
    (tmp_path / "BURST/val/first_frame_annotations.json").rename(folder / "first_frame_annotations.json")
    assert len(open_tree(tree)) == 2


def test_a_missing_frame_that_is_to_be_saved_is_one_line(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "Y18")
    (tree.images / "00f88c4f0a" / "00005.jpg").unlink()
    with pytest.raises(DataError, match=r"1 frames that are to be saved are missing, .*no 00005"):
        open_tree(tree)


def test_a_mask_without_its_frame_is_one_line(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "LVOS")
    (tree.masks / "0tCWPOrc" / "00000006.png").rename(tree.masks / "0tCWPOrc" / "00000007.png")
    with pytest.raises(DataError, match=r"00000007.png: the mask belongs to no frame, expected a name among"):
        open_tree(tree)


def test_a_video_the_json_names_must_be_there(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "BURST")
    shutil.rmtree(tree.images / "AVA_-_clip_1")
    with pytest.raises(DataError, match=r"AVA_-_clip_1: no folder of frames for a video"):
        open_tree(tree)


@pytest.mark.parametrize(("key", "folder"), [("MOSE", "MOSE"), ("Y19", "YouTubeVOS-2019")])
def test_a_download_without_the_frames_of_some_videos_is_one_line(tmp_path: Path, key: str, folder: str) -> None:
    tree = make_tree(tmp_path, key)
    name = list(tree.videos)[1]
    shutil.rmtree(tree.images / name)
    with pytest.raises(
        DataError, match=f"{name}: no folder of frames for a video; .* names it; .* that holds {folder}/$"
    ):
        open_tree(tree)


def test_an_object_that_youtube_names_and_no_mask_gives_is_one_line(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "Y18")
    (tree.masks / "00f88c4f0a/00003.png").unlink()
    said = r"00f88c4f0a: no mask gives object 7, which meta.json names, expected it in 00003.png"
    with pytest.raises(DataError, match=said):
        open_tree(tree)


@pytest.mark.parametrize(("key", "command"), [("LVOS", "first-masks`"), ("BURST", "burst-masks --first-only`")])
def test_masks_that_are_made_of_others_are_said_to_be_that(tmp_path: Path, key: str, command: str) -> None:
    tree = make_tree(tmp_path, key)
    shutil.rmtree(tree.masks)
    with pytest.raises(DataError, match=f"Annotations_first_only.*: `jointformer data {command} makes it"):
        open_tree(tree)


def test_several_problems_are_counted(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "MOSE")
    for name in tree.videos:
        shutil.rmtree(tree.masks / name)
    with pytest.raises(DataError, match=r"0a1b2c3d: no folder of masks .*1 more videos have problems"):
        open_tree(tree)


@pytest.mark.parametrize("count", [3, 12])
@pytest.mark.parametrize("colour", [False, True])
def test_objects_that_only_later_masks_of_ones_own_name_are_told_of_once_where_they_are_few(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, count: int, colour: bool
) -> None:
    for name in ("a", "b", "c"):
        images, masks = tmp_path / "JPEGImages" / name, tmp_path / "Annotations" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        for t in range(count):
            Image.fromarray(draw_frame(0)).save(images / f"{t:05d}.jpg")
            ids = draw_ids((1, 3, 7) if t and name != "a" else (1, 255) if t else (1,), 0)
            Image.fromarray(davis_palette()[ids] if colour else ids).save(masks / f"{t:05d}.png")
    (tmp_path / "Annotations/c/00001.png").write_bytes(b"damaged")
    videos = open_benchmark("G", "val", "..", generic_path=tmp_path).videos
    assert all(list(video.masks) == [0] for video in videos)
    told = f"{tmp_path}/Annotations/b: later masks name objects that the first one does not (3, 7): "
    assert [message.startswith(told) for message in caplog.messages] == ([True] if count == 3 else [])


def test_a_generic_folder_of_loose_pictures_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "JPEGImages" / "0.png")
    with pytest.raises(DataError, match="expected a folder of frames per video, got 1 pictures directly inside"):
        open_benchmark("G", "val", "..", generic_path=tmp_path)


def test_of_ones_own_videos_some_may_have_masks_alone(tmp_path: Path) -> None:
    tree = make_tree(tmp_path, "G")
    (tree.masks / "another").mkdir()
    assert open_tree(tree).keys() == tree.videos.keys()


@pytest.mark.parametrize(
    ("word", "meant"),
    [("davis", "D16 or D17"), ("davis16", "D16"), ("youtube", "Y18 or Y19"), ("YouTubeVOS", "Y18 or Y19"), ("", None)],
)
def test_a_benchmarks_own_name_leads_to_its_keys(word: str, meant: str | None) -> None:
    with pytest.raises(ConfigError, match=r"unknown dataset, expected one of D16, ") as caught:
        find_benchmark(word, "val")
    assert caught.value.hint == (meant and f"did you mean {meant}?")


def test_settings_that_do_not_exist_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected one of D16, .*got 'd17'; did you mean D17\?"):
        find_benchmark("d17", "val")
    with pytest.raises(ConfigError, match=r"VOST has no such split, expected val, got 'test'"):
        find_benchmark("VOST", "test")
    with pytest.raises(ConfigError, match="G needs generic_path"):
        open_benchmark("G", "val", tmp_path)
    with pytest.raises(DataError, match="no such folder; data_root must be the folder that holds DAVIS/"):
        open_benchmark("D16", "val", tmp_path / "nowhere")


def test_a_data_root_one_folder_too_deep_shows_what_is_there(tmp_path: Path) -> None:
    make_tree(tmp_path, "D17")
    with pytest.raises(DataError, match=r"got .*DAVIS with 2017; .*data_root must be the folder that holds DAVIS/"):
        open_benchmark("D17", "val", tmp_path / "DAVIS")


@pytest.mark.realdata
def test_the_real_davis_2016_opens(shared: Path) -> None:
    dataset = open_benchmark("D16", "val", shared / "data")
    assert len(dataset.videos) == 20
    assert sum(len(video) for video in dataset.videos) == 1376
    video = dataset.videos[0]
    assert set(np.unique(video.read_mask(0))) == {0, 255}
    assert json.dumps(video.size) == "[480, 854]"
