"""The table of all readers: fuzz/readers.py and fuzz/streams.py enter theirs when they are imported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

Seeds = dict[str, bytes]
Read = Callable[[Path], object]


@dataclass(frozen=True)
class Reader:
    """read: takes a file of that name and may raise UserError, nothing else. seeds: {file name: content}.

    made_of: whether bytes or the values of a json document are changed.
    """

    read: Read
    seeds: Callable[[], Seeds]
    made_of: str = "bytes"


READERS: dict[str, Reader] = {}


def reader(name: str, seeds: Callable[[], Seeds], made_of: str = "bytes") -> Callable[[Read], Read]:
    """Return a decorator that enters a reader into the table."""

    def enter(read: Read) -> Read:
        READERS[name] = Reader(read, lru_cache(seeds), made_of)
        return read

    return enter
