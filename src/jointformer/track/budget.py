"""What tracking a video will need of memory, by formula; and the settings that keep it within a budget."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from jointformer.errors import ConfigError, DataError
from jointformer.model.config import ModelConfig
from jointformer.model.cost import bank_bytes, pass_bytes
from jointformer.model.device import peak_memory
from jointformer.model.network import JointFormer
from jointformer.ops.attention import joint_attention
from jointformer.ops.padding import padded
from jointformer.ops.resize import network_size
from jointformer.system.heap import give_back_freed_memory, resident_size
from jointformer.track.config import TrackerConfig

#: Full-size float32 maps that each object of the video needs for its probabilities, whatever the pass.
FULL_MAPS = 8.2
#: Such maps that a frame takes, however many objects it has.
FRAME_MAPS = 8
#: Pictures decoded ahead, and label maps not yet written.
FRAMES_AHEAD, MAPS_WAITING = 6, 24
#: What libraries hold beside the widest layer's work, in squares of its width.
LAYER_SQUARES = 52
#: What allocators and thread stacks take besides, in bytes.
SLACK = 64 << 20


@dataclass(frozen=True)
class VideoSize:
    """What a plan has to know of a video: frames, (H, W) of a frame and of its label maps, objects at most.

    writing: bytes that writing its results takes besides, such as an overlay's encoder.
    """

    name: str
    frames: int
    size: tuple[int, int]
    objects: int
    writing: int = 0


@dataclass(frozen=True)
class MemoryPlan:
    """Bytes that tracking a video takes at its peak, by part, with the settings that they are for.

    base: what the process holds before the first frame, network included. bank: keys and values. work: one step's
    intermediate results. pictures: decoded frames and label maps that wait. before: the peak so far, of loading
    weights and compiling kernels.
    """

    video: str
    base: int
    bank: int
    work: int
    pictures: int
    config: TrackerConfig
    before: int = 0

    @property
    def total(self) -> int:
        """All parts together, or the peak so far where that was higher."""
        return max(self.before, self.base + self.bank + self.work + self.pictures)

    def __str__(self) -> str:
        passes = self.config.objects_per_pass
        return (
            f"{size_text(self.total)} for {self.video}: {size_text(self.base)} program and network, "
            f"{size_text(self.bank)} memory bank, {size_text(self.work)} a step with "
            f"{'all objects at once' if passes is None else f'{passes} objects per pass'}, "
            f"{size_text(self.pictures)} pictures"
        )


def plan_memory(
    model: ModelConfig,
    config: TrackerConfig,
    video: VideoSize,
    *,
    base: int,
    itemsize: int,
    before: int = 0,
) -> MemoryPlan:
    """Return what tracking a video with these settings takes.

    base, before: see MemoryPlan. itemsize: bytes of a number of the network, 4 for float32. Raises DataError for a
    video that is too narrow for the size.
    """
    try:
        h, w = network_size(*video.size, config.size)
    except DataError as error:  # among many videos its name is wanted
        raise DataError(error.what, **{**error.parts, "where": video.name}) from error
    height, width = padded(h, w)
    objects = max(1, video.objects)
    in_pass = min(objects, config.objects_per_pass or objects)
    work = pass_bytes(model, height, width, in_pass, itemsize) + SLACK
    work += LAYER_SQUARES * model.token_width**2 * itemsize
    work += int(height * width * 4 * (FRAME_MAPS + FULL_MAPS * objects))
    places = bank_places(config, video.frames)
    bank = bank_bytes(model, height, width, objects, places, itemsize)
    if not config.max_memory_frames:
        bank += bank // 2 // max(1, 2 * model.layers)  # while a layer moves to a larger room, the old one is there too
    pixels = video.size[0] * video.size[1]
    resized = 2 * min(objects + 1, 16) * pixels * 4 if (h, w) != video.size else 0
    pictures = pixels * (3 * FRAMES_AHEAD + MAPS_WAITING) + resized + video.writing
    return MemoryPlan(video.name, base, bank, work, pictures, config, before)


def bank_places(config: TrackerConfig, frames: int) -> int:
    """Return the memory frames that a row of the bank has room for after a video of so many frames."""
    temporary = int(config.keeps_temporary)
    if config.max_memory_frames:
        return temporary + config.max_memory_frames
    room, needed = temporary + 4, temporary + 1 + max(0, frames - 1) // config.memory_every
    while room < needed:
        room *= 2
    return room


def base_within(
    model: JointFormer, config: TrackerConfig, budget: int, device: torch.device | None = None
) -> tuple[int, int]:
    """Return (what the process holds before the first frame, its peak so far); compiled kernels are loaded for it.

    device: where the network will be if it is elsewhere now; of a GPU that is what the network takes there.

    Raises ConfigError where that alone breaks the budget.
    """
    device = device or model.device
    held = held_now(model, device)
    if held < budget:
        held = held_now(model, device, config)
    if held >= budget:
        raise ConfigError(
            "the memory budget is too small",
            expected=f"more than {size_text(held)}, which the program and the network take",
            got=size_text(budget),
        )
    return held, peak_memory(device) if device.type in ("cpu", model.device.type) else 0


def fit_budget(
    model: ModelConfig,
    config: TrackerConfig,
    video: VideoSize,
    budget: int,
    *,
    base: int,
    itemsize: int,
    before: int = 0,
    device: str = "",
) -> MemoryPlan:
    """Return the plan with the most objects per pass that stays within a budget of bytes.

    Masks depend on their number by rounding at most: sums of several objects are added up in another order.

    device: the kind the network is on; on a "cpu" more than one object per pass brings nothing, unless asked for.

    Raises ConfigError with the estimate where even one object per pass does not fit, and with the memory or size that
    would; DataError as `plan_memory` does.
    """
    most = min(max(1, video.objects), config.objects_per_pass or (1 if device == "cpu" else video.objects) or 1)

    def plan(per_pass: int, settings: TrackerConfig = config) -> MemoryPlan:
        chosen = replace(settings, objects_per_pass=per_pass, memory_limit=budget)
        return plan_memory(model, chosen, video, base=base, itemsize=itemsize, before=before)

    def total(settings: TrackerConfig) -> float:
        try:
            return plan(1, settings).total
        except DataError:  # too narrow for that size
            return math.inf

    least = plan(1)
    if least.total > budget:
        raise ConfigError(
            "the memory budget is too small",
            expected=f"at least {least}",
            got=size_text(budget),
            hint=_what_would_fit(least, budget, total),
        )
    low, high = 1, most
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if plan(middle).total <= budget else (low, middle - 1)
    return plan(low)


def _what_would_fit(least: MemoryPlan, budget: int, total: Callable[[TrackerConfig], float]) -> str:
    """Return the advice that goes with a refusal. total: the bytes that settings take."""
    config = least.config
    for frames in (5, 4, 3, 2, 1):
        smaller = replace(config, max_memory_frames=frames)
        if (config.max_memory_frames == 0 or frames < config.max_memory_frames) and total(smaller) <= budget:
            return f"--max-memory-frames {frames} would fit (other masks)"
    one = replace(config, max_memory_frames=1)
    for size in (720, 480, 360, 240):
        if (config.size < 0 or size < config.size) and total(replace(one, size=size)) <= budget:
            return f"--max-memory-frames 1 with size {size} would fit (other masks)"
    return "give more, or track fewer objects at a time"


def held_now(model: JointFormer, device: torch.device, config: TrackerConfig | None = None) -> int:
    """Return the bytes that this process (or, of a GPU, its allocator) holds; with a config, compiled kernels too.

    device: where the network is to be; if it is elsewhere, its bytes count besides.
    """
    moved = 0
    if device.type != model.device.type:
        moved = sum(tensor.nbytes for tensor in (*model.parameters(), *model.buffers()))
    if device.type == "cuda":
        return moved or int(torch.cuda.memory_allocated(device))
    if config is not None:
        _load_kernels(model, config, device)
    give_back_freed_memory()
    return resident_size() + moved


def _load_kernels(model: JointFormer, config: TrackerConfig, device: torch.device) -> None:
    """Let the attention compile or load its kernels, which takes about 100 MB: they are part of the program."""
    heads, width = model.config.heads, model.config.head_width
    rows = int((2**20 / (3 * heads)) ** 0.5) + 16  # just enough scores that the compiled path is taken
    q = torch.zeros(1, heads, rows, width, dtype=model.dtype, device=device)
    memory = q.new_zeros(1, heads, 2 * rows, width)
    with torch.inference_mode():
        joint_attention(q, q, q)
        joint_attention(q, q, q, memory, memory, topk=config.topk)


def size_text(count: int) -> str:
    """Return bytes for people."""
    return f"{count / 1e9:,.2f} GB" if count >= 10**9 else f"{count / 1e6:,.0f} MB"
