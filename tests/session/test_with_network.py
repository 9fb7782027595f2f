"""Sessions with a real (tiny, random) network: everything goes through the one frame loop."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest

from jointformer import Session, Tracker, TrackerConfig
from jointformer.errors import DataError
from jointformer.model.network import JointFormer
from jointformer.session.plan import distance_weight
from seeded import MINI, seeded_model

CONFIG = TrackerConfig(max_memory_frames=5, memory_every=2, topk=6, size=-1)
H, W = 40, 56


@pytest.fixture(scope="module")
def model() -> JointFormer:
    return seeded_model(MINI)


def clip(frames: int = 10) -> np.ndarray:
    base = np.random.default_rng(0).integers(0, 255, (H + 60, W + 60, 3), dtype=np.uint8)
    return np.stack([base[2 * t : 2 * t + H, t : t + W] for t in range(frames)])


def box(y: int, x: int) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + 12, x : x + 12] = True
    return mask


def test_one_annotated_frame_gives_what_the_tracker_gives(model: JointFormer) -> None:
    frames = clip()
    tracker = Tracker(model, CONFIG)
    expected = [tracker.step(f, {1: box(4, 4), 2: box(20, 30)} if t == 0 else None) for t, f in enumerate(frames)]
    with Session(frames, model=model, config=CONFIG) as session:
        session.add_masks(0, {1: box(4, 4), 2: box(20, 30)})
        for frame, result in session.propagate():
            assert np.array_equal(result.label_map, expected[frame].label_map)
            assert all(0 <= c <= 1 for c in result.confidence.values())


def test_a_session_takes_the_ids_that_a_tracker_takes_and_keeps_them(model: JointFormer, tmp_path: Path) -> None:
    large = 2**63 - 1
    labels = np.where(box(4, 4), large, np.where(box(20, 30), large - 1, 0))
    with Session(clip(), model=model, config=CONFIG, keep_soft=True, folder=tmp_path / "kept") as session:
        session.add_masks(0, labels)
        session.add_masks(7, {large: box(10, 8)})
        list(session.propagate())
        shown = session.result(5).label_map
    assert set(np.unique(shown)) <= {0, large - 1, large}
    with Session.load(tmp_path / "kept", video=clip(), model=model) as session:
        assert [one.id for one in session.objects] == [large - 1, large]
        np.testing.assert_array_equal(session.result(0).label_map, labels)
        np.testing.assert_array_equal(session.result(5).label_map, shown)
        masks = json.loads(session.export("coco", tmp_path / "masks.json").read_text())
        assert {row["track_id"] for row in masks["annotations"]} == {large - 1, large}
        session.remove_object(large)
        session.undo()
        np.testing.assert_array_equal(session.result(5).label_map, shown)


def test_joining_corrections_and_exports_work_with_the_network(model: JointFormer, tmp_path: Path) -> None:
    with Session(clip(), model=model, config=CONFIG, keep_soft=True) as session:
        session.add_masks(0, {1: box(4, 4), 2: box(20, 30)})
        session.add_masks(7, {1: box(10, 8)})
        assert session.plan(direction="both").steps() == 6 + 9
        seen = [frame for frame, _ in session.propagate(direction="both")]
        assert seen == [6, 5, 4, 3, 2, 1, *range(1, 10)]
        assert np.array_equal(session.result(7).masks[1], box(10, 8))
        folder = session.export("soft", tmp_path / "soft")
        assert len(list(folder.rglob("*.png"))) == 20
        assert session.export("overlay", tmp_path / "out").stat().st_size > 1000


def test_probabilities_not_kept_are_missed_in_one_line(model: JointFormer, tmp_path: Path) -> None:
    with Session(clip(), model=model, config=CONFIG) as session:
        session.add_masks(0, {1: box(4, 4)})
        list(session.propagate())
        with pytest.raises(DataError, match=r"no probabilities were kept of object 1 in frame 1.*keep_soft=True"):
            session.export("soft", tmp_path / "soft")


def test_a_session_may_be_read_while_another_thread_tracks(model: JointFormer) -> None:
    with Session(clip(30), model=model, config=CONFIG) as session:
        session.add_masks(0, {1: box(4, 4)})
        errors: list[BaseException] = []

        def read() -> None:
            try:
                while not done.is_set():
                    session.timeline()
                    session.result(12)
                    session.frame(25)
            except BaseException as error:
                errors.append(error)

        done = threading.Event()
        reader = threading.Thread(target=read)
        reader.start()
        seen = [frame for frame, _ in session.propagate()]
        done.set()
        reader.join()
        assert not errors
        assert seen == list(range(1, 30))


def test_the_settings_bound_what_is_pinned(model: JointFormer) -> None:
    """With three memory frames there is no room for a pinned one; nothing breaks."""
    config = TrackerConfig(max_memory_frames=3, memory_every=2, topk=6, size=-1)
    with Session(clip(), model=model, config=config) as session:
        session.add_masks(0, {1: box(4, 4)})
        session.add_masks(9, {1: box(10, 8)})
        assert len(list(session.propagate())) == 16
    assert distance_weight((0, 9), 3) == pytest.approx(2 / 3)


@pytest.mark.parametrize("hidden", [1, 6])
def test_an_object_that_was_out_of_sight_is_found_again_beside_others(hidden: int) -> None:
    """One frame without it, which the user says, may not end it where another object is tracked in the same run."""
    frames, seen = np.full((14, 64, 96, 3), 90, np.uint8), np.zeros((14, 64, 96), np.uint8)
    for t in range(14):
        seen[t, 20:40, 8 + 2 * t : 24 + 2 * t] = 1
        seen[t, 44:60, 70 - t : 86 - t] = 2
    seen[hidden][seen[hidden] == 1] = 0
    frames[seen == 1], frames[seen == 2] = (220, 40, 40), (40, 200, 60)
    with Session(frames, model="tiny", precision="float32", device="cpu", config=TrackerConfig(size=-1)) as session:
        session.add_masks(0, seen[0])
        session.add_masks(hidden, {1: np.zeros((64, 96), bool)})
        list(session.propagate())
        if hidden == 6:
            session.add_masks(5, {2: seen[5] == 2})  # the run begins right before the empty mask
            list(session.propagate())
        for t in range(hidden + 1, 14):
            for i, mask in session.result(t).masks.items():
                assert (mask & (seen[t] == i)).sum() > 0.7 * (mask | (seen[t] == i)).sum()
            assert session.confidence(t)[1] > 0.3
