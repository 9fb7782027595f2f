"""Fixtures of the tests of training."""

from __future__ import annotations

from train_helpers import videos, weights

__all__ = ["videos", "weights"]
