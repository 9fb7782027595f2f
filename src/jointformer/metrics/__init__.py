"""Scores of predicted label maps: J, F, their statistics, every benchmark's protocol, HOTA."""

from jointformer.metrics.boundary import boundary_accuracy
from jointformer.metrics.measures import JF, BoundaryAccuracy, RegionSimilarity, Statistics, jf
from jointformer.metrics.protocols import PROTOCOLS, SCORED_BENCHMARKS, Protocol, find_protocol
from jointformer.metrics.region import region_similarity
from jointformer.metrics.results import ObjectPlan, ObjectScores, VideoScores
from jointformer.metrics.video import VideoScorer

__all__ = [
    "JF",
    "PROTOCOLS",
    "SCORED_BENCHMARKS",
    "BoundaryAccuracy",
    "ObjectPlan",
    "ObjectScores",
    "Protocol",
    "RegionSimilarity",
    "Statistics",
    "VideoScorer",
    "VideoScores",
    "boundary_accuracy",
    "find_protocol",
    "jf",
    "region_similarity",
]
