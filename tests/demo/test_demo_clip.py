from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from jointformer.data.demo import FISH, FRAMES, HEIGHT, TURTLE, WIDTH, DemoClip, demo_clip


@pytest.fixture(scope="module")
def clip() -> DemoClip:
    return demo_clip()


def sizes(clip: DemoClip, object_id: int) -> list[int]:
    return [int((label_map == object_id).sum()) for label_map in clip.label_maps]


def test_the_clip_has_frames_and_label_maps_of_the_promised_form(clip: DemoClip) -> None:
    assert clip.frames.shape == (FRAMES, HEIGHT, WIDTH, 3)
    assert clip.label_maps.shape == (FRAMES, HEIGHT, WIDTH)
    assert clip.frames.dtype == clip.label_maps.dtype == np.uint8
    assert set(np.unique(clip.label_maps)) == {0, FISH, TURTLE}
    assert clip.names == {FISH: "fish", TURTLE: "turtle"}


def test_the_same_clip_is_made_on_every_call(clip: DemoClip) -> None:
    again = demo_clip(frames=2)
    assert np.array_equal(again.frames, clip.frames[:2])
    assert np.array_equal(again.label_maps, clip.label_maps[:2])


def test_both_animals_are_whole_and_in_one_piece_in_the_first_frame(clip: DemoClip) -> None:
    for object_id in clip.names:
        region = clip.label_maps[0] == object_id
        assert region.sum() > 4000
        assert ndimage.label(region, structure=np.ones((3, 3)))[1] == 1
        inside = region[1:-1, 1:-1]
        assert inside.sum() == region.sum()


def test_the_fish_leaves_the_frame_and_comes_back(clip: DemoClip) -> None:
    areas = sizes(clip, FISH)
    gone = [index for index, area in enumerate(areas) if area == 0]
    assert len(gone) >= 4
    assert gone == list(range(gone[0], gone[-1] + 1))
    assert areas[gone[-1] + 6] > 4000


def test_the_turtle_is_covered_in_part_but_never_lost(clip: DemoClip) -> None:
    areas = sizes(clip, TURTLE)
    assert min(areas[5:15]) < 0.75 * areas[0]
    assert min(areas) > 3000


def test_the_fish_passes_behind_the_turtle_on_its_way_back(clip: DemoClip) -> None:
    areas = sizes(clip, FISH)
    assert areas[-1] < 0.8 * max(areas[-6:])
    assert sizes(clip, TURTLE)[-1] > sizes(clip, TURTLE)[-6]


def test_edges_are_smooth_and_the_masks_lie_on_them(clip: DemoClip) -> None:
    # Against the plain water, the fish's colour changes most exactly where its mask ends.
    first = clip.frames[0].astype(float)
    region = clip.label_maps[0] == FISH
    slope = np.hypot(*np.gradient(first.mean(axis=2)))
    inner = region & ~ndimage.binary_erosion(region)
    outer = ndimage.binary_dilation(region) & ~region
    far = ndimage.binary_dilation(region, iterations=6) & ~ndimage.binary_dilation(region, iterations=4)
    assert slope[inner | outer].mean() > 2 * slope[far].mean()


def test_the_camera_pans_and_what_is_near_moves_faster(clip: DemoClip) -> None:
    before, after = (clip.frames[i].astype(float).mean(axis=2) for i in (26, 28))

    def shift(rows: slice) -> int:
        # The right third of the frame is free of animals here.
        fixed = after[rows, 300:410]
        scores = [np.corrcoef(before[rows, 300 + k : 410 + k].ravel(), fixed.ravel())[0, 1] for k in range(-4, 20)]
        return int(np.argmax(scores)) - 4

    rocks, floor = shift(slice(128, 150)), shift(slice(215, 240))
    assert rocks >= 2
    assert floor > rocks
