"""Streaming inference: the tracker and its settings."""

from .config import TrackerConfig
from .segmentation import Segmentation
from .tracker import Tracker

__all__ = ["Segmentation", "Tracker", "TrackerConfig"]
