"""Fixtures of the weights' tests."""

from __future__ import annotations

from weights.conftest_weights import home, network, plain_network, server

__all__ = ["home", "network", "plain_network", "server"]
