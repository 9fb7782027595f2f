"""Fixtures of the tests of scaling out."""

from __future__ import annotations

from scale.scale_helpers import mini_weights, runs, undisturbed

__all__ = ["mini_weights", "runs", "undisturbed"]
