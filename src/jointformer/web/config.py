"""The web tool's settings, validated."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from pathlib import Path

from jointformer.errors import ConfigError
from jointformer.track import TrackerConfig

_LEAST_TOKEN = 16  # characters; a shorter one could be guessed over a fast network


def is_loopback(host: str) -> bool:
    """Whether only this computer reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class WebConfig:
    """Where the tool listens, what it may open, and how it tracks.

    projects: folder of the saved projects. roots: the only folders whose videos can be opened. token: what a browser
    must show, needed for every host but this computer. max_upload: bytes of one upload. Raises ConfigError naming the
    field.
    """

    projects: Path
    roots: tuple[Path, ...]
    host: str = "127.0.0.1"
    port: int = 8765
    token: str | None = None
    model: str = "tiny"
    device: str = "auto"
    precision: str = "auto"
    tracker: TrackerConfig = field(default_factory=TrackerConfig)
    max_upload: int = 4 * 2**30

    def __post_init__(self) -> None:
        if not self.roots:
            raise ConfigError("folders to open videos from", expected="at least one")
        for root in self.roots:
            if not root.is_dir():
                raise ConfigError("folder to open videos from", expected="a folder", got=root)
        if not 0 <= self.port <= 65535:
            raise ConfigError("port", expected="0 to 65535", got=self.port)
        if self.max_upload < 2**20:
            raise ConfigError("max_upload", expected="at least 1 MiB", got=self.max_upload)
        if self.token is not None and (len(self.token) < _LEAST_TOKEN or not _is_plain(self.token)):
            raise ConfigError("token", expected=f"at least {_LEAST_TOKEN} letters, digits, - or _")
        if self.token is None and not is_loopback(self.host):
            hint = "give --token, or --token auto for a new one"
            raise ConfigError(f"no token for {self.host}", expected="a token wherever others could connect", hint=hint)


def _is_plain(token: str) -> bool:
    return token.isascii() and token.replace("-", "").replace("_", "").isalnum()
