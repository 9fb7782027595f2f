"""Label maps resized as the published code resizes its masks, to the pixel."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

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
