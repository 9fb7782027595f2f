"""Streaming inference: the tracker and its settings."""

from jointformer.track.config import TrackerConfig
from jointformer.track.segmentation import Segmentation
from jointformer.track.tracker import Tracker

__all__ = ["Segmentation", "Tracker", "TrackerConfig"]
