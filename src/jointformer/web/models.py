"""The network that all projects share."""

from __future__ import annotations

import threading
from pathlib import Path

from jointformer.model.network import JointFormer
from jointformer.model.weights import load_model
from jointformer.session import Session


class SharedModel:
    """Loads the network when a project first tracks, once for all projects."""

    def __init__(self, name: str | Path, device: str, precision: str) -> None:
        self.name, self.device, self.precision = name, device, precision
        self._lock = threading.Lock()
        self._network: JointFormer | None = None

    @property
    def ready(self) -> bool:
        """Whether it is loaded."""
        return self._network is not None

    def get(self) -> JointFormer:
        """Return the network. Raises WeightsError, ConfigError."""
        with self._lock:
            if self._network is None:
                self._network = load_model(self.name, self.device, self.precision)
            return self._network


class SharedSession(Session):
    """A session that tracks with a shared network."""

    shared: SharedModel

    @property
    def model(self) -> JointFormer:
        """The shared network, loaded when first asked for. Raises WeightsError."""
        return self.shared.get()
