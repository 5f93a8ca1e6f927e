"""The cluster's last hour in steps of ten seconds: how much ended, how much waited, and for how long.

In memory alone: 360 samples of a few numbers. After a start of the main it begins anew, which the samples show.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import Any

from attrs import define, field, frozen

from retirecluster.domain.lifecycle import HELD_BY_DEVICE, WAITING, State
from retirecluster.domain.scheduler import Moment
from retirecluster.domain.scheduler.ledger import Ledger
from retirecluster.domain.units import format_instant

STEP_S = 10.0
STEPS = 360
_FAILED = (State.FAILED, State.EXPIRED, State.LOST)


@frozen
class Sample:
    """The ledger at one moment. Counts of what ended and began are since the start of the main."""

    mono_s: float
    completed: int
    failed: int
    waiting: int
    running: int
    began: int
    waited_s: float


@define(eq=False)
class Pulse:
    """Samples of the ledger, one a step. Two of them make a point: what happened between them."""

    samples: deque[Sample] = field(factory=lambda: deque(maxlen=STEPS + 1))

    def beat(self, ledger: Ledger, now: Moment) -> None:
        """Take a sample if the last one is a step old; called more often, it does nothing."""
        if not self.samples or now.mono_s - self.samples[-1].mono_s >= STEP_S:
            self.samples.append(_sample(ledger, now))

    def document(self, now: Moment) -> dict[str, Any]:
        """`points`, the oldest first: rates are a second, `mean_wait_s` is of tasks that began, null without any."""
        points = [_point(before, after, now) for before, after in pairwise(self.samples)]
        return {"step_s": STEP_S, "points": points}


def _sample(ledger: Ledger, now: Moment) -> Sample:
    counts, finished = ledger.counts, ledger.finished
    return Sample(
        mono_s=now.mono_s,
        completed=finished[State.COMPLETED],
        failed=sum(finished[each] for each in _FAILED),
        waiting=sum(counts[each] for each in WAITING),
        running=sum(counts[each] for each in HELD_BY_DEVICE),
        began=ledger.wait_s.count,
        waited_s=ledger.wait_s.total,
    )


def _point(before: Sample, after: Sample, now: Moment) -> dict[str, Any]:
    span_s = after.mono_s - before.mono_s
    began = after.began - before.began
    return {
        "at": format_instant(now.wall_s - (now.mono_s - after.mono_s)),
        "completed_per_s": round((after.completed - before.completed) / span_s, 4),
        "failed_per_s": round((after.failed - before.failed) / span_s, 4),
        "waiting": after.waiting,
        "running": after.running,
        "mean_wait_s": round((after.waited_s - before.waited_s) / began, 4) if began else None,
    }
