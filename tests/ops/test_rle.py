"""Run lengths of many masks looked at together."""

from __future__ import annotations

import numpy as np
import pytest

from jointformer.ops.rle import all_fill, decode_rle, encode_rle

SIZE = (7, 9)
MASKS = [np.random.default_rng(seed).random(SIZE) < share for seed, share in enumerate((0.0, 0.2, 0.5, 0.8, 1.0))]
TEXTS = [encode_rle(mask) for mask in MASKS]


def test_masks_come_back() -> None:
    assert all_fill(TEXTS, SIZE)
    assert all_fill([], SIZE)
    for text, mask in zip(TEXTS, MASKS, strict=True):
        assert all_fill([text], SIZE)
        assert np.array_equal(decode_rle(text, SIZE), mask)


@pytest.mark.parametrize("place", range(len(TEXTS) + 1))
@pytest.mark.parametrize("wrong", ["", "é", "X", "o" * 8, "0" * 62, encode_rle(np.ones((7, 8)))])
def test_one_damaged_text_among_others_is_noticed(place: int, wrong: str) -> None:
    assert not all_fill([wrong], SIZE)
    assert not all_fill([*TEXTS[:place], wrong, *TEXTS[place:]], SIZE)


def test_texts_that_are_good_only_together_are_not() -> None:
    text = TEXTS[2]
    assert not all_fill([text[:5], text[5:]], SIZE)
