"""How late the reactor is: everything that is to be answered waits at least that long."""

from __future__ import annotations

from collections import deque

from attrs import define, field
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from retirecluster.domain.distribution import Distribution

log = Logger()
TICK_S = 0.5
RECENT = 20
"""Ticks over which `worst_s` looks back: ten seconds."""


@define(eq=False)
class LagMeter:
    """A timer twice a second, and by how much each of its ticks was late, in seconds."""

    clock: IReactorTime
    lag_s: Distribution
    recent: deque[float] = field(factory=lambda: deque(maxlen=RECENT))
    _began_s: float = 0.0
    _due_s: float = 0.0
    _loop: LoopingCall | None = None

    def start(self) -> None:
        """Begin to measure."""
        self._began_s = self.clock.seconds()
        self._due_s = self._began_s + TICK_S
        loop = LoopingCall(self._supervised_tick)
        loop.clock = self.clock
        loop.start(TICK_S, now=False)
        self._loop = loop

    def stop(self) -> None:
        """Measure no more."""
        if self._loop is not None and self._loop.running:
            self._loop.stop()

    def worst_s(self) -> float:
        """The greatest lag of the last ten seconds, a tick that is overdue now included."""
        overdue_s = self.clock.seconds() - self._due_s if self._loop is not None and self._loop.running else 0.0
        return max(0.0, overdue_s, *self.recent)

    def _supervised_tick(self) -> None:
        # A LoopingCall that raises stops for good.
        try:
            self._tick()
        except Exception:
            log.failure("the lag of the reactor could not be measured")

    def _tick(self) -> None:
        now_s = self.clock.seconds()
        late_s = max(0.0, now_s - self._due_s)
        self.lag_s.observe(late_s)
        self.recent.append(late_s)
        # As LoopingCall does: the next multiple of the interval; what was missed meanwhile is left out.
        ticks = int((now_s - self._began_s + 1e-6) / TICK_S) + 1
        self._due_s = self._began_s + ticks * TICK_S
