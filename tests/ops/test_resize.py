"""Label maps resized as the published code resizes its masks, to the pixel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from jointformer.errors import DataError
from jointformer.ops.resize import network_size, resize_label_map


@pytest.mark.parametrize(
    ("height", "width"),
    [(720, 1280), (1080, 1920), (45, 59), (1000, 1778), (720, 654), (720, 560), (400, 768), (284, 360), (250, 500)],
)
def test_label_maps_are_resized_as_float_masks_are(height: int, width: int) -> None:
    labels = torch.randint(0, 4, (height, width), generator=torch.Generator().manual_seed(0))
    size = network_size(height, width, 480)
    masks = torch.stack([labels == i for i in range(4)]).float()
    expected = F.interpolate(masks[None], size, mode="nearest")[0].argmax(0)
    assert torch.equal(torch.from_numpy(resize_label_map(labels.numpy(), *size)), expected)


def test_a_frame_so_narrow_that_it_would_be_scaled_to_gigabytes_is_refused_with_what_fits() -> None:
    with pytest.raises(DataError, match=r"too narrow for size 480, .* got 5000x1 scaled to a side of 2400000; .* -1"):
        network_size(1, 5000, 480)
    with pytest.raises(DataError, match=r"got 40x8000 scaled to a side of 96000; choose a size up to 163, or -1"):
        network_size(8000, 40, 480)
    assert network_size(8000, 40, 163) == (32600, 163)
    assert network_size(1, 5000, -1) == (1, 5000)
    assert network_size(4320, 15360, 8192) == (8192, 29127)  # a panorama at the largest size there is
