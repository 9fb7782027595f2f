"""Changed inputs: bytes as they rot and as attackers set them, json documents with other values in their places."""

from __future__ import annotations

import json
import random
from typing import Any

_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**64 - 1)
_WORDS = (b"../", b"\0", b"\n", b"\r\n", b"\t", b"/etc/passwd", b"\xff\xfe", b"\xef\xbb\xbf", b"'", b'"', b",", b"NaN")
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 0.5, 1e308, float("nan"), float("inf"), 2**63, 10**400, "", "a", "../../x", "a\0b",
    "\n",
    "\ud800", "9" * 400, [], {}, [[]], {"": {}}, [None], {"1": {"rle": "x"}}, "00000", ["00000", 3], "P01/x", "é",
)  # fmt: skip
_DEEP = 3000


def change_bytes(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return data after one to six changes; others: inputs that pieces are taken from."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 6))):
        _change(chance, changed, others)
    return bytes(changed)


def _change(chance: random.Random, data: bytearray, others: list[bytes]) -> None:
    at = chance.choice((chance.randrange(len(data) + 1), chance.randrange(min(len(data), 200) + 1)))
    length = chance.choice((1, 2, 4, 8, chance.randrange(1, 64)))
    kind = chance.randrange(8)
    if kind == 0 and data:
        data[min(at, len(data) - 1)] ^= 1 << chance.randrange(8)
    elif kind == 1:
        data[at : at + length] = chance.randbytes(length)
    elif kind == 2:
        size, order = chance.choice((1, 2, 4, 8)), chance.choice(("little", "big"))
        data[at : at + size] = (chance.choice(_NUMBERS) % 256**size).to_bytes(size, order)
    elif kind == 3:
        del data[at : at + length]
    elif kind == 4:
        data[at:at] = data[at : at + length] * chance.choice((1, 2, 30))
    elif kind == 5:
        other = chance.choice(others)
        start = chance.randrange(len(other) + 1)
        data[at : at + length] = other[start : start + length * 4]
    elif kind == 6:
        data[at : at + chance.choice((0, length))] = chance.choice(_WORDS)
    elif chance.random() < 0.3:
        del data[at:]


def change_json(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return a json document with other values or keys in one to three places; sometimes its bytes change instead."""
    if chance.random() < 0.2:
        return change_bytes(chance, data, others)
    if chance.random() < 0.01:
        return data[: len(data) // 2] + b"[" * _DEEP + data[len(data) // 2 :]
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return change_bytes(chance, data, others)
    for _ in range(chance.choice((1, 1, 2, 3))):
        document = _other(chance, document)
    return json.dumps(document).encode()


def _other(chance: random.Random, value: Any) -> Any:
    if not isinstance(value, dict | list) or not value or chance.random() < 0.15:
        return chance.choice(_VALUES)
    if isinstance(value, list):
        at = chance.randrange(len(value))
        kind = chance.random()
        if kind < 0.1:
            return value[:at] + value[at + 1 :]
        if kind < 0.2:
            return value + value[at:]
        return [_other(chance, part) if n == at else part for n, part in enumerate(value)]
    key = chance.choice(list(value))
    kind = chance.random()
    if kind < 0.1:
        return {name: part for name, part in value.items() if name != key}
    if kind < 0.25:
        name = chance.choice([v for v in _VALUES if isinstance(v, str)])
        return {(name if other == key else other): part for other, part in value.items()}
    return {**value, key: _other(chance, value[key])}
