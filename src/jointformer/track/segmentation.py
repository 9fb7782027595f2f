"""The result of one step."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointformer.model.device import gpu_memory
from jointformer.ops.label_maps import slots_to_label_map
from jointformer.ops.resize import resize_bilinear
from jointformer.track.transfer import Download, download
from jointformer.types import FloatArray, LabelMap, Mask

#: Probability maps resized together while the label map is made; bounds the memory of videos with many objects.
_CHUNK = 16


@dataclass(frozen=True, eq=False)  # tensors have no one truth to compare by
class Segmentation:
    """Every object's probability in one frame.

    ids: object ids in the order of prob's rows. prob: (N+1, h, w) float32 in [0, 1] at network size, background first,
    on the model's device, made in inference mode: what changes it or needs gradients takes a clone. size: (H, W) of the
    frame.
    """

    ids: tuple[int, ...]
    prob: Tensor
    size: tuple[int, int]

    def __getstate__(self) -> dict[str, Any]:
        # A copy downloads its label map anew if need be: the event at a download's end cannot go with it.
        return {name: value for name, value in vars(self).items() if name != "_slots"}

    def begin_label_map(self) -> None:
        """Start making the label map and copying it from the device; `label_map` then waits for no more than that."""
        _ = self._slots

    @cached_property
    def label_map(self) -> LabelMap:
        """The (H, W) label map of object ids at the frame's size: bilinear resize, then the most probable row.

        uint8 where the ids allow, else uint16 or int64. Raises ConfigError where a GPU has no memory left for it.
        """
        return slots_to_label_map(self._slots.wait().numpy(), list(self.ids))

    @cached_property
    @gpu_memory("smaller frames take less")
    def _slots(self) -> Download:
        """The label map of rows (background 0) on its way from the device."""
        dtype = torch.uint8 if len(self.prob) <= 256 else torch.int32
        slots = torch.zeros(self.size, dtype=dtype, device=self.prob.device)
        best, last = None, len(self.prob) - 1
        for start in range(0, len(self.prob), _CHUNK):
            # Row by row: a comparison of two rows takes a tenth of the time of a maximum with its index.
            for row, prob in enumerate(resize_bilinear(self.prob[None, start : start + _CHUNK], *self.size)[0], start):
                if best is not None:
                    slots.masked_fill_(prob > best, row)
                if row < last:
                    best = prob if best is None else torch.maximum(best, prob)
        return download(slots)

    @cached_property
    def masks(self) -> dict[int, Mask]:
        """{object id: (H, W) bool mask} of the label map; an object that is not seen has an empty one."""
        return {i: self.label_map == i for i in self.ids}

    def object_prob(self, object_id: int) -> FloatArray:
        """Return one object's (H, W) float32 probability at the frame's size; KeyError for an id it does not hold."""
        if object_id not in self.ids:
            raise KeyError(object_id)
        row = self.ids.index(object_id) + 1
        resized = resize_bilinear(self.prob[None, row : row + 1], *self.size)[0, 0]
        return np.array(resized.cpu().numpy(), dtype=np.float32)  # a copy: not resized it is a part of prob
