"""Flags that many subcommands have, declared and read alike."""

from __future__ import annotations

import argparse
import re
from typing import NoReturn

from jointformer.errors import ConfigError

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


class CommandParser(argparse.ArgumentParser):
    """A parser whose complaints are errors like all others, in one line, without all the flags before them."""

    def error(self, message: str) -> NoReturn:
        """Raise ConfigError with what is wrong."""
        raise ConfigError(message, hint=f"see {self.prog} --help")


def add_model_flag(parser: argparse.ArgumentParser) -> None:
    """Declare which weights a command tracks with."""
    parser.add_argument("--model", default="tiny", help="tiny (default), a published name (s012, …) or a weights file")


def add_memory_flags(parser: argparse.ArgumentParser) -> None:
    """Declare how much a tracker remembers, and how much of it counts."""
    parser.add_argument(
        "--max-memory-frames", type=int, default=5, help="memory frames per object, 0: no bound (default: 5)"
    )
    add_topk_flag(parser)


def add_topk_flag(parser: argparse.ArgumentParser) -> None:
    """Declare how many memory keys count."""
    parser.add_argument("--topk", type=int, default=60, help="memory keys kept per query, 0: all (default: 60)")


def add_device_flag(parser: argparse._ActionsContainer) -> None:
    """Declare where the network runs."""
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:1, mps")


def add_precision_flag(parser: argparse._ActionsContainer) -> None:
    """Declare what the network computes in."""
    parser.add_argument("--precision", default="auto", help="auto (default), float32, bfloat16, float16")


def add_frame_size_flag(parser: argparse.ArgumentParser) -> None:
    """Declare the size of a frame where there is no video."""
    parser.add_argument("--size", default="480x854", help="frame size as HEIGHTxWIDTH in pixels (default: 480x854)")


def parse_frame_size(text: str) -> tuple[int, int]:
    """Return the (height, width) of --size. Raises ConfigError."""
    height, _, width = text.lower().partition("x")
    if not (height.isdecimal() and width.isdecimal() and 1 <= int(height) <= 32768 and 1 <= int(width) <= 32768):
        raise ConfigError("--size", expected="HEIGHTxWIDTH in pixels, such as 480x854", got=repr(text))
    return int(height), int(width)


def parse_memory_size(text: str) -> int:
    """Return the bytes of a --memory-budget such as 2GB, 1.5 GiB or 800MB. Raises ConfigError."""
    match = re.fullmatch(r"\s*(\d{1,12}(?:\.\d{1,6})?)\s*([a-zA-Z]*)\s*", text)
    unit = match and match[2].upper()
    if match is None or unit not in _UNITS or float(match[1]) <= 0:
        raise ConfigError("--memory-budget", expected="a size such as 2GB or 800MB", got=repr(text[:40]))
    return int(float(match[1]) * _UNITS[str(unit)])


def add_workers_flag(parser: argparse.ArgumentParser) -> None:
    """Declare how many processes share the work."""
    parser.add_argument("--workers", type=int, metavar="N", help="parallel processes (default: one per processor)")


def worker_count(wanted: int | None) -> int:
    """Return the number of processes asked for, where none is one per processor."""
    from jointformer.system.parallel import processors

    return processors() if wanted is None else wanted
