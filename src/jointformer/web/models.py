"""The network that all projects share."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch

from jointformer.errors import UserError
from jointformer.model.cost import step_cost
from jointformer.model.network import JointFormer
from jointformer.model.weights import load_model
from jointformer.ops.padding import padded
from jointformer.session import ObjectInfo, Session
from jointformer.types import Mask

#: The part of the rate of matrix products that a step reaches on a CPU: 18 to 77 % in docs/performance.md.
_EFFICIENCY = 0.25
_SIDE = 768  # of the matrices that are multiplied to learn that rate


class SharedModel:
    """Loads the network when a project first tracks, once for all projects."""

    def __init__(self, name: str | Path, device: str, precision: str) -> None:
        self.name, self.device, self.precision = name, device, precision
        self._lock = threading.Lock()
        self._network: JointFormer | None = None
        self._warming = False
        self._rate: float | None = None

    def get(self) -> JointFormer:
        """Return the network. Raises WeightsError, ConfigError."""
        with self._lock:
            if self._network is None:
                self._network = load_model(self.name, self.device, self.precision)
            return self._network

    def warm(self, then: Callable[[], None]) -> None:
        """Load the network in the background, so that tracking begins sooner, and learn what `guess` needs.

        `then` is called afterwards. What goes wrong is told when tracking begins.
        """
        if self._warming:
            return
        self._warming = True

        def load() -> None:
            try:
                self._rate = _matrix_rate(self.get())
            except UserError:
                return
            then()

        threading.Thread(target=load, name="warm", daemon=True).start()

    def guess(self, height: int, width: int, objects: int, memory_frames: int) -> float | None:
        """Return roughly the seconds of a step at network size, from the machine's rate; None where that is unknown."""
        if self._network is None or self._rate is None:
            return None
        cost = step_cost(self._network.config, *padded(height, width), objects, memory_frames).total
        return cost / (self._rate * _EFFICIENCY)


def _matrix_rate(network: JointFormer) -> float | None:
    """Operations per second of matrix products on this CPU, in the network's numbers; None on other devices."""
    if network.device.type != "cpu":
        return None
    a = torch.ones((_SIDE, _SIDE), dtype=network.dtype)
    seconds = []
    for _ in range(4):  # the first pays for the library's own preparations
        start = perf_counter()
        a @ a
        seconds.append(perf_counter() - start)
    # The mean, not the best: other work on the machine slows tracking as well.
    return 2 * _SIDE**3 * len(seconds[1:]) / sum(seconds[1:])


class SharedSession(Session):
    """A session that tracks with a shared network, and whose new objects come with their names."""

    shared: SharedModel
    #: Gives the title, where the video's name would tell nothing.
    own_title: Callable[[], str] | None = None

    @property
    def title(self) -> str:
        """The video's name in files that need one; of pictures that were uploaded, the project's."""
        return super().title if self.own_title is None else self.own_title()

    @property
    def model(self) -> JointFormer:
        """The shared network, loaded when first asked for. Raises WeightsError."""
        return self.shared.get()

    def draw(self, frame: int, mask: Mask, info: ObjectInfo) -> None:
        """Give an object's mask; a new object has its name and colour from the same edit. Raises DataError."""
        self._edits.add_masks(self._checked(frame), {info.id: mask}, [info])

    def draw_files(self, path: Path, frame: int, white: ObjectInfo | None) -> list[int]:
        """Give masks of files in one step; see `add_mask_files`. white: with its name and colour, if it is new."""
        return self._add_mask_files(path, frame, white)
