"""Times at which something has to be looked at again. One heap; entries are checked when they come up."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heapify, heappop, heappush

from attrs import define, field, frozen

PRUNE_AT = 1024


@frozen(order=True)
class Timer:
    """At `at_mono_s` look at `subject` (a task or device id). `token` tells whether it is still the same matter."""

    at_mono_s: float
    number: int
    kind: str
    subject: str
    token: int


@define(eq=False)
class Timers:
    """`alive(subject)` tells whether a task or device still exists; timers of others are dropped now and then."""

    alive: Callable[[str], bool]
    heap: list[Timer] = field(factory=list)
    count: int = 0
    prune_at: int = PRUNE_AT

    def add(self, at_mono_s: float, kind: str, subject: str, token: int) -> None:
        self.count += 1
        heappush(self.heap, Timer(at_mono_s, self.count, kind, subject, token))
        if len(self.heap) > self.prune_at:
            self.heap = [timer for timer in self.heap if self.alive(timer.subject)]
            heapify(self.heap)
            self.prune_at = max(PRUNE_AT, 2 * len(self.heap))

    def next_at(self) -> float | None:
        """When the first one comes up, in monotonic seconds."""
        return self.heap[0].at_mono_s if self.heap else None

    def due(self, now_mono_s: float) -> Iterator[Timer]:
        """Those that have come up."""
        while self.heap and self.heap[0].at_mono_s <= now_mono_s:
            yield heappop(self.heap)
