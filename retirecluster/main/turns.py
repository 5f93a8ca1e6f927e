"""One transaction a turn: what was decided is written, and only then acknowledged and sent.

Everything decided while a transaction is being written goes into the next one, so that under load many
decisions share one commit, and alone each has its own at once.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
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
from retirecluster.main.figures import Figures
from retirecluster.store.database import Database
from retirecluster.store.failures import StoreFailure, store_failure
from retirecluster.store.writes import WriteSet

log = Logger()
LAZY_S = 0.1
BUSY_PAUSE_S = 0.05
"""Between two tries to write while another program has the database; each has waited BUSY_TIMEOUT_S already."""
GATHER_S = 0.003
MUCH = 4
"""Attempts held by devices from which on more is to be expected within GATHER_S."""


Waiter = tuple["Deferred[None]", bool]
"""Who waits for a commit, and whether however long it takes."""


@define(eq=False)
class Turns:
    """Takes turns from the scheduler and puts them on disk, one after the other.

    `deliver(turn, writes)` is called once a turn is on disk; `fatal(reason)` if it cannot be put there.
    `make_room()` is asked when the disk is full: True if it gave some back, for one more try.
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
    _waiters: list[Waiter] = field(factory=list)
    make_room: Callable[[], bool] = bool
    figures: Figures = field(factory=Figures)
    _busy_since_s: float | None = None
    _closing: bool = False
    _asked_at_s: float | None = None
    """When something first asked for the turn that is gathering; `_event_at_s` the same of the one being written."""
    _event_at_s: float | None = None
    _write_began_s: float = 0.0
    _last_failure: Failure | None = None
    """Set while the last turn is written into the room that was given back."""

    def committed(self) -> Deferred[None]:
        """A Deferred that fires when everything decided so far is on disk, however long that takes.

        It fails with ClusterError shutting_down if no more turns are taken.
        """
        return self._wait(patient=True)

    def answered(self) -> Deferred[None]:
        """`committed`, for those who are to be told rather than left waiting.

        It fails with ClusterError store_busy when another program keeps the database locked; what was decided is
        written all the same once that is over.
        """
        if self._busy_since_s is not None:
            return fail(self._busy())
        return self._wait(patient=False)

    def check_free(self) -> None:
        """Raises ClusterError store_busy while another program keeps the database locked."""
        if self._busy_since_s is not None:
            raise self._busy()

    def busy_s(self) -> float:
        """How long it has been known that the database is locked by another program; 0 while it is not."""
        return 0.0 if self._busy_since_s is None else self.clock.seconds() - self._busy_since_s

    def writing_for_s(self) -> float:
        """How long the transaction that is under way has taken so far; 0 without one."""
        return self.clock.seconds() - self._write_began_s if self.writing else 0.0

    def _wait(self, *, patient: bool) -> Deferred[None]:
        if self.stopped:
            return fail(ClusterError("shutting_down"))
        waiter: Deferred[None] = Deferred()
        self._waiters.append((waiter, patient))
        self.ask()
        return waiter

    def ask(self) -> None:
        """Something was decided: take a turn at the end of this reactor turn, or after the one being written."""
        if self._asked_at_s is None:
            self._asked_at_s = self.clock.seconds()
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
        try:
            turn, writes = self._decide()
        except Exception:
            # A mistake of ours has left the picture in memory half changed: a restart finds what is on disk.
            log.failure("a turn could not be decided")
            self._stop(Failure(), [])
            return
        waiters, self._waiters = self._waiters, []
        self._event_at_s, self._asked_at_s = self._asked_at_s, None
        if turn.empty:
            self._set_timer()
            _tell(waiters)
            return
        self._urgent = False
        self.writing, self._write_began_s = True, self.clock.seconds()
        self.reached(failpoints.AFTER_DECIDE)
        self._write(turn, writes, waiters)

    def _decide(self) -> tuple[Turn, WriteSet]:
        """Everything that is to be written now."""
        now = self.moment()
        self.scheduler.run_timers(now)
        turn = self.scheduler.take_turn(now)
        return turn, WriteSet.of(turn, self.scheduler.tasks.running_s(now))

    def _write(self, turn: Turn, writes: WriteSet, waiters: list[Waiter]) -> None:
        self.database.write(writes).addCallbacks(
            self._done, self._failed, callbackArgs=(turn, writes, waiters), errbackArgs=(turn, writes, waiters)
        ).addErrback(self._report)

    def _done(self, _: Any, turn: Turn, writes: WriteSet, waiters: list[Waiter]) -> None:
        self.writing = False
        self.commits += 1
        self._observe()
        if self._busy_since_s is not None:
            log.info("the database is free again after {busy:.1f} s", busy=self.busy_s())
            self._busy_since_s = None
        self._reached_after(turn)
        try:
            _tell(waiters)
            self.deliver(turn, writes)
        finally:
            self._set_timer()
            if self._last_failure is not None:
                self._stop(self._last_failure, [])
            elif self._urgent:
                self.ask()
            elif not self.scheduler.ledger.turn.empty:
                self.ask_lazily()

    def _observe(self) -> None:
        """How long that took; what was noted lazily, for nobody who waits, is no scheduling."""
        now_s = self.clock.seconds()
        self.figures.commit_s.observe(now_s - self._write_began_s)
        if self._event_at_s is not None:
            self.figures.scheduling_s.observe(now_s - self._event_at_s)

    def _reached_after(self, turn: Turn) -> None:
        if turn.new_tasks:
            self.reached(failpoints.AFTER_PERSIST)
        if turn.results:
            self.reached(failpoints.AFTER_RESULT)

    def _failed(self, failure: Failure, turn: Turn, writes: WriteSet, waiters: list[Waiter]) -> None:
        """A turn is not on disk: the same again if that can help."""
        kind = store_failure(failure.value)
        if kind is StoreFailure.BUSY and not self._closing:
            self._be_busy(waiters)
            self._asked = self.clock.callLater(BUSY_PAUSE_S, self._again, turn, writes, waiters)
        elif kind is StoreFailure.FULL and self._last_failure is None and self.make_room():
            self._last_failure = failure
            self._write(turn, writes, waiters)
        else:
            self._stop(failure, waiters)

    def _again(self, turn: Turn, writes: WriteSet, waiters: list[Waiter]) -> None:
        self._asked = None
        self._write(turn, writes, waiters)

    def _be_busy(self, waiters: list[Waiter]) -> None:
        """Another program has the database: answer those who are not to wait for its end."""
        if self._busy_since_s is None:
            self._busy_since_s = self.clock.seconds()
            log.warn("another program keeps the database locked: writes wait for it")
        for queue in (waiters, self._waiters):
            impatient = [waiter for waiter, patient in queue if not patient]
            queue[:] = [each for each in queue if each[1]]
            for waiter in impatient:
                waiter.errback(self._busy())

    def _busy(self) -> ClusterError:
        return ClusterError("store_busy", "another program keeps the main's database locked: try again later")

    def _stop(self, failure: Failure, waiters: list[Waiter]) -> None:
        """What is in memory is ahead of what can be put on disk: the only honest thing is to stop."""
        self.writing = False
        self.stopped = True
        self.stop_timers()
        waiting, self._waiters = [*waiters, *self._waiters], []
        for waiter, _ in waiting:
            waiter.errback(ClusterError("shutting_down", "the main cannot write to its disk, and stops"))
        self.fatal(failure)

    def broken(self, failure: Failure) -> None:
        """Something else that was to be written has found the disk, or the database, broken."""
        if not self.stopped:
            self._stop(failure, [])

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
        """Write what is left, then take no more turns. Another program's lock is waited for only once more."""
        self._closing = True
        with suppress(ClusterError):
            await self.committed()
        self.stopped = True
        self.stop_timers()


def _tell(waiters: list[Waiter]) -> None:
    for waiter, _ in waiters:
        waiter.callback(None)
