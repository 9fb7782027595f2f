"""The measures for plain use, the statistics, and memory that does not grow with a video."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

from jointformer.errors import ConfigError, DataError
from jointformer.metrics import (
    PROTOCOLS,
    SCORED_BENCHMARKS,
    BoundaryAccuracy,
    RegionSimilarity,
    VideoScorer,
    find_protocol,
    jf,
    statistics,
)
from jointformer.metrics.mose_v2 import stretches


def maps(count: int) -> list[np.ndarray]:
    made = []
    for index in range(count):
        labels = np.zeros((40, 50), np.int64)
        labels[5:20, 5 + index : 20 + index], labels[25:35, 10:30] = 1, 7
        made.append(labels)
    return made


def test_j_and_f_of_equal_maps_are_one_for_any_integer_ids() -> None:
    result = jf(iter(maps(3)), maps(3), [1, 7])
    assert result.per_object == {1: (1.0, 1.0), 7: (1.0, 1.0)}
    assert result.jf == 1


def test_an_object_that_is_never_predicted_scores_zero() -> None:
    wrong = [np.where(labels == 7, 0, labels) for labels in maps(3)]
    result = jf(wrong, maps(3), [1, 7])
    assert result.per_object[7] == (0.0, 0.0)
    assert (result.j, result.f, result.jf) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize(("predictions", "truths"), [(2, 3), (3, 2)])
def test_sides_of_different_lengths_are_refused(predictions: int, truths: int) -> None:
    with pytest.raises(DataError, match="fewer"):
        jf(maps(predictions), maps(truths), [1])


def test_label_maps_of_different_shapes_are_refused() -> None:
    with pytest.raises(DataError, match="different shapes"):
        jf([np.zeros((3, 4), int)], [np.zeros((4, 3), int)], [1])


def test_a_label_map_given_as_frames_is_told_from_one_of_another_shape() -> None:
    with pytest.raises(DataError, match=r"not a label map, expected one \(H, W\) label map per frame, got .* \(4,\)"):
        jf(np.zeros((3, 4), int), np.zeros((3, 4), int), [1])


def test_without_frames_there_is_no_number() -> None:
    assert math.isnan(jf([], [], [1]).jf)


def test_a_measure_forgets_on_reset_and_equals_the_convenience() -> None:
    truths, predictions = maps(6), [np.roll(labels, 3, axis=1) for labels in maps(6)]
    region, boundary = RegionSimilarity([1, 7]), BoundaryAccuracy([1, 7])
    for measure in (region, boundary):
        measure.update(truths[0], truths[1])
        measure.reset()
        for prediction, truth in zip(predictions, truths):
            measure.update(prediction, truth)
    both = jf(predictions, truths, [1, 7]).per_object
    for key in (1, 7):
        assert (region.compute()[key].mean, boundary.compute()[key].mean) == pytest.approx(both[key])
    assert region.compute()[1].recall == 1


def test_recall_counts_values_strictly_above_a_half() -> None:
    assert statistics.recall([0.5, 0.5000001, 1.0, 0.0]) == 0.5


@pytest.mark.parametrize(("values", "expected"), [([0.7], 0.0), ([1.0, 0.0], 1.0), ([1.0, 0.5, 0.25, 0.0, 0.0], 0.75)])
def test_decay_of_few_values(values: list[float], expected: float) -> None:
    assert statistics.decay(values) == pytest.approx(expected)


def test_the_toolkits_decay_is_the_plain_one_up_to_255_frames() -> None:
    for count in (*range(1, 256), 1000):
        values = np.random.default_rng(count).random(count)
        plain, toolkit = statistics.decay(values), statistics.decay(values, "eight_bits")
        assert statistics.decay_wraps(count) == (count > 255)
        assert toolkit == plain or statistics.decay_wraps(count), count
        assert not math.isnan(plain)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("count", [256, 257, 300, 341, 512, 682, 1024, 1280])
def test_the_toolkits_decay_is_not_a_number_for_some_long_videos(count: int) -> None:
    assert math.isnan(statistics.decay(np.ones(count), "eight_bits"))


def test_variability_is_rounded_before_the_root() -> None:
    assert statistics.variability([0.5, 0.51], [0.5, 0.51]) == 0
    assert statistics.variability([0.0, 1.0], [0.0, 1.0]) == 0.5


def test_the_last_quarter_starts_at_three_quarters_rounded_down() -> None:
    assert [len(statistics.last_quarter(range(n))) for n in (1, 2, 4, 5, 12)] == [1, 1, 1, 2, 3]


def test_an_object_absent_from_the_start_returns_without_having_disappeared() -> None:
    visible = [False, True, False, False, True]
    assert stretches(visible) == ([[2, 3]], [[1], [4]])


def test_every_benchmark_has_one_default_and_names_its_columns() -> None:
    assert len({(row.benchmark, row.rules) for row in PROTOCOLS}) == len(PROTOCOLS)
    for benchmark in SCORED_BENCHMARKS:
        assert find_protocol(benchmark).columns
    assert find_protocol("D17") is find_protocol("davis17")


def test_an_unknown_benchmark_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"davis16 \| davis17"):
        find_protocol("davis2017")


def test_a_scored_frame_of_another_size_is_named() -> None:
    scorer = VideoScorer("dog", find_protocol("davis16"))
    with pytest.raises(DataError, match=r"dog/00001: .*expected 6x4, got 4x6"):
        scorer.update("00001", np.zeros((6, 4), np.uint8), np.zeros((4, 6), np.uint8))


def test_memory_does_not_grow_with_a_videos_length() -> None:
    def peak(frames: int) -> int:
        scorer = VideoScorer("dog", find_protocol("davis17"))
        truth = np.zeros((240, 320), np.uint8)
        truth[20:200, 30:300] = 1
        scorer.begin(truth)
        tracemalloc.start()
        for index in range(frames):
            scorer.update(f"{index:05d}", np.roll(truth, index % 9, axis=1), truth.copy())
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(3)
    assert peak(120) < peak(12) + 240 * 320
