"""Clips made one iteration ahead of the network, in order, whatever the number of threads or processes."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from jointformer.data.clips.stills import Clip
from jointformer.errors import DataError
from jointformer.train.plan import IterationPlan
from jointformer.train.unroll import ClipBatch

logger = logging.getLogger(__name__)

#: How many other clips are tried in place of a broken one before the run stops.
RETRIES = 20
#: Distance in the sequence of clips between a broken clip and the one tried instead.
FAR = 1 << 40


class NoObject(DataError):
    """A clip that shows no object in its first frame by chance: nothing is wrong with its files."""


class ClipSource(Protocol):
    """Anything that makes the clip of an index; the same index and plan always give the same clip."""

    def sample(self, index: int, plan: IterationPlan) -> Clip:
        """The clip; raises DataError where its pictures or masks are broken, NoObject where only luck was bad."""
        ...


@runtime_checkable
class BatchSource(Protocol):
    """A source that makes whole batches at once, where they are used."""

    def sample_batch(self, indices: range, plan: IterationPlan) -> ClipBatch:
        """The clips of these indices; raises DataError where pictures or masks are broken."""
        ...


class ClipLoader:
    """Batches of this process's clips, prepared in a background thread while the network computes.

    `refuse_broken` stops the run at the first broken clip; otherwise, and always where it is NoObject, it is named in
    the log, counted in `skipped` (once its batch is taken) and another one takes its place (the same one in every run
    with the same seed).
    """

    def __init__(
        self,
        source: ClipSource | BatchSource,
        rank: int,
        processes: int,
        *,
        workers: int = 1,
        refuse_broken: bool = False,
    ) -> None:
        self.source = source
        self.rank = rank
        self.processes = processes
        self.refuse_broken = refuse_broken
        self.skipped = 0
        self.waited = 0.0
        self._clips = ThreadPoolExecutor(workers, "clip") if workers > 1 else None
        self._batches = ThreadPoolExecutor(1, "batch")
        self._ahead: deque[tuple[IterationPlan, Future[tuple[ClipBatch, int]]]] = deque()

    def ask(self, plan: IterationPlan) -> None:
        """Start making the batch of a plan."""
        self._ahead.append((plan, self._batches.submit(self._batch, plan)))

    def next(self) -> tuple[IterationPlan, ClipBatch]:
        """The oldest batch asked for, waiting for it where needed (`waited` sums the seconds).

        Raises DataError where it cannot be made; it is still pending then.
        """
        plan, future = self._ahead[0]
        start = time.perf_counter()
        batch, skipped = future.result()
        self.waited += time.perf_counter() - start
        self.skipped += skipped
        self._ahead.popleft()
        return plan, batch

    @property
    def pending(self) -> list[IterationPlan]:
        """Plans asked for and not yet taken."""
        return [plan for plan, _ in self._ahead]

    def close(self) -> None:
        """Stop the threads; batches not taken are dropped."""
        for pool in (self._batches, self._clips):
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _batch(self, plan: IterationPlan) -> tuple[ClipBatch, int]:
        """The batch of a plan, and how many broken clips others took the place of."""
        source, indices = self.source, plan.share(self.rank, self.processes)
        if isinstance(source, BatchSource):
            return source.sample_batch(indices, plan), 0
        run: Callable = map if self._clips is None else self._clips.map
        made = list(run(lambda index: self._clip(source, index, plan), indices))
        clips = [clip for clip, _ in made]
        points = [clip.points for clip in clips if clip.points is not None]
        batch = ClipBatch(
            torch.from_numpy(np.stack([clip.frames for clip in clips])),
            torch.from_numpy(np.stack([clip.label_maps for clip in clips])),
            torch.tensor([clip.num_objects for clip in clips]),
            plan.slots,
            plan.blind,
            torch.from_numpy(np.stack(points)).flatten(2, 3) if len(points) == len(clips) else None,
        )
        return batch, sum(skipped for _, skipped in made)

    def _clip(self, source: ClipSource, index: int, plan: IterationPlan) -> tuple[Clip, int]:
        for attempt in range(RETRIES):
            try:
                return source.sample(index + attempt * FAR, plan), attempt
            except DataError as error:
                if self.refuse_broken and not isinstance(error, NoObject):
                    raise
                logger.warning("clip skipped: %s", error)
        raise DataError(
            "no usable clip",
            got=f"{RETRIES} broken ones in a row",
            hint="see the messages above; they name the files",
        )
