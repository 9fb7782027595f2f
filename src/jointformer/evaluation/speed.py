"""How fast a step is, where its time goes, and how near that is to the machine's limit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from jointformer.model.compiled import compiled
from jointformer.model.cost import StepCost, step_cost
from jointformer.model.device import exact_products, peak_memory, reset_peak_memory
from jointformer.model.network import JointFormer
from jointformer.ops.padding import padded
from jointformer.ops.products import times_transposed
from jointformer.track.config import TrackerConfig
from jointformer.track.loop import iter_segmentations
from jointformer.track.tracker import Tracker
from jointformer.track.transfer import on_gpu
from jointformer.types import LabelMap, UInt8Array

PARTS = ("encode", "read", "enhance", "decode", "update_token", "write")
#: Steps whose parts are timed: on a GPU each part waits for the device, so that these steps count for nothing else.
PART_STEPS = 3
#: So many times the timed steps are run for a GPU's throughput, so that filling and emptying its queue hardly count.
QUEUE_STEPS = 3


@dataclass(frozen=True)
class MachineRates:
    """Floating-point operations per second that this machine reached in this run, in the model's precision."""

    matrix: float
    convolution: float

    def best(self, other: MachineRates) -> MachineRates:
        """Return the better of both measurements."""
        return MachineRates(max(self.matrix, other.matrix), max(self.convolution, other.convolution))


@dataclass(frozen=True)
class SpeedReport:
    """How long a step takes, memory, operations, efficiency.

    step: seconds from a frame to its label map (median, 10th and 90th percentile). parts: seconds of its parts, and
    rest: those outside of them, both medians of steps of their own. Compiled, read has the decoder's skip features and
    decode the enhancement, which is no part then. throughput: on a GPU, frames per second where, as in evaluations, the
    next frame goes ahead while a label map comes back.
    """

    step: tuple[float, float, float]
    parts: dict[str, float]
    rest: float
    throughput: float | None
    peak_memory: int
    bank_memory: int
    cost: StepCost
    rates: MachineRates
    steps: int

    @property
    def fps(self) -> float:
        """Frames per second: the throughput where there is one, else at the median step."""
        return self.throughput or 1 / self.step[0]

    @property
    def efficiency(self) -> float:
        """The time that the step's operations would take at the machine's rates, over the time it took."""
        ideal = (self.cost.total - self.cost.decode) / self.rates.matrix + self.cost.decode / self.rates.convolution
        return ideal / self.step[0]

    def as_data(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return {
            **asdict(self),
            "flop": self.cost.total,
            "fps": self.fps,
            "efficiency": self.efficiency,
        }


def measure_speed(
    model: JointFormer,
    config: TrackerConfig,
    *,
    size: tuple[int, int] = (480, 854),
    objects: int = 1,
    steps: int = 10,
    warmup: int = 3,
    progress: bool = True,
) -> SpeedReport:
    """Return the report of a synthetic video of this size (H, W) and number of objects, memory full.

    Frames are noise and objects are boxes: the time of a step does not depend on what they show. Steps are timed as
    eval.py times them: the model's work and the resize of its result; with their parts only later ones.
    """
    frames, label_map = _synthetic_video(size, objects)
    rates = measure_rates(model.device, model.dtype)
    tracker = Tracker(model, config)
    tracker.step(frames[0], label_map)
    # Until the bank is full and a temporary frame is there, steps are shorter than later ones.
    filling = max(0, config.max_memory_frames - 1) * config.memory_every + 1
    reset_peak_memory(model.device)
    numbers = iter(tqdm(range(filling + warmup + steps + PART_STEPS), unit="step", disable=not progress))

    def step() -> float:
        start = perf_counter()
        _ = tracker.step(frames[next(numbers) % len(frames)]).label_map
        _synchronise(model.device)
        return perf_counter() - start

    for _ in range(filling + warmup):
        step()
    times = [step() for _ in range(steps)]
    peak = peak_memory(model.device)
    throughput = _throughput(tracker, frames, QUEUE_STEPS * steps) if on_gpu(model.device) else None
    parts: list[dict[str, float]] = []
    rests: list[float] = []
    for _ in range(PART_STEPS):
        with _timed_parts(compiled(model) if config.compile else model, compiled=config.compile) as spent:
            seconds = step()
        parts.append(spent)
        rests.append(seconds - sum(spent.values()))
    next(numbers, None)  # ends the progress bar
    places = config.max_memory_frames + int(config.keeps_temporary)
    return SpeedReport(
        step=tuple(float(np.percentile(times, q)) for q in (50, 10, 90)),  # type: ignore[arg-type]
        parts={name: float(np.median([spent[name] for spent in parts])) for name in parts[0]},
        rest=float(np.median(rests)),
        throughput=throughput,
        peak_memory=peak,
        bank_memory=tracker.memory_nbytes,
        cost=step_cost(model.config, *padded(*size), objects, places),
        # Measured on both sides of the steps: something else may have had the machine during either.
        rates=rates.best(measure_rates(model.device, model.dtype)),
        steps=steps,
    )


def _synthetic_video(size: tuple[int, int], objects: int) -> tuple[UInt8Array, LabelMap]:
    """Return frames (T, H, W, 3) of noise and the first one's label map, objects side by side in its middle."""
    height, width = size
    frames = np.random.default_rng(0).integers(0, 255, (4, height, width, 3), dtype=np.uint8)
    label_map = np.zeros((height, width), np.uint16)
    columns = np.linspace(0, width, objects + 1).astype(int)
    for i in range(objects):
        label_map[height // 4 : 3 * height // 4, columns[i] : max(columns[i] + 1, columns[i + 1])] = i + 1
    return frames, label_map


def _throughput(tracker: Tracker, frames: UInt8Array, count: int) -> float:
    """Return the frames per second of so many more steps in a row, as evaluations take them."""
    video = ((n, frames[n % len(frames)]) for n in range(count))
    start = perf_counter()
    for _ in iter_segmentations(tracker, video, lambda index, known: None, ahead=True):
        pass
    return count / (perf_counter() - start)


def measure_rates(device: torch.device, dtype: torch.dtype) -> MachineRates:
    """Return the best rates of three large matrix products and 3×3 convolutions in this precision."""
    side = 4096 if device.type == "cuda" else 2048
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    channels, h, w = 256, 128, 224
    x = torch.randn(1, channels, h, w, device=device, dtype=dtype).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(channels, channels, 3, 3, device=device, dtype=dtype)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    out = torch.empty_like(a)

    def multiply() -> Tensor:
        return (
            times_transposed(a, b, out) if device.type == "cpu" and dtype == torch.float32 else torch.mm(a, b, out=out)
        )

    with torch.inference_mode(), exact_products(device):  # as the network's own
        matrix = 2 * side**3 / _best_time(multiply, device)
        operations = 2 * h * w * channels * channels * 9
        convolution = operations / _best_time(lambda: F.conv2d(x, kernel, padding=1), device)
    return MachineRates(matrix, convolution)


def _best_time(run: Callable[[], Any], device: torch.device) -> float:
    best = float("inf")
    for _ in range(4):
        start = perf_counter()
        run()
        _synchronise(device)
        best = min(best, perf_counter() - start)
    return best


def _synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


@contextmanager
def _timed_parts(model: JointFormer, *, compiled: bool) -> Iterator[dict[str, float]]:
    """A dictionary that collects the seconds of the network's parts within the block."""
    owners: list[tuple[str, Any, str]] = [
        ("encode", model.convmae, "encode_frame"),
        ("read", model.convmae, "project"),
        ("read", model.convmae, "read"),
        ("enhance", model.convmae, "enhance"),
        ("update_token", model.decoder, "fuse"),
        ("update_token", model.convmae, "update_token"),
        ("write", model.convmae, "embed_masks"),
        ("write", model.convmae, "write"),
        ("decode", model.decoder, "skips"),
        ("decode", model.decoder, "forward"),
    ]
    if compiled:  # a program is whole: no clock goes into it
        owners = [
            ("encode", model, "encode_frame"),
            ("read", model, "_share"),
            ("read", model.convmae, "read"),
            ("decode", model, "_decode"),
            ("update_token", model, "_fuse"),
            ("update_token", model, "_update_token"),
            ("write", model, "_embed_group"),
            ("write", model, "_write"),
        ]
    spent = {part: 0.0 for part in PARTS if part in {name for name, _, _ in owners}}

    def timed(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            _synchronise(model.device)
            start = perf_counter()
            result = function(*args, **options)
            _synchronise(model.device)
            spent[name] += perf_counter() - start
            return result

        return call

    before = [dict(vars(owner)) for _, owner, _ in owners]
    for name, owner, method in owners:
        object.__setattr__(owner, method, timed(name, getattr(owner, method)))
    try:
        yield spent
    finally:
        for (_, owner, method), own in zip(owners, before, strict=True):
            if method in own:
                object.__setattr__(owner, method, own[method])
            else:
                object.__delattr__(owner, method)
