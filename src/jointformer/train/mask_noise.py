"""Some predicted masks made worse, as they are late in a long video, before they are memorised."""

from __future__ import annotations

import zlib

import torch
from torch import Tensor
from torch.nn import functional as F

from jointformer.track.transfer import to_device

#: Pixels per cell of the coarse noise whose ridges become blobs.
CELL = 24
#: How much more likely blobs are near the objects, in standard deviations of the noise.
NEAR = 0.8
#: Thresholds of a mask's blobs, in standard deviations: from a fifth of the picture to almost nothing.
LEAST, MOST = 0.8, 2.2


def spoil(prob: Tensor, first_masks: Tensor, num_objects: Tensor, share: float, seed: int) -> Tensor:
    """Probabilities (B, N+1, H, W), background first, with soft blobs of some clips given to one of the slots in use.

    What leaks into the surroundings, loses a part or swaps objects in a long video looks like this; a network that
    has memorised it must find its way back to the first frame's mask. `share` of the clips are changed, other ones by
    another `seed`: unrolling draws one for every frame. The blobs of a clip depend on it, the clip's first label map
    (B, H, W) and its number of objects (B,) only, not on the batch or the process that it is in. The maps are given on
    the CPU, where the blobs are drawn: to fetch them here would wait for all that a GPU has been given.
    """
    slots, height, width = prob.shape[1:]
    grid = (max(2, height // CELL), max(2, width // CELL))
    coarse, chosen, threshold = [], [], []
    for labels in first_masks:
        rng = torch.Generator().manual_seed(zlib.crc32(labels.numpy().tobytes(), seed & 0xFFFFFFFF))
        draw = torch.rand(3, generator=rng)
        threshold.append(LEAST + (MOST - LEAST) * draw[0] if draw[1] < share else torch.tensor(torch.inf))
        chosen.append(draw[2])
        coarse.append(torch.randn(1, *grid, generator=rng))
    noise, least, place = (to_device(torch.stack(drawn), prob.device) for drawn in (coarse, threshold, chosen))
    noise = F.interpolate(noise.to(prob), size=(height, width), mode="bicubic", align_corners=False)
    objects = F.adaptive_avg_pool2d(1 - prob[:, :1].detach(), grid)
    near = F.interpolate(F.max_pool2d(objects, 3, stride=1, padding=1), size=(height, width), mode="bilinear")
    level = noise + NEAR * near - least.to(prob).view(-1, 1, 1, 1)
    blobs = torch.sigmoid(8 * level)
    slot = (place * (num_objects + 1)).long().minimum(num_objects)
    given = F.one_hot(slot, slots).to(prob.dtype)[:, :, None, None]
    return torch.lerp(prob, given.expand_as(prob), blobs)
