"""How long to rest before the next try: a random part of a bound that doubles with every failure.

The whole rest is drawn ("full jitter"), so that many who lost one server come back spread out instead of
together. Everything that reconnects or tries again by itself asks here.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

_DOUBLINGS_MAX = 30  # 2**30 of anything is past every bound; more would only make the number larger


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """`first_s` bounds the rest after the first failure, `most_s` every one; none is under `least_s`."""

    first_s: float
    most_s: float
    least_s: float = 0.0

    def rest_s(self, failures: int) -> float:
        """Seconds to rest after so many failures in a row, counted from 1."""
        doublings = min(max(failures, 1) - 1, _DOUBLINGS_MAX)
        bound = min(self.first_s * 2**doublings, self.most_s)
        return random.uniform(min(self.least_s, bound), bound)
