"""Sessions: a video being annotated, tracked and corrected."""

from jointformer.session.book import ObjectInfo
from jointformer.session.opening import stored_video
from jointformer.session.plan import DIRECTIONS, Direction, Plan
from jointformer.session.result import STATUSES, FrameResult, Status
from jointformer.session.session import Session

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
