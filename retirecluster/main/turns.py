"""One transaction a turn: what was decided is written, and only then acknowledged and sent.

Everything decided while a transaction is being written goes into the next one, so that under load many
decisions share one commit, and alone each has its own at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attrs import define, field
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from retirecluster.domain import failpoints
from retirecluster.domain.errors import ClusterError
from retirecluster.domain.lifecycle import State
from retirecluster.domain.scheduler import Moment, Scheduler, Turn
from retirecluster.store.database import Database
from retirecluster.store.writes import WriteSet

log = Logger()
LAZY_S = 0.1
GATHER_S = 0.003
MUCH = 4
"""Attempts held by devices from which on more is to be expected within GATHER_S."""


@define(eq=False)
class Turns:
    """Takes turns from the scheduler and puts them on disk, one after the other.

    `deliver(turn, writes)` is called once a turn is on disk; `fatal(reason)` if it cannot be put there.
    """

    scheduler: Scheduler
    database: Database
    clock: IReactorTime
    moment: Callable[[], Moment]
    deliver: Callable[[Turn, WriteSet], None]
    fatal: Callable[[Failure], None]
    reached: failpoints.Reached = failpoints.unarmed
    writing: bool = False
    stopped: bool = False
    commits: int = 0
    _asked: IDelayedCall | None = None
    _lazily: bool = False
    _urgent: bool = False
    _timer: IDelayedCall | None = None
    _waiters: list[Deferred[None]] = field(factory=list)

    def committed(self) -> Deferred[None]:
        """A Deferred that fires when everything decided so far is on disk.

        It fails with ClusterError shutting_down if no more turns are taken.
        """
        if self.stopped:
            return fail(ClusterError("shutting_down"))
        waiter: Deferred[None] = Deferred()
        self._waiters.append(waiter)
        self.ask()
        return waiter

    def ask(self) -> None:
        """Something was decided: take a turn at the end of this reactor turn, or after the one being written."""
        if self.writing:
            self._urgent = True
        if self.writing or self.stopped:
            return
        if self._asked is not None:
            if not self._lazily:
                return
            self._asked.cancel()
        self._asked, self._lazily = self.clock.callLater(self._gather_s(), self._begin), False

    def _gather_s(self) -> float:
        """How long to let things gather: not at all when little runs, so that a single task is answered at once;
        a little when much runs, so that many results share one commit."""
        counts = self.scheduler.ledger.counts
        return GATHER_S if counts[State.ASSIGNED] + counts[State.RUNNING] >= MUCH else 0.0

    def ask_lazily(self) -> None:
        """Something was noted that nobody waits for: it goes with the next turn, or with one of its own soon."""
        if self._asked is None and not self.writing and not self.stopped:
            self._asked, self._lazily = self.clock.callLater(LAZY_S, self._begin), True

    def _begin(self) -> None:
        self._asked = None
        now = self.moment()
        self.scheduler.run_timers(now)
        turn = self.scheduler.take_turn(now)
        waiters, self._waiters = self._waiters, []
        if turn.empty:
            self._set_timer()
            for waiter in waiters:
                waiter.callback(None)
            return
        self._urgent = False
        self.reached(failpoints.AFTER_DECIDE)
        writes = WriteSet.of(turn, self.scheduler.tasks.running_s(now))
        self.writing = True
        self.database.write(writes).addCallbacks(
            self._done, self._failed, callbackArgs=(turn, writes, waiters), errbackArgs=(waiters,)
        ).addErrback(self._report)

    def _done(self, _: Any, turn: Turn, writes: WriteSet, waiters: list[Deferred[None]]) -> None:
        self.writing = False
        self.commits += 1
        self._reached_after(turn)
        try:
            for waiter in waiters:
                waiter.callback(None)
            self.deliver(turn, writes)
        finally:
            self._set_timer()
            if self._urgent:
                self.ask()
            elif not self.scheduler.ledger.turn.empty:
                self.ask_lazily()

    def _reached_after(self, turn: Turn) -> None:
        if turn.new_tasks:
            self.reached(failpoints.AFTER_PERSIST)
        if turn.results:
            self.reached(failpoints.AFTER_RESULT)

    def _failed(self, failure: Failure, waiters: list[Deferred[None]]) -> None:
        """The disk did not take it. What is in memory is ahead of the disk now: the only honest thing is to stop."""
        self.writing = False
        self.stopped = True
        self.stop_timers()
        for waiter in waiters:
            waiter.errback(failure)
        self.fatal(failure)

    @staticmethod
    def _report(failure: Failure) -> None:
        log.failure("a turn's effects failed", failure)

    def _set_timer(self) -> None:
        """Wake up when the scheduler's first timer comes up."""
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
        at = self.scheduler.next_timer_at()
        if at is not None and not self.stopped:
            self._timer = self.clock.callLater(max(0.0, at - self.moment().mono_s), self.ask)

    def stop_timers(self) -> None:
        for call in (self._timer, self._asked):
            if call is not None and call.active():
                call.cancel()
        self._timer = self._asked = None

    async def close(self) -> None:
        """Write what is left, then take no more turns."""
        if not self.stopped:
            await self.committed()
        self.stopped = True
        self.stop_timers()
