"""JointFormer: semi-supervised video object segmentation (TPAMI 2025, arXiv 2308.13505).

The public names are imported when first used, so that the command line answers without loading PyTorch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_PUBLIC = {
    "load_model": ".model.weights",
    "Tracker": ".track",
    "TrackerConfig": ".track",
    "Segmentation": ".track",
    "Session": ".session",
    "BENCHMARKS": ".data.benchmark_rows",
    "evaluate": ".evaluation.runner",
}

__all__ = ["BENCHMARKS", "Segmentation", "Session", "Tracker", "TrackerConfig", "__version__", "evaluate", "load_model"]

if TYPE_CHECKING:
    from jointformer.data.benchmark_rows import BENCHMARKS
    from jointformer.evaluation.runner import evaluate
    from jointformer.model.weights import load_model
    from jointformer.session import Session
    from jointformer.track import Segmentation, Tracker, TrackerConfig
else:  # a type checker that saw this would take any name for a public one

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(_PUBLIC[name], __name__), name)

    def __dir__() -> list[str]:
        return sorted({*globals(), *_PUBLIC})
