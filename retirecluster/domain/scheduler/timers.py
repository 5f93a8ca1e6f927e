"""Times at which something has to be looked at again. One heap; entries are checked when they come up."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from attrs import define, field, frozen


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
    heap: list[Timer] = field(factory=list)
    count: int = 0

    def add(self, at_mono_s: float, kind: str, subject: str, token: int) -> None:
        self.count += 1
        heappush(self.heap, Timer(at_mono_s, self.count, kind, subject, token))

    def next_at(self) -> float | None:
        """When the first one comes up, in monotonic seconds."""
        return self.heap[0].at_mono_s if self.heap else None

    def due(self, now_mono_s: float) -> Iterator[Timer]:
        """Those that have come up."""
        while self.heap and self.heap[0].at_mono_s <= now_mono_s:
            yield heappop(self.heap)
