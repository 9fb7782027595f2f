from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from jointformer.errors import ConfigError, DataError
from jointformer.ops.drawing import (
    OVERLAY_STYLES,
    blur_background,
    contact_sheet,
    draw_contours,
    draw_labels,
    overlay,
    spotlight,
    tint,
)
from jointformer.ops.palette import colour_of
from jointformer.types import LabelMap, UInt8Array


@pytest.fixture
def frame() -> UInt8Array:
    return np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def label_map() -> LabelMap:
    ids = np.zeros((60, 80), np.uint8)
    ids[10:40, 10:40] = 1
    ids[30:55, 45:75] = 7
    return ids


@pytest.mark.parametrize("style", OVERLAY_STYLES)
@pytest.mark.parametrize("labels", [False, True])
def test_drawing_changes_neither_frame_nor_label_map(
    frame: UInt8Array, label_map: LabelMap, style: str, labels: bool
) -> None:
    frame_before, ids_before = frame.copy(), label_map.copy()
    image = overlay(frame, label_map, style=style, labels=labels)  # type: ignore[arg-type]
    assert image.shape == frame.shape
    assert image.dtype == np.uint8
    assert np.array_equal(frame, frame_before)
    assert np.array_equal(label_map, ids_before)
    assert not np.shares_memory(image, frame)


@pytest.mark.parametrize("style", ["fill", "contour"])
def test_a_frame_without_objects_stays_as_it_is(frame: UInt8Array, style: str) -> None:
    empty = np.zeros(frame.shape[:2], np.int64)
    assert np.array_equal(overlay(frame, empty, style=style, labels=True), frame)  # type: ignore[arg-type]


def test_the_tint_is_a_mixture_inside_and_nothing_outside(frame: UInt8Array, label_map: LabelMap) -> None:
    image = tint(frame, label_map, 0.25)
    outside = label_map == 0
    assert np.array_equal(image[outside], frame[outside])
    expected = 0.75 * frame[label_map == 7] + 0.25 * np.array(colour_of(7))
    assert np.abs(image[label_map == 7] - expected).max() <= 0.5 + 1e-6
    assert np.array_equal(tint(frame, label_map, 0.0), frame)


def test_drawing_looks_at_objects_surroundings_alone(
    frame: UInt8Array, label_map: LabelMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = np.zeros_like(label_map)
    small[20:30, 50:62] = 3
    seen: list[tuple[int, ...]] = []
    for name in ("addWeighted", "findContours", "distanceTransform"):
        real = getattr(cv2, name)

        def counted(*given: Any, real: Any = real, **named: Any) -> Any:
            seen.append(given[0].shape[:2])
            return real(*given, **named)

        monkeypatch.setattr(cv2, name, counted)
    overlay(frame, small, labels=True)
    assert seen == [(10, 12), (10, 12), (12, 14)]


def test_contours_leave_the_middle_of_objects_and_background_alone(frame: UInt8Array, label_map: LabelMap) -> None:
    image = draw_contours(frame, label_map)
    assert np.array_equal(image[14:36, 14:36], frame[14:36, 14:36])
    assert np.array_equal(image[:6], frame[:6])
    assert not np.array_equal(image[10, 10:40], frame[10, 10:40])


def test_a_spotlight_keeps_objects_and_greys_the_rest(frame: UInt8Array, label_map: LabelMap) -> None:
    image = spotlight(frame, label_map, 0.5)
    inside = label_map != 0
    assert np.array_equal(image[inside], frame[inside])
    rest = image[~inside].astype(int)
    assert np.ptp(rest, axis=1).max() == 0
    assert rest.max() <= 128


def test_a_blurred_background_takes_no_colour_from_the_objects(label_map: LabelMap) -> None:
    frame = np.full((60, 80, 3), 50, np.uint8)
    frame[label_map != 0] = 255
    image = blur_background(frame, label_map)
    assert (image[label_map == 0] == 50).all()
    assert (image[label_map != 0] == 255).all()


def test_a_large_picture_is_blurred_on_a_smaller_copy_that_shows_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    frame = cv2.resize(rng.integers(0, 256, (90, 91, 3)).astype(np.uint8), (728, 720))
    label_map = np.zeros((720, 728), np.uint8)
    label_map[100:400, 200:600] = 1
    background = (label_map == 0).astype(np.float32)
    weight = cv2.GaussianBlur(background, (0, 0), 18)
    plain = cv2.GaussianBlur(frame * background[..., None], (0, 0), 18) / np.maximum(weight, 1e-3)[..., None]
    work: list[float] = []  # a blur's pixels times its width
    blur = cv2.GaussianBlur

    def noted(picture: Any, size: Any, spread: float) -> Any:
        work.append(picture.size * spread)
        return blur(picture, size, spread)

    monkeypatch.setattr(cv2, "GaussianBlur", noted)
    image = blur_background(frame, label_map)
    assert np.abs(image - plain)[label_map == 0].max() < 4
    assert len(work) == 2
    assert sum(work) < 4 * frame[..., 0].size * 18 / 7


def test_a_label_lies_within_its_object_even_at_the_frame_border(frame: UInt8Array) -> None:
    label_map = np.zeros((60, 80), np.int32)
    label_map[:, 50:] = 3
    changed = (draw_labels(frame, label_map) != frame).any(axis=2)
    assert changed.any()
    rows, columns = np.nonzero(changed)
    assert columns.min() >= 50
    assert columns.max() < 78
    assert rows.min() >= 2
    assert rows.max() < 58


def test_a_frame_and_label_map_of_different_sizes_are_refused(frame: UInt8Array) -> None:
    with pytest.raises(DataError, match=r"differ in size, expected 80x60, got 79x60"):
        overlay(frame, np.zeros((60, 79), np.uint8))
    with pytest.raises(DataError, match=r"expected \(H, W, 3\) uint8"):
        overlay(frame[..., 0], np.zeros((60, 80), np.uint8))


def test_another_palette_colours_tint_outline_and_label(frame: UInt8Array, label_map: LabelMap) -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    grey_frame = np.full_like(frame, 90)
    image = overlay(grey_frame, label_map, opacity=1.0, labels=True, palette=greys)
    assert np.ptp(image.astype(int), axis=2).max() == 0
    assert image[20, 20].tolist() == [1, 1, 1]


def test_unknown_styles_and_opacities_are_refused(frame: UInt8Array, label_map: LabelMap) -> None:
    with pytest.raises(ConfigError, match=r"expected fill \| contour"):
        overlay(frame, label_map, style="glow")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"expected 0 to 1, got 1\.5"):
        overlay(frame, label_map, opacity=1.5)


def test_a_contact_sheet_has_every_image_in_its_cell() -> None:
    images = [np.full((20, 30, 3), 40 * number, np.uint8) for number in range(1, 6)]
    sheet = contact_sheet(images, 2)
    assert sheet.shape == (6 + 3 * 26, 6 + 2 * 36, 3)
    for number, image in enumerate(images):
        top, left = 6 + number // 2 * 26, 6 + number % 2 * 36
        assert np.array_equal(sheet[top : top + 20, left : left + 30], image)
    assert (sheet[6 + 2 * 26 :, 6 + 36 :] == 255).all()


def test_captions_make_room_for_themselves_below_the_images() -> None:
    images = [np.zeros((20, 60, 3), np.uint8)] * 2
    plain, captioned = contact_sheet(images, 2), contact_sheet(images, 2, ["one", "two"])
    assert captioned.shape[0] > plain.shape[0]
    assert captioned.shape[1] == plain.shape[1]
    below = captioned[26:]
    assert below.min() < 128
    assert (below[:, 60:72] == 255).all()


def test_images_are_scaled_to_the_width_asked_for() -> None:
    sheet = contact_sheet([np.zeros((20, 40, 3), np.uint8), np.zeros((80, 80, 3), np.uint8)], 3, cell_width=20)
    assert sheet.shape == (6 + 26, 6 + 2 * 26, 3)


def test_a_contact_sheet_refuses_what_it_cannot_lay_out() -> None:
    image = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(DataError, match="at least one picture"):
        contact_sheet([], 2)
    with pytest.raises(ConfigError, match="1 or more, got 0"):
        contact_sheet([image], 0)
    with pytest.raises(DataError, match="expected 1, got 2"):
        contact_sheet([image], 1, ["a", "b"])
