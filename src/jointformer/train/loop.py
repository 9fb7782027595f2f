"""The training loop: plan, load, unroll, learn, report, checkpoint; the same loop for every kind of data."""

from __future__ import annotations

import json
import logging
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jointformer.errors import ConfigError, DataError
from jointformer.system.files import append_line, make_dir
from jointformer.system.stop import note_signals
from jointformer.train import state as checkpoint
from jointformer.train.config import Planner, RunConfig
from jointformer.train.distributed import Processes
from jointformer.train.loader import BatchSource, ClipLoader, ClipSource
from jointformer.train.losses import frame_loss, iou_sum
from jointformer.train.optimiser import (
    MovingAverage,
    build_optimiser,
    set_learning_rate,
)
from jointformer.train.plan import IterationPlan
from jointformer.train.progress import Progress
from jointformer.train.unroll import ClipBatch, ClipUnroller, Unrolled

if TYPE_CHECKING:
    from jointformer.model.network import JointFormer

logger = logging.getLogger(__name__)

LOG = "log.jsonl"

#: Iterations in a row whose gradient is not finite before the run gives up.
NOT_FINITE = 30


class Trainer:
    """One run in one process: the network, its optimiser, its data, and the state that a resume needs."""

    def __init__(
        self, model: JointFormer, source: ClipSource | BatchSource, planner: Planner, config: RunConfig,
        processes: Processes, folder: Path, *, on_save: Callable[[Trainer], None] | None = None,
        on_report: Callable[[Trainer, dict[str, Any]], None] | None = None,
    ) -> None:  # fmt: skip
        torch.manual_seed(config.seed)
        self.model = model.to(processes.device).train()
        self.planner, self.config, self.processes, self.folder = planner, config, processes, folder
        self.on_save, self.on_report = on_save, on_report
        self.unroller: nn.Module = ClipUnroller(self.model, config.unroll, config.precision)
        if processes.count > 1:
            # 1x1 convolutions have two names for one layout; DDP copies those few gradients and says so.
            warnings.filterwarnings("ignore", message="Grad strides do not match bucket view strides")
            # A clip's last frame updates no token: with one frame to learn from, those weights get no gradient.
            self.unroller = nn.parallel.DistributedDataParallel(
                self.unroller, find_unused_parameters=planner.fewest_frames == 2
            )
        self.optimiser = build_optimiser(self.model, config.optimiser)
        self.scaler = torch.amp.GradScaler(processes.device.type, enabled=config.precision == "autocast-float16")
        self.average = MovingAverage(self.model.parameters(), config.average) if config.average else None
        self.loader = ClipLoader(
            source, processes.rank, processes.count, workers=config.workers, refuse_broken=config.refuse_broken
        )
        self.iteration = 0
        self.clips = 0
        self.skipped = 0
        self.seconds = 0.0
        self.preview: tuple[ClipBatch, Tensor] | None = None
        self._next_clip = 0
        self._planned = 0
        self._not_finite = 0
        self._saved = -1
        self._stop = False

    # --- progress of the run -------------------------------------------------------------------------------

    def fraction(self) -> float:
        """How much of the budget is used, 0..1, by what is planned: the next plan's place in the run."""
        return self._share(self._planned)

    def _done(self) -> float:
        """How much of the budget is used, 0..1, by the iterations that are over."""
        return self._share(self.iteration)

    def _share(self, iterations: int) -> float:
        if self.config.iterations is not None:
            return min(1.0, iterations / self.config.iterations)
        assert self.config.minutes is not None
        return min(1.0, self.seconds / (60 * self.config.minutes))

    def train(self) -> bool:
        """Run until the budget is used; False where a signal stopped it before (a checkpoint is written).

        Raises DataError where no clip can be made; what was learnt before is saved by the first process, if it is that
        one's clip.
        """
        make_dir(self.folder)
        begun = self.iteration
        progress = Progress(self.folder / LOG if self.processes.first else None)
        with note_signals(self.end):
            while self._plan_ahead():
                start = time.perf_counter()
                try:
                    plan, batch = self.loader.next()
                except DataError:
                    if self.processes.first and self.iteration > begun:
                        self.save_alone()  # the others may not come to wait
                    raise
                figures = self.step(plan, batch)
                self.iteration, self.clips = plan.iteration + 1, self.clips + plan.batch
                self.seconds += time.perf_counter() - start
                progress.add(plan.batch, figures)
                if self.iteration % self.config.save_every == 0:
                    self.save()
                if self.iteration % self.config.log_every == 0:
                    self._report(progress, plan)
            if progress.has_news and not self._stop:
                self._report(progress, plan)
            # Also where a resumed run has nothing left to do: it may have ended before its weights were exported.
            self.save()
        self.loader.close()
        return not self.processes.largest(self._stop)  # a signal may have reached one of them since it was last asked

    def end(self) -> None:
        """Ask for the end of the run, as a signal does."""
        self._stop = True

    @property
    def stopping(self) -> bool:
        """Whether a signal asks this process's run to end."""
        return self._stop

    def _plan_ahead(self) -> bool:
        """Keep the loader busy; False when the run is over: by the first process's clock, or by a signal to any."""
        while len(self.loader.pending) < self.config.ahead:
            mine = self.fraction() if self.processes.first else 0.0
            fraction = self.processes.largest(2.0 if self._stop else mine)
            if fraction >= 1:
                self._stop = fraction > 1
                return not self._stop and bool(self.loader.pending)
            self._ask(fraction)
        return True

    def _ask(self, fraction: float) -> None:
        plan = self.planner.plan(self._planned, fraction, self._next_clip)
        self._planned, self._next_clip = plan.iteration + 1, plan.next_clip
        self.loader.ask(plan)

    # --- one iteration -------------------------------------------------------------------------------------

    def step(self, plan: IterationPlan, batch: ClipBatch) -> dict[str, float]:
        """The figures of an optimiser update on a batch, over all processes; `iou` if a last frame has an object."""
        config = self.config
        batch = batch.to(self.processes.device)
        set_learning_rate(self.optimiser, config.optimiser.lr * config.schedule.factor(plan.iteration, plan.fraction))
        self.optimiser.zero_grad(set_to_none=True)
        unrolled: Unrolled = self.unroller(batch, config.seed * 1_000_003 + plan.iteration)
        logits, matching = unrolled.logits, unrolled.matching
        cross_entropy, dice = self._losses(plan, batch, logits)
        loss = cross_entropy + dice
        if config.mean_over_frames:
            loss = loss / len(logits)
        if matching is not None:
            loss = loss + config.unroll.matching * matching
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimiser)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.optimiser.clip)
        if self._finite(norm):
            self.scaler.step(self.optimiser)
            if self.average is not None:
                self.average.update(plan.iteration)
        self.scaler.update()
        self.preview = (batch, logits[-1].detach())
        figures = torch.stack(
            [torch.full_like(norm, self.loader.skipped),
             *iou_sum(logits[-1].detach(), batch.label_maps[:, -1], batch.num_objects),
             loss.detach(), cross_entropy.detach() / len(logits), dice.detach() / len(logits), norm.detach(),
             *(() if matching is None else (matching.detach(),))]
        )  # fmt: skip
        skipped, iou, objects, *values = self.processes.mean(figures.float()).tolist()
        self.skipped = round(skipped * self.processes.count)
        named = dict(zip(("loss", "ce", "dice", "grad", "match"), values, strict=False))
        return {**named, "iou": iou / objects} if objects else named

    def _losses(self, plan: IterationPlan, batch: ClipBatch, logits: list[Tensor]) -> tuple[Tensor, Tensor]:
        losses = [
            frame_loss(one, batch.label_maps[:, t], batch.num_objects, plan.hardest, void=self.config.void)
            for t, one in enumerate(logits, plan.blind + 1)
        ]
        return (
            torch.stack([one.cross_entropy for one in losses]).sum(),
            torch.stack([one.dice for one in losses]).sum(),
        )

    def _finite(self, norm: Tensor) -> bool:
        """Whether the gradient may be used: one bad batch, or one overflow of the scaled loss, destroys no run."""
        if torch.isfinite(norm):
            self._not_finite = 0
            return True
        self._not_finite += 1
        if self._not_finite >= NOT_FINITE:
            raise DataError(
                f"no finite gradient in {NOT_FINITE} iterations in a row",
                where=f"iteration {self.iteration}",
                hint="resume from an earlier checkpoint with a lower learning rate",
            )
        return False

    # --- state ---------------------------------------------------------------------------------------------

    def _report(self, progress: Progress, plan: IterationPlan) -> None:
        if not self.processes.first:
            return
        extra = {
            "lr": max(group["lr"] for group in self.optimiser.param_groups),  # the backbone's is a tenth
            "height": plan.shape[0],
            "width": plan.shape[1],
            "frames": plan.frames,
            "clips": self.clips,
            "skipped": self.skipped,
            "seconds": round(self.seconds, 1),
        }
        figures = progress.report(self.iteration, self._done(), self.loader.waited, extra)
        if self.on_report is not None:
            self.on_report(self, figures)

    def record(self, entry: dict[str, Any]) -> None:
        """Append an entry to the run's log."""
        append_line(self.folder / LOG, json.dumps(entry))

    def save(self) -> None:
        """Write a checkpoint (and what `on_save` adds) from the first process; the others wait."""
        if self.processes.first:
            self.save_alone()
        self.processes.wait()

    def save_alone(self) -> None:
        """What `save` does in the first process, once an iteration: for use where the others are not."""
        if self._saved == self.iteration:
            return
        path = checkpoint.save_checkpoint(self.folder, self.iteration, self.state(), self.config.keep)
        logger.info("saved %s", path)
        if self.on_save is not None:
            self.on_save(self)
        self._saved = self.iteration

    def state(self) -> dict[str, Any]:
        """Everything `load_state` needs, as tensors and plain data."""
        return {
            "format": 1,
            "iteration": self.iteration,
            "clips": self.clips,
            "skipped": self.skipped,
            "next_clip": self._next_clip,
            "seconds": self.seconds,
            "model": self.model.state_dict(),
            "average": None if self.average is None else self.average.average,
            "optimiser": self.optimiser.state_dict(),
            "scaler": self.scaler.state_dict(),
            "pending": [asdict(plan) for plan in self.loader.pending],
            "random": checkpoint.random_states(),
            "config": json.dumps(asdict(self.config)),
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Take over a checkpoint's state; the run goes on exactly where it stood.

        Raises ConfigError for a checkpoint of a run with another optimiser.
        """
        self.model.load_state_dict(state["model"])
        try:
            self.optimiser.load_state_dict(state["optimiser"])
        except ValueError:  # clips from stills are learnt by Muon
            raise ConfigError(
                "is of another kind of run: its optimiser has other groups of parameters",
                where=f"the checkpoint of iteration {state['iteration']}",
                hint="start from the weights.safetensors beside it, with --init or --load_network",
            ) from None
        if state["scaler"]:  # empty where that run had no use for one
            self.scaler.load_state_dict(state["scaler"])
        if self.average is not None and state["average"] is not None:
            for mine, saved in zip(self.average.average, state["average"], strict=True):
                mine.copy_(saved)
        self.iteration, self.clips, self.seconds = state["iteration"], state["clips"], state["seconds"]
        self.skipped = state.get("skipped", 0)
        self.loader.skipped = self.skipped if self.processes.first else 0  # the processes' are summed
        pending = [IterationPlan(**plan) for plan in state["pending"]]
        self._planned, self._next_clip = self.iteration, pending[0].first_clip if pending else state["next_clip"]
        for plan in pending:  # planned anew: another batch, or another length, may be wanted now
            fraction = plan.fraction if self.config.iterations is None else self.fraction()
            if fraction < 1:
                self._ask(fraction)
        checkpoint.restore_random_states(state["random"])

    @contextmanager
    def exported_weights(self) -> Iterator[JointFormer]:
        """The network with the weights to export: the moving average where the run keeps one."""
        if self.average is not None:
            self.average.swap()
        self.model.eval()
        try:
            yield self.model
        finally:
            self.model.train()
            if self.average is not None:
                self.average.swap()
