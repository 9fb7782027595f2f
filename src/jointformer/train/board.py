"""TensorBoard: every figure of the progress line, validation scores, and pictures of what the network sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jointformer.errors import missing_extra
from jointformer.ops.drawing import overlay
from jointformer.train.unroll import ClipBatch
from jointformer.types import UInt8Array

#: Clips of a batch that a preview shows.
COLUMNS = 4


class Board:
    """Writes a run's event files into a folder. Raises ConfigError where TensorBoard is not installed.

    begun: the iteration that the run goes on from; what is there of later ones is not shown any more.
    """

    def __init__(self, folder: Path, begun: int = 0) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise missing_extra("TensorBoard is not installed", "train", where="--tensorboard") from None
        self.writer = SummaryWriter(str(folder), purge_step=begun + 1)

    def figures(self, iteration: int, figures: dict[str, Any]) -> None:
        """Write every number."""
        for name, value in figures.items():
            if isinstance(value, (int, float)):
                self.writer.add_scalar(f"train/{name}", value, iteration)

    def validation(self, iteration: int, j: float, f: float) -> None:
        """Write J, F and J&F (percent)."""
        for name, value in (("J", j), ("F", f), ("J&F", (j + f) / 2)):
            self.writer.add_scalar(f"validation/{name}", value, iteration)

    def preview(self, iteration: int, batch: ClipBatch, logits: Tensor) -> None:
        """Write a picture of the batch's last frames."""
        self.writer.add_image("last frames", preview(batch, logits), iteration, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        """Finish the event files."""
        self.writer.close()


@torch.no_grad()
def preview(batch: ClipBatch, logits: Tensor) -> UInt8Array:
    """A (3·H, n·W, 3) picture: first frames with given masks, last frames with true ones, and predicted ones."""
    count = min(COLUMNS, len(batch.frames))
    first, last = (batch.frames[:count, t].cpu().numpy() for t in (0, -1))
    given, true = (batch.label_maps[:count, t].cpu().numpy() for t in (0, -1))
    predicted = logits[:count].argmax(1).to(torch.uint8).cpu().numpy()
    rows = ((first, given), (last, true), (last, predicted))
    return np.concatenate(
        [np.concatenate([overlay(f, m) for f, m in zip(frames, maps, strict=True)], axis=1) for frames, maps in rows]
    )
