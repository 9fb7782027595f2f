"""Clips made of stills."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from data_stills.conftest import centroid, ellipse_still
from jointformer.data.clips.config import ClipConfig
from jointformer.data.clips.cutouts import make_backdrop, make_sprite
from jointformer.data.clips.events import LARGEST, SMALLEST
from jointformer.data.clips.layers import BackdropPlan, Cutout
from jointformer.data.clips.motion import CELLS
from jointformer.data.clips.pack import StillsPack
from jointformer.data.clips.plan import ClipPlanner, Odds
from jointformer.data.clips.regions import Region
from jointformer.data.clips.render import dense_map
from jointformer.data.clips.stills import Clip, StillsClips
from jointformer.errors import ConfigError, DataError

CONFIG = ClipConfig(size=96, frames=5)


def _same(a: Clip, b: Clip) -> bool:
    return (
        a.num_objects == b.num_objects
        and np.array_equal(a.frames, b.frames)
        and np.array_equal(a.label_maps, b.label_maps)
    )


def test_a_clip_depends_on_seed_and_index_only(pack: StillsPack) -> None:
    first, second = StillsClips(pack, CONFIG, seed=3), StillsClips(pack, CONFIG, seed=3)
    one = [first.sample(index) for index in range(6)]
    two = {index: second.sample(index) for index in (5, 0, 3, 1)}
    assert all(_same(one[index], clip) for index, clip in two.items())
    assert not _same(one[0], one[1])
    assert not _same(one[0], StillsClips(pack, CONFIG, seed=4).sample(0))


def test_clips_from_threads_are_those_of_one_thread(pack: StillsPack) -> None:
    clips = StillsClips(pack, CONFIG)
    expected = [clips.sample(index) for index in range(8)]
    with ThreadPoolExecutor(3) as pool:
        assert all(map(_same, expected, pool.map(clips.sample, range(8))))


@pytest.mark.parametrize(("size", "width"), [(96, None), (64, 112), (128, 80)])
def test_every_target_is_in_the_first_frame(pack: StillsPack, size: int, width: int | None) -> None:
    config = ClipConfig(size=size, width=width, frames=3, max_objects=3)
    clips = StillsClips(pack, config)
    counts = set()
    for index in range(40):
        clip = clips.sample(index)
        assert clip.frames.shape == (3, *config.shape, 3)
        assert clip.frames.dtype == clip.label_maps.dtype == np.uint8
        assert clip.label_maps.shape == (3, *config.shape)
        area = np.bincount(clip.label_maps[0].ravel(), minlength=clip.num_objects + 1)
        assert len(area) == clip.num_objects + 1 <= 4
        assert area[1:].min() >= config.smallest * clip.label_maps[0].size
        assert clip.label_maps.max() <= clip.num_objects
        counts.add(clip.num_objects)
    assert counts == {1, 2, 3}


def test_full_clips_have_all_the_targets_they_may(pack: StillsPack) -> None:
    clips = StillsClips(pack, replace(CONFIG, full_share=1.0, max_objects=3))
    assert {clips.sample(index).num_objects for index in range(25)} == {3}


def test_clips_move_more_the_more_difficult_they_are(pack: StillsPack) -> None:
    def change(difficulty: float) -> float:
        clips = StillsClips(pack, replace(CONFIG, difficulty=difficulty))
        maps = [clips.sample(index).label_maps for index in range(30)]
        return float(np.mean([(m[1:] != m[:-1]).mean() for m in maps]))

    still, middling, hard = change(0.0), change(0.5), change(1.0)
    assert still < 0.02
    assert still < middling < hard
    assert hard > 0.06


def test_targets_leave_and_come_back(pack: StillsPack) -> None:
    clips = StillsClips(pack, ClipConfig(size=64, frames=9, max_objects=1, leave_share=1.0))
    areas = np.asarray([(clips.sample(i).label_maps > 0).sum((1, 2)) for i in range(30)], float)
    gone = areas[:, 4] < 0.2 * areas[:, 0]
    back = areas[:, 8] > 0.4 * areas[:, 0]
    assert (gone & back).sum() >= 5


@pytest.mark.parametrize(("share", "crossed"), [(0.0, range(9)), (1.0, range(21, 31))])
def test_two_targets_pass_each_other_and_come_back(pack: StillsPack, share: float, crossed: range) -> None:
    config = ClipConfig(
        size=64, frames=9, max_objects=2, full_share=1.0, own_share=0.0, lifted_share=0.0, cross_share=share
    )
    planner, there_and_back = ClipPlanner(pack, config), 0
    for index in range(30):
        _, plan = next(planner.attempts(0, index))
        one, other = (number for number, cutout in enumerate(plan.cutouts, 1) if cutout.label)
        apart = plan.motions.centre[one] - plan.motions.centre[other]
        there_and_back += int(apart[0] @ apart[4] < 0 < apart[0] @ apart[8])
    assert there_and_back in crossed


def test_a_target_of_the_backdrop_is_not_seen_again_beyond_its_border(pack: StillsPack) -> None:
    config = ClipConfig(size=64, width=96, frames=9, max_objects=1, own_share=1.0, lifted_share=0.0)
    clips, images, ways = StillsClips(pack, config), [], []
    for index in range(40):
        rng, plan = next(clips.planner.attempts(0, index))
        renderer = clips._renderer(rng, plan)
        if plan.backdrop.labels is None or renderer is None:
            continue
        end = np.asarray(renderer.backdrop.picture.shape[1::-1]) - 0.5
        ways.append(np.ptp(plan.motions.centre[0], axis=0).max())
        for t in range(config.frames):
            where = dense_map(renderer.backdrop.grids[t], (0, CELLS, 0, CELLS), renderer.cell)
            outside = ((where < -0.5) | (where > end)).any(-1)
            images.append((renderer.draw(t).labels[outside] > 0).sum() / outside.size)
    assert len(ways) > 30
    assert max(images) < 0.01
    assert np.median(ways) > 0.08  # it moves nevertheless


def test_a_travelling_camera_leaves_the_first_view_and_keeps_its_targets(pack: StillsPack) -> None:
    config = ClipConfig(size=64, width=96, frames=9, max_objects=1, own_share=0.0, leave_share=0.0, difficulty=0.4)
    passed, kept = {}, {}
    for share in (0.0, 1.0):
        some = replace(config, travel_share=share)
        planner, clips = ClipPlanner(pack, some), StillsClips(pack, some)
        plans = [next(planner.attempts(0, index))[1] for index in range(40)]
        passed[share] = np.asarray([np.linalg.norm(np.diff(plan.motions.centre[0][[0, -1]], axis=0)) for plan in plans])
        kept[share] = np.mean([(clips.sample(index).label_maps[-1] > 0).any() for index in range(40)])
    assert passed[0.0].max() < 0.5
    assert 8 <= (passed[1.0] > 0.5).sum() <= 24  # 0.4 of them
    assert kept[1.0] > 0.9


def test_a_travelling_camera_comes_upon_things_and_scenery(pack: StillsPack) -> None:
    config = ClipConfig(size=64, width=96, frames=9, own_share=0.0, travel_share=1.0, meet_share=1.0, leave_share=1.0)
    planner, appear, wide = ClipPlanner(pack, config), [], 0
    for index in range(30):
        _, plan = next(planner.attempts(0, index))
        met = [number for number, cutout in enumerate(plan.cutouts, 1) if cutout.grounded]
        wide += any(plan.spans[number] > 90 for number in met)
        assert met
        assert not any(plan.cutouts[number - 1].label for number in met)
        assert plan.targets == sum(cutout.label > 0 for cutout in plan.cutouts)
        for number in met:
            reach = 0.5 + 0.5 * plan.spans[number] / config.side
            seen = np.abs(plan.motions.centre[number]).max(1) < reach
            appear.append(bool(seen[1:].any() and not seen[0]))
            along = plan.motions.centre[number] - plan.motions.centre[0]  # where it stands on the ground
            assert np.ptp(along, axis=0).max() < 0.5 * max(np.ptp(plan.motions.centre[0], axis=0).max(), 0.6)
    assert 8 <= wide <= 22  # half of them
    assert np.mean(appear) > 0.25


def test_targets_grow_and_shrink_within_bounds(pack: StillsPack) -> None:
    config = ClipConfig(size=96, frames=9, max_objects=1, own_share=0.0, leave_share=0.0, twin_share=0.0)
    planner = ClipPlanner(pack, replace(config, grow_share=1.0))
    before, after = np.zeros((2, 40))
    for index in range(40):
        _, plan = next(planner.attempts(0, index))
        (number,) = (number for number, cutout in enumerate(plan.cutouts, 1) if cutout.label)
        areas = np.abs(np.linalg.det(plan.motions.linear[number]))
        before[index], after[index] = np.sqrt(areas[[0, -1]]) * plan.spans[number] / config.side
    assert (after > 1.4 * before).sum() >= 12
    assert (after < before / 1.4).sum() >= 8
    assert after.max() < 3 * LARGEST
    assert after.min() > SMALLEST / 3


def test_what_does_not_travel_or_grow_is_drawn_as_it_was(pack: StillsPack) -> None:
    """Odd settings may not move the generator: clips that were trained on can be made again."""
    short = replace(CONFIG, frames=4)
    some = replace(short, travel_share=1.0, grow_share=1.0, meet_share=1.0)
    one, other = StillsClips(pack, short), StillsClips(pack, some)
    assert all(_same(one.sample(index), other.sample(index)) for index in range(4))
    still, met = StillsClips(pack, CONFIG), StillsClips(pack, replace(CONFIG, meet_share=1.0))
    assert all(_same(still.sample(index), met.sample(index)) for index in range(4))


@pytest.mark.parametrize("kind", ["own_share", "lifted_share", "blob_share"])
def test_each_kind_of_clip_can_be_had_alone(pack: StillsPack, kind: str) -> None:
    shares: dict[str, Any] = {"own_share": 0.0, "lifted_share": 0.0, "blob_share": 0.0, kind: 1.0}
    clips = StillsClips(pack, replace(CONFIG, **shares))
    assert all(clips.sample(index).num_objects >= 1 for index in range(10))


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("ratio", [0.3, 0.55, 0.7, 1.3])
def test_a_backdrops_own_targets_lie_where_its_picture_shows_them(flip: bool, ratio: float) -> None:
    still = ellipse_still(384, 480)
    labels = np.zeros(256, np.uint8)
    labels[1] = 1
    picture, found, _ = make_backdrop(still, BackdropPlan(0, flip, ratio, (240.0, 192.0), 0, labels))
    assert found is not None
    assert np.allclose(centroid(found), centroid(picture[..., 0]), rtol=0, atol=0.1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("ratio", [0.3, 0.5, 0.7, 1.3])
def test_a_cut_out_is_seen_through_where_its_picture_is_not_the_region(flip: bool, ratio: float) -> None:
    still = ellipse_still(384, 480)
    regions = still.regions[0]
    left, top, right, bottom = regions.boxes[0].tolist()
    region = Region(0, regions.ids, int(regions.areas[0]), (left, top, right, bottom))
    made = make_sprite(still, Cutout(0, region, 1, flip, ratio, region.middle, 100.0, (0.0, 0.0), 0.0, 1.0))
    assert made is not None
    assert np.allclose(centroid(made[0][..., 3]), centroid(made[0][..., 0]), rtol=0, atol=0.1)


def test_a_single_frame_is_a_clip(pack: StillsPack) -> None:
    assert StillsClips(pack, ClipConfig(size=32, frames=1)).sample(0).frames.shape == (1, 32, 32, 3)


def test_stills_without_objects_of_a_fit_size_are_refused(stills_folder: Path) -> None:
    for path in stills_folder.glob("*_mask.png"):
        with Image.open(path) as image:
            mask = np.zeros((image.height, image.width), np.uint8)
        mask[:4, :4] = 1
        Image.fromarray(mask).save(path)
    config = ClipConfig(size=32, frames=1, blob_share=0.0)
    with pytest.raises(DataError, match="no clip could be made"):
        StillsClips(StillsPack(stills_folder), config).sample(0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("size", 100), ("size", 16), ("width", 50), ("frames", 0), ("max_objects", 0), ("max_objects", 9),
     ("difficulty", 1.5), ("own_share", -0.1), ("travel_share", 2.0), ("grow_share", -1.0),
     ("meet_share", 1.1), ("smallest", 0.2), ("distractors", 9.0)],
)  # fmt: skip
def test_a_setting_out_of_range_is_named(field: str, value: float) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ConfigError, match=field):
        replace(CONFIG, **changes)


def test_shares_of_clips_may_not_exceed_the_whole() -> None:
    with pytest.raises(ConfigError, match="own_share"):
        replace(CONFIG, own_share=0.6, lifted_share=0.6)


@pytest.mark.realdata
def test_real_stills_make_clips_of_sensible_objects(shared: Path, tmp_path: Path) -> None:
    source = shared / "data" / "stills"
    lines = (source / "manifest.csv").read_text(encoding="utf-8").splitlines()
    for name in {line.split(",")[0] for line in lines[1:]}:
        (tmp_path / name).symlink_to(source / name)
    (tmp_path / "manifest.csv").write_text("\n".join([lines[0], *lines[1::40]]), encoding="utf-8")
    clips = StillsClips(StillsPack(tmp_path), ClipConfig(size=96, frames=2))
    shares = []
    for index in range(60):
        clip = clips.sample(index)
        shares += [float((clip.label_maps[0] == n).mean()) for n in range(1, clip.num_objects + 1)]
    assert 0.03 < float(np.median(shares)) < 0.25


def test_every_target_is_pasted_once_and_distractors_bear_no_label(pack: StillsPack) -> None:
    config = replace(CONFIG, own_share=0.0, lifted_share=0.0, distractors=3.0, twin_share=1.0)
    planner, distractors = ClipPlanner(pack, config), 0
    for index in range(40):
        _, plan = next(planner.attempts(0, index))
        labels = sorted(cutout.label for cutout in plan.cutouts)
        distractors += labels.count(0)
        assert [label for label in labels if label] == list(range(1, plan.targets + 1))
    assert distractors > 80


def test_a_twin_looks_like_a_target(pack: StillsPack) -> None:
    config = ClipConfig(size=64, frames=2, max_objects=1, own_share=0.0, distractors=4.0, twin_share=1.0)
    planner = ClipPlanner(pack, config)
    for index in range(20):
        _, plan = next(planner.attempts(0, index))
        regions = [cutout.region for cutout in plan.cutouts if cutout.label == 0]
        assert any(cutout.label and any(cutout.region is region for region in regions) for cutout in plan.cutouts)


def test_stills_are_drawn_as_often_as_their_sets_odds_say_and_alike_within_a_set(pack: StillsPack) -> None:
    odds, rng = Odds(pack), np.random.default_rng(0)
    drawn = Counter(
        odds.draw(rng, {"bsds500": 1.0, "ccp": 4.0, "coco_small": 0.0, "carparts": 3.0}) for _ in range(8000)
    )
    for source, share in (("bsds500", 1 / 8), ("ccp", 4 / 8), ("coco_small", 0), ("carparts", 3 / 8)):
        numbers = pack.by_source[source]
        for number in numbers:
            assert drawn[number] == pytest.approx(8000 * share / len(numbers), rel=0.1)
