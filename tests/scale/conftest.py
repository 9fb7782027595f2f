"""Fixtures of the tests of scaling out."""

from __future__ import annotations

from scale.scale_helpers import runs, two, undisturbed

__all__ = ["runs", "two", "undisturbed"]
