"""What happens beside the progress line: TensorBoard, previews and validation at their intervals."""

from __future__ import annotations

import logging
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jointformer.train.board import Board
from jointformer.train.datasets import TrainVideo
from jointformer.train.loop import LOG, Trainer
from jointformer.train.own_data import check_videos
from jointformer.train.progress import last_validated
from jointformer.train.settings import Settings
from jointformer.train.validate import Stopped, validate

logger = logging.getLogger(__name__)

#: Iterations between two previews.
PREVIEW_EVERY = 500


class Watcher:
    """What happens beside the progress line: TensorBoard, previews and validation at their intervals.

    begun: the iteration that the run goes on from. A validation that was due by then and is not in the run's log, as
    the run was stopped or killed meanwhile, is made with the first progress line.
    """

    def __init__(self, settings: Settings, folder: Path, begun: int = 0) -> None:
        self.settings = settings
        self.board = Board(folder / "board", begun) if settings.tensorboard else None
        self.videos: list[TrainVideo] = []
        if settings.validate_on is not None:
            check = check_videos(settings.validate_on, 3, between=True)
            for problem in check.problems:
                logger.warning("validation: %s", problem)
            self.videos = check.videos
        self._previewed = begun // PREVIEW_EVERY
        self._validated = last_validated(folder / LOG, begun)

    def __call__(self, trainer: Trainer, figures: dict[str, Any]) -> None:
        """Called with every progress line."""
        now = trainer.iteration
        if self.board is not None:
            self.board.figures(now, figures)
            if now // PREVIEW_EVERY > self._previewed and trainer.preview is not None:
                self._previewed = now // PREVIEW_EVERY
                self.board.preview(now, *trainer.preview)
        if now // self.settings.validate_every > self._validated // self.settings.validate_every:
            self._validate(trainer)

    def finish(self, trainer: Trainer) -> None:
        """Called at the end of the whole run: the J&F of the weights that will be used is always told."""
        if trainer.iteration > self._validated:
            self._validate(trainer)

    def _validate(self, trainer: Trainer) -> None:
        if not self.videos:
            return
        # The other processes wait meanwhile, and may give up where it takes long.
        trainer.save_alone()
        try:
            with trainer.exported_weights() as model:
                result = validate(model, self.videos, self.settings.validation, lambda: trainer.stopping)
        except Stopped:  # it is still due: a run that goes on makes it anew
            return
        self._validated = trainer.iteration
        if not result.per_video:
            logger.warning("validation: no video has 3 frames from its first object on")
            return
        logger.info(
            "validation: J&F %.1f, J %.1f, F %.1f over %d videos", result.jf, result.j, result.f, len(result.per_video)
        )
        trainer.record({"iteration": trainer.iteration, "validation": asdict(result)})
        if self.board is not None:
            self.board.validation(trainer.iteration, result.j, result.f)

    def close(self) -> None:
        """Finish the event files."""
        if self.board is not None:
            self.board.close()
