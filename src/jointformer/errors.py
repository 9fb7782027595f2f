"""Errors a user can mend. Their text is one line: what, where, expected, got, what to do."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

#: Names of files, of members of zips and of titles may hold what steers a terminal.
_SHOWN = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}


class UserError(Exception):
    """A mistake in the input, the settings or the surroundings that the user can mend.

    `str(error)` is one line built from the parts; the command line prints it and exits with code 2.
    """

    def __init__(
        self,
        what: str,
        *,
        where: str | Path | None = None,
        expected: object = None,
        got: object = None,
        hint: str | None = None,
    ) -> None:
        self.what = what
        self.where = None if where is None else str(where)
        self.expected = expected
        self.got = got
        self.hint = hint
        parts = [what if self.where is None else f"{self.where}: {what}"]
        if expected is not None:
            parts.append(f"expected {expected}")
        if got is not None:
            parts.append(f"got {got}")
        text = ", ".join(parts)
        if hint:
            text += f"; {hint}"
        super().__init__(" ".join(text.split()).translate(_SHOWN))

    @property
    def parts(self) -> dict[str, Any]:
        """All parts but what, for an error that says the same otherwise."""
        return {"where": self.where, "expected": self.expected, "got": self.got, "hint": self.hint}

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive pickling on their own; worker processes need it.
        return partial(type(self), self.what, **self.parts), ()


class ConfigError(UserError, ValueError):
    """A setting out of range or of the wrong kind."""


def require(name: str, value: object, kind: type[Any], expected: str, *, hint: str | None = None) -> None:
    """Raise ConfigError for a setting of another kind, such as a dict of settings; True and False are no numbers."""
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(name, expected=expected, got=repr(value)[:80], hint=hint)


class NoMemoryError(ConfigError):
    """No memory for what is asked for: that may pass where others use it, too."""


def missing_extra(what: str, extra: str, *, where: str | None = None) -> ConfigError:
    """Return the error for packages of one of the extras that are not installed; it says how to install them."""
    # Not `.[extra]`: in a checkout it would put a frozen copy in the place of an editable installation.
    return ConfigError(what, where=where, hint=f"pip install 'jointformer[{extra}]'")


class DataError(UserError, ValueError):
    """Frames, masks, folders or metadata that are missing, damaged or inconsistent."""


class WeightsError(UserError):
    """Weights that cannot be found, fetched, verified or that do not fit the model."""


class OutputError(UserError, OSError):
    """Results that cannot be written."""

    # OSError formats its own text from its first arguments; ours is the one line.
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else self.what
