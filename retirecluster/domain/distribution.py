"""Figures that are counted by size as they come: what a histogram is made of.

In memory this is one list of numbers, however many values come; an observation costs about a quarter of a microsecond.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

from attrs import define, field

WAITS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0, 86_400.0)
"""Upper bounds for what may take from milliseconds to days: waiting and running."""
LATENCIES_S = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds for what should take milliseconds."""
ANSWERS_S = (0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0)
"""Upper bounds for answers to requests. They are few, as every address has them; 0.25 s is what a person notices."""


@define(eq=False)
class Distribution:
    """How many values lie at or below each of `bounds` (ascending), and what they add up to."""

    bounds: Sequence[float]
    total: float = 0.0
    _counts: list[int] = field(init=False)
    """One for each bound, not cumulated, and one for what is above all of them."""

    def __attrs_post_init__(self) -> None:
        self._counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value. Below zero is zero: a clock that went back."""
        if value < 0.0:
            value = 0.0
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """How many values came."""
        return sum(self._counts)

    def cumulated(self) -> list[int]:
        """For each bound how many values were at or below it, and at the end how many there were."""
        return list(accumulate(self._counts))
