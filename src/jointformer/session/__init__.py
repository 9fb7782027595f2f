"""Sessions: a video being annotated, tracked and corrected."""

from .book import ObjectInfo
from .opening import stored_video
from .plan import DIRECTIONS, Direction, Plan
from .result import STATUSES, FrameResult, Status
from .session import Session

__all__ = [
    "DIRECTIONS",
    "STATUSES",
    "Direction",
    "FrameResult",
    "ObjectInfo",
    "Plan",
    "Session",
    "Status",
    "stored_video",
]
