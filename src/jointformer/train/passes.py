"""An endless sequence of items: pass after pass over all of them, each in a new random order."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt


class RandomPasses:
    """The order in which `count` items come; it depends on their number and the seed only."""

    def __init__(self, count: int, seed: int) -> None:
        self.count = count
        self.seed = seed
        self._order = lru_cache(4)(self._shuffled)

    def item(self, index: int) -> int:
        """The number of the item that comes at an index of the sequence."""
        number, place = divmod(index, self.count)
        return int(self._order(number)[place])

    def _shuffled(self, number: int) -> npt.NDArray[np.int64]:
        return np.random.default_rng((self.seed, 1, number)).permutation(self.count)
