"""Fixtures of the tests of scaling out."""

from __future__ import annotations

from scale.scale_helpers import runs, undisturbed

__all__ = ["runs", "undisturbed"]
