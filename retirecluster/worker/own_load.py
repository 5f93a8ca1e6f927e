"""How much of the load average is our own: the rule `max_load` is about others.

The load average is a mean with a memory of a minute, so what is taken off it has to be one, too: a task that has just
begun is not in it yet, and one that has ended is for a while.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from attrs import define, field

from retirecluster.worker.process_tree import Usage

MEMORY_S = 60.0
"""Of the one-minute load average."""
SHORTEST_S = 1.0
"""Looks closer to each other than this are one: processor time is told in hundredths of a second."""


@define(eq=False)
class OwnLoad:
    """Follows what the processes below this one add to the load average.

    `look` gives what they use (None: not told), `count` the number of the cluster's tasks that run, which stands in
    for it there. `monotonic` is a clock in seconds.
    """

    look: Callable[[], Usage | None]
    count: Callable[[], int]
    processors: int
    monotonic: Callable[[], float]
    _mean: float | None = field(default=None, init=False)
    _before: tuple[float, float] | None = field(default=None, init=False)
    """When the last look was, and the processor time then."""

    def measure(self) -> float:
        """The part of the one-minute load average that is ours. Reads files: called in a thread."""
        now, found = self.monotonic(), self.look()
        if self._mean is None:
            # It may be long since what runs began: as if it had always run.
            self._mean = float(self.count() if found is None else found.runnable + found.blocked)
        elif self._before is not None and now - self._before[0] >= SHORTEST_S:
            part = math.exp((self._before[0] - now) / MEMORY_S)
            self._mean = part * self._mean + (1.0 - part) * self._since(self._before, now, found)
        else:
            return self._mean
        self._before = (now, 0.0 if found is None else found.cpu_s)
        return self._mean

    def _since(self, before: tuple[float, float], now: float, found: Usage | None) -> float:
        """Processors in use since the last look. Where our own threads alone are more than there are processors, they
        queue, and the load average counts those that wait as well; it counts those that wait for a disk, too."""
        if found is None:
            return float(self.count())
        used = max(0.0, found.cpu_s - before[1]) / (now - before[0])
        queued = float(found.runnable) if found.runnable > self.processors else 0.0
        return max(used, queued) + found.blocked
