from __future__ import annotations

import numpy as np
import pytest

from jointformer.ops.palette import colour_of, colours_of, davis_palette, with_colours


def test_the_palette_is_the_published_one() -> None:
    palette = davis_palette()
    first = [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128), (128, 0, 128), (0, 128, 128)]
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert [tuple(row) for row in palette[:7].tolist()] == first
    assert palette[9].tolist() == [192, 0, 0]
    assert palette[255].tolist() == [224, 224, 192]


def test_no_two_ids_share_a_colour() -> None:
    assert len(np.unique(davis_palette(), axis=0)) == 256


def test_a_palette_lends_davis_colours_to_ids_it_has_none_for() -> None:
    assert with_colours(None) is davis_palette()
    greys = np.arange(256, dtype=np.uint8)[:, None].repeat(3, 1)
    few = np.where(np.arange(256)[:, None] < 3, greys, 0)
    assert with_colours(few).tolist() == davis_palette().tolist()
    assert with_colours(greys).tolist() == [*davis_palette()[:255].tolist(), [255, 255, 255]]
    few[2] = (9, 0, 0)
    assert with_colours(few).tolist()[:4] == [[0, 0, 0], [1, 1, 1], [9, 0, 0], davis_palette()[3].tolist()]


def test_nobody_can_change_the_palette() -> None:
    with pytest.raises(ValueError, match="read-only"):
        davis_palette()[0] = 1


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_every_integer_dtype_gets_the_same_colours(dtype: type[np.integer]) -> None:
    ids = np.arange(120).reshape(10, 12).astype(dtype)
    assert np.array_equal(colours_of(ids).reshape(-1, 3), davis_palette()[:120])


def test_a_longer_palette_has_colours_for_ids_above_255() -> None:
    palette = np.arange(900, dtype=np.uint16).astype(np.uint8).reshape(300, 3)
    ids = np.array([[0, 1, 256, 299, 300]])
    assert colours_of(ids, palette).tolist() == [palette[[0, 1, 256, 299, 1]].tolist()]
    assert colours_of(ids.astype(np.uint16), palette).tolist() == colours_of(ids, palette).tolist()


def test_ids_above_255_are_coloured_too_and_never_black() -> None:
    assert colour_of(256) == colour_of(1)
    assert colour_of(510) == colour_of(255) == (224, 224, 192)
    assert colour_of(0) == (0, 0, 0)
