"""Runs over videos and benchmarks, scoring, submissions, published rows, speed.

Python keeps this package under its name in `jointformer`, where the public function of that name would be: so it is the
package that can be called, as `jointformer.evaluate.runner.evaluate`, where the arguments are described.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Evaluate(ModuleType):
    """The package as the function of its name."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return import_module(".runner", __name__).evaluate(*args, **options)

    def __reduce__(self) -> tuple[object, ...]:  # functions can be sent to other processes, modules cannot
        return import_module, (__name__,)


sys.modules[__name__].__class__ = _Evaluate
